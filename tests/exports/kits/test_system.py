"""What a proof of the content found becomes what kits ask for; what it did not tell stays unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealift.exports.kits.models import DriverPlace, GuestSystem
from sealift.exports.kits.system import guest_system
from sealift.images.content.content_proof import prove_content
from sealift.images.content.facts import FstabFacts, SystemFacts
from sealift.images.source import BytesSource
from tests.images.servers import MIB, make_ext, mbr_disk, server_files, write_tree

NOTHING = SystemFacts(
    os_id="",
    os_version="",
    os_name="",
    hostname="",
    root_volume="",
    volumes=[],
    fstab=[],
    boot=None,
    kernels=[],
    cloud_init=None,
    network=None,
)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> SystemFacts:
    """Of a server's real disk: partition table, file system, kernel, initramfs, cloud-init."""
    folder: Path = tmp_path_factory.mktemp("server")
    root = make_ext(folder / "root", tree=write_tree(folder / "tree", server_files()))
    disk = mbr_disk([(0x83, root.read_bytes())], size=20 * MIB)
    return prove_content([BytesSource(disk)]).system


def test_a_servers_disk_tells_what_kits_ask_for(facts: SystemFacts) -> None:
    system = guest_system(facts)
    assert (system.os_id, system.os_version, system.name) == ("debian", "12", "Debian GNU/Linux 12 (bookworm)")
    assert system.kernel == "6.1.0-18-amd64"
    assert (system.firmware, system.efi_fallback) == ("bios", None)
    assert system.drivers["virtio_blk"] is DriverPlace.INITRAMFS
    assert system.drivers["nvme"] is DriverPlace.MODULE
    assert system.cloud_init is True
    assert system.datasources == ["NoCloud", "ConfigDrive"]
    assert system.fstab_by_device is False
    assert system.root_file_system == "ext4"


def test_what_nobody_found_is_not_known() -> None:
    assert guest_system(NOTHING) == GuestSystem()


@pytest.mark.parametrize(
    ("device", "options", "by_device"),
    [
        ("/dev/xvda1", ["defaults"], True),
        ("/dev/xvdc1", ["defaults", "nofail"], False),
        ("UUID=1", ["defaults"], False),
        ("/dev/mapper/vg-root", ["defaults"], False),
    ],
)
def test_a_disk_by_its_place_is_a_trap_elsewhere(device: str, options: list[str], by_device: bool) -> None:
    line = FstabFacts(device=device, mount_point="/data", type="ext4", options=options, volume="")
    assert guest_system(NOTHING.model_copy(update={"fstab": [line]})).fstab_by_device is by_device
