"""SoftLayer.VSManager and ImageManager, the classes beneath slcli, and the errors that they raise."""

from __future__ import annotations

from typing import Any

import pytest
import SoftLayer
from SoftLayer.exceptions import SoftLayerAPIError

from sealift.sandbox import Sandbox

pytestmark = pytest.mark.conformance


@pytest.fixture
def guests(slcli: Any) -> SoftLayer.VSManager:
    return SoftLayer.VSManager(slcli.client())


@pytest.fixture
def images(slcli: Any) -> SoftLayer.ImageManager:
    return SoftLayer.ImageManager(slcli.client())


def test_instances(slcli: Any, guests: Any) -> None:
    everybody = list(guests.list_instances(limit=11))
    assert [one["id"] for one in everybody] == sorted(slcli.box.world.guests)
    assert everybody[0]["powerState"] == {"keyName": "RUNNING", "name": "Running", "description": "Running"}
    assert [one["hostname"] for one in guests.list_instances(tags=["demo"], hostname="*-01")][:2] == ["web-01", "db-01"]
    assert guests.resolve_ids("db-01") == [slcli.guest("db-01")]
    assert guests.resolve_ids("198.18.0.1") == [slcli.guest("db-01")]
    assert len(guests.list_instances(hourly=True, monthly=False)) < 40


def test_instance(slcli: Any, guests: Any) -> None:
    found = guests.get_instance(slcli.guest("db-01"))
    assert found["fullyQualifiedDomainName"] == "db-01.example.com"
    assert found["operatingSystem"]["passwords"][0]["password"].startswith("PLANTED")
    assert found["billingItem"]["children"][1]["description"] == "25 GB (SAN)"
    assert "activeTransaction" not in found
    assert "dedicatedHost" not in found
    assert guests.get_instance(slcli.guest("web-01"))["dedicatedHost"] == {"id": 700001}


def test_waiting(slcli: Any, guests: Any) -> None:
    assert guests.wait_for_ready(slcli.guest("web-01"), 1, delay=1, pending=True) is True
    assert guests.wait_for_ready(slcli.guest("legacy-01"), 0, delay=1, pending=True) is False


def test_storage(slcli: Any, guests: Any) -> None:
    number = slcli.guest("files-01")
    (block,) = guests.get_storage_details(number, "ISCSI")
    assert block["allowedVirtualGuests"][0]["datacenter"]["name"] == "fra02"
    assert guests.get_storage_credentials(number)["credential"]["password"].startswith("PLANTED")
    assert not guests.get_storage_credentials(slcli.guest("web-01"))
    assert guests.get_portable_storage(number) == []
    assert [one["device"] for one in guests.get_local_disks(number)] == ["0", "1", "3", "7"]


def test_capture_and_export(slcli: Any, guests: Any, images: Any) -> None:
    box: Sandbox = slcli.box
    name = f"managed-{slcli.transport}"
    reply = guests.capture(slcli.guest("db-01"), name, additional_disks=True, notes=None)
    assert {"id", "globalIdentifier", "createDate"} <= set(reply)
    box.wait_until(slcli.idle, what="the capture")
    (found,) = images.list_private_images(name=name)
    assert found["id"] == reply["id"]
    assert [one["id"] for one in images.list_private_images(guid=reply["globalIdentifier"])] == [reply["id"]]
    assert images.resolve_ids(name) == [reply["id"]]
    uri = f"cos://us-south/{box.bucket}/{name}/disk.vhd"
    assert images.export_image_to_uri(reply["id"], uri, box.cos_api_key) is True
    box.wait_until(slcli.idle, what="the export")
    assert len(list(box.store.list(box.bucket, name))) == 4
    assert images.edit(reply["id"], name="renamed", tag="x") is True
    images.delete_image(reply["id"])
    box.wait_until(slcli.idle, what="the deletion")
    with pytest.raises(SoftLayerAPIError):
        images.get_image(reply["id"])


def test_public_images(images: Any) -> None:
    assert [one["name"] for one in images.list_public_images()] == ["DEBIAN_12_64-base", "UBUNTU_22_64-base"]
    assert images.list_public_images(name="nobody") is not None
    assert list(images.list_public_images(name="nobody")) == []


def test_errors(slcli: Any, guests: Any) -> None:
    over_rest = slcli.transport == "rest"
    with pytest.raises(SoftLayerAPIError) as caught:
        guests.capture(slcli.guest("legacy-01"), "x")
    assert caught.value.faultString == "There is currently an active transaction."
    assert caught.value.faultCode == (500 if over_rest else "SoftLayer_Exception_Public")
    with pytest.raises(SoftLayerAPIError) as caught:
        guests.get_instance(4711)
    assert caught.value.faultCode == (404 if over_rest else "SoftLayer_Exception_ObjectNotFound")
    with pytest.raises(SoftLayerAPIError) as caught:
        slcli.client(api_key="wrong").call("Account", "getObject")
    assert caught.value.faultString == "Invalid API token."
    slcli.box.set_fault("rate_limit", times=1)
    with pytest.raises(SoftLayerAPIError) as caught:
        slcli.client().call("Account", "getObject")
    assert caught.value.faultCode == (500 if over_rest else "SoftLayer_Exception_WebService_RateLimitExceeded")
    slcli.box.set_fault("empty_200", times=1)
    with pytest.raises(SoftLayerAPIError if over_rest else Exception):
        slcli.client().call("Account", "getObject")
    expected = SoftLayer.exceptions.MethodNotFound if not over_rest else SoftLayerAPIError
    with pytest.raises(expected):
        slcli.client().call("Account", "noSuch")


def test_an_ibm_cloud_key_and_a_token(slcli: Any) -> None:
    box: Sandbox = slcli.box
    assert slcli.client(username="apikey", api_key=box.cos_api_key).call("Account", "getObject")["id"] == 307608
    if slcli.transport == "rest":
        from SoftLayer.auth import BearerAuthentication

        token = box.identity.token_for_api_key(box.cos_api_key)
        client = SoftLayer.API.BaseClient(
            auth=BearerAuthentication("", token),
            transport=SoftLayer.RestTransport(endpoint_url=box.rest_url, timeout=20),
        )
        assert client.call("Account", "getObject")["id"] == 307608
