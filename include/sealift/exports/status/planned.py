"""A plan as people read it before anything starts: what is done, why not for the rest, how long, and what it costs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from statistics import median
from typing import Final

from pydantic import Field

from sealift.exports.deadlines import ASSUMED_BYTES_PER_SECOND
from sealift.exports.plan_models import Outcome, Plan, PlanItem
from sealift.exports.rules import Finding, Severity
from sealift.exports.settings import PlanSettings
from sealift.exports.status.coverage import ReadModel
from sealift.exports.status.prices import Costs, Prices, costs_of
from sealift.exports.status.rows import Row, State
from sealift.exports.status.snapshot import PlanFacts, Snapshot
from sealift.exports.status.waves import row_of

LIMIT_AT_MOST: Final = 500

_SEVERITIES: Final = (Severity.REFUSE, Severity.WARN, Severity.INFO)


class RuleLine(ReadModel):
    """A rule that spoke, and of how many servers."""

    rule: str = Field(description="Id of the rule")
    severity: Severity = Field(description="refuse keeps servers out, warn lets them through, info is for the record")
    servers: int = Field(description="Servers that it spoke of")
    example: str = Field(description="What it said of the first of them")


class PlannedServer(ReadModel):
    """A server of a plan."""

    id: int = Field(description="The server's id")
    kind: str = Field(description="virtual or bare metal")
    hostname: str = Field(description="Its host name when the plan was made")
    datacenter: str = Field(description="Its data center; may be empty")
    tags: list[str] = Field(description="Its tags when the plan was made")
    period: str = Field(description="The slot that the export is for")
    outcome: Outcome = Field(description="export, already exported or not exportable")
    findings: list[Finding] = Field(description="What the rules found, refusals first")
    goes_offline: bool = Field(description="Whether a capture takes it offline; not where a template is adopted")
    disks: int = Field(description="Disks that are captured")
    capacity_bytes: int = Field(description="Their capacity")
    expected_bytes: int = Field(description="Bytes that its images are expected to have")
    offline_seconds: float = Field(description="How long it is expected to be offline")
    export_seconds: float = Field(description="How long its export is expected to take")
    wave: int | None = Field(description="Number of the wave that carries it, from 0")
    state: State | None = Field(
        default=None,
        description="What became of it in that slot by now, whichever plan did it; none where the plan exports nothing "
        "of it",
    )
    task: str = Field(default="", description="The task that failed; else empty")
    words: str = Field(default="", description="Why it failed or is missing, and what to do; else empty")


class PlanTotals(ReadModel):
    """A plan in figures. What is expected rests on the account's history, or on assumptions: basis says on which."""

    servers: int = Field(description="Servers and slots that the plan speaks of")
    export: int = Field(description="Exports that it makes")
    already_exported: int = Field(description="Exports that were there when it was made")
    not_exportable: int = Field(description="Servers that cannot be exported, bare metal and unknown ones included")
    offline: int = Field(description="Servers that go offline")
    most_offline_at_once: int = Field(description="Most of them that are offline at the same time")
    offline_seconds_each: float = Field(description="Seconds that a server is expected to be offline, in the median")
    offline_seconds_total: float = Field(description="Seconds of all servers together")
    duration_seconds: float = Field(
        description="How long the plan is expected to take: captures as many at once as may be, then the last export"
    )
    waves: int = Field(description="Runs of export_servers")
    disks: int = Field(description="Disks that are exported")
    capacity_bytes: int = Field(description="Their capacity")
    expected_bytes: int = Field(description="Bytes that the images are expected to have")
    basis: list[str] = Field(description="Where durations and bytes come from, in words")


class PlanView(ReadModel):
    """What a plan would do, or did."""

    plan_id: str = Field(description="The plan")
    created_at: datetime = Field(description="When it was made")
    period: str = Field(description="The slot or manual run that its exports are for")
    dry_run: bool = Field(description="It was made to be looked at: nothing of it is carried out")
    retry_of: str | None = Field(description="The plan whose failed servers it tries again")
    settings: PlanSettings = Field(description="How it exports")
    findings: list[Finding] = Field(description="What the rules found about the settings")
    notes: list[str] = Field(description="What else to know, in words")
    missed: list[str] = Field(description="Past slots that cannot be captured any more, in words")
    totals: PlanTotals = Field(description="The plan in figures")
    costs: Costs = Field(description="What storing and fetching the images is expected to cost")
    rules: list[RuleLine] = Field(description="The rules that spoke, refusals first")
    total: int = Field(description="Servers that fit the filters")
    offset: int = Field(description="How many of them come before this page")
    servers: list[PlannedServer] = Field(description="The page's servers")


