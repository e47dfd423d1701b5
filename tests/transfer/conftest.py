"""An object store in memory whose streams break, stall and lie as a test says."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest

from sealift.cos.errors import CosNotFoundError, CosPreconditionError, CosTransientError
from sealift.cos.retrying import Retries
from sealift.transfer.reading import Remote


class Stream:
    """A range of an object, as the client gives it."""

    def __init__(self, store: Store, data: bytes, start: int) -> None:
        self._store = store
        self._data = data
        self._at = start
        self._end = start + len(data)
        self._start = start
        self.left = len(data)

    def read(self, most: int) -> bytes:
        if not self.left:
            return b""
        take = min(most, self._store.piece, self.left)
        self._store.before_read(self._at, take)
        data = self._data[self._at - self._start :][:take]
        self._at += take
        self.left -= take
        return data

    def close(self) -> None:
        self._store.open_streams -= 1

    def __enter__(self) -> Self:
        self._store.open_streams += 1
        self._store.most_streams = max(self._store.most_streams, self._store.open_streams)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Store:
    """One object, and what happens to whoever reads it."""

    def __init__(self, data: bytes, etag: str = "e1") -> None:
        self.data = data
        self.etag = etag
        self.gone = False
        self.piece = 2**20
        self.before_read: Callable[[int, int], None] = lambda _at, _count: None
        self.requests: list[tuple[int, int]] = []
        self.open_streams = self.most_streams = 0
        self._lock = threading.Lock()

    def open_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str) -> Any:
        with self._lock:
            self.requests.append((start, length))
        if self.gone:
            raise CosNotFoundError("no such object", bucket=bucket, key=key)
        if if_match != self.etag:
            raise CosPreconditionError("another ETag", bucket=bucket, key=key)
        return Stream(self, self.data[start : start + length], start)

    @property
    def remote(self) -> Remote:
        return Remote(bucket="b", key="images/disk-0.vhd", size=len(self.data), etag=self.etag)

    def breaks_at(self, *places: int) -> None:
        """Let the stream that would read these bytes break, once for each."""
        left = set(places)

        def before(at: int, count: int) -> None:
            with self._lock:
                hit = next((one for one in left if at <= one < at + count), None)
                if hit is not None:
                    left.discard(hit)
            if hit is not None:
                raise CosTransientError("the connection broke", bucket="b", key="k")

        self.before_read = before


@pytest.fixture
def make_store() -> Callable[..., Store]:
    def make(size: int, *, seed: int = 1) -> Store:
        return Store(random.Random(seed).randbytes(size))

    return make


@pytest.fixture
def retries() -> Retries:
    """So many tries without a byte, and no wait between them."""
    return Retries(max_attempts=4, max_wait=0.0, rng=random.Random(1))
