"""One object into one file: whole or not at all, taken up where it stopped, never of two versions."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.cos.errors import CosPermissionError, CosTransientError
from sealift.transfer import download as module
from sealift.transfer.download import Download
from sealift.transfer.errors import DigestError, InUseError, NoSpaceError, ReplacedError, Stopped, TransferError
from sealift.transfer.files import OutFile
from sealift.transfer.journal import Journal
from sealift.transfer.reading import Remote

KIB = 1024


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 640 * KIB - 1, 3 * 2**20 + 5])
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_a_file_arrives_whole(make_store: Any, tmp_path: Path, size: int, streams: int) -> None:
    store = make_store(size)
    arrived: list[int] = []
    target = tmp_path / "deep" / "disk-0.vhd"
    done = Download(
        client=store, remote=store.remote, target=target, streams=streams, part_size=64 * KIB, arrived=arrived.append
    ).run()

    assert target.read_bytes() == store.data
    assert (done.path, done.size, done.resumed) == (target, size, 0)
    assert done.sha256 == sha256(store.data)
    assert sum(arrived) == size
    assert names(target.parent) == ["disk-0.vhd"], "nothing else is left"
    assert sorted(store.requests) == [(at, min(64 * KIB, size - at)) for at in range(0, size, 64 * KIB)]
    assert store.open_streams == 0
    assert store.most_streams <= streams


def test_streams_that_break_are_taken_up_where_they_broke(make_store: Any, tmp_path: Path, retries: Any) -> None:
    store = make_store(512 * KIB)
    store.piece = 4 * KIB
    store.breaks_at(0, 5, 100 * KIB, 100 * KIB + 1, 300 * KIB, 512 * KIB - 1)
    done = Download(
        client=store, remote=store.remote, target=tmp_path / "f", part_size=128 * KIB, retries=retries
    ).run()

    assert done.sha256 == sha256(store.data) == sha256((tmp_path / "f").read_bytes())
    assert (96 * KIB + 4 * KIB, 28 * KIB) in store.requests, "only what was missing of the part was asked for again"


def test_a_store_that_gives_nothing_ends_the_download_and_what_arrived_is_kept(
    make_store: Any, tmp_path: Path, retries: Any
) -> None:
    store = make_store(256 * KIB)

    def breaks(at: int, count: int) -> None:
        if at >= 128 * KIB:
            raise CosTransientError("the connection broke", bucket="b", key="k")

    store.before_read = breaks
    given: dict[str, Any] = {"client": store, "remote": store.remote, "target": tmp_path / "f", "retries": retries}
    with pytest.raises(CosTransientError):
        Download(**given, part_size=64 * KIB, streams=1).run()
    assert names(tmp_path) == ["f.journal", "f.part"]
    assert store.requests.count((128 * KIB, 64 * KIB)) == 4

    store.before_read = lambda _at, _count: None
    store.requests.clear()
    arrived: list[int] = []
    done = Download(**given, part_size=64 * KIB, arrived=arrived.append).run()
    assert done.resumed == arrived[0] == 128 * KIB
    assert sorted(store.requests) == [(128 * KIB, 64 * KIB), (192 * KIB, 64 * KIB)]
    assert done.sha256 == sha256(store.data) == sha256((tmp_path / "f").read_bytes())


def test_what_no_retry_helps_against_ends_at_once(make_store: Any, tmp_path: Path, retries: Any) -> None:
    store = make_store(64 * KIB)

    def refused(at: int, count: int) -> None:
        raise CosPermissionError("the key may not read", bucket="b", key="k")

    store.before_read = refused
    with pytest.raises(CosPermissionError):
        Download(client=store, remote=store.remote, target=tmp_path / "f", retries=retries).run()
    assert len(store.requests) == 1


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_an_object_that_is_replaced_meanwhile_never_ends_in_a_file(make_store: Any, tmp_path: Path, how: str) -> None:
    store = make_store(256 * KIB)
    remote = store.remote

    def replaced(at: int, count: int) -> None:
        store.gone, store.etag = how == "deleted", "e2"

    store.before_read = replaced
    with pytest.raises(ReplacedError, match="was replaced or deleted"):
        Download(client=store, remote=remote, target=tmp_path / "f", part_size=64 * KIB, streams=1).run()
    assert not (tmp_path / "f").exists()

    # The new version begins anew: not a byte of the old one is taken over.
    store.gone, store.before_read = False, lambda _at, _count: None
    store.data = random.Random(2).randbytes(256 * KIB)
    store.requests.clear()
    done = Download(client=store, remote=store.remote, target=tmp_path / "f", part_size=64 * KIB).run()
    assert done.resumed == 0
    assert len(store.requests) == 4
    assert (tmp_path / "f").read_bytes() == store.data


def test_other_bytes_than_the_manifest_says_are_thrown_away(make_store: Any, tmp_path: Path) -> None:
    store = make_store(100 * KIB)
    remote = Remote(bucket="b", key="k", size=len(store.data), etag="e1", sha256=sha256(b"something else"))
    with pytest.raises(DigestError, match="thrown away"):
        Download(client=store, remote=remote, target=tmp_path / "f").run()
    assert names(tmp_path) == []
    good = Remote(bucket="b", key="k", size=len(store.data), etag="e1", sha256=sha256(store.data))
    assert Download(client=store, remote=good, target=tmp_path / "f").run().sha256 == good.sha256


def test_bytes_that_changed_on_disk_between_two_tries_show_in_the_digest(
    make_store: Any, tmp_path: Path, retries: Any
) -> None:
    """What an earlier try brought is read back, not trusted."""
    store = make_store(128 * KIB)
    remote = Remote(bucket="b", key="k", size=len(store.data), etag="e1", sha256=sha256(store.data))
    store.before_read = lambda at, _count: (_ for _ in ()).throw(OSError("gone")) if at >= 64 * KIB else None
    with pytest.raises(TransferError):
        Download(client=store, remote=remote, target=tmp_path / "f", part_size=64 * KIB, streams=1).run()
    with (tmp_path / "f.part").open("r+b") as file:
        file.seek(1000)
        flipped = bytes([file.read(1)[0] ^ 1])
        file.seek(1000)
        file.write(flipped)
    store.before_read = lambda _at, _count: None
    with pytest.raises(DigestError):
        Download(client=store, remote=remote, target=tmp_path / "f", part_size=64 * KIB).run()


def test_a_disk_that_is_too_small_is_found_out_before_a_byte_is_asked_for(
    make_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(100 * KIB)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(1000, 0, 1000))
    with pytest.raises(NoSpaceError, match="needs 102400 bytes, but only 1000 are free"):
        Download(client=store, remote=store.remote, target=tmp_path / "f").run()
    assert store.requests == []


def test_a_disk_that_fills_up_meanwhile_is_said_in_words(
    make_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(100 * KIB)

    def full(self: OutFile, data: memoryview, at: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OutFile, "write", full)
    with pytest.raises(NoSpaceError, match="is full"):
        Download(client=store, remote=store.remote, target=tmp_path / "f").run()


def test_two_processes_do_not_write_one_file(make_store: Any, tmp_path: Path) -> None:
    store = make_store(10 * KIB)
    with (tmp_path / "f.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InUseError, match="Another process"):
            Download(client=store, remote=store.remote, target=tmp_path / "f").run()
    assert Download(client=store, remote=store.remote, target=tmp_path / "f").run().size == 10 * KIB


def test_a_download_that_is_stopped_goes_on_later(make_store: Any, tmp_path: Path) -> None:
    store = make_store(512 * KIB)
    reached, go_on = threading.Event(), threading.Event()

    def waits(at: int, count: int) -> None:
        if at >= 256 * KIB:
            reached.set()
            assert go_on.wait(30)

    store.before_read = waits
    work = Download(client=store, remote=store.remote, target=tmp_path / "f", part_size=64 * KIB, streams=1)

    def stop() -> None:
        assert reached.wait(30)
        work.stop()
        go_on.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped, match="goes on with it"):
        work.run()
    stopper.join()
    store.before_read = lambda _at, _count: None
    done = Download(client=store, remote=store.remote, target=tmp_path / "f", part_size=64 * KIB).run()
    assert done.resumed == 256 * KIB
    assert done.sha256 == sha256(store.data)


def test_streams_ahead_of_the_digest_wait_before_memory_is_full(
    make_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part stands still: the others bring no more than may wait in memory, and go on when it does."""
    monkeypatch.setattr(module, "BUDGET", 2 * 2**20)
    store = make_store(8 * 2**20)
    store.piece = 64 * KIB
    go_on, full = threading.Event(), threading.Event()
    brought = [0]
    lock = threading.Lock()

    def before(at: int, count: int) -> None:
        if at < 2**20:
            assert go_on.wait(60)
            return
        with lock:
            brought[0] += count
            # Each of the other streams holds a piece for which there is no room any more.
            if brought[0] >= 2 * 2**20:
                full.set()

    store.before_read = before
    work = Download(client=store, remote=store.remote, target=tmp_path / "f", part_size=2**20, streams=4)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(work.run()))
    thread.start()
    assert full.wait(60)
    with lock:
        held = brought[0]
    assert held <= 2 * 2**20 + 3 * 64 * KIB
    go_on.set()
    thread.join(60)
    assert ended[0].sha256 == sha256(store.data)


