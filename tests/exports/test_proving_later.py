"""A finished export is proven again, deeper: what was found is added, and what is wrong is not passed over."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from sealift.exports.errors import ProofError, UnsettledProofError
from sealift.exports.manifest import Manifest, parse_manifest
from sealift.exports.plan import PlanItem
from sealift.exports.proofs import LaterProof, proof_level, read_proofs
from sealift.exports.proving_later import prove_again
from sealift.exports.steps import prove_and_record
from sealift.images.vhd import VhdFooter

BUCKET = "sealift-exports"
KEY = "nightly/manifests/101/20261123T0200Z.json"


@pytest.fixture
def manifest(
    make_guest: Callable[..., Any],
    item_of: Callable[..., PlanItem],
    make_classic: Any,
    make_settings: Callable[..., Any],
    cos: Any,
    vhd_bytes: bytes,
    time: Any,
) -> Manifest:
    """An export of two disks, proven at L1."""
    item = item_of(make_guest(101, data_disks=1))
    classic = make_classic(guests=[make_guest(101, data_disks=1)])
    classic.add_template(item.template_name)
    for key in item.disk_keys:
        cos.store(key, vhd_bytes)
    prove_and_record(
        classic=classic,
        cos=cos,
        item=item,
        settings=make_settings(),
        template_id=900,
        dag_id="export_servers",
        run_id="run-1",
        try_number=1,
        clock=time.clock,
        sleep=time.sleep,
    )
    return parse_manifest(cos.objects[KEY][0], bucket=BUCKET, key=KEY)


@pytest.fixture
def again(cos: Any, manifest: Manifest, time: Any) -> Callable[..., tuple[LaterProof, str]]:
    def run() -> tuple[LaterProof, str]:
        return prove_again(cos, manifest, prefix="nightly", made_by="a test", clock=time.clock)

    return run


def test_what_is_found_stands_beside_the_manifest(
    again: Callable[..., Any], cos: Any, manifest: Manifest, vhd_bytes: bytes
) -> None:
    before = cos.objects[KEY]
    proof, key = again()
    assert key == "nightly/proofs/101/20261123T0200Z/0001.json"
    assert cos.objects[KEY] == before
    assert [one.sha256 for one in proof.disks] == [hashlib.sha256(vhd_bytes).hexdigest()] * 2
    assert {"footer.checksum", "bytes", "etag"} <= {check.id for check in proof.disks[0].checks}
    read = read_proofs(cos, bucket=BUCKET, prefix="nightly", manifest=manifest)
    assert read == [proof]
    assert proof_level(manifest, []) == "L1"
    assert proof_level(manifest, read) == "L2"


def test_a_reading_is_compared_with_the_one_before(
    again: Callable[..., Any], cos: Any, manifest: Manifest, vhd_bytes: bytes
) -> None:
    """The store's own digest agrees with the damage; the one that was noted does not."""
    again()
    disk = manifest.disks[1]
    damaged = bytearray(vhd_bytes)
    damaged[vhd_bytes.index(b"sealiftsealift") + 500] ^= 1
    cos.store(disk.key, bytes(damaged), etag=disk.etag)
    with pytest.raises(ProofError, match=r"is not sound any more: SHA-256 .* was read before") as caught:
        again()
    assert caught.value.key == disk.key
    assert len([key for key in cos.objects if "/proofs/" in key]) == 1


def test_an_object_that_was_replaced_is_told_of(again: Callable[..., Any], cos: Any, manifest: Manifest) -> None:
    key = manifest.disks[0].key
    body = cos.objects[key][0]
    cos.store(key, body, etag="another")
    with pytest.raises(UnsettledProofError, match="was replaced or deleted since it was proven"):
        again()
    del cos.objects[key]
    with pytest.raises(UnsettledProofError, match="was replaced or deleted since it was proven"):
        again()


def test_an_object_that_is_replaced_while_it_is_read_is_told_of(
    again: Callable[..., Any], cos: Any, manifest: Manifest
) -> None:
    read = cos.read_range

    def replaced(bucket: str, key: str, **kwargs: Any) -> bytes:
        data: bytes = read(bucket, key, **kwargs)
        cos.store(key, cos.objects[key][0], etag="another")
        return data

    cos.read_range = replaced
    with pytest.raises(UnsettledProofError):
        again()
    assert not [key for key in cos.objects if "/proofs/" in key]


def test_another_disk_of_the_same_size_is_not_the_manifests(
    again: Callable[..., Any], cos: Any, manifest: Manifest, vhd_bytes: bytes
) -> None:
    """Whole and sound, but with another id: swapped with that of another server, under the same ETag."""
    disk = manifest.disks[1]
    other = dataclasses.replace(VhdFooter.unpack(vhd_bytes[-512:]), uuid=UUID(int=8)).pack()
    cos.store(disk.key, other + vhd_bytes[512:-512] + other, etag=disk.etag)
    with pytest.raises(ProofError, match="is another disk than the manifest's") as caught:
        again()
    assert caught.value.check_id == "same-disk"
