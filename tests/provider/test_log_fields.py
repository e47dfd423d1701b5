"""Log lines of one server's steps carry its fields, in a task and in the triggerer, and no line of another does."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.triggers.base import BaseEventTrigger
from structlog.contextvars import clear_contextvars, get_contextvars

from sealift.exports.errors import InputError
from sealift.provider.asking import Asker
from sealift.provider.errors import WaitFailedForGood
from sealift.provider.log_fields import FIELDS, bind_fields
from sealift.provider.operators.capture import CaptureImageOperator
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor
from sealift.provider.triggers.account import Snapshot
from sealift.provider.triggers.slots import OfflineSlotTrigger
from sealift.provider.triggers.waits import ExportWaitTrigger, TemplateWaitTrigger
from sealift.provider.wave_access import ServerAccess

from .conftest import Pushed, idle_guest, terms, whole_template

pytestmark = pytest.mark.airflow

SERVER = {"guest_id": 7, "hostname": "web-01", "export_id": "7-20260101T0000Z"}


@pytest.fixture(autouse=True)
def nothing_is_bound() -> None:
    """Other tests run steps in this process as well."""
    clear_contextvars()


def fields_after(step: Any) -> dict[str, Any]:
    """Run a step in a context of its own, and give what its last line would carry."""

    def run() -> dict[str, Any]:
        step()
        return {name: value for name, value in get_contextvars().items() if name in FIELDS}

    return contextvars.Context().run(run)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (SERVER | {"datacenter": "dal13", "adopts": True}, SERVER),
        (json.dumps(SERVER), SERVER),
        (json.dumps(json.dumps({**SERVER, "template_id": 70})), {**SERVER, "template_id": 70}),
        ({"export_id": "", "guest_id": None, "hostname": "web-01"}, {"hostname": "web-01"}),
        ("null", {}),
        ("no JSON", {}),
        ("[1, 2]", {}),
        (None, {}),
    ],
)
def test_what_is_known_is_bound_and_nothing_else(known: Any, expected: dict[str, Any]) -> None:
    assert fields_after(lambda: bind_fields(known)) == expected


def test_what_is_learned_later_is_added() -> None:
    def step() -> None:
        bind_fields(SERVER)
        bind_fields({"template_id": 70, "hostname": ""})

    assert fields_after(step) == SERVER | {"template_id": 70}


def test_another_export_takes_nothing_over_from_the_one_before() -> None:
    other = {"export_id": "8-20260101T0000Z", "hostname": "db-01"}

    def step() -> None:
        bind_fields(SERVER | {"template_id": 70})
        bind_fields(other)

    assert fields_after(step) == other


def test_a_capture_that_fails_still_says_of_which_server(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = CaptureImageOperator(task_id="capture", server=SERVER, classic_conn_id="c", wave_key="", bucket="")

    def step() -> None:
        with pytest.raises(InputError, match="names no wave"):
            operator.execute(Pushed().context)

    monkeypatch.setattr(ServerAccess, "classic", SimpleNamespace(client=None))
    assert fields_after(step) == SERVER


def test_a_wait_that_failed_says_of_which_template_in_its_worker() -> None:
    sensor = ProveWhenExportedSensor(task_id="w", started=terms(7, 70).model_dump_json(), bucket="b", wave_key="w")
    event = {"status": "failed", "reason": "zero-size", "sentence": "It is empty."}

    def step() -> None:
        with pytest.raises(WaitFailedForGood):
            sensor.resume_execution("execute_complete", {"event": event}, Pushed().context)

    told = terms(7, 70)
    assert fields_after(step) == {
        "export_id": told.export_id,
        "guest_id": 7,
        "hostname": told.hostname,
        "template_id": 70,
    }


class Everything(frozenset[Any]):
    """Whatever is asked for is in it."""

    def __contains__(self, _: object) -> bool:
        return True


async def snapshots(template_ids: dict[int, int]) -> AsyncIterator[Snapshot]:
    while True:
        yield Snapshot(
            taken_at=datetime.now(UTC),
            asked=Everything(),
            templates={one: whole_template(one) for one in template_ids.values()},
            guests={one: idle_guest(one) for one in template_ids},
            admitted=Everything(),
        )
        await asyncio.sleep(0)


async def run(trigger: BaseEventTrigger, template_ids: dict[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a trigger as the triggerer does, in a task of its own; give what its context and its threads' would carry."""
    async for _ in trigger.filter_shared_stream(snapshots(template_ids)):
        break
    ask = Asker(name="thread")
    try:
        in_thread = await ask(get_contextvars)
    finally:
        ask.close()
    return get_contextvars(), in_thread


async def test_triggers_of_many_servers_keep_their_fields_apart() -> None:
    servers = {7: 70, 8: 80, 9: 90}

    def wait(guest_id: int) -> TemplateWaitTrigger:
        return TemplateWaitTrigger(
            classic_conn_id="c", terms=terms(guest_id, servers[guest_id]).model_dump_json(), poll_interval=1.0
        )

    before = dict(get_contextvars())
    done = await asyncio.gather(*(asyncio.create_task(run(wait(one), servers)) for one in servers))
    for guest_id, (fields, in_thread) in zip(servers, done, strict=True):
        expected = {"guest_id": guest_id, "template_id": servers[guest_id], "hostname": f"host{guest_id}"}
        assert expected.items() <= fields.items()
        assert fields["export_id"].startswith(f"{guest_id}-")
        assert in_thread == fields
    assert get_contextvars() == before, "nothing of them is left for the poll, which serves all"


async def test_a_wait_for_a_slot_knows_its_server() -> None:
    gate = {
        "slots": {"cos_conn_id": "s", "region": "r", "bucket": "b", "root": "r", "settle_seconds": 1.0},
        "max_offline": 1,
    }
    trigger = OfflineSlotTrigger(
        classic_conn_id="c", poll_interval=1.0, gate=json.dumps(gate), server=json.dumps(SERVER)
    )
    fields, _ = await asyncio.create_task(run(trigger, {}))
    assert SERVER.items() <= fields.items()


async def test_a_wait_without_terms_says_so_without_fields() -> None:
    trigger = ExportWaitTrigger(classic_conn_id="c", terms="null", poll_interval=1.0)
    fields, _ = await asyncio.create_task(run(trigger, {}))
    assert not set(FIELDS) & set(fields)


def test_lines_of_rooms_without_airflow_carry_them_too() -> None:
    """What Airflow sets up for its tasks' logs merges the context into lines of the standard library."""
    from airflow.sdk._shared.logging.structlog import structlog_processors

    shared, final, _ = structlog_processors(json_output=True)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            final,
        ],
    )
    record = logging.getLogger("sealift.exports.proving").makeRecord("x", logging.INFO, "f", 1, "%s read", (5,), None)

    def step() -> str:
        bind_fields(SERVER)
        return formatter.format(record)

    text: Any = contextvars.Context().run(step)
    line = json.loads(text)
    assert line["event"] == "5 read"
    assert SERVER.items() <= line.items()
