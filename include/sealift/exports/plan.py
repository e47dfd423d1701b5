"""The plan: what a run will do, made and written to the bucket before it does anything.

A plan is data. The whole plan is one object; each wave has a slice of its own, so that a task reads at most 100
servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sealift import __version__
from sealift.classic.models import BareMetalServer, Guest
from sealift.cos.models import PutOutcome
from sealift.exports import deadlines, ledger, names, rules
from sealift.exports.disks import LeftOutDisk, PlannedDisk, left_out_disks, planned_disks
from sealift.exports.durations import History, read_history
from sealift.exports.errors import PlanError
from sealift.exports.jsontext import canonical_json
from sealift.exports.ports import ClassicApi, CosApi
from sealift.exports.redact import redact_text
from sealift.exports.rules import Finding, Severity
from sealift.exports.selection import Selection, resolve
from sealift.exports.settings import PlanSettings

SCHEMA_VERSION: Literal[1] = 1


class Outcome(StrEnum):
    """What a plan says about a server."""

    EXPORT = "export"
    ALREADY_EXPORTED = "already exported"
    NOT_EXPORTABLE = "not exportable"


class PlanModel(BaseModel):
    """Base of what is written to the bucket: frozen, and strict about fields, so that a foreign file is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PlanItem(PlanModel):
    """One virtual server of a plan.

    :param images: the key prefix of the export's objects; fixed here, so that a server that is renamed between two
        tries keeps its keys.
    :param adopt_only: the run is for a past slot: the template exists and is adopted; nothing is captured.
    """

    guest_id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name when the plan was made")
    domain: str | None = Field(default=None, description="Its domain")
    datacenter: str | None = Field(default=None, description="Its data center")
    dedicated_host_id: int | None = Field(default=None, description="Id of the dedicated host that it runs on")
    dedicated_host_name: str | None = Field(default=None, description="Name of the dedicated host that it runs on")
    power_state: str | None = Field(default=None, description="Its power state when the plan was made")
    export_id: str = Field(description="<guest id>-<period>")
    images: str = Field(description="Key prefix of the export's objects, without a slash at the end")
    outcome: Outcome = Field(description="What the run does with the server")
    findings: list[Finding] = Field(default_factory=list, description="What the rules found, refusals first")
    disks: list[PlannedDisk] = Field(default_factory=list, description="Disks that are captured, in object order")
    left_out: list[LeftOutDisk] = Field(default_factory=list, description="Devices that are not captured, and why")
    capacity_bytes: int = Field(default=0, ge=0, description="Capacity of all captured disks, 1 GB read as 10^9 bytes")
    conversion: Literal["vmdk"] | None = Field(default=None, description="Format to convert to, where that is needed")
    adopt_only: bool = Field(default=False, description="Only an existing template may be exported")
    capture_expected_seconds: float | None = Field(
        default=None, gt=0, description="How long the capture should take by the account's history, where it tells"
    )
    export_expected_seconds: float | None = Field(
        default=None, gt=0, description="How long the export should take by the account's history, where it tells"
    )
    capture_deadline_seconds: float | None = Field(
        default=None, gt=0, description="Longest wait for the template, worked out when the plan was made"
    )
    export_deadline_seconds: float | None = Field(
        default=None, gt=0, description="Longest wait for the export, worked out when the plan was made"
    )

    @property
    def name(self) -> str:
        """The server as people know it."""
        return f"{self.hostname} (virtual server {self.guest_id})"

    @property
    def period(self) -> str:
        """The period that the export is for."""
        return names.parse_export_id(self.export_id)[1]

    @property
    def template_name(self) -> str:
        """The exact name of the export's template."""
        return names.template_name(self.export_id)

    @property
    def refusals(self) -> list[Finding]:
        """The findings that keep the server out of the run."""
        return [one for one in self.findings if one.severity is Severity.REFUSE]

    @property
    def disk_keys(self) -> list[str]:
        """The keys of the objects that the export must leave, in order. A template leaves the API as VHD."""
        return [names.disk_key(images=self.images, index=disk.index) for disk in self.disks]

    def capture_deadline(self, settings: PlanSettings) -> timedelta:
        """How long to wait for the template.

        :param settings: the plan's; their minutes replace what is worked out.
        :returns: what the plan holds, or :func:`sealift.exports.deadlines.capture_deadline` where it holds nothing.
        """
        minutes = settings.capture_deadline_minutes
        if minutes is None and self.capture_deadline_seconds is not None:
            return timedelta(seconds=self.capture_deadline_seconds)
        return deadlines.capture_deadline(self.capacity_bytes, minutes)

    def export_deadline(self, settings: PlanSettings) -> timedelta:
        """How long to wait for the export.

        :param settings: the plan's; their minutes replace what is worked out.
        :returns: what the plan holds, or :func:`sealift.exports.deadlines.export_deadline` where it holds nothing.
        """
        minutes = settings.export_deadline_minutes
        if minutes is None and self.export_deadline_seconds is not None:
            return timedelta(seconds=self.export_deadline_seconds)
        return deadlines.export_deadline(self.capacity_bytes, minutes)


