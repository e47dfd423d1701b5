"""What the bucket's plans and reports tell the doctor: which exports are at work, and what became of the others.

A plan is an object, each of its waves a slice beside it, and each wave that has ended leaves a report. So one listing
says how far every plan is. A plan is read only where it counts as at work, or to say which disks an export should have;
and one report is read for each run, as it holds the number and the bytes of the disks of every export.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.doctor_models import AtWork, Bucket, Finding, Kind, age_of
from sealift.exports.plan import Outcome
from sealift.exports.plan_models import SchemaVersion as PlanVersion
from sealift.exports.report import OutcomeKind
from sealift.exports.report import SchemaVersion as ReportVersion
from sealift.exports.versions import newer_words


class _Lean(BaseModel):
    """A part of what is in the bucket: the rest of it is neither checked nor kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LeanDisk(_Lean):
    """A disk of a plan's item."""

    index: int


class LeanItem(_Lean):
    """An item of a plan."""

    guest_id: int
    hostname: str
    export_id: str
    images: str
    outcome: Outcome
    disks: list[LeanDisk] = []

    @property
    def disk_keys(self) -> list[str]:
        """The keys of the objects that the export must leave, in order."""
        return [names.disk_key(images=self.images, index=disk.index) for disk in self.disks]


class _LeanWave(_Lean):
    number: int
    guest_ids: list[int]
    period: str | None = None


class _LeanSettings(_Lean):
    dry_run: bool = False


class _LeanPlan(_Lean):
    schema_version: PlanVersion
    period: str
    settings: _LeanSettings
    items: list[LeanItem]
    waves: list[_LeanWave]


class _LeanSlice(_Lean):
    schema_version: PlanVersion
    settings: _LeanSettings
    items: list[LeanItem]


class LeanOutcome(_Lean):
    """What a report says of a server."""

    kind: OutcomeKind
    export_id: str | None = None
    disks: int = 0
    bytes: int = 0
    task: str | None = None


class _LeanReport(_Lean):
    schema_version: ReportVersion
    outcomes: list[LeanOutcome]


LeanModel = TypeVar("LeanModel", bound=_Lean)


@dataclass(slots=True)
class PlanFiles:
    """The objects of one plan, as the listing shows them."""

    plan_id: str
    plan: ObjectInfo | None = None
    waves: set[int] = field(default_factory=set)
    wave_reports: set[int] = field(default_factory=set)
    report: ObjectInfo | None = None
    last: datetime | None = None

    def note(self, info: ObjectInfo, file: names.PlanFile) -> None:
        """Take an object of the plan in.

        :param info: the object.
        :param file: what its key tells.
        """
        self.last = info.last_modified if self.last is None else max(self.last, info.last_modified)
        if file.wave is not None:
            (self.wave_reports if file.report else self.waves).add(file.wave)
        elif file.report:
            self.report = info
        else:
            self.plan = info


