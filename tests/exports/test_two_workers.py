"""Two real processes run one export's capture at once, or one of them is stopped on the way: it is captured once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sealift.classic.client import ClassicClient
from sealift.cos.client import CosClient
from sealift.exports.plan import Outcome, Plan, PlanItem, make_plan
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.sandbox import Sandbox

WORKER = """
import json, os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
from sealift.classic.client import ClassicClient
from sealift.cos.client import CosClient
from sealift.exports import names, slots, surveying
from sealift.exports.errors import OfflineCapReached, OutcomeOpen, ServerBusyError
from sealift.exports.plan import PlanItem
from sealift.exports.settings import PlanSettings
from sealift.exports.steps import ensure_captured

given = json.load(sys.stdin)
classic = ClassicClient(**given["classic"])
cos = CosClient(**given["cos"])
item = PlanItem.model_validate(given["item"])
settings = PlanSettings.model_validate(given["settings"])
folder, stop_at = Path(given["folder"]), given["stop_at"]

class Stopping(slots.OfflineSlots):
    def _take(self, *args):
        taken = super()._take(*args)
        submitting = taken.submitting
        def stop_here():
            if stop_at == "before the check":
                os.kill(os.getpid(), signal.SIGSTOP)
            submitting()
            if stop_at == "after the check":
                os.kill(os.getpid(), signal.SIGSTOP)
        taken.submitting = stop_here
        return taken

place = surveying.SlotsPlace(
    bucket=settings.bucket,
    root=names.slots_root(prefix=given["prefix"], account_id=classic.account_id()),
    settle=surveying.settle_time(timeout=classic.timeout, minutes=settings.grace_minutes),
)
(folder / f"ready-{os.getpid()}").touch()
deadline = time.monotonic() + 60
while not (folder / "go").exists() and time.monotonic() < deadline:
    time.sleep(0.001)
said = []
while True:
    try:
        gate = Stopping(cos=cos, place=place, max_offline=given["max_offline"])
        captured = ensure_captured(classic=classic, cos=cos, item=item, settings=settings, gate=gate)
        print(json.dumps({"template": captured.template_id, "adopted": captured.adopted, "said": said}))
        break
    except OutcomeOpen as opened:
        said.append("open")
        stop_at = None
        time.sleep(max(0.0, (opened.until - datetime.now(UTC)).total_seconds()) + 0.01)
    except (OfflineCapReached, ServerBusyError) as error:
        said.append(type(error).__name__)
        if given["once"]:
            print(json.dumps({"template": None, "adopted": False, "said": said}))
            break
        time.sleep(0.1)
    assert time.monotonic() < deadline, said
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), servers=16, seed=3, speed=1.0) as started:
        yield started


@pytest.fixture(scope="module")
def clients(sandbox: Sandbox) -> tuple[dict[str, Any], dict[str, Any]]:
    """What makes the two clients. A short timeout makes what is uncertain certain after eight seconds."""
    classic = {
        "username": sandbox.username,
        "api_key": sandbox.api_key,
        "endpoint_url": sandbox.api_url,
        "timeout": 2.0,
        "requests_per_second": 48.0,
    }
    cos = {
        "region": sandbox.region,
        "endpoint_url": sandbox.cos_url,
        "api_key": sandbox.cos_api_key,
        "service_instance_id": sandbox.cos_service_instance_id,
        "iam_endpoint": sandbox.iam_url,
    }
    return classic, cos


@pytest.fixture(scope="module")
def plan(sandbox: Sandbox, clients: tuple[dict[str, Any], dict[str, Any]]) -> Plan:
    return make_plan(
        settings=PlanSettings(
            classic_conn_id="c",
            cos_conn_id="o",
            bucket=sandbox.bucket,
            region=sandbox.region,
            prefix="race",
            grace_minutes=0.01,
        ),
        selection=Selection.from_params({"all": True}),
        classic=ClassicClient(**clients[0]),
        cos=CosClient(**clients[1]),
        plan_id="race",
        period="20261123T0200Z",
        now=datetime.now(UTC),
    )