class BareMetalItem(PlanModel):
    """A bare metal server of the selection: listed with its inventory, never exported."""

    hardware_id: int = Field(description="The server's id")
    hostname: str = Field(description="Its host name")
    domain: str | None = Field(default=None, description="Its domain")
    datacenter: str | None = Field(default=None, description="Its data center")
    outcome: Literal[Outcome.NOT_EXPORTABLE] = Field(default=Outcome.NOT_EXPORTABLE, description="Never exported")
    findings: list[Finding] = Field(description="Why it is not exported")
    inventory: dict[str, Any] = Field(default_factory=dict, description="Hardware inventory, without secrets")


class Wave(PlanModel):
    """A slice of the plan that one DAG run carries."""

    number: int = Field(ge=0, description="The wave's number, from 0")
    guest_ids: list[int] = Field(min_length=1, max_length=100, description="The servers that it exports")


class Plan(PlanModel):
    """What a run will do."""

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="Version of this schema")
    plan_id: str = Field(description="Derived from the run: the same run makes the same plan")
    created_at: AwareDatetime = Field(description="When the plan was made")
    sealift_version: str = Field(default=__version__, description="Version that made the plan")
    period: str = Field(description="Scheduled slot or manual run that the exports are for")
    settings: PlanSettings = Field(description="How the run exports")
    selection: Selection = Field(description="What was selected")
    findings: list[Finding] = Field(default_factory=list, description="What the rules found about the settings")
    notes: list[str] = Field(default_factory=list, description="Criteria that fit no server")
    items: list[PlanItem] = Field(description="Every selected virtual server, by id")
    bare_metal: list[BareMetalItem] = Field(default_factory=list, description="Every selected bare metal server")
    unknown_ids: list[int] = Field(default_factory=list, description="Selected ids that the account does not know")
    waves: list[Wave] = Field(default_factory=list, description="The servers to export, cut into waves")
    history: History = Field(
        default_factory=History, description="How long captures and exports took so far: what the deadlines come from"
    )

    def items_with(self, outcome: Outcome) -> list[PlanItem]:
        """Return the virtual servers with an outcome.

        :param outcome: which.
        :returns: the items, in the plan's order.
        """
        return [item for item in self.items if item.outcome is outcome]

    def slice(self, number: int) -> WaveSlice:
        """Return one wave's slice.

        :param number: the wave's number, from 0.
        :returns: the slice, with the plan's settings.
        :raises IndexError: the plan has no such wave.
        """
        by_id = {item.guest_id: item for item in self.items}
        return WaveSlice(
            plan_id=self.plan_id,
            period=self.period,
            number=number,
            settings=self.settings,
            items=[by_id[guest_id] for guest_id in self.waves[number].guest_ids],
        )


class WaveSlice(PlanModel):
    """One wave of a plan, as its DAG run reads it."""

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="Version of this schema")
    plan_id: str = Field(description="The plan that it belongs to")
    period: str = Field(description="Scheduled slot or manual run that the exports are for")
    number: int = Field(ge=0, description="The wave's number, from 0")
    settings: PlanSettings = Field(description="How the run exports")
    items: list[PlanItem] = Field(max_length=100, description="The servers to export")

    def item(self, guest_id: int) -> PlanItem:
        """Return one server's item.

        :param guest_id: the virtual server.
        :returns: the item.
        :raises PlanError: the wave does not hold the server.
        """
        for item in self.items:
            if item.guest_id == guest_id:
                return item
        raise PlanError(f"Wave {self.number} of the plan {self.plan_id} holds no virtual server {guest_id}.")


