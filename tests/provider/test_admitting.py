"""Who may go on: captures by the slots and caps of account and data center, exports by those that are in flight."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import TriggerEvent

from sealift.classic.errors import ClassicLoadError, ClassicRateLimitedError
from sealift.cos.errors import CosTransientError
from sealift.cos.models import ObjectInfo
from sealift.exports import steps
from sealift.exports.caps import Caps, LearnedCap, Note
from sealift.exports.offline import Account
from sealift.exports.registers import Entry
from sealift.exports.surveying import Survey
from sealift.exports.terms import ExportTurn
from sealift.exports.turns import Turn
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.operators.capture import CaptureImageOperator
from sealift.provider.sensors.export_when_ready import ExportWhenReadySensor
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor
from sealift.provider.triggers.account import AccountPoll, Interest, SlotsAt, Snapshot, interests
from sealift.provider.triggers.admitting import ClaimsAt, admitted_captures
from sealift.provider.triggers.slots import MomentTrigger, OfflineSlotTrigger
from sealift.provider.triggers.waits import LONGEST_TURN, TemplateWaitTrigger
from sealift.provider.wave_access import REFUSALS_AT_MOST, ServerAccess, WaveAccess

from .conftest import FakeClassic, Objects, Pushed, busy_template, idle_guest, terms, whole_template
from .test_server_steps import SERVER, captured, wave

pytestmark = pytest.mark.airflow

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
AT = SlotsAt(cos_conn_id="s", region="", bucket="images", root="offline-slots/1", settle_seconds=900.0)
CLAIMS = ClaimsAt(cos_conn_id="s", region="r", bucket="images", root="p/claims")


# Captures


def survey(*offline: tuple[int, str], caps: Caps | None = None) -> Survey:
    places = {guest: place for guest, place in offline if place}
    shown = Account(taken_at=NOW, offline=frozenset(guest for guest, _ in offline), datacenters=places)
    return Survey(account=shown, slots={}, caps=caps or Caps())


def wants(guest: int, datacenter: str = "dal13", *, most: int = 9, part: int = 0) -> Interest:
    return Interest(guest_id=guest, max_offline=most, slots=AT, datacenter=datacenter, max_in_datacenter=part)


def admitted(seen: Survey, *wanted: Interest) -> list[int | None]:
    found = admitted_captures(wanted, {AT: seen}, NOW)
    return [one.guest_id for one in wanted if one in found]


def learned(cap: int, datacenter: str = "") -> Caps:
    note = LearnedCap(kind="capture", datacenter=datacenter, cap=cap, learned_at=NOW, words="Only so many.")
    name = f"capture-in-{datacenter}.json" if datacenter else "capture-account.json"
    return Caps(notes={name: Note(etag="e", cap=note)})


def test_those_of_a_full_data_center_let_others_pass() -> None:
    seen = survey((1, "dal13"), (2, "fra02"))
    wanted = [wants(11, part=2), wants(12, part=2), wants(13, "fra02", part=1), wants(14, "dal10", part=2)]
    assert admitted(seen, *wanted) == [11, 14]
    assert admitted(seen, wants(11, most=3), wants(12, most=3)) == [11]
    assert admitted(survey((1, "")), wants(11, part=1)) == [], "nothing tells where the other is"
    assert admitted(survey((1, "dal13")), wants(11, "", part=1)) == [11]
    assert admitted(survey((11, "dal13")), wants(11, part=1)) == [11], "the waiting server itself does not count"


def test_what_the_account_taught_starts_no_worker_in_vain() -> None:
    assert admitted(survey((1, "dal13"), caps=learned(1)), wants(11)) == []
    assert admitted(survey((1, "dal13"), caps=learned(2)), wants(11), wants(12)) == [11]
    in_one = learned(1, "dal13")
    assert admitted(survey((1, "dal13"), caps=in_one), wants(11), wants(12, "fra02")) == [12]


# The poll


class Store:
    """A bucket with claims; ``error`` is raised instead of a listing."""

    def __init__(self, *guests: int) -> None:
        self.error: Exception | None = None
        self.listings: list[str] = []
        self.bodies = {
            f"p/claims/{guest}/20261123T0200Z/00000001.json": Entry(
                export_id=f"{guest}-20261123T0200Z", guest_id=guest, token="t", taken_at=datetime.now(UTC)
            )
            .model_dump_json()
            .encode()
            for guest in guests
        }

    def list(self, bucket: str, prefix: str) -> Iterable[ObjectInfo]:
        assert bucket == "images"
        self.listings.append(prefix)
        if self.error is not None:
            raise self.error
        return [
            ObjectInfo(key=key, size=len(body), etag="e", last_modified=datetime.now(UTC))
            for key, body in self.bodies.items()
        ]

    def read(self, bucket: str, key: str) -> bytes | None:
        return self.bodies.get(key)

    def close(self) -> None:
        pass


def in_line(guest: int, *, most: int = 2) -> Interest:
    turn = Turn(export_id=f"{guest}-20261123T0200Z", datacenter="", max_exports=most, max_in_datacenter=0)
    return Interest(turn=turn, claims=CLAIMS)


async def test_the_poll_lists_the_claims_once_and_only_while_somebody_waits_for_a_turn(
    hooked: FakeClassic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(1)

    async def aclient(_hook: CosHook) -> Store:
        return store

    monkeypatch.setattr(CosHook, "aclient", aclient)
    poll = AccountPoll(key="k", classic_conn_id="ibm_classic_default", poll_interval=15.0)
    nobody = await poll._snapshot((Interest(template_id=70),))
    assert store.listings == []
    assert nobody.turns == frozenset()
    line = (in_line(7), in_line(8))
    seen = await poll._snapshot(line)
    assert store.listings == ["p/claims/"]
    assert seen.turns == {line[0]}, "one of two is in flight, and there are two in the line"
    assert hooked.template_calls[1:] == hooked.guest_calls[1:] == [], "who waits for a turn is not polled"
    store.error = CosTransientError("SlowDown", bucket="images")
    failed = await poll._snapshot((*line, Interest(template_id=70)))
    assert (failed.turns, failed.trouble) == (frozenset(), "")
    assert "Could not list images/p/claims" in caplog.text
    poll._disconnect()
    poll._ask.close()


# The wait for a template, and then for a turn


TURN = ExportTurn(root="p/claims", datacenter="dal13", max_exports=2)


def waits(
    *, attempt: int = 1, resumes: bool = True, turn: ExportTurn | None = TURN, **more: Any
) -> TemplateWaitTrigger:
    return TemplateWaitTrigger(
        classic_conn_id="c",
        terms=terms(7, 70, turn=turn).model_dump_json(),
        poll_interval=15.0,
        attempt=attempt,
        cos_conn_id="s",
        region="r",
        resumes=resumes,
    )


class Polls:
    """Snapshots for a wait: the template is being made, then whole; turns come when they are told to."""

    def __init__(self, trigger: TemplateWaitTrigger, *turns: bool, step: timedelta = timedelta(seconds=15)) -> None:
        self.key = trigger.shared_stream_key()
        self.turns = turns
        self.step = step
        self.asked: list[tuple[bool, bool]] = []

    async def __aiter__(self) -> AsyncIterator[Snapshot]:
        began = datetime.now(UTC)
        for number, turn in enumerate(self.turns):
            wanted = interests(self.key)
            line = frozenset(one for one in wanted if one.turn is not None)
            self.asked.append((any(one.template_id for one in wanted), bool(line)))
            yield Snapshot(
                taken_at=began + number * self.step,
                asked=frozenset(wanted),
                templates={70: whole_template(70) if number else busy_template(70)},
                guests={7: idle_guest(7)},
                turns=line if turn else frozenset(),
            )


async def events(trigger: TemplateWaitTrigger, polls: Polls) -> list[Any]:
    found = [one async for one in trigger.filter_shared_stream(aiter(polls))]
    assert interests(polls.key) == (), "nothing is left behind"
    return found


async def test_where_there_is_room_the_last_look_at_the_template_tells_so() -> None:
    trigger = waits()
    polls = Polls(trigger, False, False, True)
    (event,) = await events(trigger, polls)
    assert type(event) is TriggerEvent
    assert event.payload["status"] == "done"
    assert polls.asked == [(True, False), (True, False), (True, True)], "in the line once it is nearly whole"


async def test_without_room_it_waits_and_asks_for_nothing_but_its_turn() -> None:
    trigger = waits()
    polls = Polls(trigger, False, False, False, False, False, True)
    (event,) = await events(trigger, polls)
    assert event.payload["status"] == "done"
    assert polls.asked[3:] == [(False, True)] * 3


@pytest.mark.parametrize(
    "trigger",
    [waits(attempt=2), waits(turn=None), waits(resumes=False)],
    ids=["a later try may only adopt", "no caps", "no step follows"],
)
async def test_who_needs_no_turn_goes_on_at_once(trigger: TemplateWaitTrigger) -> None:
    polls = Polls(trigger, False, False, False)
    assert len(await events(trigger, polls)) == 1
    assert not any(line for _, line in polls.asked)


async def test_nobody_waits_for_a_turn_for_ever() -> None:
    trigger = waits()
    polls = Polls(trigger, *[False] * 9, step=LONGEST_TURN / 4)
    # A wait's own deadline is past by then: the template was whole before.
    (event,) = await events(trigger, polls)
    assert event.payload["status"] == "done"
    assert 6 <= len(polls.asked) < 9


# What the account refuses


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "hooked" in request.fixturenames:
        return
    classic = SimpleNamespace(account_id=lambda: 307608, timeout=60.0)
    store = SimpleNamespace(client=Objects(), cos_conn_id="s", region="us-south", export_api_key="k")
    store.url_of = lambda *_: "https://example.com"
    monkeypatch.setattr(ServerAccess, "classic", SimpleNamespace(client=classic))
    monkeypatch.setattr(ClassicHook, "client", classic)
    monkeypatch.setattr(WaveAccess, "cos", store)
    monkeypatch.setattr(CosHook, "client", store.client)
    placed = wave()
    placed.items[0] = placed.items[0].model_copy(update={"datacenter": "dal13"})
    monkeypatch.setattr(WaveAccess, "wave", placed)


LOAD = ClassicLoadError("Only 2 may run at once.")
RATE = ClassicRateLimitedError("Rate limit of 50 requests for every 1 second(s) exceeded.")
DONE = {"status": "done", "reason": "template-ready", "sentence": "."}
ENDED = {"template_id": 70, "unfinished_at": "2026-01-01T00:04:00Z", "over_at": "2026-01-01T00:05:00Z"}


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def step(**_: Any) -> Any:
        raise error

    for name in ("ensure_captured", "ensure_export_started", "prove_and_record"):
        monkeypatch.setattr(steps, name, step)


def capture() -> CaptureImageOperator:
    return CaptureImageOperator(
        task_id="capture", server=SERVER, classic_conn_id="c", cos_conn_id="s", wave_key="w", bucket="images"
    )


def export(**more: Any) -> ExportWhenReadySensor:
    values: dict[str, Any] = {"bucket": "images", "wave_key": "w", "classic_conn_id": "c"}
    values |= {"cos_conn_id": "s", "region": "r", "captured": terms(7, 70, turn=TURN).model_dump_json()}
    return ExportWhenReadySensor(task_id="wait_for_template", **(values | more))


def prove() -> ProveWhenExportedSensor:
    told = terms(7, 70).model_dump_json()
    return ProveWhenExportedSensor(task_id="wait_for_export", started=told, bucket="images", wave_key="w")


def deferred(task: Any, method: str, kwargs: dict[str, Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.resume_execution(method, kwargs, Pushed().context)
    return caught.value


def test_a_capture_that_is_refused_for_the_load_waits_for_a_slot_without_using_up_a_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, LOAD)
    monkeypatch.setenv("AIRFLOW__SEALIFT__MAX_OFFLINE_PER_DATACENTER", "2")
    with pytest.raises(TaskDeferred) as caught:
        capture().execute(Pushed().context)
    trigger = caught.value.trigger
    assert isinstance(trigger, OfflineSlotTrigger)
    assert json.loads(trigger.server) == {**SERVER, "datacenter": "dal13"}
    assert json.loads(trigger.gate)["max_in_datacenter"] == 2
    assert caught.value.kwargs == {"refusals": 1}
    again = deferred(capture(), "look_again", {"refusals": 1, "event": {"status": "look-again", "seen": ""}})
    assert again.kwargs == {"refusals": 2}


def test_an_export_that_is_refused_for_the_load_waits_for_its_turn_and_keeps_what_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, LOAD)
    first = deferred(export(), "execute_complete", {"event": DONE | {"ended": ENDED}})
    trigger = first.trigger
    assert isinstance(trigger, TemplateWaitTrigger)
    assert (trigger.resumes, trigger.deferred_by_worker, trigger.attempt) == (True, True, 1)
    assert trigger._turn(trigger._read_terms()) is not None
    assert first.kwargs == {"refusals": 1, "ended": ENDED}
    again = deferred(export(), first.method_name, {**first.kwargs, "event": DONE})
    assert again.kwargs == {"refusals": 2, "ended": ENDED}
    alone = deferred(export(captured=terms(7, 70).model_dump_json()), "execute_complete", {"event": DONE})
    assert isinstance(alone.trigger, MomentTrigger), "without caps there is no turn to wait for"


def test_an_export_that_the_triggerer_was_refused_is_not_submitted_again_before_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, AssertionError("nothing may be submitted"))
    told = DONE | {"ended": ENDED, "refused": LOAD.message}
    first = deferred(export(), "execute_complete", {"event": told})
    assert isinstance(first.trigger, TemplateWaitTrigger)
    assert first.kwargs == {"refusals": 1, "ended": ENDED}
    alone = deferred(export(captured=terms(7, 70).model_dump_json()), "execute_complete", {"event": told})
    assert isinstance(alone.trigger, MomentTrigger), "without caps there is no turn to wait for"


@pytest.mark.parametrize("error", [LOAD, RATE], ids=["load", "rate"])
@pytest.mark.parametrize("task", [capture, export], ids=["capture", "export"])
def test_in_the_end_a_refusal_uses_up_a_try(monkeypatch: pytest.MonkeyPatch, task: Any, error: Exception) -> None:
    refuse(monkeypatch, error)
    with pytest.raises(type(error)):
        task().resume_execution("look_again", {"refusals": REFUSALS_AT_MOST, "event": {}}, Pushed().context)


@pytest.mark.parametrize(
    ("task", "method"),
    [(capture, "look_again"), (export, "execute_complete"), (prove, "execute_complete")],
    ids=["capture", "export", "prove"],
)
def test_a_step_that_is_refused_for_its_rate_looks_again_in_a_while(
    monkeypatch: pytest.MonkeyPatch, task: Any, method: str
) -> None:
    refuse(monkeypatch, RATE)
    event = {"status": "look-again"} if method == "look_again" else DONE
    waiting = deferred(task(), method, {"event": event})
    assert isinstance(waiting.trigger, MomentTrigger)
    assert waiting.kwargs is not None
    assert waiting.kwargs["refusals"] == 1
    again = deferred(task(), "look_again", {**waiting.kwargs, "event": {"status": "look-again"}})
    assert again.kwargs is not None
    assert again.kwargs["refusals"] == 2


def test_a_capture_tells_what_its_export_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "ensure_captured", lambda **_: captured())
    handed_on = capture().execute(Pushed().context)
    assert handed_on["turn"] == {"root": "claims", "datacenter": "dal13", "max_exports": 40}
    monkeypatch.setenv("AIRFLOW__SEALIFT__MAX_EXPORTS", "0")
    assert "turn" not in capture().execute(Pushed().context)
    monkeypatch.setenv("AIRFLOW__SEALIFT__MAX_EXPORTS_PER_DATACENTER", "3")
    assert capture().execute(Pushed().context)["turn"]["max_in_datacenter"] == 3


@pytest.mark.parametrize("name", ["max_offline_per_datacenter", "max_exports", "max_exports_per_datacenter"])
def test_a_cap_below_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from sealift.provider.settings import settings

    monkeypatch.setenv(f"AIRFLOW__SEALIFT__{name.upper()}", "-1")
    with pytest.raises(ValueError, match=rf"\[sealift\] {name} is -1"):
        settings()
