"""Faults that are no broken connection: what is there does not show yet, moves, is replaced, or is done twice."""

from __future__ import annotations

import hashlib
import json
import xmlrpc.client
from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox
from sealift.sandbox.clock import ManualClock

GROUP = "SoftLayer_Virtual_Guest_Block_Device_Template_Group"


def listed(client: Any) -> list[int]:
    """The ids of all templates that the account shows, children too."""
    return [one["id"] for one in client.get("SoftLayer_Account/getBlockDeviceTemplateGroups.json")]


def pass_time(box: Sandbox, clock: ManualClock, seconds: float) -> None:
    """Let enough time pass for captures and exports, and wait until their work is done as well."""
    for step in (35, seconds - 35):
        clock.advance(step)
        box.tick()

    def over() -> bool:
        return not any(one["kind"] in {"capture", "export"} for one in box.world.running.values())

    box.wait_until(over, what="the end of captures and exports")


def active(client: Any, guest: int) -> Any:
    path = f"SoftLayer_Virtual_Guest/{guest}/getObject.json"
    return client.get(path, objectMask="mask[activeTransaction[id],activeTransactions[id],lastTransaction[id]]")


def fault_of(box: Sandbox, method: str) -> list[str | None]:
    events = [one for one in box.history() if one["kind"] == "request" and one["method"].endswith(method)]
    return [one["fault"] for one in events]


# Late


