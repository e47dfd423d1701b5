"""An account and a bucket in memory that can only be read, and makers of every state an export can be in."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sealift.classic.models import GuestState, Template
from sealift.cos.models import MultipartUpload, ObjectInfo
from sealift.exports import names
from sealift.exports.doctor import Examination, Finding, examine
from sealift.exports.jsontext import digest
from sealift.exports.surveying import SlotsPlace

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OLD = NOW - timedelta(days=20)
YOUNG = NOW - timedelta(minutes=10)
BUCKET = "sealift-exports"
PREFIX = "nightly"
PERIOD = "20261110T0200Z"
SLOTS = SlotsPlace(bucket=BUCKET, root="offline-slots/307608", settle=timedelta(minutes=15))


class Account:
    """An account that can only be read."""

    def __init__(self) -> None:
        self.templates: list[Template] = []
        self.busy: set[int] = set()
        self.asked: list[int] = []

    def templates_with_prefix(self, prefix: str) -> list[Template]:
        assert prefix == "sealift-"
        return list(self.templates)

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]:
        self.asked += ids
        raw = {one: {"id": one, **({"activeTransaction": {"id": 9}} if one in self.busy else {})} for one in ids}
        return {one: GuestState.model_validate(state) for one, state in raw.items()}

    def add(
        self,
        id_: int,
        export: str,
        *,
        at: datetime = OLD,
        busy: bool = False,
        sizes: Collection[float | None] = (5e9,),
        note: str | None = None,
        name: str | None = None,
    ) -> None:
        children = [
            {"id": id_ * 10 + n, "transactionId": 70 if busy and n == 0 else None, "blockDevicesDiskSpaceTotal": size}
            for n, size in enumerate(sizes)
        ]
        self.templates.append(
            Template.model_validate(
                {
                    "id": id_,
                    "name": names.template_name(export) if name is None else name,
                    "note": note,
                    "createDate": at.isoformat(),
                    "children": children,
                }
            )
        )


class Store:
    """A bucket that can only be read: it has no other methods. Counts pages and reads."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes | int, str, datetime]] = {}
        self.uploads: list[MultipartUpload] = []
        self.parts: dict[str, tuple[int, int] | Exception] = {}
        self.pages = 0
        self.reads: list[str] = []

    def put(self, key: str, body: bytes | int, *, at: datetime = OLD, etag: str | None = None) -> None:
        raw = body if isinstance(body, bytes) else str(body).encode()
        self.objects[key] = (body, etag or hashlib.md5(raw).hexdigest(), at)

    def json(self, key: str, document: Any, *, at: datetime = OLD) -> None:
        self.put(key, json.dumps(document).encode(), at=at)

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        self.pages += max(1, math.ceil(len(keys) / 1000))
        for key in keys:
            body, etag, at = self.objects[key]
            size = body if isinstance(body, int) else len(body)
            yield ObjectInfo(key=key, size=size, etag=etag, last_modified=at)

    def read(self, bucket: str, key: str) -> bytes | None:
        self.reads.append(key)
        if key not in self.objects:
            return None
        body = self.objects[key][0]
        assert isinstance(body, bytes), f"{key} is a disk: the doctor reads none"
        return body

    def list_multipart_uploads(self, bucket: str, prefix: str) -> list[MultipartUpload]:
        return [one for one in self.uploads if one.key.startswith(prefix)]

    def upload_size(self, bucket: str, upload: MultipartUpload) -> tuple[int, int]:
        size = self.parts[upload.upload_id]
        if isinstance(size, Exception):
            raise size
        return size


def export_of(guest_id: int, period: str = PERIOD) -> str:
    return names.export_id(guest_id=guest_id, period=period)


def images_of(guest_id: int, *, period: str = PERIOD, prefix: str = PREFIX, host: str | None = None) -> str:
    return names.image_prefix(
        prefix=prefix, hostname=host or f"web{guest_id}", guest_id=guest_id, export=export_of(guest_id, period)
    )


def note_of(guest_id: int, *, period: str = PERIOD, bucket: str = BUCKET, prefix: str = PREFIX) -> str:
    images = images_of(guest_id, period=period, prefix=prefix)
    return names.template_note(export=export_of(guest_id, period), bucket=bucket, key_prefix=images)


RECORD = b'{"a": "record"}'


