"""slcli's commands for images."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.conformance


def test_list(slcli: Any) -> None:
    name = f"listed-{slcli.transport}"
    number = slcli.finished_template(name=name)
    everything = slcli.json("image", "list")
    assert {"Private", "Public"} <= {one["Visibility"].title() for one in everything}
    private, public = slcli.json("image", "list", "--private"), slcli.json("image", "list", "--public")
    assert len(private) + len(public) == len(everything)
    assert [one["Name"] for one in public] == ["DEBIAN_12_64-base", "UBUNTU_22_64-base"]
    (found,) = slcli.json("image", "list", "--private", "--name", name)
    assert (found["Id"], found["Name"], found["Account"]) == (number, name, 307608)
    assert found["OS"] == "Ubuntu / Ubuntu / 22.04-64 Minimal for VSI"
    assert slcli.json("image", "list", "--name", "nobody") == []


def test_detail_by_id_and_by_name(slcli: Any) -> None:
    name = f"detailed-{slcli.transport}"
    number = slcli.finished_template("db-01", name=name, all_disks=True)
    found = slcli.json("image", "detail", number)
    assert found == slcli.json("image", "detail", name)
    assert (found["Id"], found["Name"], found["Account"], found["Flex"]) == (number, name, 307608, False)
    sizes = [one["Size On Disk"] for one in found["Virtual Disks"]]
    assert len(sizes) == 5
    assert [size for size in sizes if size == "N/A"] == ["N/A"], "only the swap entry has no size"
    assert found["Datacenters"][0]["DC"] == "dal13"
    assert found["Datacenters"][0]["Size"] > 0


def test_edit(slcli: Any) -> None:
    number = slcli.finished_template(name=f"before-{slcli.transport}")
    slcli.run("image", "edit", number, "--name", "after", "--note", "words", "--tag", "one")
    found = slcli.json("image", "detail", number)
    assert (found["Name"], found["Note"]) == ("after", "words")
    mask = "tagReferences[tag[name]]"
    words = ["call-api", "Virtual_Guest_Block_Device_Template_Group", "getObject", "--id", number, "--mask", mask]
    group = slcli.json(*words)
    assert group["tagReferences"][0]["tag"] == {"name": "one"}


def test_export(slcli: Any) -> None:
    box = slcli.box
    number = slcli.finished_template("db-01", all_disks=True)
    place = f"{slcli.transport}/export"
    slcli.run(
        "image", "export", number, f"cos://us-south/{box.bucket}/{place}/disk.vhd", "--ibm-api-key", box.cos_api_key
    )
    box.wait_until(slcli.idle, what="the export")
    assert [one.key for one in box.store.list(box.bucket, place)] == [f"{place}/disk-{n}.vhd" for n in range(4)]


@pytest.mark.parametrize(
    ("uri", "key", "words"),
    [
        ("cos://eu-de/sealift-exports/disk.vhd", True, "does not exist in location eu-de"),
        ("cos://us-south/sealift-exports/disk.vhd", False, "An IBM Cloud API key is needed"),
        ("swift://a@b/c/d.vhd", False, "use a cos:// uri"),
    ],
)
def test_export_refused(slcli: Any, uri: str, key: bool, words: str) -> None:
    number = slcli.finished_template()
    more = ["--ibm-api-key", slcli.box.cos_api_key] if key else []
    done = slcli.run("image", "export", number, uri, *more, check=False)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr


def test_delete(slcli: Any) -> None:
    number = slcli.finished_template(name=f"deleted-{slcli.transport}")
    slcli.run("image", "delete", number)
    slcli.box.wait_until(slcli.idle, what="the deletion")
    assert slcli.run("image", "detail", number, check=False).returncode != 0
    assert slcli.json("image", "list", "--name", f"deleted-{slcli.transport}") == []


def test_datacenters(slcli: Any) -> None:
    number = slcli.finished_template()
    slcli.run("image", "datacenter", number, "--add", "fra02")
    slcli.box.wait_until(slcli.idle, what="the copy")
    found = slcli.json("image", "detail", number)["Datacenters"]
    assert [one["DC"] for one in found] == ["dal13", "fra02"]
    slcli.run("image", "datacenter", number, "--remove", "fra02")
    assert [one["DC"] for one in slcli.json("image", "detail", number)["Datacenters"]] == ["dal13"]
    assert slcli.run("image", "datacenter", number, "--add", "nowhere", check=False).returncode != 0
