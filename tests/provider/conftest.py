"""Fixtures of the provider's tests: terms of a wait, and a Classic API client that answers from memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sealift.classic.models import GuestState, Template
from sealift.exports.waiting import WaitTerms


class FakeClassic:
    """Answers polls from dictionaries and counts them; ``errors`` are raised first, in order."""

    def __init__(self) -> None:
        self.templates: dict[int, Template] = {}
        self.guests: dict[int, GuestState] = {}
        self.errors: list[Exception] = []
        self.template_calls: list[list[int]] = []
        self.guest_calls: list[list[int]] = []
        self.closed = 0
        self.timeout = 60.0

    def template_states(self, ids: Collection[int]) -> dict[int, Template]:
        self.template_calls.append(sorted(ids))
        if self.errors:
            raise self.errors.pop(0)
        return {one: self.templates[one] for one in ids if one in self.templates}

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]:
        self.guest_calls.append(sorted(ids))
        return {one: self.guests[one] for one in ids if one in self.guests}

    def close(self) -> None:
        self.closed += 1


def busy_template(template_id: int) -> Template:
    """A template whose child is still being made."""
    return Template.model_validate(
        {"id": template_id, "children": [{"id": template_id + 1, "transactionId": 9, "transaction": {"id": 9}}]}
    )


def whole_template(template_id: int) -> Template:
    """A template that is ready."""
    return Template.model_validate(
        {
            "id": template_id,
            "transactionId": None,
            "children": [{"id": template_id + 1, "transactionId": None, "blockDevicesDiskSpaceTotal": 4096.0}],
        }
    )


def idle_guest(guest_id: int) -> GuestState:
    """A server without a transaction."""
    return GuestState.model_validate(
        {"id": guest_id, "status": {"keyName": "ACTIVE"}, "powerState": {"keyName": "RUNNING"}}
    )


def terms(guest_id: int = 7, template_id: int = 70, **changes: Any) -> WaitTerms:
    """Terms of a wait that has just begun."""
    values: dict[str, Any] = {
        "export_id": f"{guest_id}-20260101T0000Z",
        "guest_id": guest_id,
        "hostname": f"host{guest_id}",
        "template_id": template_id,
        "started_at": datetime.now(UTC),
        "deadline_seconds": 600.0,
        "stuck_seconds": 300.0,
        "grace_seconds": 60.0,
        "bucket": "images",
        "expected_keys": [f"p/images/host{guest_id}-{guest_id}/e/disk-0.vhd"],
    }
    return WaitTerms.model_validate(values | changes)


@pytest.fixture
def classic() -> FakeClassic:
    return FakeClassic()


@pytest.fixture
def hooked(classic: FakeClassic, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeClassic]:
    """Connections live in the metadata database only: the asynchronous call finds them, the other one does not."""
    from airflow.sdk import BaseHook, Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from sealift.provider.hooks.classic import ClassicHook

    async def from_database(conn_id: str) -> Connection:
        return Connection(conn_id=conn_id, conn_type="ibm_classic", login="someone", password="not-a-real-key")

    def not_in_environment(conn_id: str) -> Connection:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(from_database))
    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(not_in_environment))
    monkeypatch.setattr(ClassicHook, "_client_from", lambda _self, _connection, **_told: classic)
    return classic


class Objects:
    """An object store's client that keeps small objects."""

    endpoint_url = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def read(self, bucket: str, key: str) -> bytes | None:
        return self.kept.get(f"{bucket}/{key}")

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.kept[f"{bucket}/{key}"] = body

    def delete(self, bucket: str, key: str) -> None:
        self.kept.pop(f"{bucket}/{key}", None)


class Pushed:
    """A task's context that remembers what was pushed."""

    def __init__(self, *, try_number: int = 1) -> None:
        self.values: dict[str, Any] = {}
        self.pushes: list[str] = []
        self.try_number = try_number
        self.dag_id, self.run_id, self.task_id = "export_servers", "plan.wave-0000", "export.step"
        self.outlet_events: dict[Any, Any] = {}

    @property
    def context(self) -> Any:
        return {"ti": self, "outlet_events": _Events(self.outlet_events), "params": {}}

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushes.append(key)
        self.values[key] = value


class _Events(dict[Any, Any]):
    """Outlet events that exist as soon as they are asked for."""

    def __init__(self, kept: dict[Any, Any]) -> None:
        super().__init__()
        self.kept = kept

    def __missing__(self, key: Any) -> Any:
        from types import SimpleNamespace

        self.kept[key] = self[key] = SimpleNamespace(extra=None)
        return self[key]
