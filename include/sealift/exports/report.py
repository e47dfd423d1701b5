"""What became of every selected server, counted from the bucket's manifests and from the tasks that failed.

Each wave writes a report of its own; the run's report merges them with what the plan decided beforehand. Every
selected server stands in it exactly once, in exactly one outcome: a report that would lose or repeat one is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealift.exports import names
from sealift.exports.approval import RULE as APPROVAL_RULE
from sealift.exports.approval import Refusal
from sealift.exports.errors import PlanError
from sealift.exports.jsontext import canonical_json
from sealift.exports.ledger import exported_guests, exported_periods
from sealift.exports.manifest import Manifest, read_manifest
from sealift.exports.plan import BareMetalItem, Outcome, Plan, PlanItem, WaveSlice
from sealift.exports.ports import CosApi
from sealift.exports.rules import Finding, Severity, unknown_id_finding
from sealift.exports.settings import PlanSettings
from sealift.exports.versions import reads_up_to, unreadable

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]


class OutcomeKind(StrEnum):
    """The four ways in which a selected server can end."""

    EXPORTED = "exported"
    ALREADY_EXPORTED = "already exported"
    NOT_EXPORTABLE = "not exportable"
    FAILED = "failed"


class ReportModel(BaseModel):
    """Base of the reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskFailure(ReportModel):
    """What a wave knows of a server whose tasks did not all succeed.

    :param task: the task that failed, without the group's name, as ``capture``.
    :param words: what it said, in the API's own words where there are any.
    :param rule: the rule that refused the server, where it was one: the server is then not exportable.
    """

    task: str
    words: str
    rule: str | None = None


class ServerOutcome(ReportModel):
    """How one server ended."""

    kind: OutcomeKind = Field(description="exported, already exported, not exportable or failed")
    server: Literal["virtual", "bare metal", "unknown"] = Field(description="What kind of server it is")
    id: int = Field(description="Its id; virtual and bare metal servers are numbered apart")
    hostname: str = Field(description="Its host name; empty where the account does not know the id")
    domain: str | None = Field(default=None, description="Its domain")
    export_id: str | None = Field(default=None, description="<guest id>-<period>")
    template_id: int | None = Field(default=None, description="The template, of an export that is done")
    disks: int = Field(default=0, ge=0, description="Disks proven")
    bytes: int = Field(default=0, ge=0, description="Bytes of all images")
    proof_level: str | None = Field(default=None, description="Lowest proof level of all disks")
    seconds: float | None = Field(default=None, description="From the capture's begin to the proof's end")
    manifest_key: str | None = Field(default=None, description="The manifest, of an export that is done")
    rule: str | None = Field(default=None, description="The rule that refused the server")
    task: str | None = Field(default=None, description="The task that failed")
    words: str | None = Field(default=None, description="Why the server was refused, or what failed and what to do")


class WaveReport(ReportModel):
    """How the servers of one wave ended."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    plan_id: str = Field(description="The plan")
    number: int = Field(ge=0, description="The wave's number")
    run_id: str = Field(description="The DAG run that carried the wave")
    reported_at: AwareDatetime = Field(description="When the report was made")
    outcomes: list[ServerOutcome] = Field(max_length=100, description="Every server of the wave, by id")

    @property
    def failed(self) -> list[ServerOutcome]:
        """The servers that failed."""
        return [one for one in self.outcomes if one.kind is OutcomeKind.FAILED]


class RunReport(ReportModel):
    """How every selected server ended."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    plan_id: str = Field(description="The plan")
    period: str = Field(description="Scheduled slot or manual run")
    bucket: str = Field(description="The bucket")
    reported_at: AwareDatetime = Field(description="When the report was made")
    findings: list[Finding] = Field(default_factory=list, description="What the rules found about the settings")
    retry_of: str | None = Field(default=None, description="The plan whose failed servers this run tried again")
    notes: list[str] = Field(
        default_factory=list, description="Criteria that fit no server, and past slots that cannot be captured any more"
    )
    outcomes: list[ServerOutcome] = Field(description="Every export of every selected server, exactly once")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen = Counter((one.server, one.id, one.export_id) for one in self.outcomes)
        twice = [f"{server} {id_}" for (server, id_, _), times in seen.items() if times > 1]
        if twice:
            raise ValueError(f"these servers stand in the report more than once: {', '.join(twice)}")
        return self

    def count(self, kind: OutcomeKind) -> int:
        """Count the servers that ended in one way.

        :param kind: which way.
        :returns: the number of servers.
        """
        return sum(one.kind is kind for one in self.outcomes)

    @property
    def disks_proven(self) -> int:
        """Disks of the servers that this run exported."""
        return sum(one.disks for one in self.outcomes if one.kind is OutcomeKind.EXPORTED)

    @property
    def failed(self) -> list[ServerOutcome]:
        """The servers that failed."""
        return [one for one in self.outcomes if one.kind is OutcomeKind.FAILED]

    @property
    def summary(self) -> str:
        """The run in one line: ``5 exported, 8 disks proven, 1 not exportable, 0 failed``."""
        already = self.count(OutcomeKind.ALREADY_EXPORTED)
        parts = [
            f"{self.count(OutcomeKind.EXPORTED)} exported",
            f"{self.disks_proven} disks proven",
            *([f"{already} already exported"] if already else []),
            f"{self.count(OutcomeKind.NOT_EXPORTABLE)} not exportable",
            f"{len(self.failed)} failed",
        ]
        return ", ".join(parts)


