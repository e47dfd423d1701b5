"""Plans that ask for L3 and L4: the disks of a sandbox's server, read and started, before the export is done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sealift.exports import names, proving_servers
from sealift.exports.errors import ProofError, SettingsError, StepError
from sealift.exports.manifest import Manifest, parse_manifest
from sealift.exports.plan import PlanItem
from sealift.exports.proofs import LaterProof, is_proofs_file, proof_level, read_proofs
from sealift.exports.proving_later import prove_again
from sealift.exports.steps import Recorded, prove_and_record
from sealift.images import emulator
from sealift.images.verdict import ProofLevel
from sealift.images.vhd_writer import write_dynamic_vhd
from sealift.sandbox.disks import DiskKind, DiskSpec, build_raw

BUCKET = "sealift-exports"
KEY = "nightly/manifests/101/20261123T0200Z.json"
CAPACITY = 10**9
NOW = datetime(2026, 11, 23, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The VHD of each kind of the sandbox's disks, and of a root disk without a kernel."""
    folder = tmp_path_factory.mktemp("images")
    kinds: dict[str, DiskKind] = {"root": "linux-root", "data": "linux-data", "windows": "ntfs", "halted": "linux-root"}
    made = {}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        spec = DiskSpec(kind=kind, capacity_bytes=CAPACITY // 512 * 512, hostname="web101", seed=5, payload_bytes=9000)
        raw, vhd = folder / f"{name}.raw", folder / f"{name}.vhd"
        build_raw(spec, raw)
        if name == "halted":
            stop_boot_code(raw)
        write_dynamic_vhd(raw=raw, out=vhd, uuid=UUID(int=number), timestamp=NOW)
        made[name] = vhd.read_bytes()
    return made


def stop_boot_code(raw: Path) -> None:
    """Let the first sector's code halt at once: nothing that reads the disk can see that."""
    with raw.open("r+b") as file:
        file.seek(0x65)
        file.write(bytes.fromhex("faf4ebfd"))  # cli, hlt, jmp to the hlt


@pytest.fixture
def item(make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]) -> PlanItem:
    return item_of(make_guest(101, data_disks=1))


@pytest.fixture
def export(
    make_guest: Callable[..., Any],
    make_classic: Any,
    make_settings: Callable[..., Any],
    item: PlanItem,
    images: dict[str, bytes],
    cos: Any,
    time: Any,
) -> Callable[..., Recorded]:
    def run(*kinds: str, **settings: Any) -> Recorded:
        classic = make_classic(guests=[make_guest(101, data_disks=1)])
        classic.add_template(item.template_name)
        for key, kind in zip(item.disk_keys, kinds, strict=True):
            cos.store(key, images[kind])
        return prove_and_record(
            classic=classic,
            cos=cos,
            item=item,
            settings=make_settings(**settings),
            template_id=900,
            dag_id="export_servers",
            run_id="run-1",
            try_number=1,
            clock=time.clock,
            sleep=time.sleep,
        )

    return run


def found(cos: Any) -> tuple[Manifest, list[LaterProof]]:
    manifest = parse_manifest(cos.objects[KEY][0], bucket=BUCKET, key=KEY)
    return manifest, read_proofs(cos, bucket=BUCKET, prefix="nightly", manifest=manifest)


def test_at_l3_what_the_disks_hold_stands_beside_the_manifest(export: Callable[..., Recorded], cos: Any) -> None:
    assert export("root", "data", proof_level="L3").proof_level == "L3"
    manifest, (proof,) = found(cos)
    assert {disk.proof_level for disk in manifest.disks} == {manifest.proof_level} == {"L3"}
    assert all(disk.sha256 for disk in manifest.disks), "each level includes the ones before it"
    assert proof.proof_level == proof_level(manifest, [proof]) == "L3"
    assert proof.content is not None
    assert proof.content.system.os_id == "debian"
    assert proof.boot is None
    assert [one.sha256 for one in proof.disks] == [disk.sha256 for disk in manifest.disks]
    writes = [key for key in cos.objects if "/proofs/" in key or "/manifests/" in key]
    assert writes[-1] == KEY, "the manifest is written last"


def test_at_l4_the_server_is_started(export: Callable[..., Recorded], cos: Any) -> None:
    assert export("root", "data", proof_level="L4").proof_level == "L4"
    manifest, (proof,) = found(cos)
    assert manifest.proof_level == "L4"
    assert proof.boot is not None
    assert proof.boot.tries[-1].login
    assert proof.boot.screenshot is not None
    assert cos.objects[proof.boot.screenshot][0].startswith(b"\x89PNG")
    room = names.room_prefix("nightly", "proofs")
    assert is_proofs_file(proof.boot.screenshot.removeprefix(room)), "the doctor takes it for what it is"


def test_a_server_that_shows_no_prompt_to_programs_is_not_started(
    export: Callable[..., Recorded], cos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda _name: None)
    assert export("windows", "data", proof_level="L4").proof_level == "L3"
    _, (proof,) = found(cos)
    assert proof.boot is not None
    assert not proof.boot.tries
    assert proof.boot.checks[0].detail.startswith("not started")


def test_disks_without_a_server_make_no_manifest(export: Callable[..., Recorded], cos: Any) -> None:
    with pytest.raises(ProofError, match=r"web101.*do not hold a server that can start.*No manifest") as caught:
        export("data", "root", proof_level="L3")
    assert caught.value.check_id == "boot.loader"
    assert KEY not in cos.objects
    assert not [key for key in cos.objects if "/proofs/" in key]


def test_where_the_boot_code_halts_the_kernel_is_handed_over_and_the_proof_says_so(
    export: Callable[..., Recorded], cos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving_servers, "BOOT_SECONDS", 20.0)
    export("halted", "data", proof_level="L4")
    _, (proof,) = found(cos)
    assert proof.boot is not None
    assert proof.boot.proves == "its kernel and root file system"
    assert [(one.how, one.login) for one in proof.boot.tries][-1] == ("kernel", True)
    assert proof.boot.tries[0].how == "boot loader"
    assert not proof.boot.tries[0].login


def test_where_nothing_can_be_started_the_step_says_so(
    export: Callable[..., Recorded], cos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda _name: None)
    with pytest.raises(StepError, match="apt-get install qemu-system-x86"):
        export("root", "data", proof_level="L4")
    assert KEY not in cos.objects


def test_a_share_of_none_starts_nothing(export: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda _name: None)
    assert export("root", "data", proof_level="L4", proof_share=0).proof_level == "L1"


def test_a_finished_export_is_started_later(export: Callable[..., Recorded], cos: Any, time: Any) -> None:
    export("root", "data")
    manifest, before = found(cos)
    assert (manifest.proof_level, before) == ("L1", [])
    proof, _ = prove_again(cos, manifest, prefix="nightly", level=ProofLevel.L4, made_by="a test", clock=time.clock)
    assert proof.proof_level == "L4"
    assert found(cos)[1] == [proof]


def test_a_plan_for_l4_is_refused_where_nothing_can_be_started(
    make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_settings(proof_level="L4").check_machine()
    monkeypatch.setattr(emulator.shutil, "which", lambda _name: None)
    make_settings(proof_level="L3").check_machine()
    make_settings(proof_level="L4", proof_share=0).check_machine()
    with pytest.raises(SettingsError, match=r"L4 cannot be made on this worker.*apt-get install"):
        make_settings(proof_level="L4").check_machine()
