"""Objects with more parts than a store takes: gathered in intermediate objects, copied within the store, then gone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.cos.errors import CosError, CosPreconditionError
from sealift.cos.models import UploadedPart
from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.sandbox.store import multipart
from sealift.transfer import upload_parts
from sealift.transfer.errors import DigestError, TransferError
from sealift.transfer.upload import Upload
from sealift.transfer.upload_layout import MEMORY, MIB, PART_SIZE, S3_LIMITS, STREAMS, Limits, layout_for
from sealift.transfer.upload_targets import CosTarget, S3Target, intermediate_prefix
from tests.transfer.upload_bucket import HMAC, KEY, Bucket, open_bucket

GIB = 2**30
TIB = 2**40
PART = 1000
FEW = Limits(parts=10, smallest_part=1, largest_copy=5 * PART, largest_part=1, gathered=3 * PART, round_to=1)
"""Ten parts: eight of the object itself, and two that are copied, of up to five sent parts each."""
DATA = random.Random(7).randbytes(17 * PART)
HIDDEN = "images/.disk-0.vmdk.parts/"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few bytes be many parts, for the store as well."""
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", 1)
    monkeypatch.setattr(multipart, "MAX_PARTS", 10)
    monkeypatch.setattr(multipart, "MAX_COPY", 5 * PART)


def begun(bucket: Bucket, *, head: int = 0, largest: int = 18 * PART) -> Upload:
    work = Upload(target=bucket.target(), part_size=PART, limits=FEW)
    work.begin(head=head, largest=largest)
    return work


def write(work: Upload, data: bytes, piece: int = 777) -> None:
    for at in range(0, len(data), piece):
        work.write(memoryview(data)[at : at + piece])


def hidden(bucket: Bucket) -> list[str]:
    return [one.key for one in bucket.cos.list("exports", "") if one.key.startswith(HIDDEN)]


@pytest.mark.parametrize("head", [0, 10, PART])
@pytest.mark.parametrize(
    ("size", "parts", "of_one_size"),
    [
        (5 * PART, 5, True),
        (8 * PART, 8, True),
        (8 * PART + 1, 9, False),
        (9 * PART, 9, False),
        (13 * PART, 9, False),
        (13 * PART + 1, 10, False),
        (17 * PART, 10, False),
    ],
)
def test_an_object_of_more_parts_than_a_store_takes_arrives_whole(
    bucket: Bucket, size: int, parts: int, of_one_size: bool, head: int
) -> None:
    data = DATA[:size]
    work = begun(bucket, head=head)
    write(work, data[head:])
    work.finish(data[:head])
    done = work.result
    assert done is not None
    assert bucket.cos.read("exports", KEY) == data
    assert (done.size, done.parts, done.part_size) == (size, parts, PART if of_one_size else None)
    assert done.sha256 == (None if head else hashlib.sha256(data).hexdigest())
    assert done.checked_by == "SHA-256 of its parts"
    info = bucket.cos.head("exports", KEY)
    assert info is not None
    assert info.etag == done.etag
    assert [one.key for one in bucket.cos.list("exports", "")] == [KEY]
    assert bucket.uploads() == []


