"""``sealift prove``: what it says of good and of damaged files; and amounts of bytes as people type them."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click
import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.cli.amounts import amount
from sealift.images import emulator
from sealift.images.vhd_writer import write_dynamic_vhd
from tests.images.servers import DATA_UUID, VERSION, grub_code, kernel, make_ext, mbr_disk, server_files, write_tree
from tests.images.vmdk_files import stream_optimized

MIB = 2**20


@pytest.fixture
def vhd(tmp_path: Path) -> Path:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(random.Random(1).randbytes(MIB) + bytes(7 * MIB))
    out = tmp_path / "disk.vhd"
    write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=7), timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    return out


@pytest.fixture
def vmdk(tmp_path: Path) -> Path:
    out = tmp_path / "disk.vmdk"
    out.write_bytes(stream_optimized(random.Random(1).randbytes(MIB) + bytes(7 * MIB)))
    return out


def prove(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["prove", *(str(one) for one in words)])


def test_good_images_are_whole(vhd: Path, vmdk: Path) -> None:
    result = prove(vhd, vmdk)
    assert result.exit_code == 0, result.output
    assert f"{vhd}: vhd-dynamic, a disk of 8,388,608 bytes" in result.output
    assert f"{vmdk}: vmdk-stream, a disk of 8,388,608 bytes" in result.output
    assert "  ok  footer.checksum" in result.output
    assert "  ok  grains" in result.output
    assert "BAD" not in result.output


def test_what_is_wrong_is_named_and_the_others_are_proven_all_the_same(vhd: Path, vmdk: Path, tmp_path: Path) -> None:
    vmdk.write_bytes(vmdk.read_bytes()[:-512])
    result = prove(vmdk, tmp_path / "gone.vhd", vhd)
    assert result.exit_code == 1
    assert f"{vmdk}: not whole: no footer" in result.output
    assert "  BAD footer: no footer" in result.output
    assert f"{tmp_path / 'gone.vhd'}: cannot be read: No such file" in result.output
    assert f"{vhd}: vhd-dynamic" in result.output


def test_the_disk_must_have_the_capacity_that_is_named(vhd: Path) -> None:
    assert prove(vhd, "--capacity", "8MiB").exit_code == 0
    result = prove(vhd, "--capacity", "100G")
    assert result.exit_code == 1
    assert "BAD capacity: a disk of 8388608 bytes for a captured disk of 100000000000" in result.output


def test_a_boot_disk_needs_a_partition_table(vhd: Path) -> None:
    result = prove(vhd, "--boot-disk")
    assert result.exit_code == 1
    assert "BAD partition_table: the server starts from this disk" in result.output


def test_for_programs_there_is_json(vhd: Path, vmdk: Path) -> None:
    vmdk.write_bytes(b"")
    result = prove(vhd, vmdk, "--json")
    assert result.exit_code == 1
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert (good["file"], good["format"], good["virtual_size"]) == (str(vhd), "vhd-dynamic", 8 * MIB)
    assert (bad["file"], bad["failed"]) == (str(vmdk), "file.length")
    assert bad["checks"]


def test_every_byte_is_compared_with_the_sums_beside_it(vhd: Path, vmdk: Path) -> None:
    """As a download leaves them; a bit in the data shows then, and only then."""
    digest = hashlib.sha256(vhd.read_bytes()).hexdigest()
    (vhd.parent / "SHA256SUMS").write_text(f"{digest}  {vhd.name}\n")
    result = prove("--level", "L2", vhd, vmdk)
    assert result.exit_code == 0, result.output
    assert f"ok  sha256: SHA-256 {digest}, as was read before" in result.output
    assert "read for the first time" in result.output, "the other file has no digest there"
    data = bytearray(vhd.read_bytes())
    data[len(data) // 2] ^= 1
    vhd.write_bytes(data)
    assert prove(vhd).exit_code == 0
    result = prove("--level", "L2", "--json", vhd)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["failed"] == "sha256"


@pytest.fixture
def server(tmp_path: Path) -> list[Path]:
    """A server's boot disk, which holds what it needs to start, and its data disk, both as VHDs."""
    root = make_ext(tmp_path / "root", tree=write_tree(tmp_path / "tree", server_files()))
    data = make_ext(tmp_path / "data", uuid=DATA_UUID, label="data")
    made = []
    for name, file_system, code in (("boot", root, grub_code()), ("data", data, bytes(440))):
        raw = tmp_path / f"{name}.raw"
        raw.write_bytes(mbr_disk([(0x83, file_system.read_bytes())], size=20 * MIB, code=code))
        made.append(tmp_path / f"{name}.vhd")
        write_dynamic_vhd(raw=raw, out=made[-1], uuid=UUID(int=9), timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    return made


def test_the_disks_of_a_server_are_proven_together(server: list[Path]) -> None:
    result = prove("--level", "L3", *server)
    assert result.exit_code == 0, result.output
    assert "ok  bytes: " in result.output, "every level includes the ones before it"
    assert "the server: Debian GNU/Linux 12" in result.output
    assert "ok  boot.kernel: " in result.output
    quick = prove("--level", "L3", "--skip-bytes", "--json", *server)
    assert quick.exit_code == 0, quick.output
    first, second, content = (json.loads(line) for line in quick.stdout.splitlines())
    assert first["level"] == second["level"] == "L1"
    assert content["level"] == "L3"
    assert content["system"]["os_id"] == "debian"


def test_a_server_that_cannot_start_is_not_whole(server: list[Path]) -> None:
    """The data disk in the place of the boot disk: two that were swapped."""
    result = prove("--level", "L3", "--skip-bytes", *reversed(server))
    assert result.exit_code == 1, result.output
    assert "the server: not whole: " in result.output
    assert "BAD boot.loader" in result.output


@pytest.mark.skipif(shutil.which(emulator.PROGRAM) is None, reason=f"{emulator.PROGRAM} is not installed")
def test_a_login_with_a_kernel_that_was_handed_over_is_said_to_be_that(tmp_path: Path) -> None:
    """Level L4 of a server whose boot loader shows nothing, and of one whose boot loader is lost."""
    files = server_files()
    files[f"boot/vmlinuz-{VERSION}"] = kernel(says="\r\nweb01 login: ")
    root = make_ext(tmp_path / "root", tree=write_tree(tmp_path / "tree", files)).read_bytes()
    good = mbr_disk([(0x83, root)], size=20 * MIB)
    for data, status in ((good, 0), (bytes(440) + good[440:], 1)):
        raw, image = tmp_path / "boot.raw", tmp_path / "boot.vhd"
        raw.write_bytes(data)
        write_dynamic_vhd(raw=raw, out=image, uuid=UUID(int=9), timestamp=datetime(2026, 1, 2, tzinfo=UTC))
        result = prove("--level", "L4", "--skip-bytes", "--boot-time", "8", image)
        assert result.exit_code == status, result.output
        assert ("BAD boot.loader: disk 0: the first sector holds no code" in result.output) is bool(status)
        assert "it starts: this proves its kernel and root file system" in result.output
        assert "which proves the kernel and the root file system, but not the boot loader" in result.output


@pytest.mark.parametrize(
    ("typed", "count"),
    [
        ("500", 500.0),
        ("20k", 20e3),
        ("20M", 20e6),
        ("1.5G", 1.5e9),
        ("2MiB/s", 2 * 2**20),
        ("10 MB", 10e6),
        ("2T", 2e12),
    ],
)
def test_amounts(typed: str, count: float) -> None:
    assert amount(None, None, typed) == count
    assert amount(None, None, None) is None


@pytest.mark.parametrize("typed", ["", "fast", "0", "-5M", "5X", "1.2.3M"])
def test_amounts_that_are_none(typed: str) -> None:
    with pytest.raises(click.BadParameter, match="is no amount"):
        amount(None, None, typed)
