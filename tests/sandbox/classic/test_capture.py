"""What createArchiveTemplate refuses: nothing may have begun then."""

from __future__ import annotations

from typing import Any

import pytest

GUEST = "SoftLayer_Virtual_Guest"


@pytest.fixture
def client(make_sandbox: Any, rest: Any) -> Any:
    return rest(make_sandbox())


def capture(client: Any, hostname: str, *args: Any) -> Any:
    return client.post(f"{GUEST}/{client.guest(hostname)['id']}/createArchiveTemplate.json", *args)


def refused(client: Any, document: Any, words: str) -> None:
    assert words in document["error"]
    assert client.reply.status_code >= 400
    assert client.box.templates() == []
    assert list(client.box.summary()["running"].values()) == ["hold"]
    assert client.box.writes()[-1]["error"] == document["error"]


def test_a_second_operation_while_one_runs(client: Any) -> None:
    document = capture(client, "legacy-01", "x", client.disks(client.guest("legacy-01")), None)
    refused(client, document, "There is currently an active transaction.")
    assert client.reply.status_code == 500


def test_two_captures_at_the_same_time(client: Any) -> None:
    assert client.capture("web-01")["id"]
    assert client.capture("web-01")["error"] == "There is currently an active transaction."
    assert len(client.box.templates()) == 1


@pytest.mark.parametrize("device", ["1", "3", "7"])
def test_swap_cd_and_metadata_devices(client: Any, device: str) -> None:
    number = client.guest("web-01")["id"]
    devices = client.get(f"{GUEST}/{number}/getBlockDevices.json", objectMask="id,device")
    wrong = next(one["id"] for one in devices if one["device"] == device)
    good = client.disks(client.guest("web-01"))
    refused(client, capture(client, "web-01", "x", [*good, {"id": wrong}], None), f"'{wrong}' is a swap, CD")


def test_devices_that_are_not_the_guests(client: Any) -> None:
    others = client.disks(client.guest("db-01"))
    refused(client, capture(client, "web-01", "x", others, ""), "does not belong")


@pytest.mark.parametrize("devices", [None, [], "all", {}])
def test_no_devices(client: Any, devices: Any) -> None:
    refused(client, capture(client, "web-01", "x", devices, ""), "At least one block device")


@pytest.mark.parametrize("device", [{}, {"id": None}, {"id": "x"}, 7])
def test_devices_without_an_id(client: Any, device: Any) -> None:
    refused(client, capture(client, "web-01", "x", [device], ""), "does not belong")


def test_a_device_named_twice(client: Any) -> None:
    refused(client, capture(client, "web-01", "x", client.disks(client.guest("web-01")) * 2), "named twice")


@pytest.mark.parametrize("name", [None, "", "  ", 7])
def test_no_name(client: Any, name: Any) -> None:
    refused(client, capture(client, "web-01", name, client.disks(client.guest("web-01"))), "name")


@pytest.mark.parametrize(
    ("switch", "change", "words"),
    [
        ("capture_requires_active", {"_status": "DISCONNECTED"}, "ACTIVE"),
        ("capture_requires_power", {"_power": "HALTED"}, "running"),
        ("capture_refuses_third_party", {"_software": ["cpanel"]}, "third-party software"),
        ("capture_refuses_private_only", {"privateNetworkOnlyFlag": True}, "private network only"),
    ],
)
def test_guests_that_may_not_be_captured(client: Any, switch: str, change: dict[str, Any], words: str) -> None:
    guest = client.guest("web-01")
    guest.update(change)
    client.admin("switches", {switch: True})
    refused(client, capture(client, "web-01", "x", client.disks(guest), None), words)
    client.admin("switches", {switch: False})
    assert capture(client, "web-01", "x", client.disks(guest), None)["id"]


def test_limits_that_can_be_switched_on(client: Any) -> None:
    client.admin("switches", {"name_length": 5, "note_length": 5, "captures_at_once": 1})
    disks = client.disks(client.guest("web-01"))
    refused(client, capture(client, "web-01", "sixsix", disks, None), "at most 5 characters")
    refused(client, capture(client, "web-01", "six", disks, "sixsix"), "at most 5 characters")
    assert capture(client, "web-01", "six", disks, None)["id"]
    assert "Only 1" in capture(client, "db-01", "six", client.disks(client.guest("db-01")), None)["error"]


def test_the_same_name_twice_is_accepted(client: Any) -> None:
    assert client.capture("web-01", "same")["id"] != client.capture("db-01", "same")["id"]


def test_some_disks_only(make_sandbox: Any, rest: Any, tmp_path: Any) -> None:
    client = rest(make_sandbox(root=tmp_path / "x", speed=2000.0))
    disks = client.disks(client.guest("db-01"))[::2]
    number = capture(client, "db-01", "x", disks)["id"]
    client.box.wait_until(lambda: client.box.templates()[0]["finished"], what="the capture")
    (child,) = client.template(number)["children"]
    assert [one["device"] for one in child["blockDevices"] if "diskSpace" in one] == ["0", "4"]


def test_the_deprecated_call_returns_what_is_switched(client: Any) -> None:
    def ask(hostname: str) -> dict[str, Any]:
        guest = client.guest(hostname)
        found: dict[str, Any] = client.post(
            f"{GUEST}/{guest['id']}/createArchiveTransaction.json", "x", client.disks(guest), None
        )
        return found

    assert "globalIdentifier" in ask("web-01")
    client.admin("switches", {"archive_transaction_returns": "transaction"})
    reply = ask("db-01")
    assert "globalIdentifier" not in reply
    assert reply["guestId"] == client.guest("db-01")["id"]
