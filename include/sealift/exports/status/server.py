"""One server: its exports, and everything that is known of one of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, Field

from sealift.exports import names
from sealift.exports.errors import LedgerError
from sealift.exports.manifest import Manifest, read_manifest
from sealift.exports.ports import CosApi
from sealift.exports.proofs import LaterProof, proof_level, read_proofs
from sealift.exports.record import ConfigurationRecord, parse_record, read_record
from sealift.exports.status.coverage import ReadModel, kind_of, moment
from sealift.exports.status.differences import Change, differences
from sealift.exports.status.rows import Row, State
from sealift.exports.status.snapshot import Slot, Snapshot

LIMIT_AT_MOST: Final = 400


class ExportLine(ReadModel):
    """What became of a server in one slot."""

    period: str = Field(description="The slot")
    at: datetime = Field(description="The slot's time; of a manual run, when its plan was made")
    scheduled: bool = Field(description="Whether it is a slot of a schedule, and no manual run")
    state: State = Field(description="What became of the server in it")
    level: str = Field(description="How deep the export is proven, L0 to L4; empty where that was not read yet")
    words: str = Field(description="Why it failed, was skipped or is missing, and what to do; else empty")
    rule: str = Field(description="The rule that refused the server; else empty")
    task: str = Field(description="The task that failed; else empty")
    plan_id: str = Field(description="The last plan that spoke of it; may be empty")
    wave: int | None = Field(description="Number of the wave in that plan, from 0")
    wave_run_id: str | None = Field(description="That wave's run of export_servers")
    done_at: datetime | None = Field(description="When the manifest was written")
    failed_at: datetime | None = Field(description="When a report first said that it failed, whatever came after")
    bytes: int = Field(description="Bytes of all images")
    disks: int = Field(description="Disks proven")
    capacity_bytes: int = Field(description="Capacity of the captured disks, as planned")
    capture_seconds: float | None = Field(description="How long the capture took, where that was measured")
    export_seconds: float | None = Field(description="How long the export took, where that was measured")
    read: bool = Field(description="Whether the manifest was read, so that level, bytes and durations are known")


class ServerView(ReadModel):
    """A server and what became of it, slot by slot."""

    id: int = Field(description="The server's id")
    kind: str = Field(description="virtual or bare metal")
    hostname: str = Field(description="Its host name; empty where only its id is known yet")
    domain: str = Field(description="Its domain; may be empty")
    datacenter: str = Field(description="Its data center; may be empty")
    tags: list[str] = Field(description="Its tags, as of the newest plan that names them")
    total: int = Field(description="How many slots know the server")
    offset: int = Field(description="How many of them come before this page")
    exports: list[ExportLine] = Field(description="What became of it, newest slot first")


class ObjectPlace(ReadModel):
    """An object of an export."""

    key: str = Field(description="The object's key")
    url: str = Field(description="Its page in IBM Cloud's console, or its own address; holds no credentials")


class ExportDetail(ReadModel):
    """Everything that is known of one export."""

    manifest: Manifest = Field(description="The manifest, as it stands in the bucket")
    manifest_object: ObjectPlace = Field(description="Where the manifest is")
    disk_objects: list[ObjectPlace] = Field(description="Where the images are, in the order of the disks")
    record_object: ObjectPlace = Field(description="Where the configuration record is")
    template_url: str = Field(description="The image template's page in IBM Cloud's console")
    level: str = Field(description="How deep every disk is proven by now, later proofs included")
    later_proofs: list[LaterProof] = Field(description="What was proven after the manifest, in order")
    total_bytes: int = Field(description="Bytes of all images")
    seconds: float = Field(description="From the capture's beginning to the proof's end")
    record: ConfigurationRecord | None = Field(description="The configuration record; none where it cannot be read")
    previous_period: str | None = Field(description="The slot of the export before this one")
    previous_captured_at: AwareDatetime | None = Field(description="When that one was captured")
    changes: list[Change] = Field(description="What is different in the record since then; at most 500")
    problems: list[str] = Field(description="What could not be read, in words")
    download_command: str = Field(description="Command that downloads the export, to be copied")
    prove_command: str = Field(description="Command that proves it again at level L2, to be copied")


@dataclass(frozen=True, kw_only=True)
class Links:
    """How addresses are made; they need nothing but names.

    :param object_url: gives the page of an object's key.
    :param template_url: gives the page of a template's id.
    :param options: what a command needs beside the export's name to find the bucket.
    """

    object_url: Callable[[str], str]
    template_url: Callable[[int], str]
    options: tuple[str, ...] = ()


def server_view(snapshot: Snapshot, number: int, *, offset: int = 0, limit: int = 52) -> ServerView | None:
    """Show one server.

    :param snapshot: what is known.
    :param number: the server; see :class:`sealift.exports.status.rows.Row`.
    :param offset: slots to pass over, newest first.
    :param limit: most slots to show.
    :returns: the server, or None where nothing knows it.
    """
    identity = snapshot.servers.get(number)
    if identity is None:
        return None
    lines = list(snapshot.history(number))
    return ServerView(
        id=abs(number),
        kind=kind_of(number),
        hostname=identity.hostname,
        domain=identity.domain,
        datacenter=identity.datacenter,
        tags=list(identity.tags),
        total=len(lines),
        offset=offset,
        exports=[_line(slot, row) for slot, row in lines[offset : offset + limit]],
    )


def export_detail(
    cos: CosApi, *, bucket: str, prefix: str, number: int, period: str, previous: str | None, links: Links
) -> ExportDetail | None:
    """Show one export: reads its manifest, record and later proofs, and manifest and record of the one before.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param number: the virtual server's id.
    :param period: the slot.
    :param previous: the slot of its export before, if there is one.
    :param links: how addresses are made.
    :returns: the export, or None where there is no manifest.
    :raises LedgerError: what lies at the manifest's key is none.
    """
    key = names.manifest_key(prefix=prefix, guest_id=number, period=period)
    problems: list[str] = []
    # What does not wait for each other is read at the same time: a round costs what one call costs.
    with ThreadPoolExecutor(3) as pool:
        earlier_read = None if previous is None else pool.submit(_earlier, cos, bucket, prefix, number, previous)
        manifest = read_manifest(cos, bucket=bucket, key=key)
        earlier, problem = (None, "") if earlier_read is None else earlier_read.result()
        if manifest is None:
            return None
        record_read = pool.submit(_record, cos, bucket, manifest)
        compared = earlier is not None and earlier.record.digest != manifest.record.digest
        old_read = pool.submit(_record, cos, bucket, earlier) if earlier is not None and compared else None
        proofs: list[LaterProof] = []
        try:
            proofs = read_proofs(cos, bucket=bucket, prefix=prefix, manifest=manifest)
        except LedgerError as error:
            problems.append(error.message)
        record, record_problem = record_read.result()
        old, old_problem = (None, "") if old_read is None else old_read.result()
    problems += [one for one in (problem, record_problem, old_problem) if one]
    changes = [] if record is None or old is None else differences(old, record)

    def at(object_key: str) -> ObjectPlace:
        return ObjectPlace(key=object_key, url=links.object_url(object_key))

    return ExportDetail(
        manifest=manifest,
        manifest_object=at(key),
        disk_objects=[at(disk.key) for disk in manifest.disks],
        record_object=at(manifest.record.key),
        template_url=links.template_url(manifest.template.id),
        level=proof_level(manifest, proofs),
        later_proofs=proofs,
        total_bytes=manifest.total_bytes,
        seconds=(manifest.proven_at - manifest.captured_at).total_seconds(),
        record=record,
        previous_period=None if earlier is None else earlier.period,
        previous_captured_at=None if earlier is None else earlier.captured_at,
        changes=changes,
        problems=problems,
        download_command=command("download", manifest.export_id, *links.options),
        prove_command=command("prove-export", manifest.export_id, "--level", "L2", *links.options),
    )


def command(*words: str) -> str:
    """Write a command of ``sealift`` as a shell reads it.

    :param words: the command's words behind ``sealift``.
    :returns: one line.
    """
    return shlex.join(("sealift", *words))


def _earlier(cos: CosApi, bucket: str, prefix: str, number: int, period: str) -> tuple[Manifest | None, str]:
    key = names.manifest_key(prefix=prefix, guest_id=number, period=period)
    try:
        return read_manifest(cos, bucket=bucket, key=key), ""
    except LedgerError as error:
        return None, error.message


def _record(cos: CosApi, bucket: str, manifest: Manifest) -> tuple[ConfigurationRecord | None, str]:
    try:
        body = read_record(cos, bucket=bucket, record=manifest.record)
        return parse_record(body, bucket=bucket, key=manifest.record.key), ""
    except LedgerError as error:
        return None, error.message


def _line(slot: Slot, row: Row) -> ExportLine:
    planned = bool(row.plan_id) and row.wave >= 0
    return ExportLine(
        period=slot.period,
        at=slot.at,
        scheduled=slot.scheduled,
        state=row.state,
        level=row.level,
        words=row.words,
        rule=row.rule,
        task=row.task,
        plan_id=row.plan_id,
        wave=row.wave if row.wave >= 0 else None,
        wave_run_id=names.wave_run_id(plan_id=row.plan_id, number=row.wave) if planned else None,
        done_at=moment(row.done_at),
        failed_at=moment(row.failed_at),
        bytes=row.bytes,
        disks=row.disks,
        capacity_bytes=row.capacity,
        capture_seconds=row.capture_seconds or None,
        export_seconds=row.export_seconds or None,
        read=row.read,
    )