KILLED = """
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import Store
from sealift.transfer import download
import random
download.FLUSH_EVERY = 0.0
store = Store(random.Random(1).randbytes({size}))
store.piece = 65536
def before(at, count):
    if at >= {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)
store.before_read = before
download.Download(client=store, remote=store.remote, target=Path(sys.argv[1]), part_size=65536, streams={streams}).run()
"""


@pytest.mark.parametrize(("kill_at", "streams"), [(0, 1), (700 * KIB, 1), (2 * 2**20, 3), (3 * 2**20 - 1, 4)])
def test_a_download_that_is_killed_goes_on_with_what_is_safe(
    make_store: Any, tmp_path: Path, kill_at: int, streams: int
) -> None:
    store = make_store(3 * 2**20)
    code = KILLED.format(
        tests=str(Path(__file__).parent), size=3 * 2**20, kill_at=kill_at // 65536 * 65536, streams=streams
    )
    target = tmp_path / "f"
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(target)], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert not target.exists()
    # Whatever the journal says is on disk is what the object holds.
    again = Download(client=store, remote=store.remote, target=target, part_size=65536)
    journal = Journal.open(tmp_path / "f.journal", again._subject)
    bytes_there = (tmp_path / "f.part").read_bytes()
    for part in journal.done:
        assert bytes_there[part * 65536 :][:65536] == store.data[part * 65536 :][:65536]
    done = again.run()
    assert done.resumed == len(journal.done) * 65536
    assert done.sha256 == sha256(store.data) == sha256(target.read_bytes())