def make_plan(
    *,
    settings: PlanSettings,
    selection: Selection,
    classic: ClassicApi,
    cos: CosApi,
    plan_id: str,
    period: str,
    now: datetime,
    past_slot: bool = False,
) -> Plan:
    """Make a plan; captures nothing.

    :param settings: how the run exports.
    :param selection: which servers it is about.
    :param classic: the account.
    :param cos: the object store; its bucket is checked, and created where the settings say so.
    :param plan_id: see :func:`names.plan_id_for`.
    :param period: see :func:`names.period_for`.
    :param now: the present time, with a time zone.
    :param past_slot: the run is a backfill of a slot that has passed: only templates captured then are exported.
    :returns: the plan, with a finding for whatever keeps a server out of it.
    :raises InputError: the selection or a setting cannot be used.
    :raises sealift.cos.errors.CosError: the bucket is missing, in another region, or may not be written.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    names.check_period(period)
    cos.preflight(bucket=settings.bucket, region=settings.region, prefix=settings.prefix, create=settings.bucket_create)
    resolved = resolve(selection, classic)
    done = ledger.exported_guests(
        cos,
        bucket=settings.bucket,
        prefix=settings.prefix,
        period=period,
        guest_ids=[guest.id for guest in resolved.guests],
    )
    templates = _exports_with_template(classic, resolved.guests, period)
    history = read_history(cos, bucket=settings.bucket, prefix=settings.prefix)
    items = [
        _item(
            guest,
            settings=settings,
            period=period,
            done=guest.id in done,
            past_slot=past_slot,
            template_exists=guest.id in templates,
            history=history,
        )
        for guest in resolved.guests
    ]
    to_export = [item.guest_id for item in items if item.outcome is Outcome.EXPORT]
    size = settings.wave_size
    return Plan(
        plan_id=plan_id,
        created_at=now,
        period=period,
        settings=settings,
        selection=selection,
        findings=rules.settings_findings(settings),
        notes=resolved.notes,
        items=items,
        bare_metal=[_bare_metal(server) for server in resolved.bare_metal],
        unknown_ids=resolved.unknown_ids,
        waves=[
            Wave(number=number, guest_ids=to_export[start : start + size])
            for number, start in enumerate(range(0, len(to_export), size))
        ],
        history=history,
    )


def write_plan(cos: CosApi, plan: Plan) -> list[str]:
    """Write a plan and its waves' slices; writing it again is fine, and the first plan of a run stays.

    A retry of the planning task sees a later state of the account (a server just exported, say). The waves may have
    started from the first plan, so that one holds; use :func:`read_plan` for what holds.

    :param cos: the object store.
    :param plan: the plan; its settings name bucket and prefix.
    :returns: the keys of the waves' slices, in order.
    :raises PlanError: something else lies at one of the keys.
    """
    settings = plan.settings
    key = names.plan_key(prefix=settings.prefix, plan_id=plan.plan_id)
    if cos.put_if_absent(settings.bucket, key, canonical_json(plan)) is PutOutcome.EXISTS_DIFFERENT:
        plan = read_plan(cos, bucket=settings.bucket, key=key)
    keys = []
    for wave in plan.waves:
        wave_key = names.wave_key(prefix=settings.prefix, plan_id=plan.plan_id, number=wave.number)
        body = canonical_json(plan.slice(wave.number))
        if cos.put_if_absent(settings.bucket, wave_key, body) is PutOutcome.EXISTS_DIFFERENT:
            raise PlanError(
                f"{settings.bucket}/{wave_key} exists and does not belong to the plan {key}. Something else wrote it; "
                "start a new run, which makes a plan of its own."
            )
        keys.append(wave_key)
    return keys


def read_plan(cos: CosApi, *, bucket: str, key: str) -> Plan:
    """Read a whole plan.

    :param cos: the object store.
    :param bucket: the bucket.
    :param key: the plan's key, see :func:`sealift.exports.names.plan_key`.
    :returns: the plan.
    :raises PlanError: there is none, or it cannot be read.
    """
    return Plan.model_validate(_read(cos, bucket, key, Plan))


def read_wave(cos: CosApi, *, bucket: str, key: str) -> WaveSlice:
    """Read one wave's slice.

    :param cos: the object store.
    :param bucket: the bucket.
    :param key: the slice's key, see :func:`sealift.exports.names.wave_key`.
    :returns: the slice.
    :raises PlanError: there is none, or it cannot be read.
    """
    return WaveSlice.model_validate(_read(cos, bucket, key, WaveSlice))


def _read(cos: CosApi, bucket: str, key: str, model: type[BaseModel]) -> BaseModel:
    body = cos.read(bucket, key)
    if body is None:
        raise PlanError(f"There is no plan at {bucket}/{key}. Start plan_exports, which writes one.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise PlanError(
            f"{bucket}/{key} is not a plan of this version of Sealift ({error.error_count()} problems, the first: "
            f"{error.errors(include_url=False)[0]['msg']}). Start a new run."
        ) from error


def _exports_with_template(classic: ClassicApi, guests: list[Guest], period: str) -> set[int]:
    """Return the guests whose export of the period has a template already: of a past slot, or of an earlier try."""
    wanted = {names.export_id(guest_id=guest.id, period=period): guest.id for guest in guests}
    found = set()
    for template in classic.templates_with_prefix(names.TEMPLATE_PREFIX):
        export = names.parse_template_name(template.name)
        if export in wanted:
            found.add(wanted[export])
    return found


def _item(
    guest: Guest,
    *,
    settings: PlanSettings,
    period: str,
    done: bool,
    past_slot: bool,
    template_exists: bool,
    history: History,
) -> PlanItem:
    export = names.export_id(guest_id=guest.id, period=period)
    images = names.image_prefix(prefix=settings.prefix, hostname=guest.hostname, guest_id=guest.id, export=export)
    disks = planned_disks(guest)
    context = rules.Context(
        settings=settings, images=images, past_slot=past_slot, template_exists=template_exists, disks=disks
    )
    findings = [] if done else rules.evaluate(guest, context)
    refused = any(one.severity is Severity.REFUSE for one in findings)
    outcome = Outcome.ALREADY_EXPORTED if done else Outcome.NOT_EXPORTABLE if refused else Outcome.EXPORT
    size = sum(disk.capacity_bytes for disk in disks)
    return PlanItem(
        guest_id=guest.id,
        hostname=guest.hostname,
        domain=guest.domain,
        datacenter=guest.datacenter,
        dedicated_host_id=guest.dedicated_host_id,
        dedicated_host_name=guest.dedicated_host_name,
        power_state=guest.power_state,
        export_id=export,
        images=images,
        outcome=outcome,
        findings=findings,
        disks=disks,
        left_out=left_out_disks(guest),
        capacity_bytes=size,
        conversion="vmdk" if settings.format == "vmdk" else None,
        adopt_only=past_slot and not settings.capture_now,
        **(_waits(size, settings, history) if outcome is Outcome.EXPORT else {}),
    )


def _waits(size: int, settings: PlanSettings, history: History) -> dict[str, float]:
    """Work out a server's waits once, so that every wave and every try judges by the same figures."""
    capture = deadlines.capture_deadline(size, settings.capture_deadline_minutes, pace=history.capture)
    export = deadlines.export_deadline(size, settings.export_deadline_minutes, pace=history.export)
    found = {"capture_deadline_seconds": capture, "export_deadline_seconds": export}
    if history.capture is not None:
        found["capture_expected_seconds"] = history.capture.usual(size)
    if history.export is not None:
        found["export_expected_seconds"] = history.export.usual(size)
    return {name: round(time.total_seconds()) or 1 for name, time in found.items()}


