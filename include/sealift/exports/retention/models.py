"""The dry run and its result, as they lie in the bucket."""

from __future__ import annotations

from collections import Counter
from datetime import date
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sealift.exports.retention.rules import RetentionRules
from sealift.exports.versions import reads_up_to

SCHEMA_VERSION: Final = 1
"""Of results and notes."""

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

DRY_RUN_VERSION: Final = 2
"""Of dry runs. The first knew no sizes of image templates that go with their exports, and no price of these."""

DryRunVersion = Annotated[Literal[2], reads_up_to(DRY_RUN_VERSION)]


class RetentionModel(BaseModel):
    """Base of what is written: frozen, and strict about fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Guards(RetentionModel):
    """What keeps objects of the bucket from being deleted."""

    versions: bool = Field(description="It keeps versions: what is deleted leaves one, which is still billed")
    object_lock: bool = Field(description="It has Object Lock: single versions may be locked")
    retention_policy: bool = Field(description="It has a retention policy (Immutable Object Storage)")


class RemovalNote(RetentionModel):
    """The note that an export is being removed: readers look for the mark where one lies. Its key says which export."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    retention_id: str = Field(description="The dry run by which it goes")


class GoingObject(RetentionModel):
    """An object that goes, as it was when the dry run looked at it."""

    key: str = Field(description="The object's key")
    size: int = Field(ge=0, description="Its size in bytes")
    etag: str = Field(description="Its ETag, without quotes: another object at this key is not deleted")


class GoingExport(RetentionModel):
    """An export that goes, with everything that belongs to it."""

    export_id: str = Field(description="<guest id>-<period>")
    guest_id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name")
    rule: str | None = Field(description="The rule that the server falls under")
    why: list[str] = Field(description="Why it goes")
    captured_at: AwareDatetime = Field(description="When it was captured, by the account")
    proof_level: str = Field(description="How deep it is proven")
    manifest_key: str = Field(description="Its manifest's key")
    manifest_etag: str = Field(description="Its manifest's ETag: an export whose manifest has another is not removed")
    images: str = Field(description="What the keys of its images begin with")
    template_id: int | None = Field(default=None, description="The image template that goes with it")
    template_bytes: int = Field(
        default=0, ge=0, description="Size of that image template in all data centers, by the account"
    )
    objects: list[GoingObject] = Field(description="Its objects: images, record, kits, converted images, proofs")
    bytes: int = Field(ge=0, description="Bytes of its objects")
    taken_up: bool = Field(default=False, description="Its removal was begun earlier, and is taken up again")


class GoingTemplate(RetentionModel):
    """An image template that goes, or would go, though its export is kept."""

    template_id: int = Field(description="The image template's id")
    export_id: str = Field(description="The export that was made of it")
    guest_id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name")
    rule: str | None = Field(description="The rule that the server falls under")
    why: str = Field(description="Why it goes")
    manifest_etag: str = Field(description="ETag of the export's manifest")
    bytes: int = Field(ge=0, description="Its size in all data centers, by the account")


class TakenBack(RetentionModel):
    """An export whose removal was begun, of which nothing was deleted, and which is kept by now."""

    export_id: str = Field(description="<guest id>-<period>")
    guest_id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name")
    why: list[str] = Field(description="Why it is kept")
    manifest_key: str = Field(description="Its manifest's key")
    manifest_etag: str = Field(description="Its manifest's ETag, with the mark")


class GoingOrphan(RetentionModel):
    """Something without an export, as the doctor finds it, that goes."""

    kind: str = Field(description="The doctor's kind of finding")
    what: str = Field(description="What it is, in a sentence")
    export_id: str | None = Field(default=None, description="The export that it was made for")
    guest_id: int | None = Field(default=None, description="The virtual server's id")
    hostname: str | None = Field(default=None, description="Its host name, where something tells it")
    since: AwareDatetime | None = Field(default=None, description="When it was made or last written")
    template_id: int | None = Field(default=None, description="The image template that goes")
    objects: list[GoingObject] = Field(default_factory=list, description="The objects that go")
    upload_key: str | None = Field(default=None, description="Key of the unfinished upload that is aborted")
    upload_id: str | None = Field(default=None, description="Its id")
    bytes: int = Field(default=0, ge=0, description="Its size")

    @property
    def identity(self) -> tuple[str, str | None, int | None, str | None, str | None]:
        """What tells it from others."""
        first = self.objects[0].key if self.objects else None
        return (self.kind, self.export_id, self.template_id, self.upload_id, first)


class ProtectedExport(RetentionModel):
    """An export, or what is left of one, that the rules let go and the object store does not let be deleted yet."""

    export_id: str = Field(description="<guest id>-<period>")
    guest_id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name")
    key: str = Field(description="The object that is protected longest")
    until: AwareDatetime | None = Field(default=None, description="Until when; null where no time is set")
    legal_hold: bool = Field(default=False, description="A legal hold is on it")
    bytes: int = Field(ge=0, description="Bytes of the export's objects")


class MonthlyCost(RetentionModel):
    """What some bytes cost a month, by one price."""

    price: str = Field(description="Name of the price, in the file of prices")
    amount: float = Field(description="The cost a month, rounded to hundredths")
    currency: str = Field(description="The currency, as USD")
    dated: date = Field(description="When the price was looked up")
    confirmed: bool = Field(description="Whether a source of the seller confirms it")


