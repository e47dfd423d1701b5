"""Exports of servers in a bucket in memory, which are brought back from it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sealift.cos.streams import RangeStream, SdkBody
from sealift.cos.verdict import Doing
from sealift.exports import names
from sealift.exports.drills.choosing import list_rehearsals
from sealift.exports.drills.keys import Rehearsed, rehearsal_key
from sealift.exports.drills.models import Chosen, Rehearsal
from sealift.exports.drills.rehearsing import Rehearser, Terms
from sealift.exports.jsontext import canonical_json, digest
from sealift.exports.manifest import Manifest, ManifestRemoval, parse_manifest
from sealift.exports.proofs import LaterProof, read_proofs
from sealift.exports.retention import keys as retention_keys
from sealift.images.proof import prove_image
from sealift.images.source import BytesSource
from sealift.images.verdict import ProofLevel
from tests.exports.kits import world as kits

BUCKET, PREFIX = "sealift-exports", "nightly"


class Quiet:
    """A watcher that says nothing."""

    def begins(self, name: str, size: int) -> None:
        """A file begins."""

    def arrived(self, name: str, count: int) -> None:
        """Bytes came."""

    checked = arrived

    def done(self, name: str, sha256: str, *, already: bool) -> None:
        """A file is whole."""


class World:
    """A bucket with exports, and the rehearsals of them."""

    def __init__(self, cos: Any, time: Any, scratch: Path, images: dict[str, bytes]) -> None:
        self.cos = cos
        self.time = time
        self.scratch = scratch
        self.images = images
        self.act: Callable[[str], None] = lambda _what: None
        cos.before_write = lambda key: self.act(f"write {key}")
        self._wrap("read")
        self._wrap("head")
        self._wrap("list")
        cos.open_range = self._open_range

    def _wrap(self, name: str) -> None:
        real = getattr(self.cos, name)

        def called(bucket: str, key: str, **more: Any) -> Any:
            self.act(f"{name} {key}")
            return real(bucket, key, **more)

        setattr(self.cos, name, called)

    def _open_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str) -> RangeStream:
        self.act(f"open {key}")
        data = self.cos.read_range(bucket, key, start=start, length=length, if_match=if_match)
        return RangeStream(
            body=SdkBody(io.BytesIO(data)),
            guarded=lambda _doing, action: action(),
            doing=Doing(what=f"read {key}", endpoint="memory", bucket=bucket, key=key),
            length=length,
        )

    def export(self, guest_id: int = 101, day: int = 0, *, kinds: tuple[str, ...] = ("root",)) -> Chosen:
        """Put an export of a server into the bucket."""
        at = datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=day)
        period = names.period_of_slot(at)
        export_id = f"{guest_id}-{period}"
        images = names.image_prefix(prefix=PREFIX, hostname=f"web{guest_id}", guest_id=guest_id, export=export_id)
        disks = []
        for index, kind in enumerate(kinds):
            body = self.images[kind]
            proof = prove_image(BytesSource(body), expected_capacity_bytes=None)
            key = f"{images}/disk-{index}.vhd"
            self.cos.store(key, body, at=at)
            found = {
                "size": len(body),
                "virtual_size": proof.virtual_size,
                "format": proof.format,
                "footer_uuid": proof.footer_uuid,
                "etag": hashlib.md5(body).hexdigest(),
                "sha256": None,
            }
            disks.append(kits.disk(index, key=key, capacity=1.0) | found)
        record = b'{"schema_version": 1}\n'
        self.cos.store(f"{images}/server.json", record, at=at)
        manifest = kits.manifest(
            disks,
            export_id=export_id,
            period=period,
            guest={"id": guest_id, "hostname": f"web{guest_id}"},
            bucket=BUCKET,
            record={"key": f"{images}/server.json", "size": len(record), "digest": digest(record)},
        )
        key = names.manifest_key(prefix=PREFIX, guest_id=guest_id, period=period)
        self.cos.store(key, canonical_json(manifest), at=at)
        return Chosen(export_id=export_id, guest_id=guest_id, period=period, hostname=f"web{guest_id}", why="named")

    def key_of(self, chosen: Chosen) -> str:
        return names.manifest_key(prefix=PREFIX, guest_id=chosen.guest_id, period=chosen.period)

    def manifest(self, chosen: Chosen) -> Manifest:
        key = self.key_of(chosen)
        return parse_manifest(self.cos.objects[key][0], bucket=BUCKET, key=key)

    def mark(self, chosen: Chosen) -> None:
        """Mark an export as being removed, as retention does."""
        manifest = self.manifest(chosen)
        mark = ManifestRemoval(retention_id="r", marked_at=self.time.clock(), etag="e", template=False)
        note = retention_keys.removing_key(prefix=PREFIX, guest_id=chosen.guest_id, period=chosen.period)
        self.cos.store(note, b"{}")
        self.cos.store(self.key_of(chosen), canonical_json(manifest.model_copy(update={"removal": mark})))

    def damage(self, chosen: Chosen) -> None:
        """Flip a bit of the first disk; everything that the store says of it stays."""
        key = self.manifest(chosen).disks[0].key
        body, etag, when = self.cos.objects[key]
        damaged = bytearray(body)
        damaged[len(body) // 2] ^= 1
        self.cos.objects[key] = (bytes(damaged), etag, when)

    def rehearser(self, *, drill: str = "drill-1", level: str = "L2", **changes: Any) -> Rehearser:
        terms = Terms(
            bucket=BUCKET,
            prefix=PREFIX,
            drill_id=drill,
            made_by="a test",
            scratch=self.scratch,
            level=ProofLevel(level),
        )
        return Rehearser(cos=self.cos, terms=terms, watcher=Quiet(), clock=self.time.clock, **changes)

    def rehearse(self, chosen: Chosen, **how: Any) -> Rehearsal:
        self.time.sleep(60)
        return self.rehearser(**how).rehearse(chosen)

    def rehearsals(self) -> list[Rehearsed]:
        return list_rehearsals(self.cos, bucket=BUCKET, prefix=PREFIX)

    def read(self, one: Rehearsed) -> Rehearsal:
        return Rehearsal.model_validate_json(self.cos.objects[rehearsal_key(prefix=PREFIX, one=one)][0])

    def proofs(self, chosen: Chosen) -> list[LaterProof]:
        return read_proofs(self.cos, bucket=BUCKET, prefix=PREFIX, manifest=self.manifest(chosen))

    def left(self) -> list[str]:
        """What is left in the scratch folder."""
        return sorted(str(one.relative_to(self.scratch)) for one in self.scratch.rglob("*"))
