"""The waves of a plan, for a view of a run: what the bucket and the account know, to be put beside Airflow's own state.

Airflow knows which task of which server is at work; the bucket knows how long it should take and what is done; the
account knows which transaction is in progress. A server's place in its wave is its map index in Airflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from sealift.classic.models import GuestState, Template, Transaction
from sealift.exports import names
from sealift.exports.deadlines import stuck_after
from sealift.exports.plan_models import Plan, PlanItem, WaveSlice
from sealift.exports.status.coverage import ReadModel, moment
from sealift.exports.status.rows import Row, State, count_states
from sealift.exports.status.snapshot import Snapshot


class WaveLine(ReadModel):
    """A wave of a plan."""

    number: int = Field(description="The wave's number, from 0")
    run_id: str = Field(description="Its run of export_servers")
    period: str = Field(description="The slot of its exports")
    servers: int = Field(description="Servers that it carries")
    counts: dict[State, int] = Field(description="Servers by state; a state without any is left out")
    bytes: int = Field(description="Bytes of the images that are done, as far as their manifests were read")
    capacity_bytes: int = Field(description="Capacity of all of its servers' disks")
    done_capacity_bytes: int = Field(description="Capacity of the disks of those that are exported")


class WaveList(ReadModel):
    """The waves of a plan."""

    plan_id: str = Field(description="The plan")
    counts: dict[State, int] = Field(description="Servers of all waves by state")
    waves: list[WaveLine] = Field(description="The waves, in order")


class WaveServer(ReadModel):
    """A server of a wave."""

    map_index: int = Field(description="The server's map index in the wave's run")
    id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name when the plan was made")
    datacenter: str = Field(description="Its data center; may be empty")
    period: str = Field(description="The slot of its export")
    state: State = Field(description="What the bucket says: exported, running, failed, skipped or missing")
    words: str = Field(description="Why it failed or was skipped, and what to do; else empty")
    task: str = Field(description="The task that failed; else empty")
    done_at: datetime | None = Field(description="When its manifest was written")
    bytes: int = Field(description="Bytes of its images; 0 until its manifest was read")
    capacity_bytes: int = Field(description="Capacity of its disks")
    capture_expected_seconds: float | None = Field(description="How long the capture should take by the history")
    export_expected_seconds: float | None = Field(description="How long the export should take by the history")
    capture_deadline_seconds: float = Field(description="Longest wait for the template: later, it has failed")
    export_deadline_seconds: float = Field(description="Longest wait for the export: later, it has failed")
    capture_stuck_seconds: float = Field(
        description="A capture's transaction whose status stands still for so long is stuck; else it is slow at most"
    )
    export_stuck_seconds: float = Field(description="The same of the export's transaction")


class WaveView(ReadModel):
    """A wave and its servers."""

    plan_id: str = Field(description="The plan")
    number: int = Field(description="The wave's number, from 0")
    run_id: str = Field(description="Its run of export_servers")
    period: str = Field(description="The slot of its exports")
    servers: list[WaveServer] = Field(description="Its servers, in the order of their map indexes")


class TransactionLine(ReadModel):
    """What the account says of a server at this moment."""

    id: int = Field(description="The virtual server's id")
    power_state: str | None = Field(description="Its power state")
    on: str | None = Field(description="What the transaction is on: server or template; none: there is none")
    transaction_id: int | None = Field(description="The transaction's id")
    status: str | None = Field(description="The transaction's status, in the account's own words")
    group: str | None = Field(description="What the transaction does, in the account's own words")
    since: datetime | None = Field(description="When the status was reached")
    started_at: datetime | None = Field(description="When the transaction began")
    template_id: int | None = Field(description="The export's template, where there is one")


class Transactions(ReadModel):
    """What the account says of a wave's servers."""

    asked_at: datetime = Field(description="When the account was asked")
    servers: list[TransactionLine] = Field(description="The servers, in the order of their map indexes")