class DryRun(RetentionModel):
    """What would go, and why: nothing else is deleted, and nothing that changed since."""

    schema_version: DryRunVersion = Field(default=DRY_RUN_VERSION, description="Version of this schema")
    retention_id: str = Field(description="Its id, by which it is carried out")
    made_at: AwareDatetime = Field(description="The time that the rules were held against")
    bucket: str = Field(description="The bucket")
    prefix: str = Field(description="What all keys begin with; may be empty")
    rules: RetentionRules = Field(description="The rules")
    guards: Guards = Field(description="What keeps objects of the bucket from being deleted")
    servers: int = Field(ge=0, description="Servers with an export")
    exports_seen: int = Field(ge=0, description="Exports that were looked at")
    templates_seen: int = Field(ge=0, description="Image templates of these servers that were looked at")
    exports: list[GoingExport] = Field(description="The exports that go, by server, oldest first")
    templates: list[GoingTemplate] = Field(description="The image templates that go though their exports are kept")
    orphans: list[GoingOrphan] = Field(
        default_factory=list, description="What goes without being an export, where the rules say so"
    )
    taken_back: list[TakenBack] = Field(
        default_factory=list, description="Exports whose removal was begun, and whose mark is taken back"
    )
    protected: list[ProtectedExport] = Field(
        default_factory=list, description="Exports that would go, were they not protected by the object store"
    )
    costs_freed: list[MonthlyCost] = Field(
        default_factory=list, description="What the freed bytes of the bucket cost a month, by each price of storage"
    )
    template_cost_freed: MonthlyCost | None = Field(
        default=None,
        description="What the image templates that go cost a month; null where the prices name none for them",
    )
    kept: dict[str, int] = Field(description="Exports that are kept, by the first reason")
    kept_templates: dict[str, int] = Field(description="Image templates that are kept, by reason")
    unreadable: list[str] = Field(default_factory=list, description="Manifests that cannot be read, and are left alone")

    @property
    def bytes_freed(self) -> int:
        """Bytes that become free in the bucket at once; none where it keeps versions and these are left to it."""
        if self.guards.versions and self.rules.versions == "keep":
            return 0
        objects = sum(info.size for one in self.orphans for info in one.objects)
        uploads = sum(one.bytes for one in self.orphans if one.upload_id is not None)
        return sum(one.bytes for one in self.exports) + objects + uploads

    @property
    def template_bytes_freed(self) -> int:
        """Bytes of all image templates that go, with their exports or without, by the account."""
        orphans = sum(one.bytes for one in self.orphans if one.template_id is not None)
        with_exports = sum(one.template_bytes for one in self.exports if one.template_id is not None)
        return sum(one.bytes for one in self.templates) + with_exports + orphans

    @property
    def size(self) -> int:
        """How many exports, image templates and orphans go."""
        return len(self.exports) + len(self.templates) + len(self.orphans)

    @property
    def summary(self) -> str:
        """The dry run in one line."""
        going = sum(one.template_id is not None for one in self.exports) + len(self.templates)
        return (
            f"{len(self.exports)} of {self.exports_seen} exports and {going} of {self.templates_seen} image templates "
            f"of {self.servers} servers go"
        ) + (f", and {len(self.orphans)} orphans" if self.orphans else "")


class Done(StrEnum):
    """What came of one export or image template that was to go."""

    REMOVED = "removed"
    """It is gone."""
    GONE = "gone"
    """It was gone already."""
    TAKEN_BACK = "taken-back"
    """Its mark was taken back: it is an export again."""
    KEPT_NOW = "kept-now"
    """It is kept by now: rules, holds or proofs say so."""
    CHANGED = "changed"
    """It is not what the dry run saw, and was left as it is."""
    PROTECTED = "protected"
    """The object store did not let it be deleted."""
    REFUSED = "refused"
    """The account or the store refused."""
    UNFINISHED = "unfinished"
    """It was begun and could not be finished; the next run takes it up."""


class Outcome(RetentionModel):
    """What came of one export or image template that was to go."""

    export_id: str = Field(description="The export")
    template_id: int | None = Field(default=None, description="The image template, where it goes without an export")
    upload_id: str | None = Field(default=None, description="The unfinished upload; then the export may be its key")
    done: Done = Field(description="What came of it")
    words: str = Field(default="", description="What the account or the store said, or what changed")
    objects: int = Field(default=0, ge=0, description="Objects that were deleted")
    bytes: int = Field(default=0, ge=0, description="Bytes of these")

    @property
    def identity(self) -> tuple[str, int | None, str | None]:
        """What tells it from others of the same dry run."""
        return (self.export_id, self.template_id, self.upload_id)


class Result(RetentionModel):
    """What came of a dry run that was carried out."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    retention_id: str = Field(description="The dry run")
    applied_at: AwareDatetime = Field(description="When it was carried out last")
    outcomes: list[Outcome] = Field(description="What came of each, in the order of the dry run")

    @property
    def counts(self) -> dict[Done, int]:
        """How many there are of each kind; kinds without any are left out."""
        found = Counter(one.done for one in self.outcomes)
        return {kind: found[kind] for kind in Done if found[kind]}

    @property
    def bytes(self) -> int:
        """Bytes of the objects that were deleted."""
        return sum(one.bytes for one in self.outcomes)

    @property
    def unfinished(self) -> list[Outcome]:
        """What was begun and is to be taken up."""
        return [one for one in self.outcomes if one.done is Done.UNFINISHED]

    @property
    def left(self) -> list[Outcome]:
        """What the rules let go and something did not: another run may, or somebody has to look."""
        return [one for one in self.outcomes if one.done in (Done.UNFINISHED, Done.REFUSED, Done.PROTECTED)]

    @property
    def summary(self) -> str:
        """The result in one line."""
        kinds = ", ".join(f"{count} {kind.value}" for kind, count in self.counts.items())
        return kinds or "nothing was to go"
