"""What plans and their reports say of servers, read as little as it takes to put them into rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.plan_models import MissedSlot, Outcome
from sealift.exports.plan_models import SchemaVersion as PlanVersion
from sealift.exports.ports import CosApi
from sealift.exports.report import OutcomeKind
from sealift.exports.report import SchemaVersion as ReportVersion
from sealift.exports.rules import Finding, Severity
from sealift.exports.status.rows import Row, Rows, State, renewed
from sealift.exports.versions import newer_words

SILENT_FOR: Final = timedelta(days=14)
"""A run that has written nothing for so long is over, as the doctor has it."""

_UNREPORTED: Final = (
    "Its run ended without a word about it: no manifest and no report. Clear the run's report task, which writes one, "
    "or export what is missing."
)


class _Lean(BaseModel):
    """A part of what is in the bucket: the rest is neither checked nor kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Server(_Lean):
    hostname: str
    domain: str | None = None
    datacenter: str | None = None
    findings: list[Finding] = Field(default_factory=list)

    @property
    def refusal(self) -> Finding:
        refusals = [one for one in self.findings if one.severity is Severity.REFUSE]
        if not refusals:
            return Finding(rule="", severity=Severity.REFUSE, sentence="")
        return Finding(
            rule=refusals[0].rule, severity=Severity.REFUSE, sentence=" ".join(one.sentence for one in refusals)
        )


class _Item(_Server):
    guest_id: int
    tags: list[str] = Field(default_factory=list)
    export_id: str
    outcome: Outcome
    capacity_bytes: int = 0


class _BareMetal(_Server):
    hardware_id: int


class _Wave(_Lean):
    number: int
    guest_ids: list[int]
    period: str | None = None


class _Settings(_Lean):
    dry_run: bool = False


class _Plan(_Lean):
    schema_version: PlanVersion
    plan_id: str
    created_at: AwareDatetime
    period: str
    settings: _Settings
    items: list[_Item]
    bare_metal: list[_BareMetal] = Field(default_factory=list)
    missed: list[MissedSlot] = Field(default_factory=list)
    waves: list[_Wave] = Field(default_factory=list)


class _Outcome(_Lean):
    kind: OutcomeKind
    export_id: str | None = None
    rule: str | None = None
    task: str | None = None
    words: str | None = None


class _Report(_Lean):
    schema_version: ReportVersion
    reported_at: AwareDatetime
    outcomes: list[_Outcome]


Read = TypeVar("Read", bound=_Lean)


@dataclass(slots=True)
class PlanObjects:
    """The objects of one plan, as a listing shows them."""

    plan_id: str
    plan: ObjectInfo | None = None
    report: ObjectInfo | None = None
    wave_reports: dict[int, str] = field(default_factory=dict)
    last: datetime | None = None

    def note(self, info: ObjectInfo, file: names.PlanFile) -> None:
        """Take an object in.

        :param info: the object.
        :param file: what its key tells.
        """
        self.last = info.last_modified if self.last is None else max(self.last, info.last_modified)
        if file.wave is None:
            if file.report:
                self.report = info
            else:
                self.plan = info
        elif file.report:
            self.wave_reports[file.wave] = info.etag

    def at_work(self, now: datetime) -> bool:
        """Say whether its run may still be at work.

        :param now: the present time, with a time zone.
        """
        return self.report is None and self.last is not None and now - self.last < SILENT_FOR

    def mark(self, now: datetime) -> tuple[object, ...]:
        """What changes when what the plan says of servers changes.

        :param now: the present time, with a time zone.
        """
        plan, report = (None if one is None else one.etag for one in (self.plan, self.report))
        return (plan, report, tuple(sorted(self.wave_reports.items())), self.at_work(now))


class ReadPlan:
    """A plan with its reports, read.

    :param plan_id: the plan.
    :param dry_run: it was made by a dry run, and says nothing of any export.
    :param created_at: when it was made.
    :param rows: by period: what it says of its servers.
    """

    def __init__(self, *, plan_id: str, dry_run: bool, created_at: datetime, rows: dict[str, Rows]) -> None:
        self.plan_id = plan_id
        self.dry_run = dry_run
        self.created_at = created_at
        self.rows = rows

    def put_over(self, period: str, rows: Rows) -> Rows:
        """Put what it says of a slot over what was known.

        :param period: the slot.
        :param rows: what was known.
        :returns: new rows.
        """
        found = dict(rows)
        for number, row in self.rows.get(period, {}).items():
            found[number] = renewed(found.get(number), row)
        return found


