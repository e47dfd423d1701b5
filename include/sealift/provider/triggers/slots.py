"""What a step waits for before it acts: a free offline slot, or a moment (a window opens, a lost request's fate is
certain). No worker waits."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from sealift.exports.errors import OfflineCapReached
from sealift.exports.handing import is_newer
from sealift.provider.links import TemplateLink
from sealift.provider.log_fields import bind_fields
from sealift.provider.metrics import count_wait
from sealift.provider.triggers.account import Interest, SlotsAt, Snapshot, look_at, register, unregister
from sealift.provider.triggers.base import AccountTrigger, in_turn, settle
from sealift.provider.waits import read_xcom

if TYPE_CHECKING:
    from sealift.exports.surveying import Survey

LOOK_AGAIN = {"status": "look-again"}
"""The payload of both triggers: the step looks once more itself before it submits anything."""

SEEN = "seen"
"""What a wait for a slot adds to it: the look that found the slot, for the step to build its own on."""

ROOT = "root"
"""And what the keys of the slots begin with, so that the step need not ask the account for its id."""


class OfflineSlotTrigger(AccountTrigger):
    """Waits until the account shows fewer captures than the cap, those who have waited longest first.

    Where a task starts here, the arguments are templates. What needs no slot passes at once: a later try, which looks
    for what an earlier one did, and a server whose template is there already. Where it knows the wave, it then submits
    the capture itself.

    :param classic_conn_id: connection of the type ``ibm_classic``.
    :param poll_interval: seconds between two polls of the account.
    :param gate: as JSON: ``slots``, the fields of :class:`~sealift.provider.triggers.account.SlotsAt`; ``max_offline``,
        most servers offline for capture at once; ``max_in_datacenter``, most of them in one data center, if that is
        bounded; and ``window``, the capture window to wait for, if any.
    :param server: as JSON: ``guest_id``, the virtual server that waits, its ``datacenter``, if that is known, and
        ``adopts``, if nothing is captured.
    :param attempt: which try of the task this is.
    :param deferred_by_worker: whether a worker process made this trigger, after it found no slot.
    :param wave_key: key of the wave in the bucket; empty where a worker is to submit the capture.
    :param bucket: the bucket.
    :param cos_conn_id: connection of the type ``ibm_cos``.
    :param region: the bucket's region; empty for the connection's.
    :param guest_id: of a trigger that an earlier Sealift made, in the place of ``gate`` and ``server``: the server.
    :param max_offline: … most servers offline.
    :param slots: … and the fields of its slots.
    """

    def __init__(
        self,
        *,
        classic_conn_id: str,
        poll_interval: float,
        gate: str = "",
        server: str = "",
        attempt: str | int = 1,
        deferred_by_worker: bool = False,
        wave_key: str = "",
        bucket: str = "",
        cos_conn_id: str = "",
        region: str = "",
        guest_id: int | None = None,
        max_offline: int | None = None,
        slots: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(classic_conn_id=classic_conn_id, poll_interval=poll_interval)
        of_before = guest_id is not None  # a worker made it: these triggers were made by nobody else
        self.gate = json.dumps({"slots": slots, "max_offline": max_offline}) if of_before else gate
        self.server = json.dumps({"guest_id": guest_id}) if of_before else server
        self.attempt = attempt
        self.deferred_by_worker = deferred_by_worker or of_before
        self.wave_key = wave_key
        self.bucket = bucket
        self.cos_conn_id = cos_conn_id
        self.region = region

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what it takes to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "classic_conn_id": self.classic_conn_id,
                "poll_interval": self.poll_interval,
                "gate": self.gate,
                "server": self.server,
                "attempt": self.attempt,
                "deferred_by_worker": self.deferred_by_worker,
                "wave_key": self.wave_key,
                "bucket": self.bucket,
                "cos_conn_id": self.cos_conn_id,
                "region": self.region,
            },
        )

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Snapshot]) -> AsyncIterator[TriggerEvent]:
        """Pass over snapshots until a slot is free for this server.

        :param shared_stream: the poll's snapshots.
        :returns: one event.
        """
        began = datetime.now(UTC)
        bind_fields(self.server)
        if self._passes():
            yield TriggerEvent(LOOK_AGAIN)
            return
        gate, server = read_xcom(self.gate), read_xcom(self.server)
        if gate.get("window"):
            await self._until_it_opens(gate["window"], shared_stream)
        queued = admitted_at = datetime.now(UTC)
        at = SlotsAt(**gate["slots"])
        interest = Interest(
            guest_id=int(server["guest_id"]),
            max_offline=int(gate["max_offline"]),
            slots=at,
            datacenter=str(server.get("datacenter") or ""),
            max_in_datacenter=int(gate.get("max_in_datacenter") or 0),
        )
        key = self.shared_stream_key()
        token = register(key, interest)
        told: tuple[int, int] | None = None
        event: TriggerEvent | None = None
        try:
            async for snapshot in shared_stream:
                if interest in snapshot.admitted:
                    admitted_at = datetime.now(UTC)
                    event = await self._go_on(interest, snapshot.surveys.get(at))
                    if event is not None:
                        break
                elif at in snapshot.in_flight and (now := _counted(snapshot, interest)) != told:
                    told = now
                    await in_turn()
                    self.log.info("Waiting for an offline slot: %d captures run, %d may.", *told)
        finally:
            unregister(key, token)
        count_wait("slot", (admitted_at - queued).total_seconds())
        if self.deferred_by_worker:
            await settle(began)
        await in_turn()
        yield event or TriggerEvent(LOOK_AGAIN)

    async def _go_on(self, interest: Interest, seen: Survey | None) -> TriggerEvent | None:
        """Submit the capture here, where that is possible. It keeps its place in the line meanwhile.

        :param interest: what it waited for.
        :param seen: the look that found a slot.
        :returns: what ends the wait; None where it has to go on, since the slot is somebody else's.
        """
        assert interest.slots is not None
        assert interest.guest_id is not None
        look_again = {**LOOK_AGAIN, ROOT: interest.slots.root}
        if not self.wave_key:
            return TriggerEvent({**look_again, SEEN: seen.brief()} if seen is not None else look_again)
        from sealift.provider.triggers.starting import StartsAt, keep_link, try_to_capture

        try:
            started = await try_to_capture(
                StartsAt(
                    classic_conn_id=self.classic_conn_id,
                    cos_conn_id=self.cos_conn_id,
                    region=self.region,
                    slots=interest.slots,
                ),
                log_to=self.log,
                bucket=self.bucket,
                wave_key=self.wave_key,
                guest_id=interest.guest_id,
                seen=seen,
            )
        except OfflineCapReached as full:
            self.log.info("%s", full)
            return None
        if started is None:
            return TriggerEvent(look_again)
        await keep_link(self.task_instance, TemplateLink(), started.link)
        return TaskSuccessEvent(xcoms={"return_value": started.handed_on})

    def _passes(self) -> bool:
        """Say whether the worker may look at once."""
        if self.deferred_by_worker:
            return False
        gate, server = read_xcom(self.gate), read_xcom(self.server)
        # What is strange is the worker's to say, in words and for the report.
        strange = not isinstance(gate, dict) or not isinstance(server, dict) or is_newer(gate) or is_newer(server)
        return strange or int(self.attempt) > 1 or bool(server.get("adopts"))

    async def _until_it_opens(self, window: str, shared_stream: AsyncIterator[Snapshot]) -> None:
        """Let snapshots go by until the capture window is open: Airflow fails a trigger that does not read its stream.

        Until then it asks for nothing, and has no place in the line for a slot.
        """
        now = datetime.now(UTC)
        opens = _opening(window, now.replace(second=0, microsecond=0))
        if opens <= now:
            return
        self.log.info("Waiting until the capture window opens at %s.", opens.isoformat(timespec="minutes"))
        key = self.shared_stream_key()
        token = register(key, Interest())
        look_at(key, token, (opens - now).total_seconds())
        try:
            async for _ in shared_stream:
                left = (opens - datetime.now(UTC)).total_seconds()
                if left <= 0:
                    count_wait("window", (datetime.now(UTC) - now).total_seconds())
                    return
                look_at(key, token, left)
        finally:
            unregister(key, token)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait without the triggerer's shared stream, as ``dag.test()`` does. The event resumes the task either way."""
        self.wave_key = ""
        async for event in self.filter_shared_stream(type(self).open_shared_stream(self.serialize()[1])):
            yield event


@functools.lru_cache(maxsize=64)
def _opening(window: str, minute: datetime) -> datetime:
    """Find when a window opens: a walk over minutes, which the hundred servers of a wave need once."""
    from sealift.exports.window import Window

    return Window.parse(window).next_opening(minute)


def _counted(snapshot: Snapshot, interest: Interest) -> tuple[int, int]:
    """Tell how many captures run, and how many may: in the data center, where that is what it waits for."""
    assert interest.slots is not None
    assert interest.max_offline is not None
    running, most = len(snapshot.in_flight[interest.slots]), interest.max_offline
    seen, place = snapshot.surveys.get(interest.slots), interest.datacenter
    if seen is None:
        return running, most
    most = seen.caps.in_force("capture", "", most, snapshot.taken_at)
    part = seen.caps.in_force("capture", place, interest.max_in_datacenter, snapshot.taken_at) if place else 0
    return (len(seen.guests(datacenter=place)), part) if part and running < most else (running, most)


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
        count_wait("moment", (datetime.now(UTC) - began).total_seconds())
        yield TriggerEvent(LOOK_AGAIN)