Report = TypeVar("Report", WaveReport, RunReport)


def make_wave_report(
    *, cos: CosApi, wave: WaveSlice, failures: Mapping[int, TaskFailure], run_id: str, now: datetime
) -> WaveReport:
    """Report how a wave's servers ended. The bucket decides what is exported; failures say why the rest is not.

    :param cos: the object store.
    :param wave: the wave's slice of the plan.
    :param failures: by guest id: what failed of each server whose tasks did not all succeed.
    :param run_id: the DAG run that carried the wave.
    :param now: the present time, with a time zone.
    :returns: the report, with one outcome per server of the wave.
    :raises LedgerError: what lies at a manifest key is no manifest.
    """
    outcomes = []
    for item in sorted(wave.items, key=lambda one: one.guest_id):
        settings = wave.settings
        key = names.manifest_key(prefix=settings.prefix, guest_id=item.guest_id, period=item.period)
        manifest = read_manifest(cos, bucket=settings.bucket, key=key)
        if manifest is not None:
            outcomes.append(_exported(item, manifest, key))
        else:
            failure = failures.get(item.guest_id) or TaskFailure(
                task="export_servers",
                words=f"No task of {item.name} reported a failure, but there is no manifest: the run was ended before "
                "the server was done. Clear its tasks to go on from where the account says it is.",
            )
            outcomes.append(_not_exported(item, failure))
    return WaveReport(plan_id=wave.plan_id, number=wave.number, run_id=run_id, reported_at=now, outcomes=outcomes)


