"""The sandbox put together: the Classic API, IAM and the object store, over one folder."""

from __future__ import annotations

import hashlib
import ipaddress
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from sealift.sandbox.admin import PREFIX, answer_admin
from sealift.sandbox.aspera.ats import ATS_FAULTS, Ats
from sealift.sandbox.aspera.ats import PREFIXES as ATS_PREFIXES
from sealift.sandbox.aspera.program import write_program
from sealift.sandbox.catching_up import catch_up
from sealift.sandbox.classic import rest, xmlrpc
from sealift.sandbox.classic.api import ClassicApi
from sealift.sandbox.classic.events import TAKES_OFFLINE
from sealift.sandbox.classic.services import Services
from sealift.sandbox.classic.transaction_views import transaction_view
from sealift.sandbox.classic.transactions import Engine
from sealift.sandbox.clock import Clock, SystemClock
from sealift.sandbox.faults import CLASSIC_FAULTS, Faults
from sealift.sandbox.history import OFF, History
from sealift.sandbox.iam import IAM_FAULTS, Identity, iam_token_response
from sealift.sandbox.imaging import Imaging
from sealift.sandbox.seeding import seed_world
from sealift.sandbox.state import State
from sealift.sandbox.store import ObjectStore
from sealift.sandbox.store.server import StoreServer, serve_store
from sealift.sandbox.store.service import STORE_FAULTS
from sealift.sandbox.switches import Switches
from sealift.sandbox.tls import TlsFiles, make_tls
from sealift.sandbox.web import Request, Response, WebServer
from sealift.sandbox.world import World

Doc = dict[str, Any]

ALL_FAULTS: Mapping[str, str] = {**CLASSIC_FAULTS, **IAM_FAULTS, **STORE_FAULTS, **ATS_FAULTS}
"""Every fault by name, with what happens."""

BUCKET = "sealift-exports"
REGION = "us-south"
_USERNAME = "SL307608-sandbox"


_NO_PORT = 0
"""Airflow 3.3.2's Test button compares 0 with what is stored, and refuses a connection that has no port at all."""


