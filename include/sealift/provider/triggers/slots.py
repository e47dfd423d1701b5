"""What a step waits for before it acts: a free offline slot, or a moment (a window opens, a lost request's fate is
certain). No worker waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from sealift.provider.triggers.account import Interest, SlotsAt, Snapshot, register, unregister
from sealift.provider.triggers.base import AccountTrigger, settle

LOOK_AGAIN = {"status": "look-again"}
"""The payload of both triggers: the step looks once more itself before it submits anything."""


class OfflineSlotTrigger(AccountTrigger):
    """Waits until the account shows fewer captures than the cap, those who have waited longest first.

    :param classic_conn_id: connection of the type ``ibm_classic``.
    :param poll_interval: seconds between two polls of the account.
    :param guest_id: the virtual server that waits.
    :param max_offline: most servers offline for capture at once.
    :param slots: where the account's slots are: the fields of
        :class:`~sealift.provider.triggers.account.SlotsAt`.
    """

    def __init__(
        self, *, classic_conn_id: str, poll_interval: float, guest_id: int, max_offline: int, slots: dict[str, Any]
    ) -> None:
        super().__init__(classic_conn_id=classic_conn_id, poll_interval=poll_interval)
        self.guest_id = guest_id
        self.max_offline = max_offline
        self.slots = slots

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what it takes to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "classic_conn_id": self.classic_conn_id,
                "poll_interval": self.poll_interval,
                "guest_id": self.guest_id,
                "max_offline": self.max_offline,
                "slots": self.slots,
            },
        )

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Snapshot]) -> AsyncIterator[TriggerEvent]:
        """Pass over snapshots until a slot is free for this server.

        :param shared_stream: the poll's snapshots.
        :returns: one event.
        """
        began = datetime.now(UTC)
        at = SlotsAt(**self.slots)
        interest = Interest(guest_id=self.guest_id, max_offline=self.max_offline, slots=at)
        key = self.shared_stream_key()
        token = register(key, interest)
        told: int | None = None
        try:
            async for snapshot in shared_stream:
                if interest in snapshot.admitted:
                    await settle(began)
                    yield TriggerEvent(LOOK_AGAIN)
                    return
                if at in snapshot.in_flight and len(snapshot.in_flight[at]) != told:
                    told = len(snapshot.in_flight[at])
                    self.log.info("Waiting for an offline slot: %d captures run, %d may.", told, self.max_offline)
        finally:
            unregister(key, token)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait without the triggerer's shared stream, as ``dag.test()`` does."""
        async for event in self.filter_shared_stream(type(self).open_shared_stream(self.serialize()[1])):
            yield event


class MomentTrigger(BaseTrigger):
    """Waits until a moment has come.

    :param until: when that is (UTC, ISO 8601).
    """

    def __init__(self, *, until: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what it takes to make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep until the time has come, and never less than Airflow needs to forget the deferring process."""
        began = datetime.now(UTC)
        await asyncio.sleep(max(0.0, (datetime.fromisoformat(self.until) - began).total_seconds()))
        await settle(began)
        yield TriggerEvent(LOOK_AGAIN)
