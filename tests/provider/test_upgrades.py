"""Tasks that were deferred by an earlier Sealift wait on, are resumed, and read what earlier tasks handed on.

``tests/fixtures/triggers`` holds each trigger as it lies in Airflow's metadata database, in every form that it has had,
with how its task is resumed: by which method, with what was kept, and with which event.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.module_loading import import_string

from sealift.exports.errors import NewerSealiftError
from sealift.exports.handing import HANDED_ON
from sealift.provider.operators.retention import ApplyRetentionOperator, ApproveRetentionOperator
from sealift.provider.operators.wave import ExportWaveOperator
from sealift.provider.slots import SlotsKept
from sealift.provider.triggers import slots
from sealift.provider.triggers.account import Interest, SlotsAt, Snapshot
from sealift.provider.waits import read_xcom, template_id_of

from .conftest import terms
from .test_triggers import concrete_triggers

pytestmark = pytest.mark.airflow

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "triggers"
FILES = sorted(FOLDER.glob("*.json"))
OF_EARLIER = {path: json.loads(path.read_bytes()) for path in FILES}
HOW = (
    "The form in which {name} lies in Airflow's database was changed. Keep the new one under tests/fixtures/triggers, "
    "beside those that tasks may still be deferred with."
)


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_trigger_of_every_form_is_made_again(path: Path) -> None:
    kept = OF_EARLIER[path]
    made = import_string(kept["class"])(**kept["kwargs"])
    name, kwargs = made.serialize()
    assert name == kept["class"]
    again = import_string(name)(**json.loads(json.dumps(kwargs)))
    assert again.serialize() == (name, kwargs)
    for field, value in kept["kwargs"].items():
        assert kwargs.get(field, value) == value


@pytest.mark.parametrize("cls", concrete_triggers(), ids=lambda cls: cls.__name__)
def test_every_trigger_is_kept_as_it_is_today(cls: type[Any]) -> None:
    forms = [one["kwargs"] for path, one in OF_EARLIER.items() if path.name.startswith(f"{cls.__name__}.")]
    of_today = [form for form in forms if set(cls(**form).serialize()[1]) == set(form)]
    assert of_today, HOW.format(name=cls.__name__)


@pytest.mark.parametrize("path", [path for path in FILES if "terms" in OF_EARLIER[path]["kwargs"]], ids=named)
def test_the_terms_that_an_earlier_task_handed_on_are_read(path: Path) -> None:
    kept = OF_EARLIER[path]
    made = import_string(kept["class"])(**kept["kwargs"])
    read = made._read_terms()
    assert (read.guest_id, read.template_id, read.deadline_seconds) == (101, 900, 7200.0)
    assert template_id_of(kept["kwargs"]["terms"]) == 900


RESUMED = [(path, number) for path in FILES for number in range(len(OF_EARLIER[path]["resumes"]))]


@pytest.mark.parametrize(("path", "number"), RESUMED, ids=lambda one: one.stem if isinstance(one, Path) else str(one))
def test_a_task_that_was_deferred_before_is_resumed(path: Path, number: int) -> None:
    """Its method is there and takes what was kept and the event; and so does the step that it then does."""
    how = OF_EARLIER[path]["resumes"][number]
    cls = import_string(how["task"])
    task = object.__new__(cls)
    vars(task)["_cached_logger"] = logging.getLogger(__name__)
    with mock.patch.object(cls, "step", autospec=True, return_value="done") as step:
        assert getattr(task, how["method"])({}, event=how["event"], **how["kwargs"]) == "done"
    told = {**(how["event"] or {}), **how["kwargs"]}
    assert step.call_args.kwargs == {
        name: told[name] for name in ("seen", "root", "ended", "look", "refused", "refusals") if name in told
    }


async def test_a_wait_for_a_slot_of_before_ends_when_a_slot_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = OF_EARLIER[FOLDER / "OfflineSlotTrigger.2026-11-23.json"]
    trigger = slots.OfflineSlotTrigger(**kept["kwargs"])
    settled: list[datetime] = []

    async def at_once(began: datetime) -> None:
        settled.append(began)

    monkeypatch.setattr(slots, "settle", at_once)
    at = SlotsAt(**kept["kwargs"]["slots"])
    waits = Interest(guest_id=101, max_offline=5, slots=at)

    async def looks() -> AsyncIterator[Snapshot]:
        busy = Snapshot(
            taken_at=datetime.now(UTC), asked=frozenset({waits}), in_flight={at: frozenset({1, 2, 3, 4, 5})}
        )
        yield busy
        await asyncio.sleep(0)
        yield Snapshot(taken_at=datetime.now(UTC), asked=frozenset({waits}), admitted=frozenset({waits}))

    events = [one async for one in trigger.filter_shared_stream(looks())]
    (event,) = events
    assert event.payload["status"] == "look-again"
    assert settled, "a worker deferred it: Airflow has to forget that one first"


def test_what_another_version_saw_of_the_account_is_not_needed() -> None:
    at = SlotsAt(cos_conn_id="c", region="", bucket="b", root="r", settle_seconds=1.0)
    place: Any = mock.Mock()
    kept = SlotsKept(at=at, place=place, max_offline=1)
    with mock.patch("sealift.exports.slots.OfflineSlots") as made:
        kept.gate("not-packed-as-today", cos=mock.Mock(cos_conn_id="c", region=""))
    assert made.call_args.kwargs["seen"] is None


# What a newer version handed on


def newer(**told: Any) -> dict[str, Any]:
    return {**told, "schema_version": HANDED_ON + 1}


def test_terms_of_a_newer_version_end_a_wait_in_words() -> None:
    body = json.dumps({**json.loads(terms().model_dump_json()), "schema_version": HANDED_ON + 1})
    with pytest.raises(NewerSealiftError, match="Upgrade Sealift on every worker and triggerer"):
        template_id_of(body)
    for path in (FOLDER / "TemplateWaitTrigger.2026-11-28.json", FOLDER / "ExportWaitTrigger.2026-11-28.json"):
        kept = OF_EARLIER[path]
        trigger = import_string(kept["class"])(**{**kept["kwargs"], "terms": body})
        with pytest.raises(ValueError, match="handed on was written by a newer Sealift"):
            trigger._read_terms()


def test_a_gate_of_a_newer_version_is_a_workers_to_look_at() -> None:
    kept = OF_EARLIER[FOLDER / "OfflineSlotTrigger.2026-11-28.json"]["kwargs"]
    assert not slots.OfflineSlotTrigger(**kept)._passes()
    for field in ("gate", "server"):
        later = json.dumps(newer(**read_xcom(kept[field])))
        assert slots.OfflineSlotTrigger(**{**kept, field: later})._passes()


def test_tasks_refuse_what_a_newer_version_handed_on() -> None:
    wave = newer(run_id="r", conf={}, label="wave 1 of 1")
    with pytest.raises(NewerSealiftError, match="the task that made the plan"):
        ExportWaveOperator(task_id="w", wave=wave).execute({})  # type: ignore[typeddict-item]
    planned = newer(retention_id="r-1", only=False)
    with pytest.raises(NewerSealiftError, match="the dry run"):
        ApplyRetentionOperator(task_id="a", planned=planned).execute({})  # type: ignore[typeddict-item]
    with pytest.raises(NewerSealiftError, match="the dry run"):
        ApproveRetentionOperator(task_id="p", planned=planned, subject="s").execute({})  # type: ignore[typeddict-item]
