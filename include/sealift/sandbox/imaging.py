"""The slow work behind transactions: disks are built and published by a few threads, never by a request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sealift.sandbox.disks import DiskSpec, cached_vhd
from sealift.sandbox.store import ObjectStore

Doc = dict[str, Any]

PART_SIZE = 128 * 2**20
"""The parts in which the service uploads exports, in bytes (128 MB since 2021-04-21: SLDN release notes)."""

_DAMAGED_BYTE = 512 + 40  # inside the dynamic disk header, which a checksum covers
_FOOTER = 512


def disk_spec(disk: Doc, gigabyte: str) -> DiskSpec:
    """:returns: how a disk of a guest is built; ``gigabyte`` is the switch of that name."""
    unit = 2**30 if gigabyte == "2^30" else 10**9
    return DiskSpec(
        kind=disk["kind"],
        capacity_bytes=disk["gb"] * unit // 512 * 512,
        hostname=disk["hostname"],
        seed=disk["seed"],
        payload_bytes=disk["payload"],
    )


class Imaging:
    """Builds images and puts them into the object store, two at a time.

    :param cache: where finished images are kept, one file per disk specification.
    :param store: where exports go.
    :param done: called from a worker thread after each piece of work.
    """

    def __init__(self, *, cache: Path, store: ObjectStore, done: Callable[[], None]) -> None:
        self._cache = cache
        self._store = store
        self._done = done
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="sandbox-imaging")
        self._lock = threading.Lock()
        self._work: dict[tuple[int, str], Future[Any]] = {}
        self._builds: dict[str, threading.Lock] = {}
        cache.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def image(self, spec: DiskSpec) -> Path:
        """:returns: the dynamic VHD of a disk, built at the first request."""
        with self._lock:
            build = self._builds.setdefault(spec.key, threading.Lock())
        with build:
            return cached_vhd(spec, self._cache)

    def start_images(self, transaction: int, specs: list[DiskSpec]) -> None:
        """Begin to build the images of a capture; doing so twice does it once."""
        self._start(transaction, "images", lambda: [self.image(spec).stat().st_size for spec in specs])

    def start_publishing(self, transaction: int, objects: list[Doc], specs: list[DiskSpec], damage: str | None) -> None:
        """Begin to put an export's objects into the bucket; doing so twice does it once.

        :param objects: ``{"bucket", "key"}`` for each of ``specs``.
        :param damage: ``truncated_object``, ``damaged_object`` or None.
        """
        pairs = list(zip(objects, specs, strict=True))
        self._start(transaction, "objects", lambda: [self._publish(one, spec, damage) for one, spec in pairs])

    def finished(self, transaction: int, what: str) -> bool:
        """:returns: whether the work is done; one that nobody began is not.

        :raises Exception: what the work ended with, where it failed.
        """
        with self._lock:
            future = self._work.get((transaction, what))
        if future is None or not future.done():
            return False
        future.result()
        return True

    def result(self, transaction: int, what: str) -> Any:
        """:returns: what the finished work gave."""
        with self._lock:
            future = self._work[(transaction, what)]
        return future.result(timeout=0)

    def begun(self, transaction: int, what: str) -> bool:
        """:returns: whether the work was begun by this process."""
        with self._lock:
            return (transaction, what) in self._work

    def forget(self, transaction: int) -> None:
        """Drop the results of a transaction that ended."""
        with self._lock:
            for key in [key for key in self._work if key[0] == transaction]:
                del self._work[key]

    def _start(self, transaction: int, what: str, function: Callable[[], Any]) -> None:
        with self._lock:
            if (transaction, what) in self._work:
                return
            future = self._pool.submit(function)
            self._work[(transaction, what)] = future
        future.add_done_callback(lambda _: self._done())

    def _publish(self, target: Doc, spec: DiskSpec, damage: str | None) -> int:
        image = self.image(spec)
        if damage is None:
            self._store.put_file(
                bucket=target["bucket"], key=target["key"], source=image, part_size=PART_SIZE, link=True
            )
        else:
            broken = self._cache / f"{spec.key}.{threading.get_ident()}.broken"
            data = bytearray(image.read_bytes())
            if damage == "truncated_object":
                del data[-_FOOTER:]
            else:
                data[_DAMAGED_BYTE] ^= 0xFF
            broken.write_bytes(data)
            self._store.put_file(
                bucket=target["bucket"], key=target["key"], source=broken, part_size=PART_SIZE, move=True
            )
        return image.stat().st_size
