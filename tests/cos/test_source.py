"""An object read by ranges: exact, pinned to one version, counted."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sealift.cos.errors import CosError, CosPreconditionError
from sealift.cos.source import ObjectSource
from sealift.images import emulator
from sealift.images.boot_proof import prove_boot
from sealift.images.content.handover import take_kernel
from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.images.virtual_disk import open_disk
from tests.images.servers import VERSION, kernel, make_ext, mbr_disk, server_files, write_tree

Store = Any  # tests/cos/conftest.py's Store


def test_reads_are_exact_and_counted(any_store: Store) -> None:
    client = any_store.client("hmac")
    client.put("exports", "disk", bytes(range(256)))
    info = client.head("exports", "disk")
    source = ObjectSource(client=client, bucket="exports", key="disk", info=info)
    assert source.size == 256
    assert source.read(250, 6) == bytes(range(250, 256))
    assert source.read(0, 1) == b"\x00"
    assert source.read(256, 0) == b""
    assert (source.bytes_read, source.requests) == (7, 2)
    for offset, length in ((250, 7), (-1, 2), (0, -1), (257, 0)):
        with pytest.raises(CosError, match="256 bytes"):
            source.read(offset, length)


def test_a_replaced_object_is_noticed(store: Store) -> None:
    client = store.client("hmac")
    client.put("exports", "disk", b"one")
    source = ObjectSource(client=client, bucket="exports", key="disk", info=client.head("exports", "disk"))
    client.put("exports", "disk", b"two")
    with pytest.raises(CosPreconditionError):
        source.read(0, 3)
    assert (source.bytes_read, source.requests) == (0, 0)


def test_it_fits_what_proofs_read_from(store: Store) -> None:
    from sealift.images.source import RangeSource

    client = store.client("hmac")
    client.put("exports", "disk", b"x")
    source: RangeSource = ObjectSource(client=client, bucket="exports", key="disk", info=client.head("exports", "disk"))
    assert source.read(0, source.size) == b"x"


@pytest.mark.skipif(shutil.which(emulator.PROGRAM) is None, reason=f"{emulator.PROGRAM} is not installed")
def test_a_server_is_started_out_of_the_bucket_by_a_key_that_may_only_read(store: Store, tmp_path: Path) -> None:
    """Level L4 of an image in the bucket: the guest's disk and the kernel that is handed over are read by ranges."""
    files = server_files()
    files[f"boot/vmlinuz-{VERSION}"] = kernel(says="\r\nweb01 login: ")
    root = make_ext(tmp_path / "root.img", size=12 * 2**20, tree=write_tree(tmp_path / "tree", files)).read_bytes()
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    raw.write_bytes(mbr_disk([(0x83, root)], size=14 * 2**20))
    write_dynamic_vhd(raw=raw, out=image, uuid=UUID(int=4), timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    store.client("hmac").put("exports", "disk-0.vhd", image.read_bytes())
    client = store.client("reader")
    before = client.head("exports", "disk-0.vhd")
    source = ObjectSource(client=client, bucket="exports", key="disk-0.vhd", info=before)
    disks = [open_disk(source)]
    proof = prove_boot(
        disks,
        folder=tmp_path / "work",
        buses=["virtio"],
        direct=lambda folder: take_kernel(disks, folder=folder),
        seconds=8,
    )
    assert proof.proves == "its kernel and root file system"
    assert "web01 login:" in proof.tries[-1].serial
    assert client.head("exports", "disk-0.vhd").etag == before.etag
    assert source.requests < 120
    assert not [one for one in (tmp_path / "work").rglob("*") if one.is_file() and one.name != "screen.png"]
