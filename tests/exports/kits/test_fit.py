"""Each rule with exports that fit, that fail, and that nobody has looked into; sizes at their borders."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sealift.exports.kits import FitReport, GuestSystem, Outcome, Target, build_kits, fit_page, fit_report
from sealift.exports.kits.fit import judge
from sealift.exports.kits.rules import ALL
from sealift.exports.schemas import schema_text
from tests.exports.kits.world import GIB, GPT_EFI, case, converted, disk, drivers, inside, manifest, record, software

FITS, FAILS, UNKNOWN, REMARK = Outcome.FITS, Outcome.FAILS, Outcome.UNKNOWN, Outcome.REMARK
NOBODY: dict[str, Any] = {"inside": None}
GB = 10**9
MIB = 2**20

WINDOWS = inside(os_id="windows", os_version="2019", name="Windows Server 2019", root_file_system="ntfs")
EFI = {"disks": [disk(partition_table="gpt: 2 partitions", partitions=GPT_EFI)], "inside": inside(firmware="efi")}
NOT_TOLD = {"disks": [disk(partition_table="gpt: 2 partitions", partitions=[{"type_name": "Linux"}])]}
UNREAD = {"disks": [disk(partition_table="unread")], "inside": None}
TWO = {"disks": [disk(), disk(1)]}


def sized(boot: int, *data: int) -> dict[str, Any]:
    return {"disks": [disk(size=boot), *(disk(number, size=size) for number, size in enumerate(data, 1))]}


COMMON: dict[str, list[tuple[dict[str, Any], Outcome, str]]] = {
    "network-storage": [
        ({}, FITS, "No network storage"),
        (
            {"storage_not_in_image": [{"id": 7, "type": "ISCSI", "capacity_gb": 250}]},
            REMARK,
            "ISCSI 7 (250 GB)",
        ),
    ],
    "devices": [
        ({}, FITS, "All disks"),
        ({"left_out": [{"device": "1", "reason": "swap"}]}, REMARK, "1, swap"),
    ],
    "resources": [
        ({}, FITS, "2 vCPUs and 4096 MiB"),
        ({"about": {"maxCpu": None}}, UNKNOWN, "by hand"),
        ({"about": {"maxMemory": "4096"}}, UNKNOWN, "by hand"),
    ],
    "encrypted": [
        ({}, FITS, "No volume"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "fstab": [
        ({}, FITS, "UUID or label"),
        ({"inside": WINDOWS.model_copy(update={"fstab_by_device": None})}, FITS, "Windows"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "dhcp": [
        ({}, FITS, "by DHCP"),
        (NOBODY, UNKNOWN, "fixed addresses as a rule"),
    ],
}

OWN: dict[str, list[tuple[dict[str, Any], Outcome, str]]] = {
    "ibm-vpc.format": [
        ({}, FITS, "disk-0.vhd: vhd-dynamic"),
        ({"images": [converted("qcow2")]}, FITS, "disk-0.qcow2: qcow2"),
        ({"disks": [disk(format="vmdk-stream")]}, FAILS, "disk-0.qcow2 must be made"),
    ],
    "ibm-vpc.one-disk": [({}, FITS, "one disk"), (TWO, REMARK, "disk-1.vhd (device 2)")],
    "ibm-vpc.boot-size": [
        (sized(10 * GB), FITS, "9.3 GiB"),
        (sized(10 * GB - 512), REMARK, "has 10 GB"),
        (sized(250 * GB), FITS, "232.8 GiB"),
        (sized(250 * GB + 512), UNKNOWN, "10^9"),
        (sized(250 * GIB), UNKNOWN, "10^9"),
        (sized(250 * GIB + 512), FAILS, "250 GB"),
    ],
    "ibm-vpc.data-size": [
        (sized(25 * GIB, 16_000 * GB), FITS, "Every other disk"),
        (sized(25 * GIB, 16_000 * GB + 512), FAILS, "16000 GB"),
    ],
    "ibm-vpc.cloud-init": [
        ({}, FITS, "scripts-vendor"),
        ({"inside": inside(cloud_init=False)}, FAILS, "0.7.9"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "ibm-vpc.data-source": [
        ({}, FITS, "NoCloud"),
        ({"inside": inside(datasources=[])}, FITS, "not limited"),
        ({"inside": inside(datasources=["NoCloud", "ConfigDrive"])}, REMARK, "NoCloud, ConfigDrive"),
        ({"inside": inside(datasources=["ConfigDrive"])}, FAILS, "datasource_list"),
        (NOBODY, UNKNOWN, "ConfigDrive"),
    ],
    "ibm-vpc.virtio": [
        ({}, FITS, "virtio_blk, virtio_pci, virtio_net"),
        ({"inside": drivers(virtio_blk="built-in", virtio_net="module")}, FITS, "at hand"),
        ({"inside": drivers(virtio_blk="module")}, FAILS, "virtio_blk at boot, and does not find its disk"),
        ({"inside": drivers(virtio_net="absent")}, FAILS, "virtio_net at boot, and has no network"),
        ({"inside": drivers(virtio_pci=None)}, UNKNOWN, "Asked for: virtio_pci"),
        ({"inside": WINDOWS}, UNKNOWN, "Windows"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "ibm-vpc.system": [
        ({}, FITS, "debian-12-amd64"),
        ({"inside": WINDOWS}, REMARK, "windows-2019-amd64-byol"),
        ({"inside": inside(os_id="rhel", os_version="8.9")}, REMARK, "red-8-amd64-byol"),
        ({"inside": inside(os_id="gentoo", os_version="2")}, UNKNOWN, "operating-systems"),
        ({"inside": None, "about": {"operatingSystem": None}}, UNKNOWN, "the system"),
    ],
    "ibm-vpc.firmware": [
        ({}, FITS, "the boot loader on the disk"),
        (NOBODY, FITS, "an MBR without"),
        (EFI, UNKNOWN, "UEFI"),
        ({**NOT_TOLD, "inside": None}, UNKNOWN, "level L3"),
    ],
    "ibm-vpc.profile": [
        ({}, FITS, "cx2-2x4"),
        ({"about": {"maxCpu": 128, "maxMemory": 1024 * 1024}}, FITS, "mx2-128x1024"),
        ({"about": {"maxCpu": 2, "maxMemory": 1024 * 1024 + 1}}, FAILS, "another family"),
        ({"about": {"maxCpu": 129}}, FAILS, "another family"),
        ({"about": {"maxCpu": None}}, UNKNOWN, "by hand"),
    ],
    "ibm-vpc.checksum": [
        ({}, FITS, "a" * 64),
        ({"images": [converted("qcow2")]}, FITS, "b" * 64),
        ({"disks": [disk(sha256=None)]}, UNKNOWN, "sealift download"),
    ],
    "ibm-vpc.fstab": [({"inside": inside(fstab_by_device=True)}, FAILS, "UUIDs")],
    "ibm-vpc.dhcp": [({"inside": inside(dhcp=False)}, FAILS, "console")],
    "ibm-vpc.encrypted": [({"inside": inside(encrypted=True)}, REMARK, "passphrase")],
    "aws.format": [
        ({}, FITS, "vhd-dynamic"),
        ({"disks": [disk(format="vmdk-stream")]}, FITS, "vmdk-stream"),
        ({"disks": [disk(format="vmdk-sparse")]}, FAILS, "vhd-dynamic"),
    ],
    "aws.size": [
        (sized(16 * 2**40 - 512), FITS, "GiB"),
        (sized(16 * 2**40), FAILS, "disk-0.vhd"),
        (sized(25 * GIB, 16 * 2**40), FAILS, "disk-1.vhd"),
    ],
    "aws.mbr": [
        (sized(2 * 2**40), FITS, "mbr"),
        (sized(2 * 2**40 + 512), FAILS, "GPT"),
        ({"disks": [disk(size=3 * 2**40, partition_table="gpt: 1 partition")]}, FITS, "gpt"),
        (UNREAD, UNKNOWN, "level L3"),
    ],
    "aws.disks": [
        ({"disks": [disk(number) for number in range(21)]}, FITS, "21 of 21"),
        ({"disks": [disk(number) for number in range(22)]}, FAILS, "22 disks"),
    ],
    "aws.root-disk": [
        ({}, FITS, "2 partitions"),
        ({"disks": [disk(partition_table="none: blank", partitions=[])]}, FAILS, "no partitions"),
        (UNREAD, UNKNOWN, "level L3"),
    ],
    "aws.file-system": [
        ({}, FITS, "ext4"),
        ({"inside": inside(root_file_system="btrfs")}, REMARK, "subvolumes"),
        ({"inside": inside(root_file_system="zfs")}, FAILS, "zfs"),
        ({"inside": WINDOWS}, FITS, "ntfs"),
        ({"inside": WINDOWS.model_copy(update={"root_file_system": "refs"})}, FAILS, "NTFS"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "aws.system": [
        ({}, FITS, "is named"),
        (NOBODY, FITS, "by the account"),
        ({"inside": inside(os_id="debian", os_version="13")}, UNKNOWN, "newer"),
        ({"inside": inside(os_id="debian", os_version="10")}, FAILS, "import-snapshot"),
        ({"inside": inside(os_id="gentoo", os_version="2")}, FAILS, "not named"),
        (
            {"inside": None, "about": {"operatingSystem": software("Ubuntu", "20.04-32 Minimal", "UBUNTU_20_32")}},
            FAILS,
            "32-bit",
        ),
        ({"inside": None, "about": {"operatingSystem": None}}, UNKNOWN, "level L3"),
    ],
    "aws.firmware": [
        ({}, FITS, "BIOS"),
        ({**EFI, "inside": inside(firmware="efi", efi_fallback=True)}, REMARK, "import.sh"),
        ({**EFI, "inside": inside(firmware="efi", efi_fallback=False)}, FAILS, "BOOTX64.EFI"),
        (EFI, UNKNOWN, "BOOTX64.EFI"),
        ({**NOT_TOLD, "inside": None}, UNKNOWN, "level L3"),
    ],
    "aws.interfaces": [
        ({"about": {"networkComponents": []}}, FITS, "one network interface"),
        ({}, REMARK, "2 network interfaces"),
    ],
    "aws.nitro": [
        ({}, FITS, "Nitro"),
        ({"inside": drivers(nvme="absent")}, REMARK, "t2"),
        ({"inside": WINDOWS}, UNKNOWN, "Windows"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "aws.fstab": [({"inside": inside(fstab_by_device=True)}, REMARK, "rewrites")],
    "aws.dhcp": [({"inside": inside(dhcp=False)}, REMARK, "changes that")],
    "aws.encrypted": [({"inside": inside(encrypted=True)}, FAILS, "refuses")],
    "google.format": [
        ({}, FITS, "vhd-dynamic"),
        ({"disks": [disk(), disk(1, format="vmdk-sparse")]}, FAILS, "disk-1.converted.vhd must be made as vhd-dynamic"),
    ],
    "google.disks": [({}, FITS, "one disk"), (TWO, REMARK, "1 of them")],
    "google.mbr": [(sized(2 * 2**40), FITS, "mbr"), (sized(2 * 2**40 + 512), FAILS, "GPT"), (UNREAD, UNKNOWN, "L3")],
    "google.system": [
        ({}, FITS, "adapts"),
        ({"inside": inside(os_id="debian", os_version="13")}, UNKNOWN, "SKIP_ADAPTATION"),
        ({"inside": inside(os_id="freebsd", os_version="14")}, FAILS, "skip-os-adaptation"),
        ({"inside": None, "about": {"operatingSystem": None}}, UNKNOWN, "level L3"),
    ],
    "google.virtio": [
        ({}, FITS, "virtio_scsi"),
        ({"inside": drivers(virtio_scsi="module")}, REMARK, "rebuilds"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "google.firmware": [
        ({}, FITS, "BIOS"),
        (EFI, REMARK, "UEFI_COMPATIBLE"),
        ({**NOT_TOLD, "inside": None}, UNKNOWN, "level L3"),
    ],
    "google.fstab": [({"inside": inside(fstab_by_device=True)}, REMARK, "rewrites")],
    "google.dhcp": [({"inside": inside(dhcp=False)}, REMARK, "changes that")],
    "google.encrypted": [({"inside": inside(encrypted=True)}, REMARK, "passphrase")],
    "azure.format": [
        ({"images": [converted("vhd-fixed")]}, FITS, "vhd-fixed"),
        ({"disks": [disk(format="vhd-fixed", size=25 * GIB)]}, FITS, "disk-0.vhd"),
        ({}, FAILS, "disk-0.fixed.vhd must be made as vhd-fixed"),
    ],
    "azure.whole-mib": [
        (sized(25 * GIB), FITS, "whole MiB"),
        (sized(25 * GIB + 512), FAILS, "no whole MiB"),
        (
            {**sized(25 * GIB + 512), "images": [converted("vhd-fixed", size=25 * GIB + MIB)]},
            FITS,
            "the converted image has whole MiB",
        ),
        ({"images": [converted("vhd-fixed", size=25 * GIB).model_copy(update={"size": 25 * GIB})]}, FAILS, "footer"),
    ],
    "azure.boot-size": [
        (sized(1023 * GIB), FITS, "1023 GiB"),
        (sized(1023 * GIB + MIB), UNKNOWN, "another"),
        (sized(2048 * GIB), UNKNOWN, "another"),
        (sized(2048 * GIB + MIB), FAILS, "generation 1"),
        ({**sized(2048 * GIB + MIB), "inside": inside(firmware="efi")}, UNKNOWN, "another"),
        ({**sized(4095 * GIB + MIB), "inside": inside(firmware="efi")}, FAILS, "4095 GiB"),
    ],
    "azure.data-size": [
        (sized(25 * GIB, 32_767 * GIB), FITS, "Every other disk"),
        (sized(25 * GIB, 32_767 * GIB + 512), FAILS, "32767 GiB"),
    ],
    "azure.generation": [
        ({}, FITS, "generation 1"),
        (EFI, FITS, "generation 2"),
        ({**NOT_TOLD, "inside": None}, UNKNOWN, "generation 1"),
    ],
    "azure.hyper-v": [
        ({}, FITS, "hv_vmbus, hv_storvsc, hv_netvsc"),
        ({"inside": drivers(hv_storvsc="module")}, FAILS, "hv_storvsc"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "azure.agent": [
        ({}, FITS, "waagent"),
        ({"inside": inside(azure_agent=False, datasources=[])}, FITS, "cloud-init"),
        ({"inside": inside(azure_agent=False, datasources=["NoCloud"])}, REMARK, "extensions"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "azure.swap": [
        ({}, FITS, "no swap partition"),
        ({"disks": [disk(partitions=[{"type_name": "Linux swap"}])]}, REMARK, "temporary disk"),
        (UNREAD, UNKNOWN, "level L3"),
    ],
    "azure.lvm": [
        ({}, FITS, "not divided"),
        ({"disks": [disk(partitions=[{"type_name": "Linux LVM"}])]}, REMARK, "share names"),
        (UNREAD, UNKNOWN, "level L3"),
    ],
    "azure.fstab": [({"inside": inside(fstab_by_device=True)}, FAILS, "UUIDs")],
    "azure.dhcp": [({"inside": inside(dhcp=False)}, FAILS, "console")],
    "azure.encrypted": [({"inside": inside(encrypted=True)}, REMARK, "passphrase")],
    "openstack.format": [
        ({"images": [converted("qcow2")]}, FITS, "qcow2"),
        ({"images": [converted("raw")]}, FITS, "raw"),
        ({}, FAILS, "convert.sh"),
    ],
    "openstack.bus": [
        ({}, FITS, "virtio_blk"),
        ({"inside": drivers(virtio_blk="module")}, REMARK, "scsi"),
        ({"inside": drivers(virtio_pci="module")}, REMARK, "sata"),
        ({"inside": drivers(virtio_pci="module", ahci="absent")}, FAILS, "none of"),
        ({"inside": drivers(virtio_pci="module", ahci=None)}, UNKNOWN, "the bus sata"),
        ({"inside": WINDOWS}, UNKNOWN, "virtio-win"),
        (NOBODY, UNKNOWN, "the bus virtio"),
    ],
    "openstack.cloud-init": [
        ({"inside": inside(datasources=["ConfigDrive"])}, FITS, "ConfigDrive"),
        ({"inside": inside(datasources=[])}, FITS, "all data sources"),
        ({"inside": inside(cloud_init=False)}, REMARK, "keeps"),
        ({}, REMARK, "NoCloud"),
        ({"inside": inside(datasources=None)}, UNKNOWN, "level L3"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "openstack.firmware": [
        ({}, FITS, "BIOS"),
        (EFI, REMARK, "hw_firmware_type=uefi"),
        ({**NOT_TOLD, "inside": None}, UNKNOWN, "hw_firmware_type"),
    ],
    "openstack.fstab": [({"inside": inside(fstab_by_device=True)}, FAILS, "UUIDs")],
    "openstack.dhcp": [({"inside": inside(dhcp=False)}, FAILS, "console")],
    "openstack.encrypted": [({"inside": inside(encrypted=True)}, REMARK, "passphrase")],
    "libvirt.format": [({"images": [converted("qcow2")]}, FITS, "qcow2"), ({}, FAILS, "disk-0.qcow2")],
    "libvirt.bus": [
        ({}, FITS, "virtio_blk"),
        ({"inside": drivers(virtio_pci="module", ahci="absent")}, FAILS, "none of"),
        (NOBODY, UNKNOWN, "level L3"),
    ],
    "libvirt.firmware": [
        ({}, FITS, "BIOS"),
        (EFI, REMARK, "OVMF"),
        ({**NOT_TOLD, "inside": None}, UNKNOWN, "BIOS"),
    ],
    "libvirt.networks": [
        ({}, REMARK, "eth0, eth1"),
        ({"about": {"networkComponents": [{"name": "eth", "port": 0}]}}, REMARK, "`default`"),
        ({"about": {"networkComponents": None}}, UNKNOWN, "has none"),
    ],
    "libvirt.fstab": [({"inside": inside(fstab_by_device=True)}, FAILS, "UUIDs")],
    "libvirt.dhcp": [({"inside": inside(dhcp=False)}, FAILS, "console")],
    "libvirt.encrypted": [({"inside": inside(encrypted=True)}, REMARK, "passphrase")],
    "vmware.format": [
        ({"images": [converted("vmdk-stream")]}, REMARK, "ovftool"),
        ({"disks": [disk(format="vmdk-stream")]}, REMARK, "disk-0.vhd"),
        ({}, FAILS, "disk-0.vmdk"),
    ],
    "vmware.size": [(sized(62 * 2**40), FITS, "GiB"), (sized(62 * 2**40 + 512), FAILS, "Make it smaller")],
    "vmware.controller": [
        ({}, FITS, "VirtualSCSI"),
        ({"inside": drivers(vmw_pvscsi="module", mptspi="initramfs")}, FITS, "lsilogic"),
        ({"inside": drivers(vmw_pvscsi="absent", mptspi="absent")}, FITS, "AHCI"),
        ({"inside": drivers(vmw_pvscsi="absent", mptspi="absent", ahci="absent")}, FAILS, "none of"),
        ({"inside": drivers(vmw_pvscsi="absent", mptspi=None, ahci="absent")}, UNKNOWN, "lsilogic"),
        ({"inside": WINDOWS}, UNKNOWN, "lsilogic"),
        (NOBODY, UNKNOWN, "VirtualSCSI"),
    ],
    "vmware.adapter": [
        ({}, FITS, "VmxNet3"),
        ({"inside": drivers(vmxnet3="absent", e1000="module")}, FITS, "E1000"),
        ({"inside": drivers(vmxnet3="absent", e1000="absent")}, FAILS, "no network"),
        (NOBODY, UNKNOWN, "VmxNet3"),
    ],
    "vmware.firmware": [
        ({}, FITS, "BIOS"),
        (EFI, FITS, "EFI"),
        ({**NOT_TOLD, "inside": None}, UNKNOWN, "BIOS"),
    ],
    "vmware.fstab": [({"inside": inside(fstab_by_device=True)}, FAILS, "UUIDs")],
    "vmware.dhcp": [({"inside": inside(dhcp=False)}, FAILS, "console")],
    "vmware.encrypted": [({"inside": inside(encrypted=True)}, REMARK, "passphrase")],
}

TABLE = [
    *((rule, *one) for rule, ones in OWN.items() for one in ones),
    *((f"{target}.{fact}", *one) for target in Target for fact, ones in COMMON.items() for one in ones),
]


@pytest.mark.parametrize(("rule", "export", "outcome", "words"), TABLE)
def test_a_rule_finds_what_it_is_for(rule: str, export: dict[str, Any], outcome: Outcome, words: str) -> None:
    target = Target(rule.partition(".")[0])
    [line] = [one for one in judge(ALL, case(**export), target).lines if one.id == rule]

    assert (line.outcome, words in line.words) == (outcome, True), line.words


def test_every_rule_is_in_the_table_with_one_outcome_that_is_good_and_one_that_is_not() -> None:
    tried = defaultdict(set)
    for rule, _, outcome, _ in TABLE:
        tried[rule].add(outcome)
    # These two never say only that it fits.
    lenient = {"libvirt.networks": {REMARK, UNKNOWN}, "vmware.format": {REMARK, FAILS}}

    ids = [f"{rule.target}.{rule.id}" for rule in ALL]
    assert len(ids) == len(set(ids))
    assert set(tried) == set(ids)
    for rule in ids:
        outcomes = tried[rule]
        if rule in lenient:
            assert outcomes == lenient[rule]
        else:
            assert FITS in outcomes, rule
            assert outcomes - {FITS}, rule


def test_every_rule_says_where_it_comes_from() -> None:
    for rule in ALL:
        assert rule.checks
        assert rule.source.where
        line = rule.line(case())
        assert line.words.endswith((".", "…")), line.words
        assert (line.source, line.source_date, line.confirmed) == (
            rule.source.where,
            rule.source.date,
            rule.source.confirmed,
        )


def test_of_an_export_that_nobody_looked_into_no_fact_inside_the_disks_is_claimed() -> None:
    report = fit_report(manifest(), record())

    assert [fit.target for fit in report.targets] == list(Target)
    for fit in report.targets:
        lines = {line.id.partition(".")[2]: line.outcome for line in fit.lines}
        asked = {"fstab", "dhcp", "encrypted", "virtio", "hyper-v", "nitro"}
        asked |= {"bus", "controller", "adapter", "cloud-init"}
        assert {lines[name] for name in asked & lines.keys()} == {UNKNOWN}


def test_what_fails_stands_first_and_gives_the_outcome() -> None:
    [kit] = build_kits(manifest(sized(251 * GIB)["disks"]), record(), None, (), [Target.IBM_VPC])

    order = [line.outcome for line in kit.fit.lines]
    assert kit.fit.outcome is order[0] is FAILS
    assert order == sorted(order, key=[FAILS, UNKNOWN, REMARK, FITS].index)
    assert [line.id for line in kit.fit.having(FAILS)] == ["ibm-vpc.boot-size"]


def test_the_page_counts_and_names_everything_that_was_found() -> None:
    report = fit_report(manifest(), record(), GuestSystem(datasources=["<b>|`x`"]), (), [Target.IBM_VPC, Target.AWS])
    page = fit_page(report).decode()

    for fit in report.targets:
        assert f"## {fit.target.label}" in page
    assert page.count("\n| would fail |") == sum(len(fit.having(FAILS)) for fit in report.targets)
    assert page.count("\n| not known |") == sum(len(fit.having(UNKNOWN)) for fit in report.targets)
    assert "(unconfirmed)" in page.replace("\\", "")
    assert "<b>" not in page
    rows = [row for row in page.splitlines() if row.startswith("| ")]
    assert all(len(cells(row)) in (4, 6) for row in rows), "a value broke out of its cell"


def cells(row: str) -> list[str]:
    return row.replace("\\|", "").strip("|").split("|")


def test_a_written_report_fits_the_published_schema() -> None:
    schema = json.loads(schema_text("fit"))
    for kit in build_kits(manifest(), record(), inside(), [converted("qcow2")]):
        written = json.loads(kit.files["fit.json"])
        Draft202012Validator(schema).validate(written)
        assert FitReport.model_validate(written).targets == [kit.fit]
