"""What a plan consists of: the models of what is written to the bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sealift import __version__
from sealift.exports import deadlines, names
from sealift.exports.disks import LeftOutDisk, PlannedDisk
from sealift.exports.durations import History
from sealift.exports.errors import PlanError
from sealift.exports.rules import Finding, Severity
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.exports.versions import reads_up_to

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

_IDS_TOLD: Final = 20
"""So many ids are named in a sentence; the plan holds them all."""


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
    tags: list[str] = Field(default_factory=list, description="Its tags when the plan was made")
    export_id: str = Field(description="<guest id>-<period>")
    images: str = Field(description="Key prefix of the export's objects, without a slash at the end")
    outcome: Outcome = Field(description="What the run does with the server")
    findings: list[Finding] = Field(default_factory=list, description="What the rules found, refusals first")
    disks: list[PlannedDisk] = Field(default_factory=list, description="Disks that are captured, in object order")
    left_out: list[LeftOutDisk] = Field(default_factory=list, description="Devices that are not captured, and why")
    capacity_bytes: int = Field(default=0, ge=0, description="Capacity of all captured disks, 1 GB read as 10^9 bytes")
    conversion: Literal["vmdk", "qcow2", "vhd-fixed", "raw"] | None = Field(
        default=None, description="Format to convert to, where that is needed"
    )
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
    """A slice of the plan that one DAG run carries: exports of one period."""

    number: int = Field(ge=0, description="The wave's number, from 0")
    guest_ids: list[int] = Field(min_length=1, max_length=100, description="The servers that it exports")
    period: str | None = Field(default=None, description="Period of its exports; none means the plan's")


class MissedSlot(PlanModel):
    """A past slot in which servers were not captured; nothing can be done about it any more."""

    period: str = Field(description="The slot")
    guest_ids: list[int] = Field(min_length=1, description="The virtual servers that have no export and no template")

    @property
    def sentence(self) -> str:
        """What to tell people."""
        ids = ", ".join(map(str, self.guest_ids[:_IDS_TOLD]))
        more = f" and {len(self.guest_ids) - _IDS_TOLD} more" if len(self.guest_ids) > _IDS_TOLD else ""
        servers = "server was" if len(self.guest_ids) == 1 else "servers were"
        return (
            f"Slot {self.period}: {len(self.guest_ids)} {servers} not captured in it, and cannot be any more, since a "
            f"capture now would not be of that time: {ids}{more}."
        )


class Plan(PlanModel):
    """What a run will do."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    plan_id: str = Field(description="Derived from the run: the same run makes the same plan")
    created_at: AwareDatetime = Field(description="When the plan was made")
    sealift_version: str = Field(default=__version__, description="Version that made the plan")
    period: str = Field(description="Scheduled slot or manual run that the exports are for")
    settings: PlanSettings = Field(description="How the run exports")
    selection: Selection = Field(description="What was selected")
    findings: list[Finding] = Field(default_factory=list, description="What the rules found about the settings")
    notes: list[str] = Field(default_factory=list, description="Criteria that fit no server")
    retry_of: str | None = Field(default=None, description="The plan whose failed servers this one tries again")
    items: list[PlanItem] = Field(
        description="Every selected virtual server, by id; more than once where several periods of it are exported"
    )
    bare_metal: list[BareMetalItem] = Field(default_factory=list, description="Every selected bare metal server")
    unknown_ids: list[int] = Field(default_factory=list, description="Selected ids that the account does not know")
    missed: list[MissedSlot] = Field(
        default_factory=list, description="Past slots in which servers were not captured, and cannot be any more"
    )
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
        (one,) = self.slices([self.waves[number]])
        return one

    def slices(self, waves: Iterable[Wave] | None = None) -> Iterator[WaveSlice]:
        """Return the slices of some waves.

        :param waves: which; all where None is given.
        :returns: the slices, in the order asked for.
        """
        by_export = {(item.guest_id, item.period): item for item in self.items}
        for wave in self.waves if waves is None else waves:
            period = wave.period or self.period
            yield WaveSlice(
                plan_id=self.plan_id,
                period=period,
                number=wave.number,
                settings=self.settings,
                items=[by_export[guest_id, period] for guest_id in wave.guest_ids],
            )


class WaveSlice(PlanModel):
    """One wave of a plan, as its DAG run reads it."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
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
