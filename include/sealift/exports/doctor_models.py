"""What the doctor reports: findings, each with what it is and what to do, and the examination that holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sealift.classic.models import GuestState, Template
from sealift.cos.models import MultipartUpload, ObjectInfo
from sealift.exports.versions import reads_up_to

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.cos.client import CosClient

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

KEYS_SHOWN: Final = 20
"""So many keys of a finding are named; ``objects`` counts them all."""

SETTLED: Final = timedelta(hours=1)
"""What is younger may be at work though nothing shows it, and is left alone."""

PLAN_AT_WORK: Final = timedelta(days=14)
"""A plan whose waves have not all reported is at work for so long after the last object that its run wrote.

A window can keep a wave waiting for a week, and one wave of large servers can take days; the day of a plan's beginning
says nothing, since a plan of thousands of servers takes weeks.
"""


class Account(Protocol):
    """The calls of the Classic API that the doctor makes: it can only read."""

    def templates_with_prefix(self, prefix: str) -> list[Template]: ...

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]: ...


class Bucket(Protocol):
    """The calls of the object store that the doctor makes: it can only read."""

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]: ...

    def read(self, bucket: str, key: str) -> bytes | None: ...

    def list_multipart_uploads(self, bucket: str, prefix: str) -> Iterable[MultipartUpload]: ...

    def upload_size(self, bucket: str, upload: MultipartUpload) -> tuple[int, int]: ...


class Kind(StrEnum):
    """What a finding is."""

    ORPHAN_TEMPLATE = "orphan-template"
    """An image template of an export that is neither done nor at work."""
    BROKEN_TEMPLATE = "broken-template"
    """An image template without copies or sizes on which nothing goes on any more."""
    DUPLICATE_TEMPLATES = "duplicate-templates"
    """Two or more image templates of one export."""
    STRANGE_TEMPLATE = "strange-template"
    """An image template whose name begins as ours do and goes on otherwise."""
    HALF_EXPORT = "half-export"
    """Objects of an export that is neither done nor at work."""
    MANIFEST_WITHOUT_OBJECTS = "manifest-without-objects"
    """A manifest that names objects which are not there."""
    OBJECTS_CHANGED = "objects-changed"
    """A manifest that names objects which are not those that were proven."""
    BEING_REMOVED = "being-removed"
    """An export whose removal was begun and not finished."""
    UNFINISHED_UPLOAD = "unfinished-upload"
    """A multipart upload that was begun and neither completed nor aborted."""
    STRANGE_OBJECTS = "strange-objects"
    """Objects at keys that Sealift does not write."""
    UNREADABLE = "unreadable"
    """A plan, report, manifest or slot that Sealift cannot read."""
    STALE_CLAIM = "stale-claim"
    """The note of an export's submission that is left over where nothing else is."""
    STALE_SLOT = "stale-slot"
    """An offline slot whose capture does not show in the account."""


class DoctorModel(BaseModel):
    """Base of what is reported: frozen, and strict about fields, as it is written to the bucket."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(DoctorModel):
    """One thing that carries Sealift's names and belongs to no running or finished export, or harms a finished one."""

    kind: Kind = Field(description="What it is, for programs")
    what: str = Field(description="What it is, in a sentence")
    do: str = Field(description="What to do about it")
    export_id: str | None = Field(default=None, description="<guest id>-<period>, where it belongs to one export")
    guest_id: int | None = Field(default=None, description="The virtual server's id")
    hostname: str | None = Field(default=None, description="Its host name, where something tells it")
    template_ids: list[int] = Field(default_factory=list, description="Image templates concerned")
    keys: list[str] = Field(default_factory=list, description="Objects concerned; of many, the first 20")
    objects: int = Field(default=0, ge=0, description="How many objects are concerned")
    missing: list[str] = Field(default_factory=list, description="Objects that should be there and are not")
    upload_id: str | None = Field(default=None, description="The unfinished upload")
    since: AwareDatetime | None = Field(default=None, description="When it was made or last written")
    age_seconds: int | None = Field(default=None, ge=0, description="How long ago that was, at the examination")
    bytes: int | None = Field(default=None, ge=0, description="Its size, where something tells it")


