"""What a wait is for, how long it may last, and how it may end: the reasons, the verdict and the terms."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sealift.exports import deadlines
from sealift.exports.handing import HANDED_ON, stamped
from sealift.exports.plan import PlanItem
from sealift.exports.settings import PlanSettings
from sealift.exports.versions import reads_up_to

SchemaVersion = Annotated[Literal[1], reads_up_to(HANDED_ON)]


class ReasonCode(StrEnum):
    """Why a wait ended. Travels in a trigger's event; the verdict's sentence says it of one server."""

    TEMPLATE_READY = "template-ready"
    """The template is whole: children, sizes, and no transaction, seen twice, and the server is back as it was."""
    TEMPLATE_READY_LEFT_STOPPED = "template-ready-left-stopped"
    """The template is whole, but the server, which ran before, does not run."""
    EXPORTED = "exported"
    """Every expected object is there with a size, and no transaction is left."""
    ALREADY_EXPORTED = "already-exported"
    """The export's manifest existed before the wait began: nothing is left to wait for."""
    TEMPLATE_VANISHED = "template-vanished"
    """The account has not shown the template for longer than the grace period."""
    GUEST_VANISHED = "guest-vanished"
    """The account has not shown the server for longer than the grace period, and its template is not whole."""
    NO_CHILDREN = "no-children"
    """The template has no transaction left and no copy in any data center."""
    ZERO_SIZE = "zero-size"
    """The template has no transaction left, and a copy of it has no size."""
    OBJECTS_MISSING = "objects-missing"
    """The export's transaction is gone, and objects are missing."""
    STUCK = "stuck"
    """A transaction's status has not changed for longer than the limit."""
    SLOW = "slow"
    """The deadline has passed while the transaction still moves."""
    NOTHING_HAPPENED = "nothing-happened"
    """The deadline has passed, and no transaction explains what the wait was for."""
    NO_TERMS = "no-terms"
    """The task before the wait left nothing to wait for."""
    NO_ANSWER = "no-answer"
    """The deadline has passed, and the account or the bucket could not be asked."""


class Ended(BaseModel):
    """When a template became whole, as closely as polls can tell; a judge that did not see it unfinished cannot tell.

    :param template_id: the template.
    :param unfinished_at: the last poll that saw it unfinished.
    :param over_at: the first of two or more polls in a row that saw it whole.
    """

    model_config = ConfigDict(frozen=True)

    template_id: int
    unfinished_at: AwareDatetime
    over_at: AwareDatetime


SECOND_LOOK_SECONDS: Final = 5.0
"""Time between two looks at the objects of an export: an upload that replaces one would change its ETag."""


class Look(BaseModel):
    """What a poll saw of an export's objects.

    :param at: when it was made.
    :param objects: ETag and size in bytes of each object, by key.
    """

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    objects: dict[str, tuple[str, int]]


class Verdict(BaseModel):
    """How a wait ended.

    :param kind: done or failed.
    :param reason: why, for programs.
    :param sentence: why, for people: names the server, the template, the last transaction and what to do.
    :param ended: when the template became whole, where this judge saw it.
    :param look: what the bucket held of the export for :data:`SECOND_LOOK_SECONDS` or longer before the wait's end.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["done", "failed"]
    reason: ReasonCode
    sentence: str
    ended: Ended | None = None
    look: Look | None = None


class ExportTurn(BaseModel):
    """What an export waits for once its template is whole: that fewer exports than the caps are in flight.

    :param root: what the keys of the claims begin with, in the bucket of the export.
    :param datacenter: the server's; empty where it is not known.
    :param max_exports: most exports in flight; 0 for any number.
    :param max_in_datacenter: most of them in one data center; 0 for any number.
    """

    model_config = ConfigDict(frozen=True)

    root: str
    datacenter: str = ""
    max_exports: int = 0
    max_in_datacenter: int = 0


class WaitTerms(BaseModel):
    """Whom a wait is for and how long it may last: small, without secrets, made of JSON (triggers carry it).

    :param started_at: when the work was submitted, or found. Each try of a wait counts from its own beginning instead,
        wherever that is later.
    :param deadline_seconds: how long a try waits.
    :param stuck_seconds: how long one status of a transaction may last.
    :param grace_seconds: how long something may be missing before it counts as gone.
    :param expected_seconds: how long such work usually takes in this account, where its history tells.
    :param was_running: whether the server ran before its capture.
    :param expected_keys: the objects that an export must leave.
    :param submitted: whether ``started_at`` is when the task that made these terms submitted the work itself.
    :param exported: the export is done already: there is nothing to wait for.
    :param turn: what the export waits for after its template; None where nothing bounds exports.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: SchemaVersion = HANDED_ON
    export_id: str
    guest_id: int
    hostname: str
    template_id: int
    started_at: AwareDatetime
    deadline_seconds: float = Field(gt=0)
    stuck_seconds: float = Field(gt=0)
    grace_seconds: float = Field(ge=0)
    expected_seconds: float | None = Field(default=None, gt=0)
    was_running: bool = True
    bucket: str = ""
    expected_keys: list[str] = Field(default_factory=list)
    submitted: bool = False
    exported: bool = False
    turn: ExportTurn | None = None

    def handed_on(self) -> dict[str, Any]:
        """Write the terms as one task hands them on to the next: without what is not said, and with their version.

        :returns: made of what JSON knows.
        """
        return stamped(self.model_dump(mode="json", exclude_defaults=True))


def capture_terms(item: PlanItem, settings: PlanSettings, *, template_id: int, started_at: datetime) -> WaitTerms:
    """Make the terms for a :class:`sealift.exports.waiting.TemplateJudge`.

    :param item: the server, as the plan has it.
    :param settings: the plan's; their minutes replace what is worked out.
    :param template_id: the template to wait for.
    :param started_at: when the wait begins, with a time zone.
    :returns: the terms; times in seconds.
    """
    return _terms(
        item, settings, template_id, started_at, item.capture_deadline(settings), item.capture_expected_seconds
    )


def export_terms(item: PlanItem, settings: PlanSettings, *, template_id: int, started_at: datetime) -> WaitTerms:
    """Make the terms for an :class:`ExportJudge`; parameters as for :func:`capture_terms`.

    :returns: the terms; times in seconds.
    """
    return _terms(item, settings, template_id, started_at, item.export_deadline(settings), item.export_expected_seconds)


def _terms(
    item: PlanItem,
    settings: PlanSettings,
    template_id: int,
    started_at: datetime,
    deadline: timedelta,
    expected_seconds: float | None,
) -> WaitTerms:
    return WaitTerms(
        export_id=item.export_id,
        guest_id=item.guest_id,
        hostname=item.hostname,
        template_id=template_id,
        started_at=started_at,
        deadline_seconds=deadline.total_seconds(),
        stuck_seconds=deadlines.stuck_after(deadline, settings.stuck_minutes).total_seconds(),
        grace_seconds=deadlines.grace(settings.grace_minutes).total_seconds(),
        expected_seconds=expected_seconds,
        was_running=item.power_state in {None, "RUNNING"},
        bucket=settings.bucket,
        expected_keys=item.disk_keys,
    )