class Sandbox:
    """A local stand-in for the Classic API, IAM and Cloud Object Storage.

    :param root: the folder that holds everything; what is there already is taken up again.
    :param servers: how many virtual servers a new world has; with ``scenario="demo"`` always the demo's six.
    :param seed: decides the world, the lengths of transactions, the faults and the keys.
    :param speed: how many times faster than in earnest transactions go.
    :param faults: rates by name, as ``{"empty_200": 0.1, "lost_reply@copyToIcos": 1.0}``.
    :param switches: behaviour that no source confirms, by name; docs/sandbox.md has the list.
    :param host: the address to listen on. What is not loopback lets others on the network in.
    :param clock: the time; tests may hold it.
    :param history: whether every request and effect is recorded in ``history.jsonl``.
    """

    def __init__(
        self,
        *,
        root: Path,
        servers: int = 6,
        seed: int = 1,
        speed: float = 1.0,
        faults: Mapping[str, float] | None = None,
        switches: Mapping[str, Any] | None = None,
        host: str = "127.0.0.1",
        api_port: int = 0,
        cos_port: int = 0,
        tls: bool = False,
        scenario: str | None = None,
        clock: Clock | None = None,
        history: bool = True,
    ) -> None:
        for name in faults or {}:
            _known_fault(name.partition("@")[0])
        self.root = Path(root)
        self.switches = Switches.of(switches)
        self.faults = Faults(rates=faults, seed=seed)
        self.host = host
        self._seed = seed
        self._servers = servers
        self._speed = speed
        self._scenario = scenario
        self._ports = (api_port, cos_port)
        self._tls = tls
        self._keeps_history = history
        self._history = OFF
        self._clock = clock or SystemClock()
        self._stop_asked = threading.Event()
        self._running = False
        self.tls: TlsFiles | None = None

    # Life

    def start(self) -> None:
        """Open the folder, make the world where it is new, and serve.

        :raises StoreInUseError: when another sandbox has the folder open.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self.store = ObjectStore(root=self.root / "store")
        try:
            self._open_world()
            self._open_history()
            self._serve()
        except BaseException:
            self._history.close()
            self.store.close()
            raise
        self._running = True

    def _open_world(self) -> None:
        self._state = State(path=self.root / "world.sqlite")
        self.world = World(state=self._state, clock=self._clock, switches=self.switches, speed=self._speed)
        kept = self._state.meta("world")
        self.identity = Identity(path=self.root / "identity.json", faults=self.faults)
        if kept is None:
            seed_world(self.world, seed=self._seed, servers=self._servers, scenario=self._scenario)
            kept = {"seed": self._seed, "servers": len(self.world.guests), "scenario": self._scenario}
            self._make_keys(self._seed)
            self._state.set_meta("world", kept)
        else:
            self.world.load()
            self._make_keys(int(kept["seed"]))
        self.kept: Doc = kept

    def _open_history(self) -> None:
        if not self._keeps_history:
            return
        self._history = History(path=self.root / "history.jsonl", clock=self._clock, secrets=self._secrets)
        catch_up(history=self._history, world=self.world, store=self.store)
        self.store.history = self._history
        self.faults.hear = self._history.hear

    def _secrets(self) -> tuple[str, ...]:
        return (self.api_key, *self.identity.secrets())

    def _make_keys(self, seed: int) -> None:
        """Keys follow from the seed, so that a connection stays good when a state is made anew."""

        def key(purpose: str, length: int) -> str:
            return hashlib.sha256(f"sealift-sandbox:{seed}:{purpose}".encode()).hexdigest()[:length]

        self.username = _USERNAME
        self.api_key = key("classic", 64)
        self.cos_api_key = f"sandbox-{key('iam', 36)}"
        self.read_only_cos_api_key = f"sandbox-{key('iam-read', 36)}"
        self.cos_service_instance_id = (
            f"crn:v1:bluemix:public:cloud-object-storage:global:a/{key('account', 32)}:{key('instance', 32)}::"
        )
        self.hmac_access_key_id = key("hmac-id", 32)
        self.hmac_secret_access_key = key("hmac-secret", 48)
        self.bucket = BUCKET
        self.region = REGION
        instance = self.cos_service_instance_id
        if self.identity.principal_for_api_key(self.cos_api_key) is None:
            self.identity.add_api_key(key=self.cos_api_key, name="sandbox-writer", roles={"*": "Manager"})
            self.identity.add_api_key(key=self.read_only_cos_api_key, name="sandbox-reader", roles={"*": "Reader"})
        if self.identity.hmac_secret(self.hmac_access_key_id) is None:
            self.identity.add_hmac(
                access_key_id=self.hmac_access_key_id,
                secret_access_key=self.hmac_secret_access_key,
                roles={"*": "Manager"},
                service_instance=instance,
            )
        if self.store.bucket(BUCKET) is None:
            self.store.create_bucket(BUCKET, location_constraint=f"{REGION}-standard", service_instance=instance)

    def _serve(self) -> None:
        self.imaging = Imaging(cache=self.root / "images", store=self.store, done=self._wake)
        self.engine = Engine(
            world=self.world,
            imaging=self.imaging,
            faults=self.faults,
            seed=int(self.kept["seed"]),
            history=self._history,
        )
        services = Services(
            world=self.world, engine=self.engine, store=self.store, identity=self.identity, faults=self.faults
        )
        self.api = ClassicApi(
            world=self.world,
            engine=self.engine,
            services=services,
            identity=self.identity,
            faults=self.faults,
            username=self.username,
            api_key=self.api_key,
            history=self._history,
        )
        self.tls = make_tls(self.root / "tls", hosts=_hosts(self.host)) if self._tls else None
        self.ats = Ats(
            store=self.store,
            identity=self.identity,
            switches=self.switches,
            faults=self.faults,
            history=self._history,
        )
        self._store_server: StoreServer = serve_store(
            store=self.store,
            identity=self.identity,
            host=self.host,
            port=self._ports[1],
            tls=self.tls,
            faults=self.faults,
            history=self._history,
            ats=self.ats,
        )
        try:
            self._web = WebServer(host=self.host, port=self._ports[0], answer=self._answer, tls=self.tls)
        except BaseException:
            self._store_server.close()
            raise
        self.ats.url = self._web.url
        self.ascp = write_program(self.root / "stand-in")
        self._ports = (self._web.port, self._store_server.port)  # a restart of this object keeps its addresses
        self.engine.start()

    def _wake(self) -> None:
        self.engine.wake()

    def stop(self) -> None:
        """Stop serving; the folder keeps everything."""
        if not self._running:
            return
        self._running = False
        self._web.close()
        self._store_server.close()
        self.engine.stop()
        self.imaging.close()
        self._state.close()
        self._history.close()
        self.store.close()
        self._stop_asked.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ask_to_stop(self) -> None:
        """Have :meth:`wait_to_stop` return."""
        self._stop_asked.set()

    def wait_to_stop(self) -> None:
        """Wait until somebody asks the sandbox to stop."""
        self._stop_asked.wait()

    # Addresses

    @property
    def api_url(self) -> str:
        """The API's address without a path."""
        return self._web.url

    @property
    def rest_url(self) -> str:
        """The base of REST."""
        return f"{self._web.url}/rest/v3.1/"

    @property
    def xmlrpc_url(self) -> str:
        """The base of XML-RPC."""
        return f"{self._web.url}/xmlrpc/v3.1/"

    @property
    def iam_url(self) -> str:
        """Where IAM gives tokens."""
        return f"{self._web.url}/identity/token"

    @property
    def cos_url(self) -> str:
        """The object store's address."""
        return self._store_server.url

    def connections(self) -> dict[str, Doc]:
        """:returns: the two Airflow connections by id, in Airflow's JSON form."""
        verify = {"verify": str(self.tls.ca)} if self.tls else {}
        return {
            "ibm_classic_default": {
                "conn_type": "ibm_classic",
                "host": self.api_url,
                "port": _NO_PORT,
                "login": self.username,
                "password": self.api_key,
                "extra": {"transport": "xmlrpc", **verify},
            },
            "ibm_cos_default": {
                "conn_type": "ibm_cos",
                "host": self.cos_url,
                "port": _NO_PORT,
                "password": self.cos_api_key,
                "extra": {
                    "region": self.region,
                    "bucket": self.bucket,
                    "iam_endpoint": self.iam_url,
                    "service_instance_id": self.cos_service_instance_id,
                    **verify,
                },
            },
        }

    # For tests and the admin endpoint

    def set_fault(
        self, name: str, *, rate: float = 0.0, times: int | None = None, methods: list[str] | None = None
    ) -> None:
        """Set a fault; see :meth:`sealift.sandbox.faults.Faults.set`.

        :raises ValueError: on an unknown name.
        """
        plain, _, method = name.partition("@")
        _known_fault(plain)
        self.faults.set(plain, rate=rate, times=times, methods=[*(methods or ()), *([method] if method else ())])

    def tick(self) -> None:
        """Look at all transactions now; needed only with a clock that stands still."""
        self.engine.tick()

    def wait_until(self, condition: Callable[[], bool], *, timeout: float = 60.0, what: str = "the condition") -> None:
        """Wait for something to become true, looking twenty times a second.

        :raises TimeoutError: naming ``what``, with the failures of transactions if there were any.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come true in {timeout} s; failed work: {self.engine.failures}")
            time.sleep(0.05)
            self.tick()

    def writes(self) -> list[Doc]:
        """:returns: all calls that change something, oldest first, with outcome and without secrets."""
        return self._state.writes()

    def history(self, *, after: int = 0, limit: int | None = None) -> list[Doc]:
        """Read the history, as docs/sandbox.md describes its events.

        :param after: the number (``seq``) of the event before the first one wanted.
        :param limit: how many at most.
        :returns: requests and effects in the order in which they happened, over all restarts, without secrets.
        """
        return self._history.read(after=after, limit=limit)

    def counts(self) -> Doc:
        """:returns: how often each method was called, and the most requests that came in one second."""
        return {"calls": dict(self.api.counts), "peak_requests_per_second": self.api.peak}

    def transactions(self) -> list[Doc]:
        """:returns: all transactions as they stand, with ``kind``, ``ended`` and what failed."""
        with self.world.lock:
            return [
                {
                    **transaction_view(one, self.world),
                    "kind": one["kind"],
                    "templateId": one["groupId"],
                    "stuck": one["stuck"],
                    "ended": one["ended"],
                    "failure": self.engine.failures.get(one["id"]),
                }
                for one in self.world.transactions.values()
            ]

    def templates(self) -> list[Doc]:
        """:returns: the account's parent templates with the guest that each was captured from."""
        with self.world.lock:
            return [
                {
                    "id": one["id"],
                    "name": one["name"],
                    "note": one["note"],
                    "guestId": one["_guest"],
                    "finished": one["_finished"],
                    "children": [child["id"] for child in self.world.children(one["id"])],
                }
                for one in self.world.own_groups()
                if one["parentId"] is None
            ]

    def summary(self) -> Doc:
        """:returns: what the sandbox holds, in numbers, and where it is."""
        with self.world.lock:
            running = list(self.world.running.values())
            return {
                **self.kept,
                "speed": self.world.speed,
                "api_url": self.api_url,
                "cos_url": self.cos_url,
                "iam_url": self.iam_url,
                "guests": len(self.world.guests),
                "bare_metal": len(self.world.hardware),
                "templates": len(self.templates()),
                "running": {str(one["id"]): one["kind"] for one in running},
                "offline_for_capture": [
                    one["guestId"]
                    for one in running
                    if one["kind"] in TAKES_OFFLINE and one["guestId"] and not one["guestFree"]
                ],
                "objects": {one.name: sum(1 for _ in self.store.list(one.name)) for one in self.store.buckets()},
                "failures": self.engine.failures,
            }

    # Serving

    def _answer(self, request: Request) -> Response:
        if request.path.startswith(rest.PREFIXES):
            return rest.answer_rest(self.api, request)
        if request.path.startswith(xmlrpc.PREFIXES):
            return xmlrpc.answer_xmlrpc(
                self.api, request, nil=self.switches.xmlrpc_nil, bearer=self.switches.xmlrpc_bearer
            )
        if request.path == "/identity/token" and request.method == "POST":
            self._history.begin()
            form = dict(parse_qsl(request.body.decode()))
            status, headers, body = iam_token_response(self.identity, form, history=self._history)
            return Response(status=status, headers=headers, body=body)
        if request.path.startswith(ATS_PREFIXES):
            return self.ats.answer(request)
        if request.path.startswith(PREFIX):
            return answer_admin(self, request)
        return Response(status=404, headers={"Content-Type": "text/plain"}, body=b"not found\n")


def _known_fault(name: str) -> None:
    if name not in ALL_FAULTS:
        raise ValueError(f"there is no fault {name!r}; there are: {', '.join(sorted(ALL_FAULTS))}")


def is_loopback(host: str) -> bool:
    """:returns: whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(host: str) -> list[str]:
    return list(dict.fromkeys(["127.0.0.1", "::1", "localhost", host]))
