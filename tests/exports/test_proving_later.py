"""A finished export is proven again, deeper: what was found is added, and what is wrong is not passed over."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from sealift.exports.errors import ProofError, UnsettledProofError
from sealift.exports.manifest import Manifest, parse_manifest
from sealift.exports.plan import PlanItem
from sealift.exports.proofs import LaterProof, proof_level, read_proofs
from sealift.exports.proving_later import prove_again
from sealift.exports.steps import prove_and_record
from sealift.images.verdict import ProofLevel
from sealift.images.vhd import VhdFooter
from sealift.images.vhd_writer import write_dynamic_vhd
from tests.images.servers import DATA_UUID, make_ext, mbr_disk, server_files, write_tree

BUCKET = "sealift-exports"
KEY = "nightly/manifests/101/20261123T0200Z.json"
NOW = datetime(2026, 11, 23, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def server_vhds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The disks of a server, of 10^9 bytes each: one with what it needs to start, and one with data."""
    folder = tmp_path_factory.mktemp("server")
    root = make_ext(folder / "root", tree=write_tree(folder / "tree", server_files()))
    data = make_ext(folder / "data", uuid=DATA_UUID, label="data")
    made = []
    for number, file_system in enumerate((root, data)):
        code = bytes(440) if number else None
        raw = folder / f"{number}.raw"
        raw.write_bytes(mbr_disk([(0x83, file_system.read_bytes())], size=20 * 2**20, code=code))
        with raw.open("r+b") as file:
            file.truncate(10**9)
        write_dynamic_vhd(raw=raw, out=folder / f"{number}.vhd", uuid=UUID(int=number + 1), timestamp=NOW)
        made.append((folder / f"{number}.vhd").read_bytes())
    return made


@pytest.fixture
def manifest(
    make_guest: Callable[..., Any],
    item_of: Callable[..., PlanItem],
    make_classic: Any,
    make_settings: Callable[..., Any],
    cos: Any,
    vhd_bytes: bytes,
    time: Any,
    request: pytest.FixtureRequest,
) -> Manifest:
    """An export of two disks, proven at L1; those that the test gives as a parameter, or two alike."""
    images = request.getfixturevalue("server_vhds") if getattr(request, "param", "") == "server" else [vhd_bytes] * 2
    item = item_of(make_guest(101, data_disks=1))
    classic = make_classic(guests=[make_guest(101, data_disks=1)])
    classic.add_template(item.template_name)
    for key, image in zip(item.disk_keys, images, strict=True):
        cos.store(key, image)
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
    def run(level: ProofLevel = ProofLevel.L2) -> tuple[LaterProof, str]:
        return prove_again(cos, manifest, prefix="nightly", level=level, made_by="a test", clock=time.clock)

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


@pytest.mark.parametrize("manifest", ["server"], indirect=True)
def test_the_content_of_all_disks_is_proven_together(again: Callable[..., Any], cos: Any, manifest: Manifest) -> None:
    proof, _ = again(ProofLevel.L3)
    assert proof.proof_level == "L3"
    assert all(one.sha256 for one in proof.disks), "each level includes the ones before it"
    assert proof.content is not None
    assert (proof.content.system.os_id, proof.content.system.hostname) == ("debian", "web01")
    assert {"boot.loader", "boot.kernel", "fstab"} <= {check.id for check in proof.content.checks}
    (other,) = [one.detail for one in proof.content.remarks if one.id == "system.hostname"]
    assert other == f"the disks are those of 'web01' by their own word, not of {manifest.guest.hostname}"
    read = read_proofs(cos, bucket=BUCKET, prefix="nightly", manifest=manifest)
    assert read == [proof]
    assert proof_level(manifest, read) == "L3"


def test_disks_that_hold_no_server_are_not_passed_over(again: Callable[..., Any], cos: Any) -> None:
    """Sound images, with right digests, of a disk without any file system."""
    with pytest.raises(ProofError, match="do not hold a server that can start") as caught:
        again(ProofLevel.L3)
    assert caught.value.check_id == "system.root"
    assert not [key for key in cos.objects if "/proofs/" in key]