def test_a_late_template_shows_nowhere_for_a_while(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    still.set_fault("template_late", times=1)
    still.switches.set("late_seconds", 40.0)
    guest = client.guest("web-01")["id"]
    group = client.capture("web-01")
    assert fault_of(still, "createArchiveTemplate") == ["template_late"]
    clock.advance(35)  # the child is there by now
    still.tick()
    (child,) = [one["id"] for one in still.world.children(group["id"])]
    assert listed(client) == []
    assert client.get("SoftLayer_Account/getPrivateBlockDeviceTemplateGroups.json") == []
    for number in (group["id"], child, group["globalIdentifier"]):
        assert client.get(f"{GROUP}/{number}/getObject.json")["code"] == "SoftLayer_Exception_ObjectNotFound"
        assert client.reply.status_code == 404
    assert client.export(group["id"], f"cos://us-south/{still.bucket}/disk.vhd")["error"].startswith("Unable to find")
    assert active(client, guest)["activeTransaction"]["id"], "the capture itself can be seen on the server"
    clock.advance(6)
    assert sorted(listed(client)) == sorted([group["id"], child])
    assert client.get(f"{GROUP}/{child}/getObject.json")["id"] == child


def test_lateness_goes_by_the_speed_and_outlives_a_restart(make_sandbox: Any, clock: ManualClock, rest: Any) -> None:
    box = make_sandbox(clock=clock, speed=10.0, faults={"template_late": 1.0})
    client = rest(box)
    number = client.capture("web-01")["id"]
    clock.advance(5.9)
    box.stop()
    box.start()
    client = rest(box)
    assert listed(client) == []
    clock.advance(0.2)
    assert number in listed(client)


def test_other_templates_show_beside_a_late_one(still: Sandbox, rest: Any) -> None:
    client = rest(still)
    seen = client.capture("web-01")["id"]
    still.set_fault("template_late", times=1)
    client.capture("db-01")
    assert listed(client) == [seen]


def test_a_late_transaction_does_not_show_but_refuses_all_the_same(
    still: Sandbox, clock: ManualClock, rest: Any
) -> None:
    client = rest(still)
    guest = client.guest("web-01")["id"]
    before = active(client, guest)["lastTransaction"]["id"]
    still.set_fault("transaction_late", times=1)
    number = client.capture("web-01")["id"]
    seen = active(client, guest)
    assert "activeTransaction" not in seen
    assert seen["activeTransactions"] == []
    assert seen["lastTransaction"]["id"] == before
    assert listed(client) == [number], "the template shows: that it is late is another fault"
    assert client.capture("web-01", "again")["error"] == "There is currently an active transaction."
    clock.advance(61)
    assert active(client, guest)["activeTransaction"]["id"] == active(client, guest)["lastTransaction"]["id"] != before


# Refused in words, and done


@pytest.mark.parametrize("transport", ["rest", "xmlrpc"])
def test_a_capture_that_is_answered_by_an_error_is_made(still: Sandbox, rest: Any, xml: Any, transport: str) -> None:
    client = rest(still)
    guest = client.guest("web-01")
    still.set_fault("refused_after", times=1, methods=["createArchiveTemplate"])
    if transport == "rest":
        assert client.capture("web-01") == {
            "error": "The request could not be completed at this time.",
            "code": "SoftLayer_Exception",
        }
        assert client.reply.status_code == 500
    else:
        init = {"id": guest["id"]}
        with pytest.raises(xmlrpc.client.Fault, match="could not be completed"):
            xml(
                still,
                "SoftLayer_Virtual_Guest",
                "createArchiveTemplate",
                "image",
                client.disks(guest),
                "a note",
                SoftLayer_Virtual_GuestInitParameters=init,
            )
    assert len(still.templates()) == 1
    assert active(client, guest["id"])["activeTransaction"]["id"]
    (told,) = [one for one in still.history() if one["kind"] == "request" and one["method"].endswith("ArchiveTemplate")]
    assert (told["outcome"], told["fault"]) == ("refused", "refused_after")
    assert [one["what"] for one in still.history() if one["kind"] == "effect"] == ["capture-started", "guest-offline"]
    assert client.capture("web-01")["error"] == "There is currently an active transaction."
    assert still.faults.counters()["refused_after"]["hits"] == 1


def test_an_export_that_is_answered_by_an_error_is_made(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    number = client.capture("web-01")["id"]
    pass_time(still, clock, 400)
    still.set_fault("refused_after", times=1, methods=["copyToIcos"])
    assert "could not be completed" in client.export(number, f"cos://us-south/{still.bucket}/disk.vhd")["error"]
    assert client.template(number)["children"][0]["transaction"]["id"]
    pass_time(still, clock, 400)
    assert still.store.head(still.bucket, "disk-0.vhd") is not None


def test_what_is_refused_anyway_is_no_occasion(still: Sandbox, rest: Any) -> None:
    client = rest(still)
    still.set_fault("refused_after", rate=1.0)
    client.get("SoftLayer_Account/getObject.json")
    assert client.capture("web-01", "")["error"] == "A name for the image template is needed."
    assert still.faults.counters()["refused_after"]["asked"] == 0


# Once more


def sizes(client: Any, number: int) -> list[float]:
    return [one["blockDevicesDiskSpaceTotal"] for one in client.template(number)["children"]]


def comings_and_goings(box: Sandbox, guest: int) -> list[str]:
    return [one["what"] for one in box.history() if one["kind"] == "effect" and one.get("guest") == guest]


def test_a_capture_begins_a_second_transaction_after_a_gap(make_sandbox: Any, clock: ManualClock, rest: Any) -> None:
    box = make_sandbox(clock=clock, speed=1.0, faults={"second_transaction": 1.0})
    box.switches.set("afterwork_gap_seconds", 20.0)
    box.switches.set("afterwork_seconds", 50.0)
    client = rest(box)
    guest = client.guest("web-01")
    number = client.capture("web-01")["id"]
    first = active(client, guest["id"])["activeTransaction"]["id"]
    assert fault_of(box, "createArchiveTemplate") == ["second_transaction"]
    pass_time(box, clock, 400)
    for _ in range(2):  # a poll, and another one: all is as after any other capture
        seen = active(client, guest["id"])
        assert "activeTransaction" not in seen
        assert seen["lastTransaction"]["id"] == first
        assert "transaction" not in client.template(number)["children"][0]
        assert all(sizes(client, number))
        assert guest["_power"] == "RUNNING"
        assert box.summary()["offline_for_capture"] == []
        clock.advance(9)
    clock.advance(3)
    second = active(client, guest["id"])["activeTransaction"]["id"]
    assert second > first
    assert client.template(number)["children"][0]["transaction"]["id"] == second
    assert all(sizes(client, number))
    assert client.guest("web-01")["_power"] == "HALTED"
    assert box.summary()["offline_for_capture"] == [guest["id"]]
    assert client.capture("web-01", "other")["error"] == "There is currently an active transaction."
    assert "error" in client.export(number, f"cos://us-south/{box.bucket}/disk.vhd")
    clock.advance(51)
    assert "activeTransaction" not in active(client, guest["id"])
    assert client.guest("web-01")["_power"] == "RUNNING"
    assert client.export(number, f"cos://us-south/{box.bucket}/disk.vhd") is True
    assert comings_and_goings(box, guest["id"]) == [
        "capture-started", "guest-offline", "guest-online", "capture-ended", "guest-offline", "guest-online",
    ]  # fmt: skip


def test_a_second_transaction_outlives_a_restart_in_its_gap(make_sandbox: Any, clock: ManualClock, rest: Any) -> None:
    box = make_sandbox(clock=clock, speed=1.0, faults={"second_transaction": 1.0})
    client = rest(box)
    guest = client.guest("web-01")["id"]
    client.capture("web-01")
    pass_time(box, clock, 400)
    box.stop()
    box.start()
    client = rest(box)
    assert "activeTransaction" not in active(client, guest)
    clock.advance(21)
    assert "activeTransaction" in active(client, guest)
    clock.advance(61)
    assert "activeTransaction" not in active(client, guest)
    assert comings_and_goings(box, guest)[-2:] == ["guest-offline", "guest-online"]


def test_a_capture_without_a_template_begins_no_second_transaction(
    make_sandbox: Any, clock: ManualClock, rest: Any
) -> None:
    box = make_sandbox(clock=clock, speed=1.0, faults={"second_transaction": 1.0, "template_gone": 1.0})
    client = rest(box)
    guest = client.guest("web-01")["id"]
    client.capture("web-01")
    pass_time(box, clock, 400)
    clock.advance(21)
    assert "activeTransaction" not in active(client, guest)


# Moved


def pages(client: Any, limit: int) -> list[int]:
    found: list[int] = []
    while True:
        page = client.get(
            "SoftLayer_Account/getVirtualGuests.json", objectMask="mask[id]", resultLimit=f"{len(found)},{limit}"
        )
        found += [one["id"] for one in page]
        if len(page) < limit:
            return found


def test_a_list_that_moves_between_two_pages(make_sandbox: Any, rest: Any) -> None:
    client = rest(box := make_sandbox(servers=25))
    whole = pages(client, 100)
    assert len(set(whole)) == 25
    box.set_fault("moved_page", times=1)
    assert pages(client, 100) == whole, "a list of one page has no other to move to"
    assert box.faults.counters()["moved_page"]["hits"] == 0
    moved = pages(client, 10)
    assert len(moved) == 25
    (twice,) = {one for one in moved if moved.count(one) == 2}
    (lost,) = set(whole) - set(moved)
    assert (twice, lost) == (whole[9], whole[10])
    assert pages(client, 10) == whole
    assert fault_of(box, "getVirtualGuests").count("moved_page") == 1


# Replaced


@pytest.fixture
def exported(make_sandbox: Any, rest: Any) -> Any:
    """A sandbox with one exported image, as (client, key, session with a token)."""
    client = rest(box := make_sandbox(speed=3000.0))
    number = client.capture("web-01")["id"]
    box.wait_until(lambda: box.templates()[0]["finished"], what="the capture")
    client.export(number, f"cos://us-south/{box.bucket}/disk.vhd")
    box.wait_until(lambda: box.store.head(box.bucket, "disk-0.vhd") is not None, what="the export")
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {box.identity.token_for_api_key(box.cos_api_key)}"
    return client, f"{box.cos_url}/{box.bucket}/disk-0.vhd", session


@pytest.mark.parametrize("fault", ["object_replaced", "object_uploaded_again"])
def test_an_object_changes_between_head_and_get(exported: Any, fault: str) -> None:
    client, url, session = exported
    box: Sandbox = client.box
    first = session.get(url)
    box.set_fault(fault, times=1)
    assert session.get(url).headers["ETag"] == first.headers["ETag"], "nobody has looked before"
    assert box.faults.counters()[fault]["asked"] == 0
    head = session.head(url)
    assert head.headers["ETag"] == first.headers["ETag"]
    pinned = session.get(url, headers={"If-Match": head.headers["ETag"]})
    assert pinned.status_code == 412
    after = session.get(url)
    assert after.headers["ETag"] != first.headers["ETag"]
    assert len(after.content) == len(first.content)
    different = sum(one != other for one, other in zip(first.content, after.content, strict=True))
    assert different == (1 if fault == "object_replaced" else 0)
    assert session.head(url).headers["ETag"] == after.headers["ETag"]
    assert box.faults.counters()[fault]["hits"] == 1
    puts = [one for one in box.history() if one["kind"] == "effect" and one["what"] == "object-put"]
    assert [one["by"] for one in puts] == ["service", "fault"]
    assert fault_of(box, "GetObject") == [None, None, fault, None]
    kept = next(iter((box.root / "images").glob("*.vhd")))
    assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(first.content).digest()


def test_only_images_are_replaced(exported: Any) -> None:
    client, url, session = exported
    client.box.set_fault("object_replaced", rate=1.0)
    other = url.replace("disk-0.vhd", "manifests/1/x.json")
    session.put(other, data=b"{}")
    session.head(other)
    assert session.get(other).content == b"{}"
    assert session.head(f"{url}.missing.vhd").status_code == 404
    assert client.box.faults.counters()["object_replaced"]["asked"] == 0


# Twice


def test_a_capture_that_arrives_twice_is_made_once(make_sandbox: Any, rest: Any) -> None:
    client = rest(box := make_sandbox(servers=40, faults={"stuck_transaction": 1.0}))
    for one in box.world.guests.values():
        one.update(_software=[], _status="ACTIVE")
    box.set_fault("twice", rate=1.0)
    names = [one["hostname"] for one in box.world.guests.values()][6:26]
    replies = [client.capture(name, name) for name in names]
    assert len(box.templates()) == 20
    answers = {one.get("error", "done") for one in replies}
    assert answers == {"done", "There is currently an active transaction."}, "the answer is that of either delivery"
    writes = [one["error"] for one in box.writes()]
    assert writes == [None, "There is currently an active transaction."] * 20
    events = [one for one in box.history() if one["kind"] == "request" and one["method"].endswith("ArchiveTemplate")]
    assert len(events) == 40
    assert [one.get("delivery") for one in events] == [2, None] * 20
    assert all(one["fault"] == "twice" or "twice" in one["faults"] for one in events)


def test_whatever_may_be_done_twice_is(make_sandbox: Any, rest: Any) -> None:
    client = rest(box := make_sandbox(faults={"twice@setTags": 1.0}))
    guest = client.guest("web-01")["id"]
    assert client.post(f"SoftLayer_Virtual_Guest/{guest}/setTags.json", "a,b") is True
    client.post(f"SoftLayer_Virtual_Guest/{guest}/editObject.json", {"notes": "n"})
    client.get("SoftLayer_Account/getObject.json")
    assert [one["method"] for one in box.writes()] == ["setTags", "setTags", "editObject"]
    assert box.faults.counters()["twice"]["asked"] == 1, "reading is no occasion"


def test_the_answer_to_what_was_done_twice_follows_from_the_seed(make_sandbox: Any, rest: Any, tmp_path: Any) -> None:
    def answers(name: str, seed: int) -> list[bool]:
        faults = {"stuck_transaction": 1.0, "twice": 1.0}
        client = rest(make_sandbox(root=tmp_path / name, seed=seed, scenario="demo", faults=faults))
        return ["error" in client.capture(one, one) for one in ("web-01", "db-01", "win-01", "batch-01", "files-01")]

    assert answers("a", 5) == answers("b", 5) != answers("c", 6)


def test_every_fault_is_in_the_catalog(make_sandbox: Any, rest: Any) -> None:
    client = rest(make_sandbox())
    names = [
        "template_late",
        "transaction_late",
        "moved_page",
        "twice",
        "refused_after",
        "second_transaction",
        "object_replaced",
        "object_uploaded_again",
    ]
    client.admin("faults", dict.fromkeys(names, 0.5))
    assert set(names) <= set(client.admin("faults"))
    assert json.dumps(client.admin("faults"))
