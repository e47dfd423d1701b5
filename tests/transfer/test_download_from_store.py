"""Downloads from the sandbox's store, by both kinds of key, over HTTP and TLS, while the store fails."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.cos.client import CosClient
from sealift.cos.errors import CosTransientError
from sealift.cos.retrying import Retries
from sealift.sandbox.faults import Faults
from sealift.sandbox.iam import Identity
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.server import StoreServer, serve_store
from sealift.sandbox.tls import make_tls
from sealift.transfer.download import Download
from sealift.transfer.errors import ReplacedError
from sealift.transfer.pace import Pace
from sealift.transfer.reading import Remote

MIB = 2**20
KEY = "images/disk-0.vhd"
HMAC = {"access_key_id": "PLANTEDACCESSKEYID", "secret_access_key": "PLANTED-hmac-secret"}
API_KEY = "PLANTED-api-key"


class Place:
    """A served store, its faults, and clients of it."""

    def __init__(self, root: Path, *, https: bool) -> None:
        self.objects = ObjectStore(root=root / "store")
        self.objects.create_bucket("exports", location_constraint="us-south-standard", service_instance="crn:x")
        self.identity = Identity(path=root / "iam.json")
        self.identity.add_api_key(key=API_KEY, name="one", roles={"*": "Manager"})
        self.identity.add_hmac(**HMAC, roles={"*": "Manager"})
        self.faults = Faults(seed=5)
        tls = make_tls(root / "tls") if https else None
        self.ca = str(tls.ca) if tls else True
        self.server: StoreServer = serve_store(store=self.objects, identity=self.identity, tls=tls, faults=self.faults)
        self.clients: list[CosClient] = []

    def client(self, kind: str) -> CosClient:
        keys: dict[str, Any] = HMAC if kind == "hmac" else {"api_key": API_KEY, "iam_endpoint": self.server.url}
        client = CosClient(
            region="us-south",
            endpoint_url=self.server.url,
            verify=self.ca,
            timeout=20.0,
            sleep=lambda _seconds: None,
            max_attempts=20,
            **keys,
        )
        self.clients.append(client)
        return client

    def put(self, data: bytes) -> None:
        self.objects.put_bytes(bucket="exports", key=KEY, data=data)

    def remote(self, client: CosClient) -> Remote:
        info = client.head("exports", KEY)
        assert info is not None
        return Remote(bucket="exports", key=KEY, size=info.size, etag=info.etag, crc64nvme=info.crc64nvme)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.close()
        self.objects.close()


@pytest.fixture(params=["http", "tls"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "place").mkdir()
    made = Place(tmp_path / "place", https=request.param == "tls")
    yield made
    made.close()


@pytest.fixture(params=["iam", "hmac"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def retries() -> Retries:
    return Retries(max_attempts=20, max_wait=0.0, rng=random.Random(1))


def test_a_file_arrives_whole_though_the_store_fails_again_and_again(place: Place, kind: str, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(9 * MIB + 12_345)
    place.put(data)
    client = place.client(kind)
    remote = place.remote(client)
    assert remote.crc64nvme, "the digest that the store computed is compared too"
    for fault in ("cos_slow_down", "cos_internal_error", "cos_lost_request", "cos_lost_reply"):
        place.faults.set(fault, rate=0.2)
    arrived: list[int] = []
    done = Download(
        client=client,
        remote=remote,
        target=tmp_path / "f",
        part_size=MIB // 2,
        retries=retries(),
        arrived=arrived.append,
    ).run()
    assert done.sha256 == hashlib.sha256(data).hexdigest() == hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest()
    assert sum(arrived) == len(data)


def test_connections_that_are_cut_in_the_middle_are_taken_up(place: Place, kind: str, tmp_path: Path) -> None:
    """Whatever the server's sockets had sent by then: what arrives is the object."""
    data = random.Random(3).randbytes(24 * MIB)
    place.put(data)
    client = place.client(kind)
    chance = random.Random(4)
    cut, lock, came = [0], threading.Lock(), [0]

    def arrived(count: int) -> None:
        with lock:
            came[0] += count
            if cut[0] < 6 and came[0] > (cut[0] + 1) * 3 * MIB:
                cut[0] += 1
                for one in list(place.server._connections):
                    if chance.random() < 0.7:
                        try:
                            one.shutdown(2)
                        except OSError:
                            continue

    done = Download(
        client=client,
        remote=place.remote(client),
        target=tmp_path / "f",
        part_size=4 * MIB,
        retries=retries(),
        arrived=arrived,
    ).run()
    assert cut[0] == 6
    assert done.sha256 == hashlib.sha256(data).hexdigest() == hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest()


def test_what_an_earlier_try_brought_is_taken_up_from_the_store(place: Place, kind: str, tmp_path: Path) -> None:
    data = random.Random(5).randbytes(5 * MIB)
    place.put(data)
    client = place.client(kind)
    remote = place.remote(client)
    work = Download(client=client, remote=remote, target=tmp_path / "f", part_size=MIB, streams=1, retries=retries())
    lost = threading.Event()

    def gone(_count: int) -> None:
        if not lost.is_set() and work._crew.done >= {0, 1}:
            lost.set()
            raise CosTransientError("the process ends here")

    work._arrived = gone
    with pytest.raises(CosTransientError):
        work.run()
    done = Download(client=client, remote=remote, target=tmp_path / "f", part_size=MIB, retries=retries()).run()
    assert done.resumed >= 2 * MIB
    assert done.sha256 == hashlib.sha256(data).hexdigest() == hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest()


def test_an_object_that_is_replaced_in_the_store_never_ends_in_a_file(place: Place, kind: str, tmp_path: Path) -> None:
    place.put(random.Random(6).randbytes(4 * MIB))
    client = place.client(kind)
    remote = place.remote(client)
    replaced = threading.Event()

    def arrived(_count: int) -> None:
        if not replaced.is_set():
            replaced.set()
            place.put(random.Random(7).randbytes(4 * MIB))

    with pytest.raises(ReplacedError):
        Download(client=client, remote=remote, target=tmp_path / "f", part_size=MIB, streams=1, arrived=arrived).run()
    assert not (tmp_path / "f").exists()


def test_a_limited_rate_holds_for_all_streams_together(place: Place, tmp_path: Path) -> None:
    data = random.Random(8).randbytes(3 * MIB)
    place.put(data)
    client = place.client("hmac")
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(bytes_per_second=MIB, clock=lambda: now[0], sleep=sleep)
    Download(
        client=client, remote=place.remote(client), target=tmp_path / "f", part_size=MIB, streams=1, pace=pace
    ).run()
    assert now[0] == pytest.approx(3.0)
    assert max(slept) <= 0.25, "no more than 256 KiB come at once"
