"""Hand-written histories for the tests of the checker: what the sandbox would have recorded, and its bucket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.checker import Findings, check

BUCKET = "sealift-exports"
PERIOD = "20261123T0200Z"


@dataclass(kw_only=True)
class Stored:
    """An object of the hand-written store."""

    key: str
    size: int
    etag: str


class Story:
    """Writes a history and the bucket that goes with it, step by step, as the sandbox would."""

    def __init__(self, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.now = 1000.0
        self._folder = folder
        self._objects: dict[str, Stored] = {}
        self._number = 0
        self._true: dict[int, dict[str, Path]] = {}

    # The store, as the checker wants it

    def list(self, bucket: str, prefix: str = "") -> Iterator[Stored]:
        """List objects in the order of their keys."""
        assert bucket == BUCKET
        return (self._objects[key] for key in sorted(self._objects) if key.startswith(prefix))

    def path_of(self, bucket: str, key: str) -> Path | None:
        """Give the file of an object."""
        return self._file(key) if key in self._objects else None

    def _file(self, key: str) -> Path:
        return self._folder / key.replace("/", "_")

    # What happens

    def effect(self, what: str, **facts: Any) -> dict[str, Any]:
        """Append an effect; time moves on by a tenth of a second."""
        self.now = round(self.now + 0.1, 3)
        event = {"seq": len(self.events) + 1, "at": self.now, "kind": "effect", "what": what, **facts}
        self.events.append(event)
        return event

    def request(self, **facts: Any) -> None:
        """Append a request, which the checker reads for secrets only."""
        self.events.append({"seq": len(self.events) + 1, "at": self.now, "kind": "request", **facts})

    def capture(self, guest: int, name: str | None = None, *, disks: tuple[str, ...] = ("0",)) -> int:
        """Accept a capture and leave the guest offline."""
        self._number += 1
        self.effect(
            "capture-started", guest=guest, template=self._number, transaction=self._number + 100,
            name=name or f"sealift-{guest}-{PERIOD}", disks=list(disks),
        )  # fmt: skip
        self.effect("guest-offline", guest=guest, transaction=self._number + 100)
        for disk in disks:
            true = self._folder / f"true-{guest}-{disk}.vhd"
            true.write_bytes(f"bytes of {guest}'s disk {disk}".encode())
            self._true.setdefault(guest, {})[disk] = true
        return self._number

    def online(self, guest: int, template: int) -> None:
        """End a capture."""
        self.effect("guest-online", guest=guest, transaction=template + 100)
        self.effect("capture-ended", guest=guest, template=template, transaction=template + 100)

    def put(self, key: str, data: bytes, by: str = "client") -> Stored:
        """Put an object."""
        stored = Stored(key=key, size=len(data), etag=hashlib.md5(data, usedforsecurity=False).hexdigest())
        self._objects[key] = stored
        self._file(key).write_bytes(data)
        self.effect("object-put", bucket=BUCKET, key=key, size=stored.size, etag=stored.etag, by=by)
        return stored

    def delete(self, key: str, by: str = "client") -> None:
        """Delete an object."""
        del self._objects[key]
        self.effect("object-deleted", bucket=BUCKET, key=key, by=by)

    def upload(self, guest: int, *, disks: tuple[str, ...] = ("0",)) -> None:
        """Export the disks of a captured server."""
        for index, disk in enumerate(disks):
            self.put(f"images/{guest}/disk-{index}.vhd", self._true[guest][disk].read_bytes(), by="service")

    def manifest_of(
        self, guest: int, template: int, *, disks: tuple[str, ...] = ("0",), period: str = PERIOD
    ) -> dict[str, Any]:
        """Make the manifest that says the truth of what is in the bucket now, and put the record that it names."""
        record = b'{"hostname": "web-01"}'
        self.put(f"images/{guest}/server.json", record)
        objects = [(disk, self._objects[f"images/{guest}/disk-{n}.vhd"]) for n, disk in enumerate(disks)]
        return {
            "export_id": f"{guest}-{period}",
            "bucket": BUCKET,
            "template": {"id": template, "name": f"sealift-{guest}-{period}"},
            "disks": [
                {"key": one.key, "size": one.size, "etag": one.etag, "device": disk} for disk, one in objects
            ],
            "record": {
                "key": f"images/{guest}/server.json",
                "size": len(record),
                "digest": f"sha256:{hashlib.sha256(record).hexdigest()}",
            },
        }  # fmt: skip

    def put_manifest(self, guest: int, content: dict[str, Any], *, period: str = PERIOD) -> str:
        """Put a manifest under its key."""
        key = f"manifests/{guest}/{period}.json"
        self.put(key, json.dumps(content).encode())
        return key

    def export(self, guest: int, *, disks: tuple[str, ...] = ("0",)) -> int:
        """A whole export as it should be."""
        template = self.capture(guest, disks=disks)
        self.online(guest, template)
        self.upload(guest, disks=disks)
        self.put_manifest(guest, self.manifest_of(guest, template, disks=disks))
        return template

    # The verdict

    def judge(self, **more: Any) -> Findings:
        """Judge the story; by default every server with a manifest was to be exported and was."""
        done = [key.split("/")[1] for key in self._objects if key.startswith("manifests/")]
        exports = {f"{guest}-{PERIOD}": "exported" for guest in done}
        settings: dict[str, Any] = {
            "history": self.events,
            "store": self,
            "caps": 10,
            "servers": list(exports),
            "outcomes": exports,
            "images": self._true,
        }
        return check(**{**settings, **more})


def only(findings: Findings, kind: str, *words: str) -> str:
    """The one sentence that there is, of this kind and with these words."""
    assert [one.partition(":")[0] for one in findings.sentences()] == [kind.replace("_", " ")], str(findings)
    (sentence,) = getattr(findings, kind)
    for word in words:
        assert word in sentence, sentence
    assert not findings.ok
    return str(sentence)
