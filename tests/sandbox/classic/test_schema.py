"""Local and relational properties, as SLDN's article on object masks has them."""

from __future__ import annotations

from typing import Any

import pytest

GUEST, GROUP = "SoftLayer_Virtual_Guest", "SoftLayer_Virtual_Guest_Block_Device_Template_Group"


@pytest.fixture
def client(make_sandbox: Any, rest: Any) -> Any:
    return rest(make_sandbox())


def read(client: Any, hostname: str, mask: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{GUEST}/{client.guest(hostname)['id']}/getObject.json", objectMask=mask)
    return found


def test_no_mask_gives_all_locals_and_no_relation(client: Any) -> None:
    found = read(client, "web-01", "")
    assert {"id", "hostname", "createDate", "notes", "placementGroupId"} <= set(found)
    assert found["notes"] is None, "a local that is null is there"
    assert not {"datacenter", "blockDevices", "operatingSystem", "activeTransaction"} & set(found)
    assert not [name for name in found if name.startswith("_")]


def test_naming_a_local_leaves_the_other_locals_out(client: Any) -> None:
    assert set(read(client, "web-01", "mask[hostname,datacenter]")) == {"hostname", "datacenter"}


def test_naming_relations_only_keeps_the_locals(client: Any) -> None:
    found = read(client, "web-01", "mask[datacenter]")
    assert {"id", "hostname", "datacenter"} <= set(found)
    assert found["datacenter"] == {"id": 1854895, "longName": "Dallas 13", "name": "dal13", "statusId": 2}


def test_a_null_relation_is_left_out(client: Any) -> None:
    assert set(read(client, "db-01", "id,dedicatedHost,activeTransaction,allowedHost")) == {"id"}
    assert read(client, "web-01", "id,dedicatedHost[name]")["dedicatedHost"] == {"name": "dedicated-01"}


def test_counts_need_no_list(client: Any) -> None:
    mask = "id,blockDeviceCount,activeTransactionCount,tagReferenceCount"
    assert read(client, "db-01", mask) == {
        "id": client.guest("db-01")["id"],
        "blockDeviceCount": 7,
        "activeTransactionCount": 0,
        "tagReferenceCount": 2,
    }


def test_block_devices_are_as_recorded(client: Any) -> None:
    number = client.guest("db-01")["id"]
    mask = "mask[device,mountType,diskImage[capacity,units,metadataFlag,type[keyName]]]"
    devices = client.get(f"{GUEST}/{number}/getBlockDevices.json", objectMask=mask)
    assert [one["device"] for one in devices] == ["0", "1", "2", "3", "4", "5", "7"]
    by_device = {one["device"]: one for one in devices}
    assert by_device["3"] == {"device": "3", "mountType": "CD"}, "a CD has no diskImage key"
    assert by_device["1"]["diskImage"]["type"] == {"keyName": "SWAP"}
    assert by_device["7"]["diskImage"]["metadataFlag"] is True
    assert by_device["0"]["diskImage"] == {
        "capacity": 25,
        "units": "GB",
        "metadataFlag": False,
        "type": {"keyName": "SYSTEM"},
    }


def test_secrets_come_only_when_asked_for(client: Any) -> None:
    number = client.guest("files-01")["id"]
    plain = client.get(f"{GUEST}/{number}/getObject.json") | {}
    client.get(f"{GUEST}/{number}/getObject.json", objectMask="id,operatingSystem[softwareLicense],softwareComponents")
    assert "PLANTED" not in client.reply.text + str(plain)
    for mask in ("operatingSystem[passwords]", "softwareComponents[passwords]", "userData", "allowedHost[credential]"):
        client.get(f"{GUEST}/{number}/getObject.json", objectMask=mask)
        assert "PLANTED" in client.reply.text, mask
    client.post(f"{GUEST}/{number}/getAttachedNetworkStorages.json", "*")
    assert "PLANTED-storage-password" in client.reply.text, "a volume's local properties hold its password"


def test_a_transaction_tells_its_state(client: Any) -> None:
    mask = "activeTransaction[id,elapsedSeconds,transactionGroup[name],transactionStatus[name,friendlyName]]"
    found = read(client, "legacy-01", f"id,{mask}")["activeTransaction"]
    assert found["elapsedSeconds"] >= 3 * 86_400 - 60
    assert found["transactionStatus"]["name"] == "SANDBOX_WORK"
    done = read(client, "web-01", "id,lastTransaction[transactionStatus[name]]")["lastTransaction"]
    assert done["transactionStatus"] == {"name": "COMPLETE"}
    assert done["elapsedSeconds"] > 86_400, "it keeps growing after the end"


def test_deep_relations_lead_back(client: Any) -> None:
    mask = "mask[id,blockDevices[id,guest[id,dedicatedHost[guests[hostname]]]]]"
    found = read(client, "web-01", mask)
    assert found["blockDevices"][0]["guest"]["dedicatedHost"]["guests"][0] == {"hostname": "web-01"}


def test_a_public_image_is_read_like_one_of_ours(client: Any) -> None:
    parents = client.get(f"{GROUP}/getPublicImages.json", objectMask="id,parentId,children[blockDevicesDiskSpaceTotal]")
    assert [one["parentId"] for one in parents] == [None, None]
    assert parents[0]["children"][0]["blockDevicesDiskSpaceTotal"] == 1_500_000_000.0
