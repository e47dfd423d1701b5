"""Multipart uploads: any order, any size, sent again; the object is what the parts make, in their numbers' order."""

from __future__ import annotations

import hashlib
import random
import threading

import pytest

from sealift.sandbox.store import ObjectStore, S3Error, multipart
from sealift.sandbox.store.conditions import Preconditions
from sealift.sandbox.store.models import Attributes, Upload
from sealift.sandbox.store.multipart import NamedPart

BUCKET = "exports"


def start(store: ObjectStore, key: str = "disk.vhd", algorithm: str = "") -> Upload:
    attributes = Attributes(content_type="x/y", metadata={"a": "b"})
    return store.uploads.create(bucket=BUCKET, key=key, attributes=attributes, checksum_algorithm=algorithm)


def send(store: ObjectStore, upload: Upload, number: int, data: bytes) -> str:
    with store.incoming() as incoming:
        incoming.write(data)
        etag = hashlib.md5(data).hexdigest()
        return store.uploads.put_part(upload, incoming, number=number, etag=etag, checksums={}).etag


def name(number: int, etag: str) -> NamedPart:
    return NamedPart(number=number, etag=etag, checksums={})


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", 1)


def files_below(store: ObjectStore, folder: str) -> int:
    return sum(path.is_file() for path in (store.root / folder).rglob("*"))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("seed", range(40))
