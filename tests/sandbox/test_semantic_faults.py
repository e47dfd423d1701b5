"""Faults that are no broken connection: what is there does not show yet, moves, is replaced, or is done twice."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox
from sealift.sandbox.clock import ManualClock

GROUP = "SoftLayer_Virtual_Guest_Block_Device_Template_Group"


def listed(client: Any) -> list[int]:
    """The ids of all templates that the account shows, children too."""
    return [one["id"] for one in client.get("SoftLayer_Account/getBlockDeviceTemplateGroups.json")]


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
    names = ["template_late", "transaction_late", "moved_page", "twice", "object_replaced", "object_uploaded_again"]
    client.admin("faults", dict.fromkeys(names, 0.5))
    assert set(names) <= set(client.admin("faults"))
    assert json.dumps(client.admin("faults"))
