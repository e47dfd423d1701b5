"""Whole servers at level L3: good ones pass and are described; what a server cannot start without is named."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path

import pytest

from sealift.images.content.content_proof import ContentProof, prove_content
from sealift.images.source import FileSource
from sealift.images.verdict import ProofLevel
from tests.images.content.world import Change, Workshop, failure, prove, remarks
from tests.images.servers import (
    BOOT_UUID,
    DATA_UUID,
    ESP,
    LINUX,
    MIB,
    ROOT_UUID,
    STARTS_AT,
    VERSION,
    boot_files,
    fat16,
    gpt_disk,
    initramfs,
    kernel,
    make_ext,
    mbr_disk,
    server_files,
)
from tests.images.volume_groups import Segment, physical_volume, volume_group

PV = "PPPPPP-aaaa-bbbb-cccc-dddd-eeee-PPPPPP"


# Good servers


def test_a_server_is_proven_and_described(good: bytes) -> None:
    proof = prove(good)
    assert proof.level is ProofLevel.L3
    assert all(check.passed for check in proof.checks)
    system = proof.system
    assert (system.os_id, system.os_version, system.hostname) == ("debian", "12", "web01")
    assert system.os_name == "Debian GNU/Linux 12 (bookworm)"
    assert system.root_volume == "disk 0 partition 1"
    (volume,) = system.volumes
    assert (volume.content, volume.size, volume.uuid, volume.mount_point) == ("ext4", 12 * MIB, str(ROOT_UUID), "/")
    assert (volume.part_uuid, volume.label, volume.read) == ("cafe0001-01", "root", True)
    assert volume.free is not None
    assert 0 < volume.free < 12 * MIB
    assert [(line.device, line.volume) for line in system.fstab] == [(f"UUID={ROOT_UUID}", "disk 0 partition 1")]
    assert system.boot is not None
    assert (system.boot.mbr, system.boot.configuration) == ("grub", "/boot/grub/grub.cfg")
    assert (system.boot.entries, system.boot.default_entry) == (2, "Debian GNU/Linux")
    assert (system.boot.root, system.boot.consoles) == (f"UUID={ROOT_UUID}", ["ttyS0"])
    (found,) = system.kernels
    assert (found.path, found.version, found.default) == (f"/boot/vmlinuz-{VERSION}", VERSION, True)
    assert (found.initramfs, found.compression) == (f"/boot/initrd.img-{VERSION}", "gzip")
    assert found.drivers["virtio_blk"] == "initramfs"
    assert found.drivers["xen_blkfront"] == "initramfs"
    assert found.drivers["hv_storvsc"] == "built in"
    assert found.drivers["nvme"] == "modules"
    assert found.drivers["vmxnet3"] == "missing"
    assert system.cloud_init is not None
    assert (system.cloud_init.version, system.cloud_init.datasources) == ("22.4.2", ["NoCloud", "ConfigDrive"])
    assert system.network is not None
    assert system.network.styles == ["netplan"]
    assert proof.verified["inodes"] > 20
    assert "does not find its disk on AWS Nitro before its initramfs is made again: nvme" in remarks(proof)
    assert "on KVM" not in remarks(proof)


def test_a_proof_survives_as_json_and_holds_nothing_secret(good: bytes) -> None:
    proof = prove(good)
    text = proof.model_dump_json()
    assert ContentProof.model_validate_json(text) == proof
    assert "secret" not in text


def test_a_proof_says_how_much_it_read(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(good)
    with FileSource(tmp_path / "disk") as source:
        proof = prove_content([source])
        assert (proof.bytes_read, proof.requests) == (source.bytes_read, source.requests)
    assert proof.bytes_read < 3 * MIB
    assert proof.requests < 60


def test_what_is_read_of_a_large_server_stays_in_the_budget(workshop: Workshop, tmp_path: Path) -> None:
    """Much data on a disk of 50 GB does not make a proof read more."""
    root = workshop.ext(server_files())
    path = tmp_path / "disk"
    make_ext(tmp_path / "large", size=50 * 1024 * MIB, uuid=DATA_UUID, options=("-E", "lazy_itable_init=1"))
    path.write_bytes(mbr_disk([(0x83, root)], size=STARTS_AT + len(root)))
    with FileSource(path) as boot, FileSource(tmp_path / "large") as large:
        proof = prove_content([boot, large])
        assert boot.bytes_read + large.bytes_read == proof.bytes_read
    assert proof.bytes_read < 5 * MIB
    assert proof.requests < 80


def test_memory_stays_small(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(good)
    with FileSource(tmp_path / "disk") as source:
        tracemalloc.start()
        prove_content([source], deep=True)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 24 * MIB


def test_a_deep_proof_looks_at_whole_trees(good: bytes) -> None:
    shallow, deep = prove(good), prove(good, deep=True)
    said = [check.detail for check in deep.checks if check.id == "trees"]
    assert [words.split(":")[0] for words in said] == ["/etc", "/boot", "/usr/lib/modules"]
    assert deep.verified["inodes"] >= shallow.verified["inodes"]
    assert deep.verified["bitmaps"] >= 2
    assert "file_system.bitmaps" in {check.id for check in deep.checks}


def test_boot_home_and_data_on_partitions_and_disks_of_their_own(workshop: Workshop, data_disk: bytes) -> None:
    fstab = (
        f"UUID={ROOT_UUID} / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext2 defaults 0 2\n"
        "UUID=1234-ABCD /boot/efi vfat umask=0077 0 1\nLABEL=data /srv/data ext4 nofail 0 2\n"
        "nas:/export /mnt nfs defaults 0 0\n/dev/xvdb1 none swap sw 0 0\n/srv/data /data none bind 0 0\n"
    )
    disk = gpt_disk(
        [
            (
                ESP,
                "EFI",
                fat16({"EFI/BOOT/BOOTX64.EFI": b"MZ" * 500, "EFI/debian/grub.cfg": b"configfile\n"}, size=5 * MIB),
            ),
            (LINUX, "boot", workshop.ext(boot_files(), size=6 * MIB, kind="ext2", uuid=BOOT_UUID, label="boot")),
            (LINUX, "root", workshop.ext(server_files(boot=False, fstab=fstab))),
        ],
        size=26 * MIB,
    )
    proof = prove(bytes(disk), data_disk)
    system = proof.system
    assert {one.name: (one.content, one.mount_point) for one in system.volumes} == {
        "disk 0 partition 1": ("vfat", "/boot/efi"),
        "disk 0 partition 2": ("ext2", "/boot"),
        "disk 0 partition 3": ("ext4", "/"),
        "disk 1": ("ext4", "/srv/data"),
    }
    assert [one.part_uuid[-2:] for one in system.volumes[:3]] == ["01", "02", "03"]
    assert system.boot is not None
    assert system.boot.efi_loaders == ["/EFI/boot/bootx64.efi"]
    assert system.boot.configuration == "/boot/grub/grub.cfg"
    assert system.kernels[0].default
    assert "nas:/export on /mnt: a network file system, which is not part of an image" in remarks(proof)
    assert "/dev/xvdb1 as swap space, which was not found: its disk cannot be told" in remarks(proof)
    assert any(check.id == "partition_table.backup" for check in proof.checks)
    named = prove(bytes(disk), data_disk, device_numbers=[0, 2])
    assert "/dev/xvdb1 as swap space, which is not on the disks; the server starts without it" in remarks(named)


def test_usr_on_a_volume_of_its_own(workshop: Workshop) -> None:
    fstab = f"UUID={ROOT_UUID} / ext4 defaults 0 1\nUUID={DATA_UUID} /usr ext4 defaults 0 1\n"
    files = server_files(fstab=fstab)
    usr = {name.removeprefix("usr/"): files.pop(name) for name in list(files) if name.startswith("usr/")}
    disk = mbr_disk(
        [(0x83, workshop.ext(files)), (0x83, workshop.ext(usr, uuid=DATA_UUID, label="usr"))], size=26 * MIB
    )
    system = prove(disk).system
    assert (system.os_id, system.kernels[0].drivers["nvme"]) == ("debian", "modules")


def test_a_root_on_lvm(workshop: Workshop) -> None:
    extent = MIB
    fstab = f"/dev/mapper/vg-root / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext4 defaults 0 1\n"
    files = server_files(fstab=fstab, boot=False)
    root = workshop.ext(files)
    text = volume_group(
        "vg",
        [PV],
        {
            "root": [Segment(0, 5, [("pv0", 3)]), Segment(5, 7, [("pv0", 9)])],
            "thin": [Segment(0, 1, [], type="thin")],
        },
        extent=extent,
    )
    extents = [bytes(extent)] * 16
    extents[3:8] = [root[at : at + extent] for at in range(0, 5 * extent, extent)]
    extents[9:16] = [root[at : at + extent] for at in range(5 * extent, 12 * extent, extent)]
    volume = physical_volume(text, uuid=PV, extents=extents)
    volume += bytes(-len(volume) % 512)
    start = boot_files()
    config = start["grub/grub.cfg"]
    assert isinstance(config, str)
    start["grub/grub.cfg"] = config.replace(f"UUID={ROOT_UUID}", "/dev/mapper/vg-root")
    boot = workshop.ext(start, size=6 * MIB, uuid=BOOT_UUID, label="boot")
    disk = mbr_disk([(0x83, boot), (0x8E, volume)], size=26 * MIB)
    proof = prove(disk)
    assert proof.system.root_volume == "logical volume vg/root"
    assert proof.system.os_id == "debian"
    assert "logical volume vg/thin was not looked into: it is of type thin" in remarks(proof)
    assert {one.name: one.mount_point for one in proof.system.volumes}["disk 0 partition 1"] == "/boot"


def test_disks_with_nothing_known_are_remarks(good: bytes) -> None:
    proof = prove(good, bytes(MIB), random.Random(1).randbytes(MIB), b"\0" * 100)
    assert "disk 1 is blank at its start" in remarks(proof)
    assert "disk 2 holds nothing that is known; it was not looked into" in remarks(proof)
    assert "disk 3 has 100 bytes, which is less than a sector" in remarks(proof)


def test_contents_that_are_not_read_are_named(good: bytes) -> None:
    luks = bytearray(MIB)
    luks[:6] = b"LUKS\xba\xbe"
    btrfs = bytearray(MIB)
    btrfs[65600:65608] = b"_BHRfS_M"
    swap = bytearray(MIB)
    swap[4086:4096] = b"S1SUSPEND\0"
    raid = bytearray(MIB)
    raid[4096:4100] = b"\xfc\x4e\x2b\xa9"
    at_end = bytearray(b"\1" * MIB)
    at_end[MIB - 8192 : MIB - 8192 + 4] = b"\xfc\x4e\x2b\xa9"
    proof = prove(good, bytes(luks), bytes(btrfs), bytes(swap), bytes(raid), bytes(at_end))
    for words in (
        "disk 1 holds luks",
        "disk 2 holds btrfs",
        "disk 3 is swap space that holds a server put to sleep",
        "disk 4 holds raid",
        "disk 5 holds raid",
    ):
        assert words in remarks(proof)


def test_windows_is_named_and_not_read(tmp_path: Path) -> None:
    ntfs = bytearray(4 * MIB)
    ntfs[:11] = b"\xeb\x52\x90NTFS    "
    struct.pack_into("<HB", ntfs, 11, 512, 8)
    struct.pack_into("<QQQb", ntfs, 40, 4 * MIB // 512 - 1, 4, 900, -10)
    ntfs[510:512] = b"\x55\xaa"
    for cluster in (4, 900):
        ntfs[cluster * 4096 : cluster * 4096 + 4] = b"FILE"
    ntfs[-512:] = ntfs[:512]
    disk = mbr_disk([(0x07, bytes(ntfs))], size=6 * MIB, code=b"\xfa\x33\xc0 Missing operating system")
    proof = prove(disk)
    assert "Windows, or data of it, is on disk 0 partition 1; its files are not read" in remarks(proof)
    assert proof.system.root_volume == ""
    ntfs[-512:] = bytes(512)
    found = failure(mbr_disk([(0x07, bytes(ntfs))], size=6 * MIB))
    assert "the copy of the boot sector at byte 4193792 cannot be right" in found["file_system.backup"]
    ntfs[-512:] = ntfs[:512]
    ntfs[4 * 4096] = 0
    assert "begins with b'\\x00ILE'" in failure(mbr_disk([(0x07, bytes(ntfs))], size=6 * MIB))["file_system.root"]
    struct.pack_into("<Q", ntfs, 40, 2**40)
    assert "cannot be right" in failure(mbr_disk([(0x07, bytes(ntfs))], size=6 * MIB))["file_system.superblock"]


def test_logical_partitions_are_found(workshop: Workshop) -> None:
    root = workshop.ext(server_files())
    disk = bytearray(mbr_disk([(0x05, bytes(13 * MIB)), (0x82, bytes(MIB))], size=17 * MIB))
    table = STARTS_AT
    struct.pack_into("<B3xB3xII", disk, table + 446, 0, 0x83, 2048, len(root) // 512)
    disk[table + 510 : table + 512] = b"\x55\xaa"
    disk[table + MIB : table + MIB + len(root)] = root
    proof = prove(bytes(disk))
    assert proof.system.root_volume == "disk 0 partition 5"
    assert proof.system.volumes[-1].part_uuid == "cafe0001-05"
    struct.pack_into("<B3xB3xII", disk, table + 462, 0, 0x05, 0, 100)
    assert prove(bytes(disk)).system.root_volume == "disk 0 partition 5"
    struct.pack_into("<B3xB3xII", disk, table + 462, 0, 0x05, 4, 100)
    assert "ends with 00 00" in failure(bytes(disk))["partition_table"]
    struct.pack_into("<B3xB3xII", disk, table + 462, 0, 0x05, 2**30, 100)
    assert "outside its own" in failure(bytes(disk))["partition_table"]
    disk[table + 510 : table + 512] = b"\0\0"
    assert "table of logical partition 5 at byte 1048576" in failure(bytes(disk))["partition_table"]


# Servers that could not start


def drop(*names: str) -> Change:
    def change(files: dict[str, bytes | str]) -> None:
        for name in names:
            del files[name]

    return change


def put(**changes: bytes | str) -> Change:
    return lambda files: files.update({name.replace("__", "/"): value for name, value in changes.items()})


def in_grub(old: str, new: str) -> Change:
    def change(files: dict[str, bytes | str]) -> None:
        text = files["boot/grub/grub.cfg"]
        assert isinstance(text, str)
        files["boot/grub/grub.cfg"] = text.replace(old, new)

    return change


CANNOT_START: dict[str, tuple[Change, str, str]] = {
    "no kernel": (
        drop(f"boot/vmlinuz-{VERSION}"),
        "boot.kernel",
        f"'Debian GNU/Linux' starts /boot/vmlinuz-{VERSION}, which is not there",
    ),
    "no initramfs": (
        drop(f"boot/initrd.img-{VERSION}"),
        "boot.initramfs",
        f"starts with /boot/initrd.img-{VERSION}, which is not there",
    ),
    "kernel cut": (
        lambda files: files.update({f"boot/vmlinuz-{VERSION}": kernel()[:90_000]}),
        "boot.kernel",
        f"/boot/vmlinuz-{VERSION} has 90000 bytes, but its header says",
    ),
    "kernel zeroed": (
        lambda files: files.update({f"boot/vmlinuz-{VERSION}": bytes(150_000)}),
        "boot.kernel",
        f"/boot/vmlinuz-{VERSION} is no Linux kernel",
    ),
    "kernel damaged": (
        lambda files: files.update({f"boot/vmlinuz-{VERSION}": kernel()[:60_000] + bytes(1) + kernel()[60_001:]}),
        "boot.kernel",
        "are damaged",
    ),
    "initramfs cut": (
        lambda files: files.update({f"boot/initrd.img-{VERSION}": initramfs()[:-300]}),
        "boot.initramfs",
        f"/boot/initrd.img-{VERSION}: the compressed data",
    ),
    "initramfs without its main part": (
        lambda files: files.update({f"boot/initrd.img-{VERSION}": initramfs()[:41_000]}),
        "boot.initramfs",
        f"/boot/initrd.img-{VERSION}",
    ),
    "fstab names what is not there": (
        put(etc__fstab=f"UUID={ROOT_UUID} / ext4 defaults\nUUID={DATA_UUID} /data ext4 defaults\n"),
        "fstab",
        f"/etc/fstab mounts UUID={DATA_UUID} on /data, which is not on the disks",
    ),
    "fstab names a partition that is not there": (
        put(etc__fstab="/dev/xvda1 / ext4 defaults\n/dev/xvda5 /home ext4 defaults\n"),
        "fstab",
        "/etc/fstab mounts /dev/xvda5 on /home, which is not on the disks",
    ),
    "GRUB names another root": (
        in_grub(f"root=UUID={ROOT_UUID}", f"root=UUID={DATA_UUID}"),
        "boot.root",
        f"starts with root=UUID={DATA_UUID}, which is not on the disks",
    ),
    "GRUB has no entries": (
        put(boot__grub__grub__cfg="", **{"boot__grub__grub.cfg": "set timeout=1\n"}),
        "boot.configuration",
        "has no entry that starts a kernel",
    ),
    "no operating system": (
        drop("etc/os-release", "usr/lib/os-release", "etc/fstab"),
        "system.root",
        "no operating system was found: no file system on disk 0",
    ),
}


@pytest.mark.parametrize("name", CANNOT_START)
def test_a_server_that_could_not_start_is_not_proven(workshop: Workshop, name: str) -> None:
    change, check, words = CANNOT_START[name]
    found = failure(workshop.server(change))
    assert words in found[check]
    assert list(found) == [check]


def test_a_server_without_any_kernel(workshop: Workshop) -> None:
    disk = workshop.server(drop(*(f"boot/{name}" for name in boot_files())), boot=True)
    assert failure(disk)["boot.kernel"] == "no kernel was found in /boot: the server cannot start"


def test_a_boot_disk_without_a_boot_loader(workshop: Workshop) -> None:
    root = workshop.ext(server_files())
    proof = prove(mbr_disk([(0x83, root)], size=14 * MIB, code=b""))
    assert "it starts only where the platform reads GRUB's configuration itself, as Xen can" in remarks(proof)
    files = server_files()
    del files["boot/grub/grub.cfg"]
    found = failure(mbr_disk([(0x83, workshop.ext(files))], size=14 * MIB, code=b""))
    assert "disk 0 holds no boot loader" in found["boot.loader"]
    blank = bytearray(mbr_disk([(0x83, root)], size=14 * MIB))
    blank[512:1024] = bytes(512)
    assert "sector 1, to which it leads, is blank" in failure(bytes(blank))["boot.loader"]
    lost = bytes(440) + mbr_disk([(0x83, root)], size=14 * MIB)[440:]
    assert "GRUB's second stage is in the sector behind it: the code was lost" in failure(lost)["boot.loader"]


def test_an_efi_partition_without_a_loader(workshop: Workshop) -> None:
    root = workshop.ext(server_files())
    for files, right in (({"EFI/BOOT/BOOTX64.EFI": b"MZ"}, True), ({"EFI/BOOT/notes.txt": b"none"}, False)):
        disk = bytes(gpt_disk([(ESP, "", fat16(files, size=5 * MIB)), (LINUX, "", root)], size=20 * MIB))
        if right:
            assert prove(disk).system.boot
        else:
            assert "is there to start the server by EFI, but holds no loader" in failure(disk)["boot.loader"]


REMARKED: dict[str, tuple[Change, str]] = {
    "optional file systems": (
        put(etc__fstab=f"UUID={ROOT_UUID} / ext4 defaults\nUUID={DATA_UUID} /data ext4 nofail\nLABEL=S swap swap sw\n"),
        "which is not on the disks; the server starts without it",
    ),
    "no virtio in the initramfs": (
        lambda files: files.update({f"boot/initrd.img-{VERSION}": initramfs(("xen-blkfront",))}),
        "does not find its disk on KVM (VPC, OpenStack, Google Cloud) before its initramfs is made again: "
        "virtio_pci and virtio_blk or virtio_scsi neither",
    ),
    "a kernel of another name": (
        lambda files: files.update({f"boot/vmlinuz-{VERSION}": kernel("5.4.0")}),
        f"/boot/vmlinuz-{VERSION} says that it is version 5.4.0",
    ),
    "a kernel for Xen": (
        lambda files: files.update({f"boot/vmlinuz-{VERSION}": b"\x7fELF" + bytes(5000)}),
        f"/boot/vmlinuz-{VERSION} is a kernel for Xen or another loader, in a form that is not read",
    ),
    "no fstab": (drop("etc/fstab"), "has no /etc/fstab"),
    "no release": (drop("etc/os-release", "usr/lib/os-release"), "no file that names its release"),
    "no initramfs named": (
        lambda files: (in_grub("\tinitrd", "\t#")(files), files.pop(f"boot/initrd.img-{VERSION}")),
        "has no initramfs: it starts only with what is built into it",
    ),
    "a root that only GRUB knows": (
        in_grub(f"root=UUID={ROOT_UUID}", "root=$rootdev"),
        "root=$rootdev, which only the boot loader knows",
    ),
}


@pytest.mark.parametrize("name", REMARKED)
def test_what_a_restore_should_know_is_a_remark(workshop: Workshop, name: str) -> None:
    change, words = REMARKED[name]
    assert words in remarks(prove(workshop.server(change)))


def test_the_newest_kernel_is_read_whole_though_another_starts(workshop: Workshop) -> None:
    def change(files: dict[str, bytes | str]) -> None:
        files["boot/vmlinuz-6.9.1"] = kernel("6.9.1")[:90_000]
        files["boot/vmlinuz-5.4.1"] = kernel("5.4.1")

    found = failure(workshop.server(change))
    assert "/boot/vmlinuz-6.9.1 has 90000 bytes" in found["boot.kernel"]


def test_two_systems_on_the_disks_are_remarked(good: bytes, workshop: Workshop) -> None:
    other = mbr_disk([(0x83, workshop.ext(server_files(), uuid=DATA_UUID))], size=14 * MIB)
    proof = prove(other, good, boot_index=1)
    assert proof.system.root_volume == "disk 1 partition 1"
    assert "disk 1 partition 1 is taken for the root; disk 0 partition 1 could be one as well" in remarks(proof)
