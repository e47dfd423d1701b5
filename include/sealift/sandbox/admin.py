"""The admin endpoint, under ``/sandbox/`` on the API's port: for tests and for ``sealift sandbox status``.

It answers requests from this machine only, whatever address the sandbox listens on.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from sealift.sandbox.web import Request, Response

if TYPE_CHECKING:
    from sealift.sandbox.app import Sandbox

Doc = dict[str, Any]

PREFIX = "/sandbox/"
_END = re.compile(r"^transactions/(\d+)/end$")
_PAGE = 10_000
_HOLD = re.compile(r"^guests/(\d+)/hold$")


def answer_admin(sandbox: Sandbox, request: Request) -> Response:
    """Answer one request of a test or of the command line."""
    if not request.local or request.headers.get("Origin"):  # nor what a web page sends through a browser here
        return _json(403, {"error": "the admin endpoint answers programs on this machine only"})
    path = request.path.removeprefix(PREFIX).strip("/")
    try:
        if request.method == "GET":
            return _history(sandbox, request) if path == "history" else _read(sandbox, path)
        if request.method in {"POST", "PUT"}:
            return _change(sandbox, path, json.loads(request.body or b"{}"))
        if request.method == "DELETE" and path == "faults":
            sandbox.faults.clear()
            return _json(200, sandbox.faults.counters())
    except (ValueError, TypeError, AttributeError) as error:
        return _json(400, {"error": str(error)})
    return _json(404, {"error": f"there is no {request.method} {PREFIX}{path}"})


def _read(sandbox: Sandbox, path: str) -> Response:
    readers = {
        "state": sandbox.summary,
        "connections": sandbox.connections,
        "faults": sandbox.faults.counters,
        "switches": sandbox.switches.as_dict,
        "writes": sandbox.writes,
        "counts": sandbox.counts,
        "transactions": sandbox.transactions,
        "templates": sandbox.templates,
    }
    if path not in readers:
        names = ", ".join(f"{PREFIX}{name}" for name in sorted([*readers, "history"]))
        return _json(404, {"error": f"there is {names}"})
    return _json(200, readers[path]())


def _history(sandbox: Sandbox, request: Request) -> Response:
    after, limit = (int(request.first(name) or standard) for name, standard in (("after", 0), ("limit", _PAGE)))
    return _json(200, sandbox.history(after=after, limit=min(max(limit, 0), _PAGE)))


def _change(sandbox: Sandbox, path: str, body: Doc) -> Response:
    if path == "faults":
        for name, wanted in body.items():
            settings = wanted if isinstance(wanted, dict) else {"rate": wanted}
            sandbox.set_fault(name, **settings)
        return _json(200, sandbox.faults.counters())
    if path == "switches":
        for name, value in body.items():
            sandbox.switches.set(name, value)
        return _json(200, sandbox.switches.as_dict())
    if path == "shutdown":
        sandbox.ask_to_stop()
        return _json(202, {"stopping": True})
    return _change_transaction(sandbox, path)


def _change_transaction(sandbox: Sandbox, path: str) -> Response:
    if end := _END.match(path):
        try:
            sandbox.engine.end(int(end[1]))
        except KeyError:
            return _json(404, {"error": f"no transaction {end[1]} runs"})
        return _json(200, {"ended": int(end[1])})
    if hold := _HOLD.match(path):
        guest = sandbox.world.guests.get(int(hold[1]))
        if guest is None:
            return _json(404, {"error": f"there is no guest {hold[1]}"})
        with sandbox.world.lock:
            return _json(200, {"id": sandbox.engine.start_hold(guest)["id"]})
    return _json(404, {"error": f"there is no POST {PREFIX}{path}"})


def _json(status: int, document: Any) -> Response:
    body = json.dumps(document, indent=1, default=str).encode() + b"\n"
    return Response(status=status, headers={"Content-Type": "application/json"}, body=body)
