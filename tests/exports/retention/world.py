"""A bucket and an account in memory that can be written to, killed at any step, and protect what they are told to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sealift.classic.errors import ClassicNotFoundError
from sealift.classic.models import Guest, GuestState, Template
from sealift.cos.errors import CosPermissionError
from sealift.cos.models import BucketGuards, MultipartUpload, ObjectInfo, ObjectVersion, Protection, PutOutcome
from sealift.exports import names
from sealift.exports.jsontext import digest
from sealift.exports.retention.applying import apply_dry_run
from sealift.exports.retention.dry_run import keep_dry_run, make_dry_run
from sealift.exports.retention.models import DryRun, Result
from sealift.exports.retention.rules import RetentionRules, read_rules
from sealift.exports.status.prices import Prices

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BUCKET = "sealift-exports"
PREFIX = "nightly"


class Killed(BaseException):
    """The process is killed here."""


class Switch:
    """Counts what changes something, and kills before or after one of these."""

    def __init__(self) -> None:
        self.count = 0
        self.steps: list[str] = []
        self.at: int | None = None
        self.after = False

    def kill_at(self, number: int, *, after: bool) -> None:
        self.count, self.steps, self.at, self.after = 0, [], number, after

    def calm(self) -> None:
        self.count, self.steps, self.at = 0, [], None

    def __call__(self, what: str, change: Any) -> Any:
        self.count += 1
        self.steps.append(what)
        if self.count == self.at and not self.after:
            raise Killed
        result = change()
        if self.count == self.at:
            raise Killed
        return result


class Account:
    """An account in memory."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.templates: dict[int, Template] = {}
        self.guests: list[Guest] = []
        self.refusals: dict[int, Exception] = {}
        self.slow = False
        self.listed = 0

    def list_guests(self, *, object_filter: dict[str, Any] | None = None) -> list[Guest]:
        self.listed += 1
        return self.guests

    def templates_with_prefix(self, prefix: str) -> list[Template]:
        return [one for one in self.templates.values() if (one.name or "").startswith(prefix)]

    def template_states(self, ids: Collection[int]) -> dict[int, Template]:
        return {one: self.templates[one] for one in ids if one in self.templates}

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]:
        return {}

    def delete_template(self, template_id: int) -> None:
        if template_id in self.refusals:
            raise self.refusals[template_id]
        if template_id not in self.templates:
            raise ClassicNotFoundError(f"Unable to find object with id of '{template_id}'.")
        self.switch(f"delete template {template_id}", lambda: self._delete(template_id))

    def _delete(self, template_id: int) -> None:
        if self.slow:
            self.templates[template_id] = self.templates[template_id].model_copy(update={"transaction_id": 7})
        else:
            del self.templates[template_id]

    def over(self) -> None:
        """Let the transactions end that delete templates."""
        self.templates = {id_: one for id_, one in self.templates.items() if one.transaction_id is None}