class World:
    """An account and a bucket, and what is put into them."""

    def __init__(self) -> None:
        self.classic = Account()
        self.cos = Store()

    def examine(self, **changes: Any) -> Examination:
        given: dict[str, Any] = {"bucket": BUCKET, "prefix": PREFIX, "now": NOW, "slots": SLOTS}
        return examine(classic=self.classic, cos=self.cos, **(given | changes))

    def disks(self, guest_id: int, *numbers: int, at: datetime = OLD, **where: Any) -> None:
        for number in numbers:
            self.cos.put(names.disk_key(images=images_of(guest_id, **where), index=number), 1000 + number, at=at)

    def record(self, guest_id: int, *, at: datetime = OLD, **where: Any) -> None:
        self.cos.put(names.record_key(images_of(guest_id, **where)), RECORD, at=at)

    def manifest_key(self, guest_id: int, period: str = PERIOD) -> str:
        return names.manifest_key(prefix=PREFIX, guest_id=guest_id, period=period)

    def manifest(
        self,
        guest_id: int,
        *,
        disks: int = 2,
        at: datetime = OLD,
        template: int = 500,
        period: str = PERIOD,
        **where: Any,
    ) -> None:
        """Write the manifest of an export whose disks are as :meth:`disks` makes them."""
        images = images_of(guest_id, period=period, **where)
        self.cos.json(
            self.manifest_key(guest_id, period),
            {
                "export_id": export_of(guest_id, period),
                "period": period,
                "guest": {"id": guest_id, "hostname": f"web{guest_id}"},
                "template": {"id": template, "name": names.template_name(export_of(guest_id, period))},
                **dict.fromkeys(("captured_at", "exported_at", "proven_at"), OLD.isoformat()),
                "bucket": BUCKET,
                "region": "us-south",
                "format": "vhd",
                "proof_level": "L1",
                "disks": [self._disk(images, number) for number in range(disks)],
                "record": {"key": names.record_key(images), "size": len(RECORD), "digest": digest(RECORD)},
                "run": {"dag_id": "d", "run_id": "r", "try_number": 1, "sealift_version": "0"},
            },
            at=at,
        )

    def _disk(self, images: str, number: int) -> dict[str, Any]:
        return {
            "index": number,
            "device": str(number),
            "key": names.disk_key(images=images, index=number),
            "size": 1000 + number,
            "virtual_size": 5000,
            "capacity": 1,
            "units": "GB",
            "format": "vhd-dynamic",
            "etag": hashlib.md5(str(1000 + number).encode()).hexdigest(),
            "uploaded_at": OLD.isoformat(),
            "footer_uuid": "u",
            "creator": "c",
            "partition_table": "mbr",
            "proof_level": "L1",
            "checks": [],
            "proof_bytes_read": 1,
            "proof_requests": 1,
        }

    def done(self, guest_id: int, *, disks: int = 2, **more: Any) -> None:
        """An export that is done."""
        where = {name: more[name] for name in ("period", "host") if name in more}
        self.disks(guest_id, *range(disks), **where)
        self.record(guest_id, **where)
        self.manifest(guest_id, disks=disks, **more)

    def plan(
        self, plan_id: str, *waves: Collection[int], at: datetime = OLD, dry_run: bool = False, period: str = PERIOD
    ) -> None:
        """Write a plan and its waves, as far as the doctor reads them."""
        items = [
            {
                "guest_id": one,
                "hostname": f"web{one}",
                "export_id": export_of(one, period),
                "images": images_of(one, period=period),
                "outcome": "export",
                "disks": [{"index": 0}, {"index": 1}],
            }
            for wave in waves
            for one in wave
        ]
        document = {
            "schema_version": 1,
            "period": period,
            "settings": {"dry_run": dry_run},
            "items": items,
            "waves": [{"number": number, "guest_ids": list(wave)} for number, wave in enumerate(waves)],
        }
        self.cos.json(names.plan_key(prefix=PREFIX, plan_id=plan_id), document, at=at)
        for number, wave in enumerate(waves):
            document = document | {"items": [one for one in items if one["guest_id"] in wave]}
            self.cos.json(names.wave_key(prefix=PREFIX, plan_id=plan_id, number=number), document, at=at)

    def outcome(self, guest_id: int, kind: str = "exported", *, period: str = PERIOD, disks: int = 2) -> dict[str, Any]:
        done = kind in {"exported", "already exported"}
        return {
            "kind": kind,
            "server": "virtual",
            "id": guest_id,
            "hostname": f"web{guest_id}",
            "export_id": export_of(guest_id, period),
            "disks": disks if done else 0,
            "bytes": sum(1000 + number for number in range(disks)) if done else 0,
            "task": None if done else "wait_for_export",
        }

    def wave_report(self, plan_id: str, number: int, *outcomes: dict[str, Any], at: datetime = OLD) -> None:
        key = names.wave_report_key(prefix=PREFIX, plan_id=plan_id, number=number)
        self.cos.json(key, {"schema_version": 1, "outcomes": list(outcomes)}, at=at)

    def report(self, plan_id: str, *outcomes: dict[str, Any], at: datetime = OLD) -> None:
        key = names.report_key(prefix=PREFIX, plan_id=plan_id)
        self.cos.json(key, {"schema_version": 1, "outcomes": list(outcomes)}, at=at)

    def upload(
        self, key: str, *, at: datetime | None = OLD, parts: tuple[int, int] | Exception = (3, 300), id_: str = "u1"
    ) -> None:
        self.cos.uploads.append(MultipartUpload(key=key, upload_id=id_, initiated=at))
        self.cos.parts[id_] = parts

    def claim(self, guest_id: int, *, at: datetime = OLD, period: str = PERIOD) -> str:
        key = f"{names.claim_root(prefix=PREFIX, guest_id=guest_id, period=period)}/00000001.json"
        self.cos.json(key, {}, at=at)
        return key

    def slot(self, number: int, guest_id: int, *, at: datetime = OLD, state: str = "held", period: str = PERIOD) -> str:
        entry = {
            "export_id": export_of(guest_id, period),
            "guest_id": guest_id,
            "token": "t",
            "taken_at": at.isoformat(),
            "state": state,
        }
        key = f"{SLOTS.root}/{number:03d}/00000004.json"
        self.cos.json(key, entry, at=at)
        return key


def one(examination: Examination) -> Finding:
    (finding,) = examination.findings
    return finding


def kinds(examination: Examination) -> list[tuple[str, str | None]]:
    return [(finding.kind.value, finding.export_id) for finding in examination.findings]
