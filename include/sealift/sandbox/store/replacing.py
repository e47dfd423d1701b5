"""Faults between two requests: an exported image that changes after a client's HEAD and before its next GET."""

from __future__ import annotations

import contextlib
import threading
from pathlib import PurePosixPath

from sealift.sandbox.faults import FaultSource
from sealift.sandbox.store.models import StoredObject
from sealift.sandbox.store.objects import ObjectStore

_IMAGES = frozenset({".vhd", ".vmdk"})
_REMEMBERED = 10_000
_DAMAGED_BYTE = 512 + 40  # inside the dynamic disk header of a VHD, which a checksum covers


class Replacing:
    """Remembers who was looked at, and replaces it before it is read.

    :param store: the objects.
    :param faults: decides whether, at the first GET of an image that a HEAD has found.
    """

    def __init__(self, *, store: ObjectStore, faults: FaultSource | None) -> None:
        self._store = store
        self._faults = faults
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], None] = {}

    def before_get(self, bucket: str, key: str) -> None:
        """Replace the object that a GET is about to read, if a fault says so."""
        if self._faults is None:
            return
        with self._lock:
            if (bucket, key) not in self._seen:
                return
            del self._seen[bucket, key]
        stored = self._store.head(bucket, key)
        if stored is None or not stored.size:
            return
        with contextlib.suppress(FileNotFoundError):  # it went or was replaced by somebody just now
            if self._faults.hit("object_replaced"):
                self._replace(stored, other_bytes=True)
            elif self._faults.hit("object_uploaded_again"):
                self._replace(stored, other_bytes=False)

    def after_head(self, bucket: str, key: str) -> None:
        """Note that a HEAD has found an image."""
        if self._faults is not None and PurePosixPath(key).suffix in _IMAGES:
            with self._lock:
                self._seen[bucket, key] = None
                while len(self._seen) > _REMEMBERED:
                    del self._seen[next(iter(self._seen))]

    def _replace(self, stored: StoredObject, *, other_bytes: bool) -> None:
        parts = len(stored.part_sizes) or 1
        with self._store.incoming() as copy:
            copy.append_file(stored.file, stored.size)
            if other_bytes:
                with copy.path.open("r+b") as file:
                    file.seek(min(_DAMAGED_BYTE, stored.size - 1))
                    byte = file.read(1)[0]
                    file.seek(-1, 1)
                    file.write(bytes([byte ^ 0xFF]))
            else:
                parts += 1
            self._store.put_file(
                bucket=stored.bucket,
                key=stored.key,
                source=copy.path,
                part_size=-(-stored.size // parts),
                content_type=stored.content_type,
                metadata=dict(stored.metadata),
                by="fault",
            )
