"""``sealift prove-export`` over the sandbox: every byte of a finished export, in the bucket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.exports.proofs import LaterProof, proof_level, read_proofs
from tests.cli.steps import LATER, PERIOD, Exported


@pytest.fixture
def prove(connections: Path) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        return CliRunner().invoke(main, ["prove-export", "--connections", str(connections), *words])

    return call


def proofs(exported: Exported, guest_id: int, period: str) -> list[LaterProof]:
    manifest = exported.manifest(guest_id, period)
    return read_proofs(exported.cos, bucket=exported.bucket, prefix="sealift", manifest=manifest)


def test_every_byte_in_the_bucket_is_compared_with_the_stores_own_digest(
    exported: Exported, prove: Callable[..., Result]
) -> None:
    guest = exported.several.guest_id
    manifest = exported.manifest(guest, LATER)
    assert (manifest.proof_level, proofs(exported, guest, LATER)) == ("L1", [])
    result = prove(exported.several.hostname)
    assert result.exit_code == 0, result.output
    assert (
        f"{manifest.export_id}: proven at L2, noted in {exported.bucket}/sealift/proofs/{guest}/{LATER}/0001.json"
        in (result.stdout)
    )
    (proof,) = proofs(exported, guest, LATER)
    assert proof_level(manifest, [proof]) == "L2"
    assert proof.made_by == "sealift prove-export"
    for disk, one in zip(manifest.disks, proof.disks, strict=True):
        body = exported.cos.read(exported.bucket, disk.key)
        assert body is not None
        assert one.sha256 == hashlib.sha256(body).hexdigest()
        # The simulated store computes it, as COS does: what was read is compared with that.
        assert one.crc64nvme == disk.crc64nvme is not None
        assert "crc64nvme" in {check.id for check in one.checks}


def test_a_bit_that_flips_in_the_bucket_is_found(exported: Exported, prove: Callable[..., Result]) -> None:
    """The file behind the object changes, as a disk of the store that rots; everything that the store says stays."""
    guest = exported.other.guest_id
    manifest = exported.manifest(guest, PERIOD)
    disk = manifest.disks[0]
    path = exported.sandbox.store.path_of(exported.bucket, disk.key)
    assert path is not None
    good = path.with_suffix(".good")
    path.rename(good)  # its bytes may be shared with other objects, which stay as they are
    damaged = bytearray(good.read_bytes())
    damaged[disk.size // 2] ^= 1
    path.write_bytes(damaged)
    try:
        result = prove(manifest.export_id, "--json")
        assert result.exit_code == 1
        assert "is not sound any more: CRC-64/NVME" in result.stderr
        assert result.stdout == ""
        assert proofs(exported, guest, PERIOD) == []
    finally:
        good.replace(path)
    result = prove(manifest.export_id, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["proof_level"] == "L2"


def test_what_is_not_there_is_said_before_anything_is_read(exported: Exported, prove: Callable[..., Result]) -> None:
    result = prove("nobody", exported.other.hostname)
    assert result.exit_code == 1
    assert "Not proven: " in result.stderr
    assert "nobody" in result.stderr
