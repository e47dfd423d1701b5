"""Captures and exports over time, by a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox import Sandbox, imaging
from sealift.sandbox.clock import ManualClock
from sealift.sandbox.disks import DiskSpec

GUEST = "SoftLayer_Virtual_Guest"


def state(client: Any, hostname: str) -> dict[str, Any]:
    """A guest as a poll sees it."""
    mask = "mask[id,powerState[keyName],activeTransactionCount,activeTransaction[id,transactionStatus[name]]]"
    found: dict[str, Any] = client.get(f"{GUEST}/{client.guest(hostname)['id']}/getObject.json", objectMask=mask)
    return found


def finish(box: Sandbox, clock: ManualClock, seconds: float) -> None:
    """Move the clock and wait for the threads that do the work."""
    clock.advance(seconds)
    box.wait_until(lambda: set(box.summary()["running"].values()) <= {"hold"}, what="the end")


def captured(box: Sandbox, clock: ManualClock, client: Any, hostname: str = "web-01") -> int:
    number = int(client.capture(hostname)["id"])
    finish(box, clock, 300)
    return number


def test_a_capture_from_start_to_end(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    reply = client.capture("db-01", "my image")
    assert {"id", "globalIdentifier", "createDate"} <= set(reply)
    assert (reply["statusId"], reply["transactionId"], reply["parentId"], reply["note"]) == (1, None, None, "a note")

    at_once = client.template(reply["id"])
    assert at_once["children"] == [], "right after the call there are no children"
    assert at_once["transactionId"] is None
    guest = state(client, "db-01")
    assert guest["powerState"] == {"keyName": "HALTED"}
    assert guest["activeTransactionCount"] == 1

    clock.advance(4.9)
    assert client.template(reply["id"])["children"] == [], "no child before 5 seconds"
    clock.advance(25.2)
    (child,) = client.template(reply["id"])["children"]
    assert child["transactionId"] == guest["activeTransaction"]["id"], "the transaction is seen on the child"
    assert child["blockDevicesDiskSpaceTotal"] == 0
    assert child["blockDevices"] == []

    clock.advance(200)
    still.wait_until(lambda: still.imaging.finished(child["transactionId"], "images"), what="the images")
    assert client.template(reply["id"])["children"][0]["transactionId"] is not None, "not before its time"
    finish(still, clock, 80)
    done = client.template(reply["id"])
    (child,) = done["children"]
    assert (done["transactionId"], child["transactionId"]) == (None, None)
    assert "transaction" not in child
    assert child["datacenter"] == {"name": "dal13"}
    sizes = {one["device"]: one.get("diskSpace") for one in child["blockDevices"]}
    assert set(sizes) == {"0", "1", "2", "4", "5"}
    assert sizes.pop("1") is None, "swap is listed without a size"
    assert child["blockDevicesDiskSpaceTotal"] == sum(sizes.values())
    guest = state(client, "db-01")
    assert guest["powerState"] == {"keyName": "RUNNING"}
    assert "activeTransaction" not in guest


def test_a_stopped_guest_stays_stopped(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    captured(still, clock, client, "batch-01")
    assert state(client, "batch-01")["powerState"] == {"keyName": "HALTED"}


def test_the_status_of_a_transaction_moves_on(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    client.capture("web-01")
    names = []
    for _ in range(5):
        names.append(state(client, "web-01")["activeTransaction"]["transactionStatus"]["name"])
        clock.advance(60)
    assert names[0] == "SANDBOX_PREPARE"
    assert len(set(names)) >= 4


def test_an_export_shows_its_objects_only_at_the_end(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    number = captured(still, clock, client, "db-01")
    assert client.export(number, f"cos://us-south/{still.bucket}/a/b/disk.vhd") is True
    during = client.template(number)
    assert during["transactionId"] is None
    assert during["children"][0]["transactionId"] is not None
    clock.advance(200)
    client.template(number)
    assert list(still.store.list(still.bucket, "")) == []
    finish(still, clock, 100)
    assert client.template(number)["children"][0]["transactionId"] is None
    objects = list(still.store.list(still.bucket, ""))
    assert [one.key for one in objects] == [f"a/b/disk-{n}.vhd" for n in range(4)]
    assert all(one.etag.endswith("-1") for one in objects), "uploaded in parts of 128 MiB"


@pytest.mark.parametrize(("where", "parent", "child"), [("parent", 1, 0), ("child", 0, 1), ("both", 1, 1)])
def test_the_switch_decides_where_an_export_is_seen(
    still: Sandbox, clock: ManualClock, rest: Any, where: str, parent: bool, child: bool
) -> None:
    client = rest(still)
    number = captured(still, clock, client)
    still.switches.set("export_transaction_on", where)
    client.export(number, f"cos://us-south/{still.bucket}/disk.vhd")
    found = client.template(number)
    assert (found["transactionId"] is not None) == parent
    assert (found["children"][0]["transactionId"] is not None) == child


def test_the_switch_frees_the_guest_halfway(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    still.switches.set("guest_transaction_spans_capture", False)
    client = rest(still)
    number = client.capture("web-01")["id"]
    clock.advance(160)
    assert "activeTransaction" not in state(client, "web-01")
    assert client.template(number)["children"][0]["transactionId"] is not None
    finish(still, clock, 200)
    assert client.template(number)["children"][0]["transactionId"] is None


def test_speed_divides(make_sandbox: Any, rest: Any, clock: ManualClock) -> None:
    box = make_sandbox(clock=clock, speed=20.0)
    client = rest(box)
    number = client.capture("web-01")["id"]
    clock.advance(11.9)
    assert client.template(number)["children"][0]["transactionId"] is not None
    finish(box, clock, 3.0)
    assert client.template(number)["children"][0]["transactionId"] is None


def test_deleting_takes_a_while(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    number = captured(still, clock, client)
    path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{number}"
    reply = client.get(f"{path}/deleteObject.json")
    assert {"id", "createDate", "elapsedSeconds", "guestId"} <= set(reply)
    assert client.template(number)["transactionId"] == reply["id"]
    finish(still, clock, 61)
    assert client.get(f"{path}/getObject.json")["code"] == "SoftLayer_Exception_ObjectNotFound"
    assert client.get("SoftLayer_Account/getBlockDeviceTemplateGroups.json") == []


def test_an_id_is_never_given_twice(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    first = captured(still, clock, client)
    client.get(f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{first}/deleteObject.json")
    finish(still, clock, 61)
    assert captured(still, clock, client) > first + 1


def test_another_datacenter_gets_a_child_of_its_own(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    number = captured(still, clock, client)
    path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{number}"
    assert client.post(f"{path}/addLocations.json", [{"id": 449506}]) is True
    first, second = client.template(number)["children"]
    assert second["transactionId"] is not None
    assert second["blockDevicesDiskSpaceTotal"] == 0
    finish(still, clock, 121)
    first, second = client.template(number)["children"]
    assert second["blockDevicesDiskSpaceTotal"] == first["blockDevicesDiskSpaceTotal"] > 0
    assert client.post(f"{path}/removeLocations.json", [{"id": 449506}]) is True
    assert len(client.template(number)["children"]) == 1
    assert "keeps at least one" in client.post(f"{path}/removeLocations.json", [{"id": 1854895}])["error"]


def test_a_stuck_transaction_ends_when_told(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    still.set_fault("stuck_transaction", times=1)
    client = rest(still)
    number = client.capture("web-01")["id"]
    clock.advance(100_000)
    (child,) = client.template(number)["children"]
    assert child["transaction"]["id"] == child["transactionId"]
    changed = child["transaction"]["statusChangeDate"]
    clock.advance(1000)
    assert client.template(number)["children"][0]["transaction"]["statusChangeDate"] == changed, "it does not move"
    client.admin(f"transactions/{child['transactionId']}/end", {})
    finish(still, clock, 0)
    assert client.template(number)["children"][0]["blockDevicesDiskSpaceTotal"] > 0


def test_a_template_without_disks(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    still.set_fault("empty_template", times=1)
    client = rest(still)
    (child,) = client.template(captured(still, clock, client))["children"]
    assert (child["transactionId"], child["blockDevicesDiskSpaceTotal"], child["blockDevices"]) == (None, 0, [])
    assert "activeTransaction" not in state(client, "web-01")


def test_a_template_that_is_gone(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    still.set_fault("template_gone", times=1)
    client = rest(still)
    found = client.template(captured(still, clock, client))
    assert found["code"] == "SoftLayer_Exception_ObjectNotFound"
    assert state(client, "web-01")["powerState"] == {"keyName": "RUNNING"}


@pytest.mark.parametrize(("fault", "count"), [("gone_without_objects", 0), ("missing_last_object", 3)])
def test_exports_that_leave_too_little(still: Sandbox, clock: ManualClock, rest: Any, fault: str, count: int) -> None:
    client = rest(still)
    number = captured(still, clock, client, "db-01")
    still.set_fault(fault, times=1)
    assert client.export(number, f"cos://us-south/{still.bucket}/disk.vhd") is True
    finish(still, clock, 300)
    assert client.template(number)["children"][0]["transactionId"] is None
    assert len(list(still.store.list(still.bucket, ""))) == count


@pytest.mark.parametrize("fault", ["truncated_object", "damaged_object"])
def test_exports_that_are_no_whole_image(still: Sandbox, clock: ManualClock, rest: Any, fault: str) -> None:
    client = rest(still)
    number = captured(still, clock, client)
    client.export(number, f"cos://us-south/{still.bucket}/good.vhd")
    finish(still, clock, 300)
    still.set_fault(fault, times=1)
    client.export(number, f"cos://us-south/{still.bucket}/bad.vhd")
    finish(still, clock, 300)
    good, bad = (still.store.path_of(still.bucket, f"{name}-0.vhd") for name in ("good", "bad"))
    assert good
    assert bad
    whole, spoilt = good.read_bytes(), bad.read_bytes()
    if fault == "truncated_object":
        assert spoilt == whole[:-512]
    else:
        assert len(spoilt) == len(whole)
        assert [n for n, (a, b) in enumerate(zip(whole, spoilt, strict=True)) if a != b] == [552]


def test_a_restart_goes_on_where_it_was(make_sandbox: Any, rest: Any, clock: ManualClock) -> None:
    first = make_sandbox(clock=clock, speed=1.0)
    client = rest(first)
    capturing = captured(first, clock, client, "web-01")
    exporting = captured(first, clock, client, "win-01")
    client.export(exporting, f"cos://us-south/{first.bucket}/disk.vhd")
    another = client.capture("files-01")["id"]
    clock.advance(10)
    before = first.summary()["running"]
    assert sorted(before.values()) == ["capture", "export", "hold"]
    first.stop()

    clock.advance(60)
    second = make_sandbox(clock=clock, speed=1.0)
    client = rest(second)
    assert second.summary()["running"] == before, "what was not due still runs"
    assert state(client, "files-01")["powerState"] == {"keyName": "HALTED"}
    second.stop()

    clock.advance(1000)
    third = make_sandbox(clock=clock, speed=1.0)
    client = rest(third)
    third.wait_until(lambda: list(third.summary()["running"].values()) == ["hold"], what="the end of what was due")
    for number in (capturing, exporting, another):
        (child,) = client.template(number)["children"]
        assert child["blockDevicesDiskSpaceTotal"] > 0
    assert [one.key for one in third.store.list(third.bucket, "")] == ["disk-0.vhd"]
    assert state(client, "files-01")["powerState"] == {"keyName": "RUNNING"}
    assert len(third.writes()) == 4
    assert client.capture("db-01")["id"] > another


def test_work_that_fails_is_shown_and_stops_nothing_else(
    still: Sandbox, clock: ManualClock, rest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = imaging.cached_vhd

    def no_room_for_web(spec: DiskSpec, cache: Path) -> Path:
        if spec.hostname == "web-01":
            raise OSError("no space left for the payload")
        return build(spec, cache)

    monkeypatch.setattr(imaging, "cached_vhd", no_room_for_web)
    client = rest(still)
    assert client.capture("web-01")["id"]
    clock.advance(300)
    still.wait_until(lambda: bool(still.engine.failures), what="the failure")
    other = client.capture("files-01")["id"]
    clock.advance(300)
    still.wait_until(lambda: client.template(other)["children"][0]["transactionId"] is None, what="the other capture")
    (failed,) = [one for one in client.admin("transactions") if one["failure"]]
    assert "payload" in failed["failure"]
    assert failed["ended"] is None, "a transaction that failed stays active, as real ones do"