def read_plan_rows(
    cos: CosApi, objects: PlanObjects, *, bucket: str, prefix: str, now: datetime
) -> tuple[ReadPlan | None, str]:
    """Read a plan and its reports.

    :param cos: the object store.
    :param objects: the plan's objects.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param now: the present time, with a time zone.
    :returns: what it says, and an empty text; or None, and in words why it cannot be read.
    """
    if objects.plan is None:
        return None, f"The plan {objects.plan_id} is missing, and its waves or reports are there."
    plan = _read(cos, bucket, objects.plan.key, _Plan)
    if not isinstance(plan, _Plan):
        return None, plan
    reports: list[tuple[int | None, _Report]] = []
    keys: list[tuple[int | None, str]] = (
        [(None, objects.report.key)]
        if objects.report is not None
        else [
            (number, names.wave_report_key(prefix=prefix, plan_id=plan.plan_id, number=number))
            for number in sorted(objects.wave_reports)
        ]
    )
    if not plan.settings.dry_run:
        for number, key in keys:
            report = _read(cos, bucket, key, _Report)
            if not isinstance(report, _Report):
                return None, report
            reports.append((number, report))
    rows = {} if plan.settings.dry_run else _rows(plan, [one for _, one in reports], at_work=objects.at_work(now))
    return (
        ReadPlan(plan_id=plan.plan_id, dry_run=plan.settings.dry_run, created_at=plan.created_at, rows=rows),
        "",
    )


def _rows(plan: _Plan, reports: list[_Report], *, at_work: bool) -> dict[str, Rows]:
    outcomes = {
        one.export_id: (one, report.reported_at.timestamp())
        for report in reports
        for one in report.outcomes
        if one.export_id is not None
    }
    wave_of = {
        (wave.period or plan.period, guest_id): wave.number for wave in plan.waves for guest_id in wave.guest_ids
    }
    found: dict[str, Rows] = {plan.period: {}}
    known: dict[int, Row] = {}
    for item in plan.items:
        period = names.parse_export_id(item.export_id)[1]
        row = Row(
            number=item.guest_id,
            hostname=item.hostname,
            domain=item.domain or "",
            datacenter=item.datacenter or "",
            tags=tuple(item.tags),
            capacity=item.capacity_bytes,
            plan_id=plan.plan_id,
            wave=wave_of.get((period, item.guest_id), -1),
        )
        known[item.guest_id] = row
        found.setdefault(period, {})[item.guest_id] = _decided(row, item, outcomes.get(item.export_id), at_work=at_work)
    for period, row in _without_items(plan, known):
        found.setdefault(period, {}).setdefault(row.number, row)
    return found


def _decided(row: Row, item: _Item, told: tuple[_Outcome, float] | None, *, at_work: bool) -> Row:
    if item.outcome is Outcome.NOT_EXPORTABLE:
        refusal = item.refusal
        return row._replace(state=State.SKIPPED, rule=refusal.rule, words=refusal.sentence)
    if item.outcome is Outcome.ALREADY_EXPORTED and told is None:
        return row._replace(state=State.EXPORTED)
    if told is None:
        return row._replace(state=State.RUNNING) if at_work else row._replace(words=_UNREPORTED)
    outcome, at = told
    row = row._replace(rule=outcome.rule or "", task=outcome.task or "", words=outcome.words or "")
    if outcome.kind is OutcomeKind.FAILED:
        return row._replace(state=State.FAILED, failed_at=at)
    if outcome.kind is OutcomeKind.NOT_EXPORTABLE:
        return row._replace(state=State.SKIPPED)
    return row._replace(state=State.EXPORTED)


def _without_items(plan: _Plan, known: dict[int, Row]) -> Iterator[tuple[str, Row]]:
    for server in plan.bare_metal:
        refusal = server.refusal
        row = Row(
            number=-server.hardware_id,
            hostname=server.hostname,
            domain=server.domain or "",
            datacenter=server.datacenter or "",
            state=State.SKIPPED,
            plan_id=plan.plan_id,
            rule=refusal.rule,
            words=refusal.sentence,
        )
        yield plan.period, row
    for missed in plan.missed:
        words = (
            f"It was not captured in the slot {missed.period}, and cannot be any more: a capture now would not be of "
            "that time."
        )
        for guest_id in missed.guest_ids:
            row = known.get(guest_id) or Row(guest_id, plan_id=plan.plan_id)
            yield missed.period, row._replace(state=State.MISSING, wave=-1, words=words)


def _read(cos: CosApi, bucket: str, key: str, model: type[Read]) -> Read | str:
    body = cos.read(bucket, key)
    if body is None:
        return f"{bucket}/{key} was deleted since it was listed."
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        newer = newer_words(error)
        if newer is not None:
            return f"{bucket}/{key} {newer}"
        problem = error.errors(include_url=False, include_input=False)[0]["msg"]
        return f"{bucket}/{key} is nothing that this version of Sealift can read ({problem})."