class Plans:
    """The plans of a prefix.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param now: the present time, with a time zone.
    :param at_work_for: how long after its last object an unfinished plan counts as at work.
    :param over: ids of plans that are known to be over.
    """

    def __init__(
        self, *, cos: Bucket, bucket: str, prefix: str, now: datetime, at_work_for: timedelta, over: Collection[str]
    ) -> None:
        self._cos = cos
        self._bucket = bucket
        self._prefix = prefix
        self._now = now
        self._at_work_for = at_work_for
        self._over = set(over)
        self.files: dict[str, PlanFiles] = {}
        self.findings: list[Finding] = []
        self.at_work: list[AtWork] = []
        self.running: set[str] = set()
        self.ended: set[str] = set()

    def note(self, info: ObjectInfo, file: names.PlanFile) -> None:
        """Take an object below ``plans/`` in.

        :param info: the object.
        :param file: what its key tells.
        """
        self.files.setdefault(file.plan_id, PlanFiles(file.plan_id)).note(info, file)

    def decide(self) -> None:
        """Decide which exports are at work, from all the objects that were taken in.

        An export is at work while its wave has not reported, the plan is no dry run, and the plan's run has written
        something within the time that such a run may be silent.
        """
        for plan_id, files in sorted(self.files.items()):
            over = plan_id in self._over
            quiet = files.last is None or self._now - files.last >= self._at_work_for
            finished = files.waves <= files.wave_reports and bool(files.wave_reports or files.report)
            if files.plan is None:
                self._without_plan(files)
            if not over and (quiet or finished):
                continue
            exports = self._exports(files, every=over)
            if over:
                self.ended |= exports
            elif exports and files.last is not None:
                self.running |= exports
                self.at_work.append(AtWork(plan_id=plan_id, exports=len(exports), last_sign=files.last))
        self.running -= self.ended

    def outcomes(self) -> Iterator[tuple[str, LeanOutcome]]:
        """Read what became of every server: one report for each run, or those of its waves where there is none.

        :returns: pairs of plan id and outcome, one report after another.
        """
        for plan_id, files in sorted(self.files.items()):
            if files.report is not None:
                keys = [files.report.key]
            else:
                keys = [
                    names.wave_report_key(prefix=self._prefix, plan_id=plan_id, number=number)
                    for number in sorted(files.wave_reports)
                ]
            for key in keys:
                report = self._read(key, _LeanReport, "Clear the task that writes it, which writes it anew.")
                for outcome in report.outcomes if report else ():
                    yield plan_id, outcome

    def items(self, plan_id: str, wanted: Collection[str]) -> dict[str, LeanItem]:
        """Read some of a plan's items.

        :param plan_id: the plan.
        :param wanted: export ids.
        :returns: the items by their export ids; without those that the plan does not export.
        """
        files = self.files.get(plan_id)
        if files is None or files.plan is None:
            return {}
        plan = self._read(files.plan.key, _LeanPlan, _PLAN_DO)
        items = plan.items if plan else ()
        return {item.export_id: item for item in items if item.export_id in wanted and item.outcome is Outcome.EXPORT}

    def without_report(self) -> list[str]:
        """The plans whose run has not reported, the newest first: no report names their exports."""
        open_ = [one for one in self.files.values() if one.report is None and one.last is not None]
        return [one.plan_id for one in sorted(open_, key=lambda one: one.last or self._now, reverse=True)]

    def _exports(self, files: PlanFiles, *, every: bool) -> set[str]:
        """Return the exports of a plan's waves, of all or of those without a report."""
        if files.plan is not None:
            plan = self._read(files.plan.key, _LeanPlan, _PLAN_DO)
            if plan is not None:
                if plan.settings.dry_run:
                    return set()
                known = {item.export_id for item in plan.items}
                waves = [wave for wave in plan.waves if every or wave.number not in files.wave_reports]
                return known & {
                    names.export_id(guest_id=one, period=wave.period or plan.period)
                    for wave in waves
                    for one in wave.guest_ids
                }
        exports: set[str] = set()
        for number in sorted(files.waves if every else files.waves - files.wave_reports):
            key = names.wave_key(prefix=self._prefix, plan_id=files.plan_id, number=number)
            wave = self._read(key, _LeanSlice, _PLAN_DO)
            if wave is not None and not wave.settings.dry_run:
                exports |= {item.export_id for item in wave.items}
        return exports

    def _without_plan(self, files: PlanFiles) -> None:
        key = names.plan_key(prefix=self._prefix, plan_id=files.plan_id)
        self.findings.append(
            Finding(
                kind=Kind.UNREADABLE,
                what=f"The plan {files.plan_id} is missing, and its waves or reports are there.",
                do="Its run cannot report any more. Start a new run; delete what is left below its key when no run of "
                "it goes on.",
                missing=[key],
                since=files.last,
                age_seconds=age_of(files.last, self._now),
            )
        )

    def _read(self, key: str, model: type[LeanModel], do: str) -> LeanModel | None:
        body = self._cos.read(self._bucket, key)
        if body is None:  # deleted since it was listed
            return None
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            newer = newer_words(error)
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            if not any(key in one.keys for one in self.findings):
                self.findings.append(
                    Finding(
                        kind=Kind.UNREADABLE,
                        what=f"{key} {newer}"
                        if newer
                        else f"{key} is nothing that this version of Sealift can read ({problem}).",
                        do="Upgrade Sealift here." if newer else do,
                        keys=[key],
                        objects=1,
                        bytes=len(body),
                    )
                )
            return None


_PLAN_DO = "Look at who wrote it, and start a new run."