class AtWork(DoctorModel):
    """A plan that counts as being carried out, so that what belongs to it was left alone."""

    plan_id: str = Field(description="The plan")
    exports: int = Field(ge=0, description="How many of its exports are in waves that have not reported")
    last_sign: AwareDatetime = Field(description="When the plan's run wrote its last object")


class CapInForce(DoctorModel):
    """A cap that the account taught by refusing something for its load."""

    kind: Literal["capture", "export"] = Field(description="What it bounds")
    datacenter: str | None = Field(default=None, description="The data center; null for the whole account")
    cap: int = Field(ge=1, description="How many may be in flight now, where no setting is lower")
    learned_at: AwareDatetime = Field(description="When the account refused")
    words: str = Field(description="What it said")

    @property
    def sentence(self) -> str:
        """What it means, for people."""
        where = f"in the data center {self.datacenter}" if self.datacenter else "in the account"
        return (
            f"Learned: at most {self.cap} {self.kind}{'' if self.cap == 1 else 's'} at once {where}, since the account "
            f"refused one at {self.learned_at:%Y-%m-%d %H:%M} UTC ({self.words}). The cap rises by itself."
        )


class Elsewhere(DoctorModel):
    """Templates that went to another bucket or prefix, whose manifests were not looked at."""

    place: str = Field(description="Bucket and prefix, from the templates' notes")
    templates: int = Field(ge=1, description="How many templates say so")


class Looked(DoctorModel):
    """How much was looked at."""

    templates: int = Field(default=0, ge=0, description="Image templates with Sealift's prefix")
    plans: int = Field(default=0, ge=0, description="Plans")
    manifests: int = Field(default=0, ge=0, description="Manifests")
    manifests_read: int = Field(default=0, ge=0, description="Manifests that were read, as a listing was not enough")
    objects: int = Field(default=0, ge=0, description="Objects, of all kinds")
    uploads: int = Field(default=0, ge=0, description="Unfinished uploads, those at work among them")


class Examination(DoctorModel):
    """What the doctor found."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    examined_at: AwareDatetime = Field(description="When it began")
    bucket: str = Field(description="The bucket")
    prefix: str = Field(description="What all keys begin with; may be empty")
    thorough: bool = Field(default=False, description="Every manifest was read")
    looked: Looked = Field(description="How much was looked at")
    findings: list[Finding] = Field(description="What was found, by kind and server")
    learned_caps: list[CapInForce] = Field(
        default_factory=list, description="Caps that the account taught; they rise by themselves"
    )
    at_work: list[AtWork] = Field(default_factory=list, description="Plans at work, which were left alone")
    elsewhere: list[Elsewhere] = Field(
        default_factory=list, description="Where other templates went: examine these places too"
    )

    @property
    def counts(self) -> dict[Kind, int]:
        """How many findings there are of each kind, in the order of the kinds; kinds without any are left out."""
        found = Counter(one.kind for one in self.findings)
        return {kind: found[kind] for kind in Kind if found[kind]}

    @property
    def summary(self) -> str:
        """The examination in one line: ``3 findings: 2 orphan-template, 1 half-export``."""
        if not self.findings:
            return "no findings"
        number = len(self.findings)
        kinds = ", ".join(f"{count} {kind.value}" for kind, count in self.counts.items())
        return f"{number} finding{'' if number == 1 else 's'}: {kinds}"


def line_of(finding: Finding) -> str:
    """Put a finding into a line for a log.

    :param finding: the finding.
    :returns: kind, server, what it is and what to do.
    """
    who = ""
    if finding.guest_id is not None:
        who = f"{finding.hostname or 'unnamed'} (virtual server {finding.guest_id}): "
    return f"{finding.kind.value}: {who}{finding.what} {finding.do}"


def shown(text: str) -> str:
    """Make a text that others chose fit for a terminal and a log.

    :param text: a key, say, which may hold anything.
    :returns: the text, with a mark in the place of every character that does not print.
    """
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def age_of(since: datetime | None, now: datetime) -> int | None:
    """Work out an age.

    :param since: when it began; None where nobody knows.
    :param now: the present time.
    :returns: whole seconds, never below 0: the store's clock may be ahead of ours.
    """
    return None if since is None else max(0, int((now - since).total_seconds()))


if TYPE_CHECKING:

    def _fits(classic: ClassicClient, cos: CosClient) -> tuple[Account, Bucket]:
        """Have the type checker hold the real clients against the protocols."""
        return classic, cos