def wave_list(plan: Plan, snapshot: Snapshot) -> WaveList:
    """Show the waves of a plan.

    :param plan: the plan.
    :param snapshot: what is known.
    :returns: the waves. Nothing is under way in those of a dry run, whose servers are in no state by it.
    """
    carried_out = not plan.settings.dry_run
    capacity = {(item.period, item.guest_id): item.capacity_bytes for item in plan.items}
    lines, everything = [], []
    for wave in plan.waves:
        period = wave.period or plan.period
        rows = [row_of(snapshot, number, period) for number in wave.guest_ids] if carried_out else []
        everything += rows
        exported = [row for row in rows if row.state is State.EXPORTED]
        lines.append(
            WaveLine(
                number=wave.number,
                run_id=names.wave_run_id(plan_id=plan.plan_id, number=wave.number),
                period=period,
                servers=len(wave.guest_ids),
                counts=count_states(rows),
                bytes=sum(row.bytes for row in exported),
                capacity_bytes=sum(capacity.get((period, one), 0) for one in wave.guest_ids),
                done_capacity_bytes=sum(capacity.get((period, row.number), 0) for row in exported),
            )
        )
    return WaveList(plan_id=plan.plan_id, counts=count_states(everything), waves=lines)


def wave_view(wave: WaveSlice, snapshot: Snapshot) -> WaveView:
    """Show a wave.

    :param wave: the wave's slice of its plan.
    :param snapshot: what is known.
    :returns: the wave and its servers.
    """
    return WaveView(
        plan_id=wave.plan_id,
        number=wave.number,
        run_id=names.wave_run_id(plan_id=wave.plan_id, number=wave.number),
        period=wave.period,
        servers=[_server(place, item, wave, snapshot) for place, item in enumerate(wave.items)],
    )


def transactions_of(
    wave: WaveSlice, guests: Mapping[int, GuestState], templates: Mapping[str, Template], *, asked_at: datetime
) -> Transactions:
    """Show what the account says of a wave's servers.

    :param wave: the wave's slice of its plan.
    :param guests: the servers' states, by id.
    :param templates: the templates of the wave's slot, by name.
    :param asked_at: when the account was asked.
    :returns: a line for each server.
    """
    lines = []
    for item in wave.items:
        guest, template = guests.get(item.guest_id), templates.get(item.template_name)
        at: tuple[str, Transaction] | None = None
        if guest is not None and guest.active_transaction is not None:
            at = ("server", guest.active_transaction)
        elif template is not None:
            found = [template.transaction, *(child.transaction for child in template.children)]
            on_template = next((one for one in found if one is not None), None)
            at = None if on_template is None else ("template", on_template)
        transaction = None if at is None else at[1]
        lines.append(
            TransactionLine(
                id=item.guest_id,
                power_state=None if guest is None else guest.power_state,
                on=None if at is None else at[0],
                transaction_id=None if transaction is None else transaction.id,
                status=None if transaction is None else transaction.status_friendly_name or transaction.status_name,
                group=None if transaction is None else transaction.group_name,
                since=None if transaction is None else transaction.status_change_date,
                started_at=None if transaction is None else transaction.create_date,
                template_id=None if template is None else template.id,
            )
        )
    return Transactions(asked_at=asked_at, servers=lines)


def row_of(snapshot: Snapshot, number: int, period: str) -> Row:
    """Give what is known of a server that a plan exports; as long as nothing is, its run has only begun.

    :param snapshot: what is known.
    :param number: the server.
    :param period: the slot of its export.
    """
    return snapshot.row(number, period) or Row(number, state=State.RUNNING)


def _server(place: int, item: PlanItem, wave: WaveSlice, snapshot: Snapshot) -> WaveServer:
    row = row_of(snapshot, item.guest_id, item.period)
    capture, export = item.capture_deadline(wave.settings), item.export_deadline(wave.settings)
    minutes = wave.settings.stuck_minutes
    return WaveServer(
        map_index=place,
        id=item.guest_id,
        hostname=item.hostname,
        datacenter=item.datacenter or "",
        period=item.period,
        state=row.state,
        words=row.words,
        task=row.task,
        done_at=moment(row.done_at),
        bytes=row.bytes,
        capacity_bytes=item.capacity_bytes,
        capture_expected_seconds=item.capture_expected_seconds,
        export_expected_seconds=item.export_expected_seconds,
        capture_deadline_seconds=capture.total_seconds(),
        export_deadline_seconds=export.total_seconds(),
        capture_stuck_seconds=stuck_after(capture, minutes).total_seconds(),
        export_stuck_seconds=stuck_after(export, minutes).total_seconds(),
    )
