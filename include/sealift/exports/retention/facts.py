"""What a decision about retention rests on: a server, its exports and its image templates. Small, as there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sealift.classic.models import Guest


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFacts:
    """One export whose manifest is in the bucket.

    :param export_id: ``<guest id>-<period>``.
    :param captured_at: when the capture began, by the account, with a time zone.
    :param proven_at: when its newest proof was made.
    :param proof_level: how deep every one of its disks was checked.
    :param template_id: the image template that it was made of, by its manifest.
    :param bytes: all of its objects together.
    :param objects: how many there are.
    :param etag: its manifest's ETag.
    :param images: what the keys of its images begin with, without a slash at the end.
    :param sound: the objects are those that the manifest names.
    :param failed_drill: it did not come back when it was rehearsed last.
    :param held: somebody holds this export.
    :param removing: its manifest is marked: it is being removed, and no export any more.
    :param removing_template: … and its image template with it.
    :param marked: its manifest was marked a while ago, and its images are whole: the mark can be taken back, and the
        export is judged like any other.
    """

    export_id: str
    captured_at: datetime
    proven_at: datetime
    proof_level: str
    template_id: int
    bytes: int = 0
    objects: int = 0
    etag: str = ""
    images: str = ""
    sound: bool = True
    failed_drill: bool = False
    held: bool = False
    removing: bool = False
    removing_template: bool = False
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFacts:
    """One image template with one of our names.

    :param id: its id.
    :param export_id: the export that its name tells.
    :param created_at: when the account made it; None where the account does not say.
    :param bytes: its size in all data centers, by the account.
    :param busy: something is being done with it.
    """

    id: int
    export_id: str
    created_at: datetime | None
    bytes: int = 0
    busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A server, what is exported of it and what the account holds of it.

    :param server: who it is: id, host name, domain, data center, dedicated host, tags.
    :param tags_known: its tags are those of the account, or of its configuration record where it is gone.
    :param exports: its exports, in any order.
    :param templates: its image templates, in any order.
    """

    server: Guest
    tags_known: bool = True
    exports: Sequence[ExportFacts] = field(default_factory=tuple)
    templates: Sequence[TemplateFacts] = field(default_factory=tuple)