class Workers:
    """Real processes, all of which end with the test."""

    def __init__(self, folder: Path, given: dict[str, Any]) -> None:
        self.folder = folder
        self.given = given
        self.started: list[subprocess.Popen[str]] = []

    def start(self, item: PlanItem, *, stop_at: str | None = None, once: bool = False, cap: int = 5) -> Any:
        one = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.started.append(one)
        assert one.stdin is not None
        given = {**self.given, "item": item.model_dump(mode="json"), "stop_at": stop_at, "once": once}
        json.dump({**given, "max_offline": cap, "folder": str(self.folder)}, one.stdin)
        one.stdin.close()
        return one

    def go(self) -> None:
        """Let all begin at the same moment."""
        until(lambda: len(list(self.folder.glob("ready-*"))) == len(self.started), "all processes are up")
        (self.folder / "go").touch()

    @staticmethod
    def result(one: Any) -> dict[str, Any]:
        assert one.wait(timeout=60) == 0
        found: dict[str, Any] = json.loads(one.stdout.read())
        return found

    def end(self) -> None:
        for one in self.started:
            if one.poll() is None:
                one.kill()
            one.wait()


@pytest.fixture
def workers(tmp_path: Path, plan: Plan, clients: tuple[dict[str, Any], dict[str, Any]]) -> Iterator[Workers]:
    settings = plan.settings.model_dump(mode="json")
    given = {"classic": clients[0], "cos": clients[1], "settings": settings, "prefix": tmp_path.name}
    made = Workers(tmp_path, given)
    yield made
    made.end()


def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def captures(sandbox: Sandbox, item: PlanItem) -> list[dict[str, Any]]:
    """The captures of an export that the account accepted."""
    return [
        one
        for one in sandbox.writes()
        if one["method"] == "createArchiveTemplate" and item.template_name in one["args"] and not one["error"]
    ]


def end_captures(sandbox: Sandbox) -> None:
    """Have the account finish all captures now."""

    def running() -> list[int]:
        return [one["id"] for one in sandbox.transactions() if one["kind"] == "capture" and one["ended"] is None]

    for number in running():
        sandbox.engine.end(number)
    sandbox.wait_until(lambda: not running(), what="the captures are over")


def test_four_processes_at_the_same_moment_capture_once(sandbox: Sandbox, plan: Plan, workers: Workers) -> None:
    item = plan.items_with(Outcome.EXPORT)[0]
    racers = [workers.start(item) for _ in range(4)]
    workers.go()
    results = [workers.result(one) for one in racers]
    (capture,) = captures(sandbox, item)
    assert {one["template"] for one in results} == {capture["resultId"]}
    assert [one["adopted"] for one in results].count(False) == 1


def test_six_processes_at_the_same_moment_take_two_slots(sandbox: Sandbox, plan: Plan, workers: Workers) -> None:
    end_captures(sandbox)
    items = plan.items_with(Outcome.EXPORT)[1:7]
    racers = [workers.start(item, once=True, cap=2) for item in items]
    workers.go()
    results = [workers.result(one) for one in racers]
    captured = [one for one in results if one["template"]]
    assert 1 <= len(captured) <= 2
    assert sum(len(captures(sandbox, item)) for item in items) == len(captured)
    end_captures(sandbox)


@pytest.mark.parametrize("stop_at", ["before the check", "after the check"])
def test_a_worker_that_was_given_up_and_goes_on_captures_nothing_twice(
    sandbox: Sandbox, plan: Plan, workers: Workers, stop_at: str
) -> None:
    """The first is stopped with its slot in hand; the second takes over; then the first goes on."""
    item = plan.items_with(Outcome.EXPORT)[8 if stop_at == "before the check" else 9]
    (workers.folder / "go").touch()
    first = workers.start(item, stop_at=stop_at)
    until(lambda: stopped(first.pid), "the first worker has its slot and is stopped")
    second = workers.result(workers.start(item))
    assert set(second["said"]) == {"open"}, "it waited until it was certain that the first had submitted nothing"
    assert not second["adopted"]
    if stop_at == "before the check":
        # Even the transaction, which would have the API refuse, is over by now: the check alone holds the first back.
        end_captures(sandbox)
    os.kill(first.pid, signal.SIGCONT)
    result = workers.result(first)
    assert result["template"] == second["template"]
    assert result["adopted"]
    assert set(result["said"]) == ({"open"} if stop_at == "before the check" else set())
    assert len(captures(sandbox, item)) == 1
    end_captures(sandbox)


def test_a_worker_killed_with_its_slot_in_hand_delays_the_next_and_no_more(
    sandbox: Sandbox, plan: Plan, workers: Workers
) -> None:
    item = plan.items_with(Outcome.EXPORT)[10]
    (workers.folder / "go").touch()
    first = workers.start(item, stop_at="after the check")
    until(lambda: stopped(first.pid), "the first worker is about to submit")
    first.kill()
    second = workers.result(workers.start(item))
    assert set(second["said"]) == {"open"}
    assert not second["adopted"]
    assert len(captures(sandbox, item)) == 1