class PlanLine(ReadModel):
    """A plan in a list."""

    plan_id: str = Field(description="The plan")
    written_at: datetime = Field(description="When it was written")
    last_sign: datetime = Field(description="When its run wrote last, as far as plans and reports show")
    waves_reported: int = Field(description="Waves that have reported")
    reported: bool = Field(description="Its run has reported, and is over")
    at_work: bool = Field(
        description="Its run may still be at work: it is no dry run, there is no report yet, and it wrote within the "
        "last 14 days"
    )
    dry_run: bool | None = Field(
        description="It was made to be looked at: nothing of it is carried out. None where nobody has read it yet"
    )


class PlanList(ReadModel):
    """Plans, newest first."""

    total: int = Field(description="How many plans there are")
    offset: int = Field(description="How many of them come before this page")
    plans: list[PlanLine] = Field(description="The page's plans")


def plan_list(plans: list[PlanFacts], *, offset: int, limit: int, dry_run: bool | None = None) -> PlanList:
    """List plans.

    :param plans: newest first.
    :param offset: plans to pass over.
    :param limit: most plans to list.
    :param dry_run: only dry runs, or only others; all if None.
    :returns: the list.
    """
    if dry_run is not None:
        plans = [one for one in plans if bool(one.dry_run) is dry_run]
    return PlanList(
        total=len(plans),
        offset=offset,
        plans=[
            PlanLine(
                plan_id=one.plan_id,
                written_at=one.written_at,
                last_sign=one.last_sign,
                waves_reported=one.waves_reported,
                reported=one.reported,
                at_work=one.at_work,
                dry_run=one.dry_run,
            )
            for one in plans[offset : offset + limit]
        ],
    )