def test_fuzz_sizes_orders_and_repeats(store: ObjectStore, seed: int) -> None:
    choose = random.Random(seed)
    upload = start(store)
    numbers = sorted(choose.sample(range(1, 10_001), choose.randint(1, 12)))
    full = choose.choice([1, 511, 4096, 65_536, 300_000])
    sizes = {number: choose.choice([full, full, full, choose.randint(1, 300_000)]) for number in numbers}
    sizes[numbers[-1]] = choose.randint(1, full)  # the short last part
    sendings = [number for number in numbers for _ in range(choose.choice([1, 1, 1, 2, 3]))]
    choose.shuffle(sendings)
    if seed % 2:  # the order that a store gets wrong which takes the first part's size for every part's
        sendings.sort(key=lambda number: number != numbers[-1])
    last: dict[int, tuple[str, bytes]] = {}
    for number in sendings:
        data = choose.randbytes(sizes[number] if number in last else choose.randint(1, 2 * sizes[number]))
        last[number] = (send(store, upload, number, data), data)
    named = [name(number, last[number][0]) for number in numbers if number == numbers[0] or choose.random() < 0.9]
    stored = store.uploads.complete(upload, named)
    expected = [last[part.number][1] for part in named]
    assert stored.file.read_bytes() == b"".join(expected)
    assert stored.part_sizes == tuple(map(len, expected))
    etags = hashlib.md5(b"".join(hashlib.md5(data).digest() for data in expected)).hexdigest()
    assert stored.etag == f"{etags}-{len(expected)}"
    assert (stored.content_type, stored.metadata) == ("x/y", {"a": "b"})
    assert files_below(store, "parts") == 0
    assert files_below(store, "incoming") == 0
    assert files_below(store, "objects") == 1


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("seed", range(5))
def test_fuzz_parts_from_many_threads(store: ObjectStore, seed: int) -> None:
    choose = random.Random(seed)
    upload = start(store)
    parts = {number: choose.randbytes(choose.randint(1, 100_000)) for number in range(1, 17)}
    order = list(parts) * 2
    choose.shuffle(order)

    def work(mine: list[int]) -> None:
        for number in mine:
            send(store, upload, number, parts[number])

    threads = [threading.Thread(target=work, args=(order[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    named = [name(number, hashlib.md5(data).hexdigest()) for number, data in parts.items()]
    assert store.uploads.complete(upload, named).file.read_bytes() == b"".join(parts.values())


def test_nothing_is_visible_before_the_end(store: ObjectStore) -> None:
    upload = start(store)
    etag = send(store, upload, 1, b"data")
    assert store.head(BUCKET, "disk.vhd") is None
    assert list(store.list(BUCKET)) == []
    store.uploads.complete(upload, [name(1, etag)])
    assert store.head(BUCKET, "disk.vhd").size == 4


def test_aborting_forgets_everything(store: ObjectStore) -> None:
    upload = start(store)
    etag = send(store, upload, 1, b"data")
    store.uploads.abort(upload)
    assert files_below(store, "parts") == 0
    for call in (
        lambda: store.uploads.get(BUCKET, "disk.vhd", upload.upload_id),
        lambda: store.uploads.abort(upload),
        lambda: send(store, upload, 2, b"late"),
    ):
        with pytest.raises(S3Error, match="NoSuchUpload"):
            call()
    with pytest.raises(S3Error, match="InvalidPart"):
        store.uploads.complete(upload, [name(1, etag)])
    assert files_below(store, "parts") == 0
    assert store.head(BUCKET, "disk.vhd") is None


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([(1, "first"), (3, "first")], "InvalidPart"),
        ([(1, "second")], "InvalidPart"),
        ([(2, "second"), (1, "first")], "InvalidPartOrder"),
        ([(1, "first"), (1, "first")], "InvalidPartOrder"),
        ([(1, "first"), (2, "second")], "EntityTooSmall"),
        ([], "MalformedXML"),
    ],
)
def test_a_wrong_list_is_refused_and_can_be_corrected(
    store: ObjectStore, parts: list[tuple[int, str]], code: str
) -> None:
    upload = start(store)
    etags = {"first": send(store, upload, 1, b"one"), "second": send(store, upload, 2, b"two")}
    with pytest.raises(S3Error, match=f"^{code}:"):
        store.uploads.complete(upload, [name(number, etags[which]) for number, which in parts])
    assert store.head(BUCKET, "disk.vhd") is None
    assert store.uploads.complete(upload, [name(2, etags["second"])]).file.read_bytes() == b"two"


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_part_numbers_have_limits(store: ObjectStore, number: int) -> None:
    with pytest.raises(S3Error, match="InvalidArgument"):
        send(store, start(store), number, b"data")


def test_two_uploads_of_a_key_do_not_meet(store: ObjectStore) -> None:
    first, second = start(store), start(store)
    one, two = send(store, first, 1, b"one"), send(store, second, 1, b"two")
    store.uploads.complete(second, [name(1, two)])
    assert store.head(BUCKET, "disk.vhd").file.read_bytes() == b"two"
    store.uploads.complete(first, [name(1, one)])
    assert store.head(BUCKET, "disk.vhd").file.read_bytes() == b"one"


def test_a_failed_condition_keeps_the_upload(store: ObjectStore) -> None:
    store.put_bytes(bucket=BUCKET, key="disk.vhd", data=b"there")
    upload = start(store)
    etag = send(store, upload, 1, b"new")
    with pytest.raises(S3Error, match="PreconditionFailed"):
        store.uploads.complete(upload, [name(1, etag)], preconditions=Preconditions(if_none_match="*"))
    assert store.head(BUCKET, "disk.vhd").file.read_bytes() == b"there"
    assert store.uploads.complete(upload, [name(1, etag)]).file.read_bytes() == b"new"


def test_a_full_object_checksum_is_verified(store: ObjectStore) -> None:
    upload = start(store, algorithm="crc64nvme")
    etag = send(store, upload, 1, b"123456789")
    with pytest.raises(S3Error, match="BadDigest"):
        store.uploads.complete(
            upload, [name(1, etag)], checksum_type="FULL_OBJECT", expected={"crc64nvme": "AAAAAAAAAAA="}
        )
    stored = store.uploads.complete(
        upload, [name(1, etag)], checksum_type="FULL_OBJECT", expected={"crc64nvme": "rosUhgp5mIg="}
    )
    assert stored.attributes.checksums == {"crc64nvme": "rosUhgp5mIg="}