def test_another_part_size_begins_anew(make_store: Any, tmp_path: Path) -> None:
    store = make_store(256 * KIB)
    store.before_read = lambda at, _count: (_ for _ in ()).throw(OSError("gone")) if at >= 128 * KIB else None
    with pytest.raises(TransferError):
        Download(client=store, remote=store.remote, target=tmp_path / "f", part_size=64 * KIB, streams=1).run()
    store.before_read = lambda _at, _count: None
    done = Download(client=store, remote=store.remote, target=tmp_path / "f", part_size=32 * KIB).run()
    assert (done.resumed, done.sha256) == (0, sha256(store.data))


def test_a_file_that_was_there_is_replaced_only_by_a_whole_one(make_store: Any, tmp_path: Path, retries: Any) -> None:
    store = make_store(64 * KIB)
    (tmp_path / "f").write_bytes(b"old")
    store.gone = True
    with pytest.raises(ReplacedError):
        Download(client=store, remote=store.remote, target=tmp_path / "f").run()
    assert (tmp_path / "f").read_bytes() == b"old"
    store.gone = False
    Download(client=store, remote=store.remote, target=tmp_path / "f").run()
    assert (tmp_path / "f").read_bytes() == store.data


def test_a_folder_that_cannot_be_written_is_said_in_words(make_store: Any, tmp_path: Path) -> None:
    store = make_store(10)
    (tmp_path / "f.part").mkdir()
    with pytest.raises(TransferError, match=r"f\.part cannot be written"):
        Download(client=store, remote=store.remote, target=tmp_path / "f").run()


@pytest.mark.parametrize("bad", [{"streams": 0}, {"part_size": 0}])
def test_settings_that_cannot_be_are_refused(make_store: Any, tmp_path: Path, bad: dict[str, int]) -> None:
    store = make_store(10)
    with pytest.raises(ValueError, match="a stream or more"):
        Download(client=store, remote=store.remote, target=tmp_path / "f", **bad)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_order_of_breaks_and_tries_gives_the_same_file(make_store: Any, data: st.DataObject) -> None:
    """Whatever breaks however often, the file is the object, or there is no file."""
    size = data.draw(st.integers(0, 5000))
    store = make_store(size)
    store.piece = data.draw(st.integers(1, 700))
    part = data.draw(st.integers(50, 2000))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "f"
        for places in data.draw(st.lists(st.lists(st.integers(0, 5000), max_size=3), max_size=3)):
            broken = set(places)

            def breaks(at: int, count: int, broken: set[int] = broken) -> None:
                if any(at <= one < at + count for one in broken):
                    raise CosPermissionError("refused", bucket="b", key="k")

            store.before_read = breaks
            try:
                Download(client=store, remote=store.remote, target=target, part_size=part, streams=2).run()
            except CosPermissionError:
                assert not target.exists()
                continue
            break
        store.before_read = lambda _at, _count: None
        done = Download(client=store, remote=store.remote, target=target, part_size=part, streams=2).run()
        assert target.read_bytes() == store.data
        assert done.sha256 == sha256(store.data)
        assert os.listdir(folder) == ["f"]