def test_what_could_have_been_large_and_is_not_needs_no_intermediate_object(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("an intermediate object")

    monkeypatch.setattr(CosTarget, "intermediate", refuse)
    monkeypatch.setattr(S3Target, "intermediate", refuse)
    work = begun(bucket)
    write(work, DATA[: 8 * PART])
    work.finish(b"")
    assert bucket.cos.read("exports", KEY) == DATA[: 8 * PART]


def test_intermediate_objects_are_hidden_beside_the_object_and_one_is_there_at_a_time(bucket: Bucket) -> None:
    assert intermediate_prefix("images/disk-0.vmdk") == HIDDEN
    assert intermediate_prefix("disk") == ".disk.parts/"
    work = begun(bucket)
    most = 0
    for at in range(0, len(DATA), 500):
        work.write(DATA[at : at + 500])
        most = max(most, len(hidden(bucket)))
    work.finish(b"")
    assert most <= 1
    assert hidden(bucket) == []


def test_an_upload_that_is_aborted_leaves_neither_intermediate_objects_nor_uploads(bucket: Bucket) -> None:
    bucket.cos.put("exports", KEY, b"older")
    for size in (9 * PART, 12 * PART, 14 * PART, 16 * PART):
        work = begun(bucket)
        write(work, DATA[:size])
        assert len(bucket.uploads()) >= 1
        assert work.abort() == ""
        assert work.abort() == ""
        assert bucket.uploads() == []
        assert [one.key for one in bucket.cos.list("exports", "")] == [KEY]
    assert bucket.cos.read("exports", KEY) == b"older"


def test_what_a_killed_try_left_goes_with_the_next_one(bucket: Bucket) -> None:
    """A killed process aborts nothing: its intermediate object, its upload and the object's stay."""
    left = begun(bucket)
    write(left, DATA[: 14 * PART])
    left._shut()
    bucket.cos.put("exports", f"{HIDDEN}old-00009", b"left by an older one")
    bucket.cos.put("exports", "images/.disk-0.vmdk.partsother", b"somebody's own")
    assert len(bucket.uploads()) >= 1
    work = begun(bucket)
    assert len(bucket.uploads()) == 1
    assert hidden(bucket) == []
    write(work, DATA)
    work.finish(b"")
    assert bucket.cos.read("exports", KEY) == DATA
    assert bucket.uploads() == []
    assert [one.key for one in bucket.cos.list("exports", "")] == ["images/.disk-0.vmdk.partsother", KEY]


def test_an_intermediate_object_that_somebody_replaces_is_not_taken(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = upload_parts.PartsOf.complete

    def then_replace(self: upload_parts.PartsOf, size: int) -> Any:
        done = real(self, size)
        if isinstance(self, upload_parts.Intermediate):
            bucket.cos.put("exports", f"{HIDDEN}{self.name}", DATA[:size])
        return done

    monkeypatch.setattr(upload_parts.PartsOf, "complete", then_replace)
    work = begun(bucket)
    with pytest.raises((CosPreconditionError, TransferError), match="PreconditionFailed"):  # noqa: PT012
        write(work, DATA)
        work.finish(b"")
    assert work.abort() == ""
    assert bucket.cos.head("exports", KEY) is None
    assert hidden(bucket) == []
    assert bucket.uploads() == []


def test_a_store_that_copies_other_bytes_is_found_out(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = CosTarget if bucket.kind == "cos" else S3Target
    real = kind.copy

    def other(self: Any, upload_id: str, number: int, **given: Any) -> UploadedPart:
        return dataclasses.replace(real(self, upload_id, number, **given), etag="0" * 32)

    monkeypatch.setattr(kind, "copy", other)
    work = begun(bucket)
    with pytest.raises(DigestError, match=r"keeps other bytes of part 9 .*the store's ETag is 0{32}"):  # noqa: PT012
        write(work, DATA)
        work.finish(b"")
    assert work.abort() == ""
    assert hidden(bucket) == []


def test_a_store_that_fails_says_what_is_left_and_the_next_try_clears_it(bucket: Bucket) -> None:
    work = begun(bucket)
    write(work, DATA[: 10 * PART])
    bucket.faults.set("cos_internal_error", rate=1.0)
    with pytest.raises((CosError, TransferError), match="InternalError"):  # noqa: PT012
        write(work, DATA[10 * PART :])
        work.finish(b"")
    left = work.abort()
    bucket.faults.clear()
    assert f"exports/{HIDDEN}" in left
    assert f"exports/{KEY} stays in the bucket" in left
    assert len(bucket.uploads()) == 2
    again = begun(bucket)
    write(again, DATA)
    again.finish(b"")
    assert bucket.cos.read("exports", KEY) == DATA
    assert bucket.uploads() == []
    assert hidden(bucket) == []


def test_a_store_that_stumbles_is_asked_again(tmp_path: Path) -> None:
    with open_bucket("cos", tmp_path) as bucket:
        for fault in ("cos_internal_error", "cos_lost_request", "cos_slow_down"):
            bucket.faults.set(fault, rate=0.07)
        for _ in range(3):
            work = begun(bucket)
            write(work, DATA)
            work.finish(b"")
            assert work.result is not None
        bucket.faults.clear()
        assert bucket.cos.read("exports", KEY) == DATA
        assert hidden(bucket) == []
        assert bucket.uploads() == []


def test_an_object_that_outgrows_what_was_announced_is_refused(bucket: Bucket) -> None:
    work = begun(bucket, largest=10 * PART + 1)
    with pytest.raises(TransferError, match="becomes larger than was announced: a store takes 10 parts"):
        write(work, bytes(30 * PART))
    assert work.abort() == ""
    assert bucket.uploads() == []


# --- which layout ----------------------------------------------------------------------------------------------------


def layout(largest: int, head: int = 0) -> Any:
    return layout_for(largest=largest, head=head, streams=STREAMS, part_size=PART_SIZE, limits=S3_LIMITS)


@pytest.mark.parametrize(
    ("largest", "part", "streams", "gathered"),
    [
        (GIB, 8, 3, 0),
        (70 * GIB, 8, 3, 0),
        (150 * GIB, 16, 3, 0),
        (390 * GIB, 40, 1, 0),
        (391 * GIB, 8, 3, 128),
        (2040 * GIB + 512, 8, 3, 128),
        (4 * TIB, 8, 3, 259),
        (9 * TIB, 8, 3, 586),
    ],
)
def test_objects_beyond_390_gib_are_gathered_and_their_parts_stay_small(
    largest: int, part: int, streams: int, gathered: int
) -> None:
    found = layout(largest)
    assert (found.part_size // MIB, found.streams, found.gathered) == (part, streams, gathered)


def test_a_fixed_vhd_of_2040_gib_is_planned_with_64_mib_of_parts_in_memory() -> None:
    """As large as a VHD can be. No byte of it is moved here: which parts there would be is arithmetic."""
    size = 2040 * GIB + 512
    found = layout(size)
    sent = -(-size // found.part_size)
    copied = -(-(sent - found.direct) // found.gathered)
    assert found.direct + copied <= 10_000
    assert found.gathered * found.part_size <= 5 * GIB
    assert found.gathered <= 10_000
    assert found.part_size * (found.streams + 1) <= MEMORY


@given(largest=st.integers(0, 10 * TIB), head=st.integers(0, 5 * MIB))
def test_every_layout_holds_the_object_and_keeps_to_the_limits(largest: int, head: int) -> None:
    try:
        found = layout(largest, head)
    except TransferError:
        assert largest > 9 * TIB
        return
    assert found.largest(S3_LIMITS) >= largest
    assert S3_LIMITS.smallest_part <= found.part_size <= 40 * MIB
    assert found.gathered * found.part_size <= S3_LIMITS.largest_copy
    assert found.part_size * (found.streams + (2 if head else 1)) <= 120 * MIB
    assert found.streams >= 1


def test_what_no_store_takes_is_refused() -> None:
    with pytest.raises(TransferError, match="too many for one object"):
        layout(20 * TIB)


# --- memory ----------------------------------------------------------------------------------------------------------

CHILD = """
import json, sys
from sealift.cos.client import CosClient
from sealift.cos.source import ObjectSource
from sealift.images.convert.formats import TargetFormat, identity_of, writer_for
from sealift.images.convert.run import convert, prove_result
from sealift.images.virtual_disk import open_disk
from sealift.transfer.upload import Upload
from sealift.transfer.upload_layout import Limits
from sealift.transfer.upload_targets import CosTarget
given = json.loads(sys.stdin.read())
cos = CosClient(region="us-south", endpoint_url=given["url"], **given["keys"])
def opened(key):
    return ObjectSource(client=cos, bucket="exports", key=key, info=cos.head("exports", key))
target = TargetFormat(given["format"])
disk = open_disk(opened("disk.vhd"))
writer = writer_for(target, size=disk.size, identity=identity_of(target))
limits = Limits(**given["limits"])
upload = Upload(target=CosTarget(client=cos, bucket="exports", key="made"), limits=limits)
converted = convert(disk, writer=writer, sink=upload)
prove_result(opened("made"), converted)
# Not by getrusage(): what it counts outlives the start of a program, and was the test's own before.
status = open("/proc/self/status").read()
print(json.dumps({
    "peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024,
    "parts": upload.result.parts,
    "size": converted.size,
    "virtual_size": converted.virtual_size,
    "part_size": upload.result.part_size,
}))
"""


@pytest.fixture
def converted_by_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Converts a VHD in a bucket in a process of its own, and says how much memory that took."""
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", 5 * MIB)
    monkeypatch.setattr(multipart, "MAX_COPY", 5 * GIB)
    monkeypatch.setattr(multipart, "MAX_PARTS", 10_000)

    def run(size: int, blocks: Callable[[int], bytes], at: list[int], target: str, **limits: int) -> dict[str, Any]:
        raw = tmp_path / "disk.raw"
        with raw.open("wb") as file:
            file.truncate(size)
            for number, place in enumerate(at):
                file.seek(place)
                file.write(blocks(number))
        image = tmp_path / "disk.vhd"
        write_dynamic_vhd(raw=raw, out=image, uuid=UUID(int=3), timestamp=datetime(2026, 1, 1, tzinfo=UTC))
        raw.unlink()
        with open_bucket("cos", tmp_path) as bucket:
            bucket.objects.put_file(bucket="exports", key="disk.vhd", source=image)
            told = {"url": bucket.cos.endpoint_url, "keys": HMAC, "format": target, "limits": limits}
            done = subprocess.run(
                [sys.executable, "-c", CHILD], input=json.dumps(told), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert bucket.uploads() == []
            assert [one.key for one in bucket.cos.list("exports", "")] == ["disk.vhd", "made"]
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


@pytest.mark.slow
@pytest.mark.parametrize("target", ["vmdk", "qcow2"])
def test_a_disk_of_2_tib_is_converted_in_256_mib(converted_by_a_child: Any, target: str) -> None:
    chance = random.Random(3)
    size = 2040 * GIB
    places = [0, 700 * GIB, 1300 * GIB + 512, size - 4 * MIB]
    found = converted_by_a_child(size, lambda _: chance.randbytes(3 * MIB), places, target)
    assert found["virtual_size"] == size
    assert found["size"] < 64 * MIB
    assert found["peak"] < 256 * MIB, found


@pytest.mark.slow
def test_parts_that_are_gathered_stay_within_256_mib(converted_by_a_child: Any) -> None:
    """A fixed VHD of 320 MiB as 15 parts: 8 MiB in each of the first 12, the other 224 MiB in three that are copied."""
    chance = random.Random(4)
    size = 320 * MIB
    found = converted_by_a_child(
        size,
        lambda _: chance.randbytes(40 * MIB),
        [0, 120 * MIB, 280 * MIB],
        "vhd-fixed",
        parts=15,
        largest_part=8 * MIB,
        gathered=80 * MIB,
    )
    assert (found["parts"], found["part_size"]) == (15, None)
    assert found["size"] == size + 512
    assert found["peak"] < 256 * MIB, found
