"""What copyToIcos refuses, and how it names objects."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def client(make_sandbox: Any, rest: Any) -> Any:
    return rest(make_sandbox(speed=3000.0))


@pytest.fixture
def template(client: Any) -> int:
    """A finished template of the server with four disks."""
    number = int(client.capture("db-01")["id"])
    client.box.wait_until(lambda: client.box.templates()[0]["finished"], what="the capture")
    return number


def idle(client: Any) -> bool:
    return list(client.box.summary()["running"].values()) == ["hold"]


def refused(client: Any, document: Any, words: str) -> None:
    assert words in document["error"]
    assert client.reply.status_code >= 400
    assert idle(client)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("cos://us-south/no-such-bucket/disk.vhd", "Bucket no-such-bucket does not exist in location us-south"),
        ("cos://eu-de/sealift-exports/disk.vhd", "Bucket sealift-exports does not exist in location eu-de"),
        ("cos://us-south/sealift-exports/disk.vmdk", "VHD only"),
        ("cos://us-south/sealift-exports/disk.raw", "must end in .vhd"),
        ("cos://us-south/sealift-exports/disk", "must have the form"),
        ("cos://us-south/sealift-exports/", "must have the form"),
        ("cos://us-south", "must have the form"),
        ("s3://sealift-exports/disk.vhd", "must have the form"),
    ],
)
def test_places_that_will_not_do(client: Any, template: int, uri: str, words: str) -> None:
    refused(client, client.export(template, uri), words)


def test_keys_that_will_not_do(client: Any, template: int) -> None:
    uri = f"cos://us-south/{client.box.bucket}/disk.vhd"
    refused(client, client.export(template, uri, "wrong"), "not valid")
    refused(client, client.export(template, uri, client.box.read_only_cos_api_key), "may not write")
    path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{template}/copyToIcos.json"
    refused(client, client.post(path, {"uri": uri, "ibmApiKey": None}), "API key is needed")
    for configuration in ({}, {"uri": None}, "text", None):
        refused(client, client.post(path, configuration), "A configuration with a uri is needed")
    refused(client, client.post(path), "configuration")
    log = str(client.box.writes())
    assert client.box.read_only_cos_api_key not in log
    assert "'***'" in log


def test_hmac_keys_only_where_switched(client: Any, template: int) -> None:
    box = client.box
    path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{template}/copyToIcos.json"
    configuration = {
        "uri": f"cos://us-south/{box.bucket}/disk.vhd",
        "ibmAccessKey": box.hmac_access_key_id,
        "ibmSecretKey": box.hmac_secret_access_key,
    }
    refused(client, client.post(path, configuration), "API key is needed")
    client.admin("switches", {"export_accepts_hmac": True})
    refused(client, client.post(path, configuration | {"ibmSecretKey": "wrong"}), "secret key is not valid")
    assert client.post(path, configuration) is True


def test_templates_that_will_not_do(client: Any, template: int) -> None:
    uri = f"cos://us-south/{client.box.bucket}/disk.vhd"
    (child,) = client.template(template)["children"]
    refused(client, client.export(child["id"], uri), "Only a parent")
    refused(client, client.export(1_000_001, uri), "another account")
    refused(client, client.export(4_711, uri), "Unable to find object")


def test_a_template_that_is_busy(client: Any, template: int, make_sandbox: Any, rest: Any, tmp_path: Any) -> None:
    slow = rest(make_sandbox(root=tmp_path / "slow", speed=1.0))
    uri = f"cos://us-south/{slow.box.bucket}/disk.vhd"
    fresh = slow.capture("web-01")["id"]
    assert "no disks" in slow.export(fresh, uri)["error"], "right after the capture there is no child"
    client.box.set_fault("stuck_transaction", times=1)
    assert client.export(template, uri) is True
    assert client.export(template, uri)["error"] == "There is currently an active transaction."


def test_names_count_the_disks_without_the_swap(client: Any, template: int) -> None:
    box = client.box
    assert client.export(template, f"cos://us-south/{box.bucket}/a.b/c d/disk.VHD") is True
    box.wait_until(lambda: idle(client), what="the export")
    assert [one.key for one in box.store.list(box.bucket, "")] == [f"a.b/c d/disk-{n}.VHD" for n in range(4)]


def test_the_swap_takes_a_number_where_switched(client: Any, template: int) -> None:
    client.admin("switches", {"export_swap_takes_index": True})
    client.export(template, f"cos://us-south/{client.box.bucket}/disk.vhd")
    client.box.wait_until(lambda: idle(client), what="the export")
    keys = [one.key for one in client.box.store.list(client.box.bucket, "")]
    assert keys == ["disk-0.vhd", "disk-2.vhd", "disk-3.vhd", "disk-4.vhd"]


def test_a_vmdk_is_a_vhd_where_switched(client: Any, template: int) -> None:
    client.admin("switches", {"export_vmdk": "write-vhd"})
    assert client.export(template, f"cos://us-south/{client.box.bucket}/disk.vmdk") is True


def test_a_limit_of_exports_at_once_where_switched(client: Any, template: int) -> None:
    other = int(client.capture("web-01")["id"])
    client.box.wait_until(lambda: all(one["finished"] for one in client.box.templates()), what="the capture")
    client.admin("switches", {"exports_at_once": 1})
    client.box.set_fault("stuck_transaction", times=1)
    assert client.export(template, f"cos://us-south/{client.box.bucket}/disk.vhd") is True
    assert "Only 1 image exports" in client.export(other, f"cos://us-south/{client.box.bucket}/b/disk.vhd")["error"]


def test_objects_of_the_same_name(client: Any, template: int) -> None:
    box = client.box
    box.store.put_bytes(bucket=box.bucket, key="disk-3.vhd", data=b"old")
    client.admin("switches", {"export_overwrites": False})
    refused(client, client.export(template, f"cos://us-south/{box.bucket}/disk.vhd"), "disk-3.vhd exists already")
    client.admin("switches", {"export_overwrites": True})
    assert client.export(template, f"cos://us-south/{box.bucket}/disk.vhd") is True
    box.wait_until(lambda: idle(client), what="the export")
    found = box.store.head(box.bucket, "disk-3.vhd")
    assert found is not None
    assert found.size > 3


def test_swift_is_not_served(client: Any, template: int) -> None:
    path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{template}/copyToExternalSource.json"
    refused(client, client.post(path, {"uri": "swift://a@b/c/d.vhd"}), "cos://")


def test_editing_and_tagging(client: Any, template: int) -> None:
    path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{template}"
    assert client.post(f"{path}/editObject.json", {"name": "new", "note": "changed", "id": 1}) is True
    assert client.post(f"{path}/setTags.json", "one,two") is True
    mask = "mask[id,name,note,tagReferences[tag[name]]]"
    found = client.get(f"{path}/getObject.json", objectMask=mask)
    assert (found["id"], found["name"], found["note"]) == (template, "new", "changed")
    assert [one["tag"] for one in found["tagReferences"]] == [{"name": "one"}, {"name": "two"}]
    public = "SoftLayer_Virtual_Guest_Block_Device_Template_Group/1000001"
    for method, argument in (("editObject", {"name": "x"}), ("setTags", "x"), ("deleteObject", None)):
        refused(client, client.post(f"{public}/{method}.json", argument), "another account")


def test_deleting_while_busy(client: Any, template: int) -> None:
    client.box.set_fault("stuck_transaction", times=1)
    client.export(template, f"cos://us-south/{client.box.bucket}/disk.vhd")
    path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{template}"
    assert client.get(f"{path}/deleteObject.json")["error"] == "There is currently an active transaction."
    client.admin("switches", {"delete_while_busy": "allow"})
    assert client.get(f"{path}/deleteObject.json")["id"]
    client.box.wait_until(lambda: client.box.templates() == [], what="the deletion")
