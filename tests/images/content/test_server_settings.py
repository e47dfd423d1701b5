"""Releases, cloud-init and networks of several distributions, as their files say it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sealift.images.content.drivers import OPTIONS, cannot_start_on, find_drivers, no_network_on
from sealift.images.content.server_settings import read_cloud_init, read_hostname, read_network, read_release
from sealift.images.file_systems.ext import ExtFileSystem
from sealift.images.file_systems.file_system import Tree
from sealift.images.file_systems.window import CachedDisk, Reading
from sealift.images.source import BytesSource
from tests.images.servers import MIB, make_ext, write_tree

Make = Callable[[dict[str, bytes | str]], Tree]


@pytest.fixture
def tree(tmp_path: Path) -> Make:
    def make(files: dict[str, bytes | str]) -> Tree:
        folder = write_tree(tmp_path / "tree", files)
        path = make_ext(tmp_path / "fs", size=4 * MIB, tree=folder, options=("-b", "1024"))
        disk = CachedDisk(BytesSource(path.read_bytes()), reading=Reading(budget=64 * MIB), name="disk 0")
        return Tree(ExtFileSystem(disk, name="it"))

    return make


def test_releases(tree: Make) -> None:
    text = '# c\nNAME="Ubuntu"\nID=ubuntu\nVERSION_ID=\'22.04\'\nPRETTY_NAME="Ubuntu 22.04 \\"LTS\\""\nBAD="x\n'
    found = read_release(tree({"usr/lib/os-release": text, "etc/os-release": "->../usr/lib/os-release"}))
    assert (found["ID"], found["VERSION_ID"], found["PRETTY_NAME"]) == ("ubuntu", "22.04", 'Ubuntu 22.04 "LTS"')


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"etc/redhat-release": "CentOS release 6.10 (Final)\n"}, "CentOS release 6.10 (Final)"),
        ({"etc/debian_version": "6.0.10\n"}, "Debian 6.0.10"),
    ],
)
def test_releases_before_os_release(tree: Make, files: dict[str, bytes | str], name: str) -> None:
    assert read_release(tree(files)) == {"NAME": name, "PRETTY_NAME": name}


def test_no_release(tree: Make) -> None:
    assert read_release(tree({"etc/os-release": "->/usr/lib/os-release"})) == {}


def test_hostnames(tree: Make) -> None:
    assert read_hostname(tree({"etc/hostname": "# c\nweb01\n"})) == "web01"


def test_hostname_of_old_red_hat(tree: Make) -> None:
    assert read_hostname(tree({"etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME=db1.example.com\n"})) == (
        "db1.example.com"
    )


def test_cloud_init_of_debian(tree: Make) -> None:
    found = read_cloud_init(
        tree(
            {
                "usr/bin/cloud-init": "",
                "etc/cloud/cloud.cfg": (
                    "users:\n - default\npassword: hidden\ncloud_final_modules:\n - package-update\n"
                    " - scripts-vendor\n - [scripts-user, always]\nsystem_info: x\n"
                ),
                "etc/cloud/cloud.cfg.d/10_datasource.cfg": "datasource_list: [ NoCloud, ConfigDrive ]\n",
                "etc/cloud/cloud.cfg.d/90_dpkg.cfg": "# by dpkg\ndatasource_list:\n  [ ConfigDrive,\n   None ] # two\n",
                "usr/lib/python3/dist-packages/cloud_init-23.1.2.egg-info/PKG-INFO": "",
            }
        )
    )
    assert found.installed
    assert (found.version, found.disabled, found.vendor_scripts) == ("23.1.2", False, True)
    assert found.datasources == ["ConfigDrive", "None"]
    assert "hidden" not in found.model_dump_json()


def test_cloud_init_of_red_hat(tree: Make) -> None:
    found = read_cloud_init(
        tree(
            {
                "etc/cloud/cloud.cfg": "datasource_list:\n- NoCloud\n- Ec2\n\ncloud_final_modules:\n  - scripts-user\n",
                "etc/cloud/cloud-init.disabled": "",
                "usr/lib/python3.9/site-packages/cloud_init-24.4-py3.9.egg-info": "",
            }
        )
    )
    assert (found.version, found.disabled, found.vendor_scripts) == ("24.4", True, False)
    assert found.datasources == ["NoCloud", "Ec2"]


def test_what_ds_identify_is_told_wins(tree: Make) -> None:
    files: dict[str, bytes | str] = {
        "etc/cloud/cloud.cfg": "datasource_list: [Ec2]\n",
        "etc/cloud/ds-identify.cfg": "policy: enabled\ndatasource: NoCloud\n",
    }
    assert read_cloud_init(tree(files)).datasources == ["NoCloud"]


def test_no_cloud_init(tree: Make) -> None:
    found = read_cloud_init(tree({"etc/hostname": "x"}))
    assert (found.installed, found.version, found.datasources, found.vendor_scripts) == (False, "", [], None)


def test_networks(tree: Make) -> None:
    found = read_network(
        tree(
            {
                "etc/netplan/01-network.yaml": "network: {}",
                "etc/sysconfig/network-scripts/ifcfg-lo": "DEVICE=lo\n",
                "etc/sysconfig/network-scripts/ifcfg-eth0": 'BOOTPROTO="dhcp"\nKEY=hidden\n',
                "etc/sysconfig/network-scripts/ifcfg-eth1": "IPADDR=10.0.0.1\n",
                "etc/network/interfaces": "iface lo inet loopback\n  iface ens3 inet static\n address 10.1.1.1\n",
                "etc/network/interfaces.d/x": "iface ens4 inet dhcp\n",
                "etc/NetworkManager/system-connections/office.nmconnection": "[wifi]\npsk=hidden\n",
                "etc/systemd/network/20.network": "[Match]\n",
            }
        )
    )
    assert found.styles == ["netplan", "ifcfg", "interfaces", "NetworkManager", "systemd-networkd"]
    assert {one.name: one.method for one in found.interfaces} == {
        "eth0": "dhcp",
        "eth1": "static",
        "ens3": "static",
        "ens4": "dhcp",
    }
    assert "hidden" not in found.model_dump_json()


def test_loopback_alone_is_no_network(tree: Make) -> None:
    assert read_network(tree({"etc/network/interfaces": "iface lo inet loopback\n"})).styles == []


def test_drivers(tree: Make) -> None:
    files: dict[str, bytes | str] = {
        "lib/modules/6.1/modules.builtin": "kernel/drivers/virtio/virtio_pci.ko\n",
        "lib/modules/6.1/modules.dep": "kernel/block/virtio_blk.ko.xz: kernel/x.ko\nkernel/net/xen-netfront.ko:\n",
        "boot/config-6.1": "# CONFIG_ENA_ETHERNET is not set\nCONFIG_BLK_DEV_NVME=y\nCONFIG_VIRTIO_BLK=m\n",
    }
    made = tree(files)
    found = find_drivers(made, "6.1", initramfs=frozenset(("xen_blkfront",)))
    assert {
        name: found[name] for name in ("virtio_pci", "virtio_blk", "nvme", "xen_blkfront", "xen_netfront", "ena")
    } == {
        "virtio_pci": "built in",
        "virtio_blk": "modules",
        "nvme": "built in",
        "xen_blkfront": "initramfs",
        "xen_netfront": "modules",
        "ena": "missing",
    }
    assert set(found) == set(OPTIONS)
    assert cannot_start_on(found) == {
        "KVM (VPC, OpenStack, Google Cloud)": "virtio_blk or virtio_scsi neither in the initramfs nor built in",
        "Hyper-V (Azure)": "hv_storvsc neither in the initramfs nor built in",
        "VMware": "vmw_pvscsi neither in the initramfs nor built in",
    }
    assert "AWS Nitro" in no_network_on(found)
    assert "Xen (IBM Cloud Classic)" not in no_network_on(found)
    unread = find_drivers(made, "6.1", initramfs=None)
    assert (unread["virtio_pci"], unread["virtio_blk"]) == ("built in", "unknown")
    nothing = find_drivers(made, "9.9", initramfs=frozenset())
    assert set(nothing.values()) == {"unknown"}
    assert (cannot_start_on(nothing), no_network_on(nothing)) == ({}, [])