def make_run_report(
    *, cos: CosApi, plan: Plan, waves: Mapping[int, WaveReport], now: datetime, refusal: Refusal | None = None
) -> RunReport:
    """Merge the plan and its waves' reports. What a wave did not report as exported is looked up in the bucket.

    :param cos: the object store.
    :param plan: the plan.
    :param waves: the waves' reports, by number.
    :param now: the present time, with a time zone.
    :param refusal: that nobody approved the plan; the servers of waves that did not run were not captured then.
    :returns: the report, with every export of every selected server exactly once. What was exported before the plan was
        made is looked for in the ledger, and its manifest not read: the report of the run that exported it tells more.
    :raises PlanError: a wave's report does not hold the servers that the plan gave it.
    """
    settings = plan.settings
    by_export = {item.export_id: item for item in plan.items}
    outcomes = [_refused(item) for item in plan.items_with(Outcome.NOT_EXPORTABLE)]
    outcomes += _already_exported(cos, settings, plan.items_with(Outcome.ALREADY_EXPORTED))
    for wave in plan.waves:
        report = waves.get(wave.number)
        if report is None and refusal is not None:
            outcomes.extend(_not_approved(item, refusal) for item in plan.slice(wave.number).items)
            continue
        if report is None:
            number = wave.number
            failure = TaskFailure(
                task="export_servers",
                words=f"Wave {number} left no report: its run did not start or was ended. Clear the run "
                f"{names.wave_run_id(plan_id=plan.plan_id, number=number)} of export_servers.",
            )
            report = make_wave_report(
                cos=cos,
                wave=plan.slice(number),
                failures=dict.fromkeys(wave.guest_ids, failure),
                run_id=names.wave_run_id(plan_id=plan.plan_id, number=number),
                now=now,
            )
        if sorted(one.id for one in report.outcomes) != sorted(wave.guest_ids):
            raise PlanError(
                f"The report of wave {wave.number} does not hold the servers that the plan {plan.plan_id} gave it. "
                "Clear the wave's report task, which writes it anew."
            )
        period = wave.period or plan.period
        outcomes.extend(
            _looked_up_again(cos, settings, by_export[names.export_id(guest_id=one.id, period=period)], one)
            for one in report.outcomes
        )
    outcomes.extend(_bare_metal(one) for one in plan.bare_metal)
    outcomes.extend(_unknown(one) for one in plan.unknown_ids)
    return RunReport(
        plan_id=plan.plan_id,
        period=plan.period,
        bucket=settings.bucket,
        reported_at=now,
        findings=plan.findings,
        retry_of=plan.retry_of,
        notes=[*plan.notes, *(one.sentence for one in plan.missed)],
        outcomes=sorted(outcomes, key=lambda one: (one.server != "virtual", one.server, one.id, one.export_id or "")),
    )


def write_wave_report(cos: CosApi, report: WaveReport, *, bucket: str, prefix: str) -> str:
    """Write a wave's report (a later one replaces it) and return its key.

    :param cos: the object store.
    :param report: the report.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :returns: the report's key.
    """
    key = names.wave_report_key(prefix=prefix, plan_id=report.plan_id, number=report.number)
    cos.put(bucket, key, canonical_json(report))
    return key


def write_run_report(cos: CosApi, report: RunReport, *, prefix: str) -> str:
    """Write the run's report (a later one replaces it) and return its key.

    :param cos: the object store.
    :param report: the report; it names its bucket.
    :param prefix: what all keys begin with; may be empty.
    :returns: the report's key.
    """
    key = names.report_key(prefix=prefix, plan_id=report.plan_id)
    cos.put(report.bucket, key, canonical_json(report))
    return key


def read_wave_reports(cos: CosApi, plan: Plan) -> dict[int, WaveReport]:
    """Read the reports of a plan's waves, as far as there are any, by number.

    :param cos: the object store.
    :param plan: the plan; its settings name bucket and prefix.
    :returns: the reports by the waves' numbers.
    :raises PlanError: what lies at a report's key is none.
    """
    found = {}
    for wave in plan.waves:
        key = names.wave_report_key(prefix=plan.settings.prefix, plan_id=plan.plan_id, number=wave.number)
        body = cos.read(plan.settings.bucket, key)
        if body is not None:
            found[wave.number] = _parse(WaveReport, body, f"{plan.settings.bucket}/{key}")
    return found


def read_run_report(cos: CosApi, *, bucket: str, key: str) -> RunReport | None:
    """Read a run's report, or return None where there is none yet.

    :param cos: the object store.
    :param bucket: the bucket.
    :param key: the report's key, see :func:`sealift.exports.names.report_key`.
    :returns: the report, or None.
    :raises PlanError: what is there is no report.
    """
    body = cos.read(bucket, key)
    return None if body is None else _parse(RunReport, body, f"{bucket}/{key}")


def _parse(model: type[Report], body: bytes, where: str) -> Report:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        do = "Clear the task that writes it."
        raise PlanError(unreadable(error, where=where, what="a report", do=do)) from error