def _bare_metal(server: BareMetalServer) -> BareMetalItem:
    return BareMetalItem(
        hardware_id=server.id,
        hostname=server.hostname,
        domain=server.domain,
        datacenter=server.datacenter,
        findings=[rules.bare_metal_finding(server)],
        inventory=_without_secrets(server.inventory),
    )


def _without_secrets(inventory: dict[str, Any]) -> dict[str, Any]:
    """Look at the words of the one free text that the inventory mask asks for."""
    notes = inventory.get("notes")
    return {**inventory, "notes": redact_text(notes)} if isinstance(notes, str) else inventory


def plan_summary(plan: Plan) -> Mapping[str, int]:
    """Count a plan's outcomes, for logs and XCom.

    :param plan: the plan.
    :returns: how many servers to export, already exported and not exportable, how many disks to export, and how many
        waves.
    """
    return {
        "export": len(plan.items_with(Outcome.EXPORT)),
        "already_exported": len(plan.items_with(Outcome.ALREADY_EXPORTED)),
        "not_exportable": len(plan.items_with(Outcome.NOT_EXPORTABLE)) + len(plan.bare_metal) + len(plan.unknown_ids),
        "disks": sum(len(item.disks) for item in plan.items_with(Outcome.EXPORT)),
        "waves": len(plan.waves),
    }