class Bucket:
    """A bucket in memory, without versions."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.protected: dict[str, Protection] = {}
        self.found_guards = BucketGuards()
        self.heads: list[str] = []
        self.uploads: list[MultipartUpload] = []
        self.clock: Callable[[], datetime] = lambda: NOW

    @property
    def removing(self) -> Bucket:
        return self

    @property
    def multipart(self) -> Bucket:
        return self

    def list_multipart_uploads(self, bucket: str, prefix: str) -> Sequence[MultipartUpload]:
        return [one for one in self.uploads if one.key.startswith(prefix)]

    def upload_size(self, bucket: str, upload: MultipartUpload) -> tuple[int, int]:
        return 2, 5000

    def abort(self, bucket: str, upload: MultipartUpload) -> None:
        left = [one for one in self.uploads if one.upload_id != upload.upload_id]
        self.switch(f"abort {upload.key}", lambda: setattr(self, "uploads", left))

    def info(self, key: str) -> ObjectInfo:
        body, at = self.objects[key]
        return ObjectInfo(key=key, size=len(body), etag=hashlib.md5(body).hexdigest(), last_modified=at)

    def preflight(self, **asked: Any) -> None:
        raise AssertionError("retention needs no preflight")

    def head(self, bucket: str, key: str, *, with_part_size: bool = False) -> ObjectInfo | None:
        return self.info(key) if key in self.objects else None

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield self.info(key)

    def read(self, bucket: str, key: str) -> bytes | None:
        return self.objects[key][0] if key in self.objects else None

    def read_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str | None = None) -> bytes:
        raise AssertionError("retention reads no images")

    def put_if_absent(
        self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json"
    ) -> PutOutcome:
        if key in self.objects:
            same = self.objects[key][0] == body
            return PutOutcome.EXISTS_SAME if same else PutOutcome.EXISTS_DIFFERENT
        self.switch(f"create {key}", lambda: self.store(key, body))
        return PutOutcome.CREATED

    def put(self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        self.switch(f"put {key}", lambda: self.store(key, body))

    def store(self, key: str, body: bytes, *, at: datetime | None = None) -> None:
        self.objects[key] = (body, at or self.clock())

    def delete(self, bucket: str, key: str) -> None:
        if key in self.protected:
            raise CosPermissionError("the object is protected", code="AccessDenied", bucket=bucket, key=key)
        self.switch(f"delete {key}", lambda: self.objects.pop(key, None))

    def put_if_match(self, bucket: str, key: str, body: bytes, *, etag: str) -> bool:
        if key in self.protected:
            raise CosPermissionError("the object is protected", code="AccessDenied", bucket=bucket, key=key)
        if key not in self.objects or self.info(key).etag != etag:
            return False
        self.switch(f"replace {key}", lambda: self.store(key, body))
        return True

    def guards(self, bucket: str) -> BucketGuards:
        return self.found_guards

    def protection(self, bucket: str, key: str) -> Protection | None:
        self.heads.append(key)
        return self.protected.get(key)

    def versions(self, bucket: str, prefix: str) -> Iterator[ObjectVersion]:
        raise AssertionError("this bucket keeps no versions")

    def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        raise AssertionError("this bucket keeps no versions")


def period_of(at: datetime) -> str:
    return names.period_of_slot(at.replace(second=0, microsecond=0))


class World:
    """A bucket, an account, a clock, and makers of what they hold."""

    def __init__(self) -> None:
        self.switch = Switch()
        self.cos = Bucket(self.switch)
        self.classic = Account(self.switch)
        self.now = NOW
        self.cos.clock = lambda: self.now

    # What is there

    def export(
        self, guest_id: int, days: float, *, disks: int = 2, template: bool = True, extras: bool = False, **more: Any
    ) -> str:
        """Make an export that was captured so many days ago; returns its id."""
        at = NOW - timedelta(days=days)
        period = period_of(at)
        export = names.export_id(guest_id=guest_id, period=period)
        images = names.image_prefix(prefix=PREFIX, hostname=f"web{guest_id}", guest_id=guest_id, export=export)
        record = json.dumps({"guest_id": guest_id, "export": export}).encode()
        self.cos.store(names.record_key(images), record, at=at)
        listed = []
        for index in range(disks):
            key, body = names.disk_key(images=images, index=index), f"{export} disk {index} ".encode() * 50
            self.cos.store(key, body, at=at)
            listed.append(self._disk(key, index, body, at))
        template_id = guest_id * 10_000 + int(days * 10)
        if template:
            self.template(template_id, export, at)
        manifest = {
            "export_id": export,
            "period": period,
            "guest": {"id": guest_id, "hostname": f"web{guest_id}", "domain": "example.com", "datacenter": "dal13"},
            "template": {"id": template_id, "name": names.template_name(export)},
            **dict.fromkeys(("captured_at", "exported_at", "proven_at"), at.isoformat()),
            "bucket": BUCKET,
            "region": "us-south",
            "format": "vhd",
            "proof_level": "L1",
            "disks": listed,
            "record": {"key": names.record_key(images), "size": len(record), "digest": digest(record)},
            "run": {"dag_id": "d", "run_id": "r", "try_number": 1, "sealift_version": "0"},
            **more,
        }
        self.cos.store(self.manifest_key(export), json.dumps(manifest).encode(), at=at)
        if extras:
            self.cos.store(f"{images}/kits/aws/import.sh", b"#!/bin/sh\n", at=at)
            self.cos.store(f"{images}/converted/qcow2/disk-0.qcow2", b"converted " * 30, at=at)
            self.cos.store(f"{images}/converted/qcow2/conversion.json", b"{}", at=at)
            self.proof(export, at)
        return export

    def proof(self, export: str, at: datetime, *, level: str = "L2", number: int = 1) -> None:
        manifest = self.manifest(export)
        disks = [{key: disk[key] for key in ("key", "etag", "size")} for disk in manifest["disks"]]
        body = {
            "export_id": export,
            "made_at": at.isoformat(),
            "made_by": "test",
            "proof_level": level,
            "disks": [{**disk, "sha256": "0" * 64} for disk in disks],
        }
        guest_id, period = names.parse_export_id(export)
        key = names.proof_key(prefix=PREFIX, guest_id=guest_id, period=period, number=number)
        self.cos.store(key, json.dumps(body).encode(), at=at)

    @staticmethod
    def _disk(key: str, index: int, body: bytes, at: datetime) -> dict[str, Any]:
        return {
            "index": index,
            "device": str(index),
            "key": key,
            "size": len(body),
            "virtual_size": 5000,
            "capacity": 1,
            "units": "GB",
            "format": "vhd-dynamic",
            "etag": hashlib.md5(body).hexdigest(),
            "uploaded_at": at.isoformat(),
            "footer_uuid": "u",
            "creator": "c",
            "partition_table": "mbr",
            "proof_level": "L1",
            "checks": [],
            "proof_bytes_read": 1,
            "proof_requests": 1,
        }

    def template(self, id_: int, export: str, at: datetime, *, busy: bool = False) -> None:
        self.classic.templates[id_] = Template.model_validate(
            {
                "id": id_,
                "name": names.template_name(export),
                "createDate": at.isoformat(),
                "children": [{"id": id_ + 1, "transactionId": 70 if busy else None, "blockDevicesDiskSpaceTotal": 5e9}],
            }
        )

    # What is asked of it

    @staticmethod
    def manifest_key(export: str) -> str:
        guest_id, period = names.parse_export_id(export)
        return names.manifest_key(prefix=PREFIX, guest_id=guest_id, period=period)

    def manifest(self, export: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cos.objects[self.manifest_key(export)][0])
        return found

    def keys_of(self, export: str) -> list[str]:
        """All keys that name an export, but for dry runs and results."""
        guest_id, period = names.parse_export_id(export)
        return [key for key in sorted(self.cos.objects) if export in key or f"/{guest_id}/{period}" in key]

    def dry_run(
        self, rules: RetentionRules | None = None, *, name: str = "r-1", prices: Prices | None = None, **rule: Any
    ) -> DryRun:
        made = make_dry_run(
            cos=self.cos,
            classic=self.classic,
            bucket=BUCKET,
            prefix=PREFIX,
            rules=rules or keep(**rule),
            retention_id=name,
            now=self.now,
            prices=prices,
        )
        return keep_dry_run(self.cos, made)

    def apply(self, dry_run: DryRun) -> Result:
        return apply_dry_run(dry_run, cos=self.cos, classic=self.classic, clock=lambda: self.now)


def keep(**rule: Any) -> RetentionRules:
    return read_rules([{"name": "all", "servers": {"all": True}, **(rule or {"keep_last": 2})}])


def outcomes(result: Result) -> Sequence[tuple[str, str]]:
    return [(one.export_id, one.done.value) for one in result.outcomes]
