"""What a kit knows of its server: by manifest, record, and a look inside; and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.exports.kits import DriverPlace, GuestSystem, KitError
from sealift.exports.kits.server import look_at
from tests.exports.kits.world import EXPORT, GPT_EFI, case, disk, interface, manifest, record, software


@pytest.mark.parametrize(
    ("code", "version", "id_", "short"),
    [
        ("UBUNTU_20_64", "20.04-64 Minimal for VSI", "ubuntu", "20.04"),
        ("DEBIAN_12_64", "12.0-64 Minimal for VSI", "debian", "12"),
        ("CENTOS_7_64", "7.0-64 Minimal for VSI", "centos", "7"),
        ("CENTOS-STREAM_9_64", "9.0-64", "centos", "9"),
        ("REDHAT_8_64", "8.0-64", "rhel", "8"),
        ("ROCKYLINUX_9_64", "9.0-64", "rocky", "9"),
        ("WIN_2019-STD_64", "2019 Standard (64 bit)", "windows", "2019"),
        ("", "", "", ""),
        ("HAL_9000", "x", "", ""),
    ],
)
def test_the_account_s_reference_code_tells_the_system(code: str, version: str, id_: str, short: str) -> None:
    about = {"operatingSystem": software("words", version, code)}
    system = case(inside=None, about=about).server.system

    assert (system.id, system.version, system.read) == (id_, short, False)


def test_what_was_read_inside_goes_before_what_the_account_says() -> None:
    inside = GuestSystem(os_id="ubuntu", os_version="22.04", name="Ubuntu 22.04.4 LTS")
    system = case(inside=inside).server.system

    assert (system.id, system.version, system.words, system.read) == ("ubuntu", "22.04", "Ubuntu 22.04.4 LTS", True)
    assert system.bits == 64


@pytest.mark.parametrize(
    ("table", "partitions", "firmware"),
    [
        ("mbr: 2 partitions", [{"type_name": "Linux"}], "bios"),
        ("mbr: 2 partitions", [{"type_name": "EFI system"}], None),
        ("gpt: 2 partitions", GPT_EFI, "efi"),
        ("gpt: 2 partitions", [{"type_name": "BIOS boot"}], "bios"),
        ("gpt: 3 partitions", [*GPT_EFI, {"type_name": "BIOS boot"}], None),
        ("none: blank", [], None),
    ],
)
def test_the_partitions_tell_the_firmware_where_they_can(table: str, partitions: list[Any], firmware: str) -> None:
    disks = [disk(partition_table=table, partitions=partitions)]

    assert case(disks=disks, inside=None).server.firmware == firmware
    assert case(disks=disks, inside=GuestSystem(firmware="efi")).server.firmware == "efi"


def test_the_boot_disk_comes_first_whatever_its_number() -> None:
    server = case(disks=[disk(0, device="2"), disk(1, device="0")]).server

    assert [one.file for one in server.disks] == ["disk-1.vhd", "disk-0.vhd"]
    assert server.boot_disk.boot
    assert [one.file for one in server.data_disks] == ["disk-0.vhd"]


def test_interfaces_are_those_of_the_system_with_what_was_recorded() -> None:
    server = case().server

    assert [(one.name, one.mac, one.public) for one in server.interfaces] == [
        ("eth0", "06:f9:65:9b:23:65", False),
        ("eth1", "06:11:22:33:44:55", True),
    ]
    assert server.interfaces[0].gateway == "10.240.142.1"


@pytest.mark.parametrize(
    "mac", ["", "zz:f9:65:9b:23:65", "01:00:5e:00:00:01", "00:00:00:00:00:00", "06-f9-65-9b-23-65"]
)
def test_what_is_no_address_of_an_interface_is_left_out(mac: str) -> None:
    about = {"networkComponents": [interface("eth", 0, mac, "10.0.0.300", "no", "PRIVATE")]}
    [one] = case(about=about).server.interfaces

    assert (one.mac, one.address, one.gateway) == (None, None, None)


def test_a_record_of_strange_shapes_tells_nothing() -> None:
    about = {
        "maxCpu": True,
        "maxMemory": -1,
        "operatingSystem": ["x"],
        "networkComponents": [None, {"name": "eth", "port": "0; rm"}, {"primarySubnet": "x"}],
        "tagReferences": {"tag": "x"},
        "notes": 5,
    }
    server = case(inside=None, about=about).server

    assert (server.vcpus, server.memory_mib, server.system.id) == (None, None, "")
    assert (server.interfaces, server.tags) == ((), ())
    assert server.notes == "5"


def test_numbers_of_either_transport_are_read() -> None:
    server = case(about={"maxCpu": 4.0, "maxMemory": 8192}).server

    assert (server.vcpus, server.memory_mib) == (4, 8192)


def test_drivers_are_found_by_either_spelling() -> None:
    server = case(inside=GuestSystem(drivers={"xen-blkfront": DriverPlace.MODULE})).server

    assert server.driver("xen_blkfront") is DriverPlace.MODULE
    assert server.at_boot("xen_blkfront") is False
    assert server.at_boot("virtio_blk") is None


def test_names_are_of_the_server_and_of_the_export() -> None:
    server = case(guest={"id": 101, "hostname": "Web_1." + "x" * 80}).server

    assert len(server.name) <= 50
    assert server.name.endswith("-101")
    assert server.image_name.endswith("-101-20261123t0200z")
    assert case().server.folder == f"web101-101/{EXPORT}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bucket": "b; rm -rf /"}, "bucket"),
        ({"region": "eu\nde"}, "region"),
        ({"disks": [disk(key="a/$(id)/disk-0.vhd")]}, "key"),
        ({"disks": [disk(key="a//disk-0.vhd")]}, "key"),
        ({"disks": [disk(key="a/../disk-0.vhd")]}, "key"),
        ({"disks": [disk(format="iso")]}, "format"),
        ({"disks": [disk(), disk(1, key=disk()["key"])]}, "two disks with one file name"),
        ({"disks": [disk(1)]}, "0 disks with the device number 0"),
        ({"disks": [disk(), disk(1, device="0")]}, "2 disks with the device number 0"),
        ({"export_id": "../x"}, "export id"),
    ],
)
def test_a_manifest_that_sealift_does_not_write_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(KitError, match=words):
        look_at(manifest(**{"disks": [disk()], **changes}), record(), GuestSystem())


def test_a_record_of_another_server_is_refused() -> None:
    with pytest.raises(KitError, match="virtual server 102"):
        look_at(manifest(), record().model_copy(update={"guest_id": 102}), GuestSystem())