def _already_exported(cos: CosApi, settings: PlanSettings, items: Sequence[PlanItem]) -> list[ServerOutcome]:
    """Look for the manifests of what the plan found exported: one listing for thousands of them."""
    by_period: dict[str, list[PlanItem]] = {}
    for item in items:
        by_period.setdefault(item.period, []).append(item)
    found: set[str] = set()
    if len(by_period) == 1:
        ((period, guest_ids),) = ((one, [item.guest_id for item in its]) for one, its in by_period.items())
        done = exported_guests(cos, bucket=settings.bucket, prefix=settings.prefix, period=period, guest_ids=guest_ids)
        found = {item.export_id for item in items if item.guest_id in done}
    elif by_period:
        periods = exported_periods(
            cos, bucket=settings.bucket, prefix=settings.prefix, guest_ids=[item.guest_id for item in items]
        )
        found = {item.export_id for item in items if item.period in periods.get(item.guest_id, {})}
    outcomes = []
    for item in items:
        key = names.manifest_key(prefix=settings.prefix, guest_id=item.guest_id, period=item.period)
        if item.export_id in found:
            outcomes.append(
                ServerOutcome(
                    kind=OutcomeKind.ALREADY_EXPORTED,
                    server="virtual",
                    id=item.guest_id,
                    hostname=item.hostname,
                    domain=item.domain,
                    export_id=item.export_id,
                    manifest_key=key,
                )
            )
        else:
            words = f"The manifest {settings.bucket}/{key} was there when the plan was made, and is gone."
            outcomes.append(_not_exported(item, TaskFailure(task="report", words=words)))
    return outcomes


def _exported(item: PlanItem, manifest: Manifest, key: str) -> ServerOutcome:
    return ServerOutcome(
        kind=OutcomeKind.EXPORTED,
        server="virtual",
        id=item.guest_id,
        hostname=item.hostname,
        domain=item.domain,
        export_id=item.export_id,
        template_id=manifest.template.id,
        disks=len(manifest.disks),
        bytes=manifest.total_bytes,
        proof_level=manifest.proof_level,
        seconds=round((manifest.proven_at - manifest.captured_at).total_seconds(), 3),
        manifest_key=key,
    )


def _looked_up_again(cos: CosApi, settings: PlanSettings, item: PlanItem, outcome: ServerOutcome) -> ServerOutcome:
    """The bucket decides: a server that was cleared and exported after its wave's report was written is exported."""
    if outcome.kind is OutcomeKind.EXPORTED:
        return outcome
    key = names.manifest_key(prefix=settings.prefix, guest_id=item.guest_id, period=item.period)
    manifest = read_manifest(cos, bucket=settings.bucket, key=key)
    return outcome if manifest is None else _exported(item, manifest, key)


def _not_exported(item: PlanItem, failure: TaskFailure) -> ServerOutcome:
    return ServerOutcome(
        kind=OutcomeKind.NOT_EXPORTABLE if failure.rule else OutcomeKind.FAILED,
        server="virtual",
        id=item.guest_id,
        hostname=item.hostname,
        domain=item.domain,
        export_id=item.export_id,
        rule=failure.rule,
        task=failure.task,
        words=failure.words,
    )


def _refused(item: PlanItem) -> ServerOutcome:
    return ServerOutcome(
        kind=OutcomeKind.NOT_EXPORTABLE,
        server="virtual",
        id=item.guest_id,
        hostname=item.hostname,
        domain=item.domain,
        export_id=item.export_id,
        rule=item.refusals[0].rule,
        words=" ".join(one.sentence for one in item.refusals),
    )


def _not_approved(item: PlanItem, refusal: Refusal) -> ServerOutcome:
    return ServerOutcome(
        kind=OutcomeKind.NOT_EXPORTABLE,
        server="virtual",
        id=item.guest_id,
        hostname=item.hostname,
        domain=item.domain,
        export_id=item.export_id,
        rule=APPROVAL_RULE,
        words=refusal.words,
    )


def _bare_metal(item: BareMetalItem) -> ServerOutcome:
    refusal = next(one for one in item.findings if one.severity is Severity.REFUSE)
    return ServerOutcome(
        kind=OutcomeKind.NOT_EXPORTABLE,
        server="bare metal",
        id=item.hardware_id,
        hostname=item.hostname,
        domain=item.domain,
        rule=refusal.rule,
        words=refusal.sentence,
    )


def _unknown(guest_id: int) -> ServerOutcome:
    refusal = unknown_id_finding(guest_id)
    return ServerOutcome(
        kind=OutcomeKind.NOT_EXPORTABLE,
        server="unknown",
        id=guest_id,
        hostname="",
        rule=refusal.rule,
        words=refusal.sentence,
    )
