"""An object store in memory whose streams break, stall and lie as a test says; and a sandbox that offers Aspera."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from sealift.cos.client import CosClient
from sealift.cos.errors import CosNotFoundError, CosPreconditionError, CosTransientError
from sealift.cos.retrying import Retries
from sealift.sandbox import Sandbox
from sealift.sandbox.switches import Switches
from sealift.transfer.aspera.finding import Ascp
from sealift.transfer.reading import Remote
from tests.transfer.upload_bucket import Bucket, open_bucket


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

    def readinto(self, view: memoryview) -> int:
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

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


@pytest.fixture(params=["cos", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    """A bucket that is uploaded to by IBM's SDK, and by boto3."""
    with open_bucket(request.param, tmp_path) as found:
        yield found


class AsperaWorld:
    """A sandbox whose bucket offers Aspera, a client of it, and the stand-in for ascp."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.ascp = Ascp(path=box.ascp)
        self.clients: list[CosClient] = []
        self.cos = self.client()
        self._since = len(box.history())

    def client(self, **settings: Any) -> CosClient:
        """A client with the key that may do everything, or with the one that the settings name."""
        box = self.box
        keys = {} if "access_key_id" in settings else {"api_key": box.cos_api_key, "iam_endpoint": box.iam_url}
        given: dict[str, Any] = {
            "region": box.region,
            "endpoint_url": box.cos_url,
            "service_instance_id": box.cos_service_instance_id,
            "verify": str(box.tls.ca) if box.tls else True,
            "sleep": lambda _seconds: None,
        }
        made = CosClient(**(given | keys | settings))
        self.clients.append(made)
        return made

    def put(self, size: int, *, key: str = "images/disk-0.vhd", seed: int = 1) -> tuple[bytes, Remote]:
        """Put an object into the bucket: its bytes, and what a manifest would say of it."""
        data = random.Random(seed).randbytes(size)
        stored = self.box.store.put_bytes(bucket=self.box.bucket, key=key, data=data)
        sha256 = hashlib.sha256(data).hexdigest()
        return data, Remote(bucket=self.box.bucket, key=key, size=size, etag=stored.etag, sha256=sha256)

    @property
    def setups(self) -> int:
        """How many transfer specs were asked for in this test."""
        return sum(one.get("method") == "download_setup" for one in self.box.history(after=self._since))


@pytest.fixture(scope="module")
def aspera_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("aspera"), servers=1) as box:
        yield box


@pytest.fixture
def aspera(aspera_box: Sandbox) -> Iterator[AsperaWorld]:
    """The sandbox without faults, with its switches as they are from the beginning."""
    aspera_box.faults.clear()
    for one in fields(Switches):
        aspera_box.switches.set(one.name, one.default)
    aspera_box.store.set_document(aspera_box.bucket, "protection", None)
    aspera_box.ats.bytes_served = 0
    world = AsperaWorld(aspera_box)
    yield world
    for client in world.clients:
        client.close()
