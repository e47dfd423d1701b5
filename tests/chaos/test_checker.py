"""The judge is judged: every violation is caught and named, and a clean history passes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.checker import EvidenceError, Findings, cap_at, check, whole
from tests.chaos.story import BUCKET, PERIOD, Stored, Story, only

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


# Nothing to find


def test_clean_exports_pass(story: Story) -> None:
    story.export(11)
    story.export(22, disks=("0", "2", "4"))
    story.capture(33)
    story.request(service="classic", method="SoftLayer_Account::getVirtualGuests", args={})
    findings = story.judge(
        servers=[f"{guest}-{PERIOD}" for guest in (11, 22, 33, 44)],
        outcomes={
            f"11-{PERIOD}": "exported",
            f"22-{PERIOD}": "already-exported",
            f"33-{PERIOD}": "failed",
            f"44-{PERIOD}": "not-exportable",
        },
        caps=1,
        secrets=[SECRET],
        texts=["a log"],
    )
    assert findings.ok
    assert str(findings) == "nothing was violated"


def test_nothing_at_all_passes(story: Story) -> None:
    assert story.judge().ok


def test_manifests_of_earlier_runs_are_no_fault(story: Story) -> None:
    story.export(11)
    assert story.judge(servers=[], outcomes={}).ok


@pytest.mark.parametrize("numbers", [[1, 3], [2, 3], [1, 1, 2]])
def test_a_history_with_a_hole_is_no_evidence(numbers: list[int]) -> None:
    with pytest.raises(EvidenceError, match="the history has event"):
        whole({"seq": one} for one in numbers)


def test_the_order_is_the_numbers_order_not_that_of_the_times(story: Story) -> None:
    first = story.capture(11)
    story.online(11, first)
    second = story.capture(22)
    story.online(22, second)
    for event in story.events:
        event["at"] = 1000.0
    assert story.judge(history=reversed(story.events), caps=1).ok


# D


def test_a_second_capture_of_an_export(story: Story) -> None:
    first = story.capture(11)
    story.online(11, first)
    second = story.capture(11)
    story.online(11, second)
    only(story.judge(), "duplicate_captures", f"export 11-{PERIOD} (server 11)", "2 times", "template 1", "template 2")


def test_a_second_capture_under_another_server_counts_too(story: Story) -> None:
    name = f"sealift-11-{PERIOD}"
    story.online(11, story.capture(11, name))
    story.online(12, story.capture(12, name))
    only(story.judge(), "duplicate_captures", "of server 11", "of server 12")


def test_captures_of_others_are_nobodys_duplicates(story: Story) -> None:
    story.online(11, story.capture(11))
    planted = story.capture(11)
    story.online(11, planted)
    assert story.judge(foreign=[planted]).ok
    for guest in (12, 13):
        story.online(guest, story.capture(guest, "nightly"))
    assert story.judge(foreign=[planted]).ok, "names that are not ours may repeat"


# C


def test_one_server_too_many_offline(story: Story) -> None:
    story.capture(11)
    story.capture(22)
    sentence = only(
        story.judge(caps=1), "cap_overshoots", "server 22", f"export 22-{PERIOD}", "made 2", "where 1 may be"
    )
    assert sentence.endswith("offline already: 11")


def test_each_further_server_is_a_finding_of_its_own(story: Story) -> None:
    for guest in (11, 22, 33):
        story.capture(guest)
    assert len(story.judge(caps=1).cap_overshoots) == 2
    assert story.judge(caps=3).ok
    assert story.judge(caps={"307608": 3}).ok
    assert len(story.judge(caps={"307608": 2}).cap_overshoots) == 1
    assert story.judge(caps=None).ok


def test_a_stuck_capture_counts_for_ever(story: Story) -> None:
    story.capture(11)
    story.now += 1_000_000
    story.online(22, story.capture(22))
    only(story.judge(caps=1), "cap_overshoots", "server 22")


def test_a_cap_that_changes(story: Story) -> None:
    story.capture(11)
    story.capture(22)
    lowered = story.now + 1
    story.now += 2
    assert story.judge(caps=[(0.0, 2), (lowered, 1)]).ok, "who is offline already may stay"
    story.capture(33)
    only(story.judge(caps=[(0.0, 2), (lowered, 1)]), "cap_overshoots", "server 33", "made 3", "where 1 may be")
    assert story.judge(caps=[(0.0, 2), (lowered, 3)]).ok


def test_caps_that_say_nothing() -> None:
    with pytest.raises(ValueError, match="2"):
        cap_at({"a": 1, "b": 2}, 0.0)
    with pytest.raises(ValueError, match="no cap"):
        cap_at([(10.0, 1)], 9.0)
    assert cap_at([(0.0, 1), (5.0, 2), (5.0, 3)], 5.0) == 3


def test_a_capture_by_somebody_else_takes_room_and_is_not_ours(story: Story) -> None:
    planted = story.capture(11, "theirs")
    assert story.judge(caps=0, foreign=[planted]).ok
    story.capture(22)
    only(story.judge(caps=1, foreign=[planted]), "cap_overshoots", "server 22", "offline already: 11")


captures = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 12), st.booleans()), min_size=0, max_size=12
)  # start, length, stuck


@given(captures=captures, cap=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_overlaps_are_counted_as_a_naive_count_does(
    captures: list[tuple[int, int, bool]], cap: int, order: Any
) -> None:
    """One guest per capture; starts and ends of one moment come in any order, and the order decides."""
    marks: list[tuple[int, float, str, int]] = []
    for guest, (start, length, stuck) in enumerate(captures, start=1):
        marks.append((start, order.random(), "guest-offline", guest))
        if not stuck:
            marks.append((start + length, order.random(), "guest-online", guest))
    marks.sort()
    events = [
        {"seq": n, "at": float(at), "kind": "effect", "what": what, "guest": guest, "transaction": guest}
        for n, (at, _, what, guest) in enumerate(marks, start=1)
    ]
    places = {(event["what"], event["guest"]): event["seq"] for event in events}
    expected = 0
    for _, _, what, guest in marks:
        if what == "guest-offline":
            now = places[what, guest]
            offline = [
                one for one in range(1, len(captures) + 1)
                if places["guest-offline", one] <= now < places.get(("guest-online", one), len(events) + 1)
            ]  # fmt: skip
            expected += len(offline) > cap
    found = check(history=events, store=_Empty(), caps=cap, servers=[], outcomes={})
    assert len(found.cap_overshoots) == expected
    assert len(found.sentences()) == expected


class _Empty:
    def list(self, bucket: str, prefix: str = "") -> list[Stored]:
        return []

    def path_of(self, bucket: str, key: str) -> Path | None:
        return None


# L


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (None, "ended in no outcome"),
        ("skipped", "ended in 'skipped'"),
        ("exported", "reported as exported and has no manifest"),
        ("already-exported", "reported as already-exported and has no manifest"),
    ],
)
def test_a_server_that_is_lost(story: Story, outcome: str | None, words: str) -> None:
    export = f"11-{PERIOD}"
    outcomes = {} if outcome is None else {export: outcome}
    only(story.judge(servers=[export], outcomes=outcomes), "lost", f"export {export} (server 11)", words)


@pytest.mark.parametrize("outcome", ["failed", "not-exportable"])
def test_a_server_that_is_done_and_reported_otherwise(story: Story, outcome: str) -> None:
    story.export(11)
    findings = story.judge(outcomes={f"11-{PERIOD}": outcome})
    only(findings, "lost", "server 11", outcome, f"{BUCKET}/manifests/11/{PERIOD}.json")


@given(
    outcomes=st.dictionaries(
        st.integers(1, 8), st.sampled_from(["exported", "already-exported", "failed", "not-exportable", "queued"])
    ),
    selected=st.sets(st.integers(1, 8)),
)
def test_every_selected_server_is_looked_at_once(outcomes: dict[int, str], selected: set[int]) -> None:
    found = check(
        history=[], store=_Empty(), caps=0, servers=[f"{one}-p" for one in selected],
        outcomes={f"{one}-p": outcome for one, outcome in outcomes.items()},
    )  # fmt: skip
    bad = {one for one in selected if outcomes.get(one) not in {"failed", "not-exportable"}}
    assert {int(one.split()[1].partition("-")[0]) for one in found.lost} == bad
    assert len(found.lost) == len(bad)


# X


def start(story: Story, *, disks: tuple[str, ...] = ("0",)) -> int:
    """A server captured and back."""
    template = story.capture(11, disks=disks)
    story.online(11, template)
    return template


def test_a_manifest_before_its_objects(story: Story) -> None:
    template = start(story)
    story.upload(11)
    content = story.manifest_of(11, template)
    story.delete("images/11/disk-0.vhd")
    story.events = [one for one in story.events if one.get("key") != "images/11/disk-0.vhd"]
    for n, event in enumerate(story.events, start=1):
        event["seq"] = n
    story.put_manifest(11, content)
    story.upload(11)
    found = story.judge()
    assert found.false_done[0].startswith(f"export 11-{PERIOD} (server 11): its manifest was written before")
    only(found, "false_done", "before its object images/11/disk-0.vhd was there")


def test_a_manifest_after_its_object_went(story: Story) -> None:
    template = start(story)
    story.upload(11)
    content = story.manifest_of(11, template)
    story.delete("images/11/disk-0.vhd")
    story.put_manifest(11, content)
    found = story.judge()
    assert len(found.false_done) == 2
    assert "had been deleted" in found.false_done[0]
    assert "not in the bucket" in found.false_done[1]


@pytest.mark.parametrize(("field", "value"), [("size", 1), ("etag", "0" * 32)])
def test_a_manifest_that_names_another_object(story: Story, field: str, value: Any) -> None:
    template = start(story)
    story.upload(11)
    content = story.manifest_of(11, template)
    content["disks"][0][field] = value
    story.put_manifest(11, content)
    found = story.judge()
    named, present = found.false_done
    assert "when the object had" in named
    assert "in the bucket it is" in present
    assert all("server 11" in one for one in found.sentences())
    assert not (found.lost or found.cap_overshoots or found.duplicate_captures)


def test_an_object_put_again_after_its_manifest(story: Story) -> None:
    story.export(11)
    story.upload(11)
    only(story.judge(), "false_done", "server 11", "images/11/disk-0.vhd was put again", "after its manifest")


def test_an_object_deleted_after_its_manifest(story: Story) -> None:
    story.export(11)
    story.delete("images/11/disk-0.vhd")
    found = story.judge()
    assert "disk-0.vhd was deleted" in found.false_done[0]
    assert "not in the bucket" in found.false_done[1]


def test_an_object_that_a_fault_replaced_afterwards_is_not_the_manifests_doing(story: Story) -> None:
    story.export(11)
    story.put("images/11/disk-0.vhd", b"something else", by="fault")
    assert story.judge().ok


def test_an_object_that_a_fault_replaced_before_is(story: Story) -> None:
    template = start(story)
    story.upload(11)
    story.put("images/11/disk-0.vhd", b"something else", by="fault")
    story.put_manifest(11, story.manifest_of(11, template))
    only(story.judge(), "false_done", "does not hold the bytes of the server's disk 0")
    assert story.judge(images=None).ok, "without the true disks nobody can tell"


def test_bytes_that_are_not_the_disks(story: Story) -> None:
    template = start(story)
    story.upload(11)
    data = bytearray(story._file("images/11/disk-0.vhd").read_bytes())
    data[3] ^= 1
    story.put("images/11/disk-0.vhd", bytes(data), by="service")
    story.put_manifest(11, story.manifest_of(11, template))
    only(story.judge(), "false_done", "server 11", "images/11/disk-0.vhd does not hold the bytes")


def test_a_disk_that_is_not_in_the_manifest(story: Story) -> None:
    template = start(story, disks=("0", "2"))
    story.upload(11, disks=("0", "2"))
    story.put_manifest(11, story.manifest_of(11, template, disks=("0",)))
    only(story.judge(), "false_done", "server 11", "names disks 0 of captured 0, 2")


def test_a_device_that_the_server_does_not_have(story: Story) -> None:
    template = start(story)
    story.upload(11)
    content = story.manifest_of(11, template)
    content["disks"][0]["device"] = "9"
    story.put_manifest(11, content)
    found = story.judge()
    assert [one.partition(": ")[2] for one in found.false_done] == [
        "its manifest names disks 9 of captured 0",
        "its manifest names device 9, of which no image was ever made",
    ]


def test_a_manifest_that_names_somebody_elses_template(story: Story) -> None:
    start(story)
    other = story.capture(22)
    story.online(22, other)
    story.upload(11)
    story.put_manifest(11, story.manifest_of(11, other))
    found = story.judge()
    assert found.false_done[0].endswith(f"its manifest names template {other}, which is of server 22")
    assert f"sealift-22-{PERIOD}" in found.false_done[1]


def test_two_manifests_under_one_key(story: Story) -> None:
    template = story.export(11)
    content = story.manifest_of(11, template)
    story.put_manifest(11, content | {"run": "another"})
    only(story.judge(), "false_done", f"manifests/11/{PERIOD}.json", "2 times with different contents")


def test_the_first_manifest_is_the_one_that_counts(story: Story) -> None:
    """A manifest written early is not made good by the same bytes written again later."""
    template = start(story)
    story.upload(11)
    content = story.manifest_of(11, template)
    early = [one for one in story.events if one.get("key") != "images/11/disk-0.vhd"]
    late = [one for one in story.events if one.get("key") == "images/11/disk-0.vhd"]
    story.events = early
    key = story.put_manifest(11, content)
    story.events += late
    story.put(key, json.dumps(content).encode())
    for n, event in enumerate(story.events, start=1):
        event["seq"] = n
    assert "before its object images/11/disk-0.vhd" in story.judge().false_done[0]


def test_a_manifest_that_went(story: Story) -> None:
    story.export(11)
    story.delete(f"manifests/11/{PERIOD}.json")
    only(story.judge(servers=[], outcomes={}), "false_done", f"the manifest {BUCKET}/manifests/11/{PERIOD}.json")


def test_a_manifest_that_nobody_put(story: Story) -> None:
    story.export(11)
    story.events = [one for one in story.events if "manifests" not in one.get("key", "")]
    only(story.judge(), "false_done", "server 11", "the history knows no put")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"export_id": "x"}', b"\xff"])
def test_a_manifest_that_is_none(story: Story, body: bytes) -> None:
    story.export(22)
    story.put(f"manifests/11/{PERIOD}.json", body)
    only(story.judge(), "false_done", f"export 11-{PERIOD} (server 11)", "cannot be read")


def test_a_manifest_of_another_export_or_bucket(story: Story) -> None:
    template = start(story)
    story.upload(11)
    content = story.manifest_of(11, template)
    story.put_manifest(11, content | {"export_id": "12-x", "bucket": "elsewhere"})
    found = story.judge()
    assert [one.partition(": ")[2] for one in found.false_done] == [
        f"its manifest manifests/11/{PERIOD}.json is that of 12-x",
        "its manifest lies in sealift-exports and names objects in elsewhere",
    ]


def test_manifests_below_a_prefix_are_found(story: Story) -> None:
    story.put(f"team/a/manifests/11/{PERIOD}.json", b"{}")
    story.put("manifests/11/deeper/x.json", b"{}")
    story.put("manifests/x/y.json", b"{}")
    assert len(story.judge(servers=[], outcomes={}).false_done) == 1


def test_a_record_written_again_by_a_second_worker_is_fine(story: Story) -> None:
    template = story.export(11)
    story.manifest_of(11, template)
    assert story.judge().ok


def test_a_record_that_changed(story: Story) -> None:
    story.export(11)
    story.put("images/11/server.json", b"{}")
    only(story.judge(), "false_done", "server 11", "server.json is not the one that its manifest names")


def test_a_record_that_came_after_the_manifest_or_never(story: Story) -> None:
    template = start(story)
    story.upload(11)
    content = story.manifest_of(11, template)
    story.events.pop()
    story.put_manifest(11, content)
    story.put("images/11/server.json", b'{"hostname": "web-01"}')
    only(story.judge(), "false_done", "before its configuration record images/11/server.json was there")
    story.export(22)
    story.delete("images/22/server.json")
    assert "record images/22/server.json, which is not in the bucket" in story.judge().false_done[1]


# Leaks


def coded(offset: int) -> str:
    return base64.b64encode(b"user:"[: offset + 2] + SECRET.encode() + b"!").decode()


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        *(f"Authorization: Basic {coded(offset)}" for offset in range(3)),
        "x" + SECRET + "y",
    ],
)
def test_a_secret_in_a_text(story: Story, text: str) -> None:
    findings = story.judge(secrets={"the API key": SECRET}, texts={"the scheduler's log": f"…\n{text}\n"})
    sentence = only(findings, "leaks", "the API key is in the scheduler's log")
    assert SECRET not in sentence


def test_a_secret_in_the_history_or_the_bucket(story: Story) -> None:
    story.request(service="classic", method="a", args={"ibmApiKey": SECRET})
    story.put("plans/p.json", json.dumps({"k": SECRET}).encode())
    story.put(f"plans/{SECRET}.json", b"")
    story.put("images/1/disk-0.vhd", SECRET.encode())
    findings = story.judge(secrets=[SECRET])
    assert not any(SECRET in one for one in findings.leaks)
    assert findings.leaks[0] == "secret 1 is in the history's event 1"
    assert f"secret 1 is in object {BUCKET}/plans/p.json" in findings.leaks
    assert [one for one in findings.leaks if "is in the key of object" in one]
    assert not any("disk-0.vhd" in one for one in findings.leaks), "an image holds what the server holds"


def test_characters_that_urls_and_json_write_otherwise(story: Story) -> None:
    odd = 'pä/ss"wörd\\with+signs'
    for text in ("p%C3%A4%2Fss%22w%C3%B6rd%5Cwith%2Bsigns", json.dumps({"a": odd}), odd):
        only(story.judge(secrets=[odd], texts=[text]), "leaks", "secret 1 is in text 1")
    story.request(service="classic", method="a", args={"name": odd})
    only(story.judge(secrets=[odd]), "leaks", "secret 1 is in the history's event 1")


@given(before=st.binary(max_size=20), after=st.binary(max_size=20), secret=st.text("abcdefghij0123456789", min_size=12))
def test_base64_hides_nothing(before: bytes, after: bytes, secret: str) -> None:
    text = base64.b64encode(before + secret.encode() + after).decode()
    found = check(history=[], store=_Empty(), caps=0, servers=[], outcomes={}, secrets=[secret], texts=[text])
    assert found.leaks == ["secret 1 is in text 1"]


def test_an_empty_secret_is_refused(story: Story) -> None:
    with pytest.raises(ValueError, match="empty"):
        story.judge(secrets=[""])


# Findings


def test_findings_add_up() -> None:
    one, other = Findings(lost=["a"]), Findings(lost=["b"], leaks=["c"])
    assert one.merge(other, Findings()) is one
    assert one == Findings(lost=["a", "b"], leaks=["c"])
    assert str(one) == "lost: a\nlost: b\nleaks: c"
    assert Findings().ok
    assert not one.ok
