"""The slow work: built once, published whole, failures kept for those who ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox import imaging
from sealift.sandbox.disks import DiskSpec, cached_vhd
from sealift.sandbox.imaging import Imaging, disk_spec
from sealift.sandbox.store import ObjectStore

SPEC = DiskSpec(kind="linux-data", capacity_bytes=64 * 2**20, hostname="x", seed=1, payload_bytes=4096)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    store = ObjectStore(root=tmp_path / "store")
    store.create_bucket("b-1")
    yield store
    store.close()


@pytest.fixture
def work(tmp_path: Path, store: ObjectStore) -> Iterator[Imaging]:
    work = Imaging(cache=tmp_path / "images", store=store, done=lambda: None)
    yield work
    work.close()


def until(work: Imaging, transaction: int, what: str) -> None:
    deadline = time.monotonic() + 30
    while not work.finished(transaction, what):
        assert time.monotonic() < deadline, "the work does not end"
        time.sleep(0.01)


def test_gigabytes_are_as_switched() -> None:
    disk = {"kind": "blank", "gb": 25, "hostname": "x", "seed": 1, "payload": 0}
    assert disk_spec(disk, "2^30").capacity_bytes == 25 * 2**30
    assert disk_spec(disk, "10^9").capacity_bytes == 25 * 10**9 // 512 * 512


def test_one_specification_is_built_once(work: Imaging, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def slowly(spec: DiskSpec, cache: Path) -> Path:
        if not (cache / f"{spec.key}.vhd").exists():
            built.append(spec.key)
        return cached_vhd(spec, cache)

    monkeypatch.setattr(imaging, "cached_vhd", slowly)
    for number in range(5):
        work.start_images(number, [SPEC])
        work.start_images(number, [SPEC])
    for number in range(5):
        until(work, number, "images")
    assert built == [SPEC.key]
    assert work.result(3, "images") == [work.image(SPEC).stat().st_size]
    work.forget(3)
    assert not work.begun(3, "images")
    assert not work.finished(3, "images")


def test_no_more_than_two_at_a_time(work: Imaging, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, now, most = threading.Lock(), [0], [0]
    both, go = threading.Barrier(2, timeout=20), threading.Event()

    def watched(spec: DiskSpec, cache: Path) -> Path:
        with guard:
            now[0] += 1
            most[0] = max(most[0], now[0])
        if not go.is_set():
            both.wait()
            go.set()
        path = cached_vhd(spec, cache)
        with guard:
            now[0] -= 1
        return path

    monkeypatch.setattr(imaging, "cached_vhd", watched)
    sizes = [(8 + n) * 2**20 for n in range(6)]
    specs = [DiskSpec(kind="blank", capacity_bytes=n, hostname="", seed=0, payload_bytes=0) for n in sizes]
    for number, spec in enumerate(specs):
        work.start_images(number, [spec])
    for number in range(6):
        until(work, number, "images")
    assert most[0] == 2


@pytest.mark.parametrize("damage", [None, "truncated_object", "damaged_object"])
def test_publishing(work: Imaging, store: ObjectStore, damage: str | None) -> None:
    work.start_publishing(1, [{"bucket": "b-1", "key": "k"}], [SPEC], damage)
    until(work, 1, "objects")
    stored, image = store.path_of("b-1", "k"), work.image(SPEC).read_bytes()
    assert stored
    data = stored.read_bytes()
    changed = {None: 0, "truncated_object": 512, "damaged_object": 1}[damage]
    assert len(data) == len(image) - (512 if damage == "truncated_object" else 0)
    assert sum(a != b for a, b in zip(data, image, strict=False)) + (len(image) - len(data)) == changed


def test_a_failure_is_raised_to_whoever_looks(work: Imaging, store: ObjectStore) -> None:
    work.start_publishing(1, [{"bucket": "nosuch", "key": "k"}], [SPEC], None)
    raised: list[Any] = []
    deadline = time.monotonic() + 30
    while not raised and time.monotonic() < deadline:
        try:
            assert not work.finished(1, "objects")
        except Exception as error:  # noqa: BLE001 - whatever the store raises
            raised.append(error)
        time.sleep(0.01)
    assert "NoSuchBucket" in str(raised[0])
