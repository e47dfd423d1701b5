"""Methods of the services, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

ACCOUNT, GUEST, HOST = "SoftLayer_Account", "SoftLayer_Virtual_Guest", "SoftLayer_Virtual_DedicatedHost"


@pytest.fixture
def client(make_sandbox: Any, rest: Any) -> Any:
    return rest(make_sandbox(servers=60))


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [one["id"] for one in found]


def test_the_account_and_its_user(client: Any) -> None:
    assert client.get(f"{ACCOUNT}/getObject.json", objectMask="id,companyName") == {
        "id": 307608,
        "companyName": "Sealift Sandbox",
    }
    assert client.get(f"{ACCOUNT}/getCurrentUser.json", objectMask="username") == {"username": client.box.username}


def test_hourly_and_monthly_guests_make_up_all(client: Any) -> None:
    everybody = ids(client.get(f"{ACCOUNT}/getVirtualGuests.json", objectMask="id"))
    hourly = ids(client.get(f"{ACCOUNT}/getHourlyVirtualGuests.json", objectMask="id"))
    monthly = ids(client.get(f"{ACCOUNT}/getMonthlyVirtualGuests.json", objectMask="id"))
    assert len(everybody) == 60
    assert sorted(hourly + monthly) == everybody
    text = json.dumps({"virtualGuests": {"id": {"operation": monthly[0]}}})
    only = client.get(f"{ACCOUNT}/getMonthlyVirtualGuests.json", objectMask="id", objectFilter=text)
    assert ids(only) == monthly[:1], "the root is that of the whole list"


@pytest.mark.parametrize(
    ("clause", "test"),
    [
        ({"hostname": {"operation": "^= web"}}, lambda one: one["hostname"].startswith("web")),
        ({"domain": {"operation": "_= example.org"}}, lambda one: one["domain"] == "example.org"),
        ({"datacenter": {"name": {"operation": "dal13"}}}, lambda one: one["_dc"] == "dal13"),
        (
            {"tagReferences": {"tag": {"name": {"operation": "in", "options": [{"name": "data", "value": ["prod"]}]}}}},
            lambda one: "prod" in one["_tags"],
        ),
        ({"dedicatedHost": {"id": {"operation": 700001}}}, lambda one: one["_host"] == 700001),
        ({"status": {"keyName": {"operation": "DISCONNECTED"}}}, lambda one: one["_status"] == "DISCONNECTED"),
        ({"powerState": {"keyName": {"operation": "HALTED"}}}, lambda one: one["_power"] == "HALTED"),
        ({"primaryIpAddress": {"operation": "_= 198.18.0.7"}}, lambda one: one["primaryIpAddress"] == "198.18.0.7"),
        ({"blockDevices": {"device": {"operation": "2"}}}, lambda one: len(one["_disks"]) > 1),
    ],
)
def test_guests_are_filtered_by_what_clients_filter_by(client: Any, clause: dict[str, Any], test: Any) -> None:
    next(reversed(client.box.world.guests.values()))["_status"] = "DISCONNECTED"
    text = json.dumps({"virtualGuests": clause})
    found = client.get(f"{ACCOUNT}/getVirtualGuests.json", objectMask="id", objectFilter=text)
    expected = [number for number, one in client.box.world.guests.items() if test(one)]
    assert ids(found) == expected
    assert 0 < len(expected) < 60


def test_dedicated_hosts_and_their_guests(client: Any) -> None:
    (host,) = client.get(f"{ACCOUNT}/getDedicatedHosts.json", objectMask="id,name,datacenter[name],guestCount")
    guests = client.get(f"{HOST}/{host['id']}/getGuests.json", objectMask="id,hostname")
    assert len(guests) == host["guestCount"] > 1
    assert host["datacenter"] == {"name": "dal13"}
    text = json.dumps({"guests": {"hostname": {"operation": "web-01"}}})
    assert len(client.get(f"{HOST}/{host['id']}/getGuests.json", objectFilter=text)) == 1
    assert client.get(f"{HOST}/{host['id']}/getObject.json")["name"] == host["name"]


def test_bare_metal_servers_have_an_inventory(client: Any) -> None:
    mask = "mask[id,hostname,memoryCapacity,hardDrives[hardwareComponentModel[capacity]],operatingSystem[id]]"
    found = client.get(f"{ACCOUNT}/getHardware.json", objectMask=mask)
    assert [one["hostname"] for one in found] == ["metal-01", "metal-02"]
    assert found[0]["hardDrives"][0]["hardwareComponentModel"] == {"capacity": "2000"}
    assert "PLANTED" not in client.reply.text
    text = json.dumps({"hardware": {"hostname": {"operation": "_= metal-02"}}})
    assert len(client.get(f"{ACCOUNT}/getHardware.json", objectMask="id", objectFilter=text)) == 1
    path = f"SoftLayer_Hardware_Server/{found[0]['id']}"
    assert client.get(f"{path}/getObject.json", objectMask="hostname") == {"hostname": "metal-01"}
    assert len(client.get(f"{path}/getHardDrives.json")) == len(found[0]["hardDrives"])


def test_datacenters(client: Any) -> None:
    names = {one["name"] for one in client.get("SoftLayer_Location_Datacenter/getDatacenters.json")}
    assert {"dal13", "fra02", "wdc07"} <= names


def test_network_storage_of_a_guest(client: Any) -> None:
    number = client.guest("files-01")["id"]
    path = f"{GUEST}/{number}/getAttachedNetworkStorages.json"
    mask = "mask[nasType,capacityGb,lunId,fileNetworkMountAddress,allowedVirtualGuests[id,datacenter[name]]]"
    (block,) = client.post(path, "ISCSI", objectMask=mask)
    (file,) = client.post(path, "NAS", objectMask=mask)
    assert block["lunId"] == "0"
    assert "fileNetworkMountAddress" not in block
    assert file["fileNetworkMountAddress"].startswith("nfs-")
    assert block["allowedVirtualGuests"] == [{"id": number, "datacenter": {"name": "fra02"}}]
    assert len(client.post(path, "*")) == len(client.post(path, None)) == 2
    assert client.post(f"{GUEST}/{client.guest('web-01')['id']}/getAttachedNetworkStorages.json", "*") == []


def test_small_reads_of_a_guest(client: Any) -> None:
    guest = client.guest("web-01")
    path = f"{GUEST}/{guest['id']}"
    assert client.get(f"{path}/getActiveTransaction.json") is None
    assert client.get(f"{path}/getActiveTransactions.json") == []
    assert client.get(f"{path}/getLastTransaction.json")["guestId"] == guest["id"]
    assert client.get(f"{path}/getAllowedHost.json") is None
    assert client.get(f"{path}/getStatus.json") == {"keyName": "ACTIVE", "name": "Active"}
    assert client.get(f"{path}/getDatacenter.json")["name"] == "dal13"
    assert [one["tag"]["name"] for one in client.get(f"{path}/getTagReferences.json", objectMask="tag.name")] == [
        "demo",
        "web",
    ]
    kinds = [one["type"]["keyname"] for one in client.get(f"{path}/getAttributes.json", objectMask="value,type")]
    assert "USER_DATA" in kinds
    assert client.get(f"{path}/getUserData.json", objectMask="value")[0]["value"].count("PLANTED-userdata") == 1


def test_portable_volumes_know_their_guest(make_sandbox: Any, rest: Any, tmp_path: Any) -> None:
    client = rest(make_sandbox(servers=300, root=tmp_path / "many"))
    guest = next(one for one in client.box.world.guests.values() if any(disk.get("portable") for disk in one["_disks"]))
    text = json.dumps({"portableStorageVolumes": {"blockDevices": {"guest": {"id": {"operation": guest["id"]}}}}})
    (volume,) = client.get(f"{ACCOUNT}/getPortableStorageVolumes.json", objectFilter=text)
    assert volume["capacity"] == 10


def test_power_and_tags_of_a_guest(client: Any) -> None:
    path = f"{GUEST}/{client.guest('web-01')['id']}"
    assert client.get(f"{path}/powerOff.json") is True
    assert client.get(f"{path}/getPowerState.json")["keyName"] == "HALTED"
    assert client.get(f"{path}/powerOn.json") is True
    assert client.post(f"{path}/setTags.json", "b, a,,a") is True
    assert client.guest("web-01")["_tags"] == ["a", "b"]
    busy = client.get(f"{GUEST}/{client.guest('legacy-01')['id']}/powerOff.json")
    assert busy["error"] == "There is currently an active transaction."