class Expectation:
    """What the ledger lets expect of sizes: of a server what its last image had, else what images have on the whole.

    :param snapshot: what is known.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._last: dict[int, Row] = {}
        for place, server in enumerate(snapshot.grid.servers):
            at = snapshot.grid.latest(place)
            row = None if at < 0 else snapshot.row(server.number, snapshot.slots[at].period)
            if row is not None and row.bytes:
                self._last[server.number] = row
        shares = [row.bytes / row.capacity for row in self._last.values() if row.capacity]
        self.share = median(shares) if shares else 1.0
        self.servers = len(shares)

    def bytes_of(self, item: PlanItem) -> int:
        """Say how many bytes a server's images are expected to have.

        :param item: the server.
        """
        last = self._last.get(item.guest_id)
        if last is not None and last.capacity in (0, item.capacity_bytes):
            return last.bytes
        return round(item.capacity_bytes * self.share)

    @property
    def words(self) -> str:
        """Where the bytes come from."""
        if not self.servers:
            return "Bytes: no export was read yet, so that images are taken to be as large as the disks."
        return (
            f"Bytes: of a server what its last images had; else {self.share:.0%} of its disks, the median of "
            f"{self.servers} servers."
        )


class PlanFigures:
    """What follows from a plan and from what is expected of it, whatever page of it is shown.

    :param plan: the plan.
    :param expected: what to expect of sizes.
    """

    def __init__(self, plan: Plan, expected: Expectation) -> None:
        self.plan = plan
        self.servers = _servers(plan, expected)
        self.totals = _totals(plan, self.servers, expected)
        self.rules = _rules(self.servers)


def plan_view(
    figures: PlanFigures,
    snapshot: Snapshot,
    *,
    prices: Prices,
    name: str = "",
    outcome: Outcome | None = None,
    rule: str = "",
    state: Collection[State] = (),
    offset: int = 0,
    limit: int = 100,
) -> PlanView:
    """Show a plan.

    :param figures: the plan, worked out.
    :param snapshot: what is known of its servers by now.
    :param prices: what bytes cost.
    :param name: part of a server's name or its id; empty: all.
    :param outcome: only servers with this outcome.
    :param rule: only servers of which this rule spoke; empty: all.
    :param state: only servers that are in one of these states by now; empty: all.
    :param offset: servers to pass over.
    :param limit: most servers to show.
    :returns: the plan, with a page of its servers.
    """
    plan, wanted = figures.plan, name.strip().lower()
    fitting = [
        one
        for one in figures.servers
        if (not wanted or wanted in one.hostname.lower() or wanted == str(one.id))
        and (outcome is None or one.outcome is outcome)
        and (not rule or any(found.rule == rule for found in one.findings))
        and (not state or ((row := _became(plan, snapshot, one)) is not None and row.state in state))
    ]
    page = fitting[offset : offset + limit]
    return PlanView(
        plan_id=plan.plan_id,
        created_at=plan.created_at,
        period=plan.period,
        dry_run=plan.settings.dry_run,
        retry_of=plan.retry_of,
        settings=plan.settings,
        findings=plan.findings,
        notes=plan.notes,
        missed=[one.sentence for one in plan.missed],
        totals=figures.totals,
        costs=costs_of(figures.totals.expected_bytes, prices),
        rules=figures.rules,
        total=len(fitting),
        offset=offset,
        servers=[_told(one, _became(plan, snapshot, one)) for one in page],
    )


def _became(plan: Plan, snapshot: Snapshot, server: PlannedServer) -> Row | None:
    if plan.settings.dry_run or server.outcome is not Outcome.EXPORT:
        return None
    return row_of(snapshot, server.id, server.period)


def _told(server: PlannedServer, row: Row | None) -> PlannedServer:
    if row is None:
        return server
    return server.model_copy(update={"state": row.state, "task": row.task, "words": row.words})


def _servers(plan: Plan, expected: Expectation) -> list[PlannedServer]:
    waves = {(wave.period or plan.period, one): wave.number for wave in plan.waves for one in wave.guest_ids}
    found = [_planned(item, expected, waves.get((item.period, item.guest_id))) for item in plan.items]
    for server in plan.bare_metal:
        found.append(
            PlannedServer(
                id=server.hardware_id,
                kind="bare metal",
                hostname=server.hostname,
                datacenter=server.datacenter or "",
                tags=[],
                period=plan.period,
                outcome=Outcome.NOT_EXPORTABLE,
                findings=server.findings,
                goes_offline=False,
                disks=0,
                capacity_bytes=0,
                expected_bytes=0,
                offline_seconds=0,
                export_seconds=0,
                wave=None,
            )
        )
    return found


def _planned(item: PlanItem, expected: Expectation, wave: int | None) -> PlannedServer:
    exports = item.outcome is Outcome.EXPORT
    offline = exports and not item.adopt_only
    assumed = item.capacity_bytes / ASSUMED_BYTES_PER_SECOND
    return PlannedServer(
        id=item.guest_id,
        kind="virtual",
        hostname=item.hostname,
        datacenter=item.datacenter or "",
        tags=item.tags,
        period=item.period,
        outcome=item.outcome,
        findings=item.findings,
        goes_offline=offline,
        disks=len(item.disks),
        capacity_bytes=item.capacity_bytes,
        expected_bytes=expected.bytes_of(item) if exports else 0,
        offline_seconds=(item.capture_expected_seconds or assumed) if offline else 0,
        export_seconds=(item.export_expected_seconds or assumed) if exports else 0,
        wave=wave,
    )


def _totals(plan: Plan, servers: list[PlannedServer], expected: Expectation) -> PlanTotals:
    exports = [one for one in servers if one.outcome is Outcome.EXPORT]
    offline = [one.offline_seconds for one in exports if one.goes_offline]
    at_once = min(plan.settings.max_offline, len(offline))
    captures = max(sum(offline) / at_once, *offline) if offline else 0.0

    def count(outcome: Outcome) -> int:
        return sum(one.outcome is outcome for one in servers)

    return PlanTotals(
        servers=len(servers) + len(plan.unknown_ids),
        export=len(exports),
        already_exported=count(Outcome.ALREADY_EXPORTED),
        not_exportable=count(Outcome.NOT_EXPORTABLE) + len(plan.unknown_ids),
        offline=len(offline),
        most_offline_at_once=at_once,
        offline_seconds_each=median(offline) if offline else 0.0,
        offline_seconds_total=sum(offline),
        duration_seconds=captures + max((one.export_seconds for one in exports), default=0.0),
        waves=len(plan.waves),
        disks=sum(one.disks for one in exports),
        capacity_bytes=sum(one.capacity_bytes for one in exports),
        expected_bytes=sum(one.expected_bytes for one in exports),
        basis=[f"Durations: {plan.history.says}", expected.words],
    )


def _rules(servers: list[PlannedServer]) -> list[RuleLine]:
    spoke: dict[tuple[int, str], list[Finding]] = {}
    for server in servers:
        for key, finding in {(_SEVERITIES.index(one.severity), one.rule): one for one in server.findings}.items():
            spoke.setdefault(key, []).append(finding)
    return [
        RuleLine(rule=rule, severity=_SEVERITIES[rank], servers=len(found), example=found[0].sentence)
        for (rank, rule), found in sorted(spoke.items(), key=lambda one: (one[0][0], -len(one[1]), one[0][1]))
    ]
