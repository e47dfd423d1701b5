"""The history: every request and every effect in order, over restarts and kills, without secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox
from sealift.sandbox.clock import ManualClock
from sealift.sandbox.history import History, without_secrets

Event = dict[str, Any]


def effects(box: Sandbox) -> list[Event]:
    return [one for one in box.history() if one["kind"] == "effect"]


def words(box: Sandbox) -> list[str]:
    return [one["what"] for one in effects(box)]


def asked(box: Sandbox, method: str) -> list[Event]:
    return [one for one in box.history() if one["kind"] == "request" and one["method"].endswith(method)]


def gapless(events: list[Event]) -> bool:
    return [one["seq"] for one in events] == list(range(1, len(events) + 1))


def s3(box: Sandbox, verb: str, path: str, **more: Any) -> requests.Response:
    token = box.identity.token_for_api_key(box.cos_api_key)
    headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
    return requests.request(verb, f"{box.cos_url}/{path}", headers=headers, timeout=30, **more)


def captured(box: Sandbox, client: Any, hostname: str = "web-01", name: str = "image") -> int:
    number = int(client.capture(hostname, name)["id"])
    box.wait_until(
        lambda: any(one["id"] == number and one["finished"] for one in box.templates()), what=f"the capture {name}"
    )
    return number


def test_a_capture_and_an_export_in_order(make_sandbox: Any, rest: Any) -> None:
    client = rest(box := make_sandbox(speed=3000.0))
    guest = client.guest("db-01")["id"]
    number = captured(box, client, "db-01", "sealift-1-now")
    client.export(number, f"cos://us-south/{box.bucket}/a/disk.vhd")
    box.wait_until(lambda: words(box)[-1] == "export-ended", what="the export")
    events = box.history()
    assert gapless(events)
    started, offline, online, ended, begun, *puts, over = effects(box)
    transaction = started["transaction"]
    assert (started["guest"], started["template"], started["name"]) == (guest, number, "sealift-1-now")
    assert started["disks"] == ["0", "2", "4", "5"]
    for event, what in ((offline, "guest-offline"), (online, "guest-online")):
        assert (event["what"], event["guest"], event["transaction"]) == (what, guest, transaction)
    assert (ended["what"], ended["guest"], ended["template"]) == ("capture-ended", guest, number)
    keys = [f"a/disk-{n}.vhd" for n in range(4)]
    assert (begun["what"], begun["template"], begun["keys"]) == ("export-started", number, keys)
    assert {(one["what"], one["bucket"], one["key"], one["by"]) for one in puts} == {
        ("object-put", box.bucket, key, "service") for key in keys
    }
    for one in puts:
        stored = box.store.head(box.bucket, one["key"])
        assert stored is not None
        assert (one["size"], one["etag"]) == (stored.size, stored.etag)
    assert (over["what"], over["template"], over["transaction"]) == ("export-ended", number, begun["transaction"])
    (capture,) = asked(box, "::createArchiveTemplate")
    assert capture["method"] == "SoftLayer_Virtual_Guest::createArchiveTemplate"
    assert (capture["service"], capture["id"], capture["status"]) == ("classic", guest, 200)
    assert (capture["outcome"], capture["fault"]) == ("ok", None)
    assert capture["args"]["parameters"][0] == "sealift-1-now"
    assert started["seq"] < offline["seq"] < capture["seq"], "an effect comes before the request's own line"
    assert asked(box, "::copyToIcos")[0]["args"]["parameters"][0]["ibmApiKey"] == "***"


def test_the_time_is_the_sandboxs(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    client.capture("web-01")
    clock.advance(1000)
    still.wait_until(lambda: words(still)[-1] == "capture-ended", what="the end")
    first, last = effects(still)[0], effects(still)[-1]
    assert last["at"] - first["at"] == 1000
    assert last["at"] == clock.now()


def test_a_stuck_capture_keeps_its_guest_offline_until_it_is_ended(
    still: Sandbox, clock: ManualClock, rest: Any
) -> None:
    client = rest(still)
    still.set_fault("stuck_transaction", times=1)
    client.capture("web-01")
    clock.advance(100_000)
    still.tick()
    assert words(still) == ["capture-started", "guest-offline"]
    assert asked(still, "createArchiveTemplate")[0]["fault"] == "stuck_transaction"
    client.admin(f"transactions/{effects(still)[0]['transaction']}/end", {})
    still.wait_until(lambda: len(effects(still)) == 4, what="the end")
    assert words(still)[2:] == ["guest-online", "capture-ended"]


def test_a_guest_that_is_free_before_the_template_is(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    still.switches.set("guest_transaction_spans_capture", False)
    client.capture("web-01")
    clock.advance(200)
    still.tick()
    assert words(still) == ["capture-started", "guest-offline", "guest-online"]
    assert still.summary()["offline_for_capture"] == []
    clock.advance(200)
    still.wait_until(lambda: words(still)[-1] == "capture-ended", what="the end")
    assert words(still).count("guest-online") == 1


def test_a_capture_whose_template_is_deleted(still: Sandbox, clock: ManualClock, rest: Any) -> None:
    client = rest(still)
    still.switches.set("delete_seconds", 1.0)
    number = client.capture("web-01", "gone")["id"]
    client.get(f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{number}/deleteObject.json")
    clock.advance(2)
    still.tick()
    assert effects(still)[2:] == [
        {"seq": 6, "at": clock.now(), "kind": "effect", "what": "template-gone", "template": number, "name": "gone"}
    ], "the guest is still offline"
    clock.advance(60)
    still.tick()
    assert words(still)[3:] == ["guest-online", "capture-ended"]


def test_the_fault_that_takes_the_template_away(make_sandbox: Any, rest: Any) -> None:
    box = make_sandbox(speed=3000.0, faults={"template_gone": 1.0})
    rest(box).capture("web-01")
    box.wait_until(lambda: words(box)[-1] == "capture-ended", what="the end")
    assert words(box)[2:] == ["template-gone", "guest-online", "capture-ended"]


def test_the_store(make_sandbox: Any) -> None:
    box = make_sandbox()
    bucket = box.bucket
    assert s3(box, "PUT", f"{bucket}/k", data=b"one").ok
    assert s3(box, "PUT", f"{bucket}/k", data=b"two", headers={"If-None-Match": "*"}).status_code == 412
    assert s3(box, "GET", f"{bucket}/k", headers={"Range": "bytes=0-1"}).status_code == 206
    assert s3(box, "HEAD", f"{bucket}/nothing").status_code == 404
    assert s3(box, "GET", f"{bucket}?list-type=2&prefix=k").ok
    upload = s3(box, "POST", f"{bucket}/m?uploads").text.partition("<UploadId>")[2].partition("<")[0]
    assert s3(box, "PUT", f"{bucket}/m?uploadId={upload}&partNumber=1", data=b"part").ok
    tag = box.store.uploads.parts(box.store.uploads.get(bucket, "m", upload))[0].etag
    body = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    )
    assert s3(box, "POST", f"{bucket}/m?uploadId={upload}", data=body).ok
    other = s3(box, "POST", f"{bucket}/n?uploads").text.partition("<UploadId>")[2].partition("<")[0]
    assert s3(box, "DELETE", f"{bucket}/n?uploadId={other}").status_code == 204
    assert s3(box, "DELETE", f"{bucket}/k").status_code == 204
    assert s3(box, "DELETE", f"{bucket}/k").status_code == 204, "a second time changes nothing"
    assert requests.get(f"{box.cos_url}/{bucket}/k", timeout=30).status_code == 403
    made = [(one["what"], one["key"], one.get("by") or one.get("how") or one["upload"]) for one in effects(box)]
    assert made == [
        ("object-put", "k", "client"),
        ("upload-started", "m", upload),
        ("object-put", "m", "client"),
        ("upload-ended", "m", "completed"),
        ("upload-started", "n", other),
        ("upload-ended", "n", "aborted"),
        ("object-deleted", "k", "client"),
    ]
    told = [
        (one["method"], one["status"], one["outcome"], one.get("error"))
        for one in box.history()
        if one["kind"] == "request"
    ]
    assert told == [
        ("PutObject", 200, "ok", None),
        ("PutObject", 412, "refused", "PreconditionFailed"),
        ("GetObject", 206, "ok", None),
        ("HeadObject", 404, "refused", "NoSuchKey"),
        ("ListObjectsV2", 200, "ok", None),
        ("CreateMultipartUpload", 200, "ok", None),
        ("UploadPart", 200, "ok", None),
        ("CompleteMultipartUpload", 200, "ok", None),
        ("CreateMultipartUpload", 200, "ok", None),
        ("AbortMultipartUpload", 204, "ok", None),
        ("DeleteObject", 204, "ok", None),
        ("DeleteObject", 204, "ok", None),
        ("GetObject", 403, "refused", "AccessDenied"),
    ]
    assert asked(box, "PutObject")[1]["args"] == {"content-length": "3", "if-none-match": "*"}
    assert asked(box, "ListObjectsV2")[0]["args"] == {"list-type": "2", "prefix": "k"}
    assert [one["bucket"] for one in asked(box, "PutObject")] == [bucket, bucket]


def test_versions_that_come_to_light_again(make_sandbox: Any) -> None:
    box = make_sandbox()
    box.store.set_versioning(box.bucket, "Enabled")
    first = box.store.put_bytes(bucket=box.bucket, key="k", data=b"one")
    second = box.store.put_bytes(bucket=box.bucket, key="k", data=b"two")
    box.store.delete(box.bucket, "k", first.version_id)  # nobody sees a difference
    marker, _ = box.store.delete(box.bucket, "k")
    box.store.delete(box.bucket, "k", marker)
    assert [(one["what"], one.get("etag")) for one in effects(box)] == [
        ("object-put", first.etag),
        ("object-put", second.etag),
        ("object-deleted", None),
        ("object-put", second.etag),
    ]


def test_iam_on_both_ports(make_sandbox: Any) -> None:
    box = make_sandbox()
    grant = "urn:ibm:params:oauth:grant-type:apikey"
    for url in (box.iam_url, f"{box.cos_url}/identity/token"):
        assert requests.post(url, data={"grant_type": grant, "apikey": box.cos_api_key}, timeout=30).ok
        assert (
            requests.post(url, data={"grant_type": grant, "apikey": "wrong-wrong-wrong"}, timeout=30).status_code == 400
        )
    events = box.history()
    assert [(one["service"], one["method"], one["status"], one.get("error")) for one in events] == [
        ("iam", "token", 200, None),
        ("iam", "token", 400, "BXNIM0415E"),
    ] * 2
    assert all(one["args"] == {"grant_type": grant} for one in events)


@pytest.mark.parametrize(
    ("fault", "outcome", "status"),
    [
        ("lost_request", "dropped", None),
        ("lost_reply", "dropped", None),
        ("empty_200", "empty", 200),
        ("error_in_200", "refused", 200),
        ("transient_500", "refused", 500),
        ("rate_limit", "refused", 500),
        ("guest_404", "refused", 404),
    ],
)
def test_which_fault_hit_a_call(make_sandbox: Any, rest: Any, fault: str, outcome: str, status: int | None) -> None:
    client = rest(box := make_sandbox())
    disks = client.disks(client.guest("web-01"))
    box.set_fault(fault, times=1)
    path = f"SoftLayer_Virtual_Guest/{client.guest('web-01')['id']}/createArchiveTemplate.json"
    try:
        client.post(path, "image", disks, "")
    except (requests.ConnectionError, ValueError):
        assert outcome in {"dropped", "empty"}
    (event,) = asked(box, "createArchiveTemplate")
    assert (event["fault"], event["outcome"], event["status"]) == (fault, outcome, status)
    done = fault in {"lost_reply", "empty_200"}
    assert words(box) == (["capture-started", "guest-offline"] if done else [])
    client.get("SoftLayer_Account/getObject.json")
    assert box.history()[-1]["fault"] is None, "the next call is not the fault's"


def test_which_fault_hit_the_store_and_iam(make_sandbox: Any) -> None:
    box = make_sandbox(
        faults={"cos_lost_reply": 0.0, "cos_slow_down": 0.0, "expired_token": 0.0, "iam_unavailable": 0.0}
    )
    token = box.identity.token_for_api_key(box.cos_api_key)
    box.set_fault("cos_lost_reply", times=1)
    with pytest.raises(requests.ConnectionError):
        s3(box, "PUT", f"{box.bucket}/k", data=b"x")
    for fault in ("cos_slow_down", "expired_token"):
        box.set_fault(fault, times=1)
        requests.get(f"{box.cos_url}/{box.bucket}/k", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    box.set_fault("iam_unavailable", times=1)
    requests.post(box.iam_url, data={}, timeout=30)
    told = [(one["fault"], one["outcome"], one["status"]) for one in box.history() if one["kind"] == "request"]
    assert told == [
        ("cos_lost_reply", "dropped", None),
        ("cos_slow_down", "refused", 503),
        ("expired_token", "refused", 400),
        ("iam_unavailable", "refused", 503),
    ]
    assert words(box) == ["object-put"]


def test_several_faults_on_one_call(make_sandbox: Any, rest: Any) -> None:
    client = rest(box := make_sandbox(faults={"stuck_transaction": 1.0}))
    disks = client.disks(client.guest("web-01"))
    box.set_fault("lost_reply", times=1)
    with pytest.raises(requests.ConnectionError):
        client.post(
            f"SoftLayer_Virtual_Guest/{client.guest('web-01')['id']}/createArchiveTemplate.json", "i", disks, ""
        )
    (event,) = asked(box, "createArchiveTemplate")
    assert event["faults"] == ["stuck_transaction", "lost_reply"]


def test_no_secret_is_in_it(make_sandbox: Any, rest: Any, xml: Any) -> None:
    box = make_sandbox(speed=3000.0)
    client = rest(box)
    box.identity.add_api_key(key="PLANTED-key-of-somebody", name="later", roles={"*": "Manager"})
    tokens = [box.identity.token_for_api_key(box.cos_api_key)]
    secrets = [
        box.api_key, box.cos_api_key, box.read_only_cos_api_key, box.hmac_secret_access_key, "PLANTED", *tokens,
    ]  # fmt: skip
    guest = client.guest("web-01")["id"]
    number = captured(box, client)
    client.post(f"SoftLayer_Virtual_Guest/{guest}/setUserMetadata.json", ["PLANTED-userdata"])
    client.export(number, f"cos://us-south/{box.bucket}/disk.vhd")
    client.export(number, f"cos://us-south/{box.bucket}/{box.cos_api_key}/disk.vhd", "PLANTED-key-of-somebody")
    xml(box, "SoftLayer_Account", "getVirtualGuests")
    requests.get(f"{box.rest_url}SoftLayer_Account/{box.api_key}.json", auth=("apikey", box.cos_api_key), timeout=30)
    head = {"Authorization": f"Bearer {tokens[0]}"}
    requests.get(f"{box.rest_url}SoftLayer_Account/getObject.json", headers=head, timeout=30)
    requests.get(f"{box.cos_url}/{box.bucket}/k?prefix={box.hmac_secret_access_key}", headers=head, timeout=30)
    requests.put(f"{box.cos_url}/{box.bucket}/{box.api_key}", headers=head, data=b"x", timeout=30)
    text = (box.root / "history.jsonl").read_text()
    assert [one for one in secrets if one in text] == []
    for line in text.splitlines():
        assert json.loads(line)["seq"]
    assert (box.root / "history.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_names_say_to_be_secret() -> None:
    raw = {"uri": "u", "ibmApiKey": "k", "deep": [{"password": "p", "ibmSecretKey": ""}], "at": object}
    assert without_secrets(raw) == {
        "uri": "u", "ibmApiKey": "***", "deep": [{"password": "***", "ibmSecretKey": ""}], "at": str(object),
    }  # fmt: skip


def test_it_goes_on_after_a_restart(make_sandbox: Any, rest: Any) -> None:
    first = make_sandbox(faults={"stuck_transaction": 1.0})
    rest(first).capture("web-01")
    before = first.history()
    first.stop()
    assert first.history() == before, "it can be read when nobody serves"
    first.start()
    rest(first).capture("db-01")
    assert first.history()[: len(before)] == before
    first.stop()
    second = make_sandbox()
    events = second.history()
    assert gapless(events)
    assert words(second) == ["capture-started", "guest-offline"] * 2
    assert not any("recovered" in one for one in events)


def test_a_line_that_a_kill_cut_short_goes(make_sandbox: Any, rest: Any) -> None:
    box = make_sandbox()
    rest(box).capture("web-01")
    box.stop()
    path = box.root / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    box.start()
    assert gapless(box.history())
    client = rest(box)
    client.get("SoftLayer_Account/getObject.json")
    assert gapless(box.history())
    assert path.read_bytes().endswith(b"\n")


def test_a_file_that_is_no_history_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"seq": 7}\n')
    with pytest.raises(ValueError, match="is no history"):
        History(path=path)


def test_what_a_kill_kept_from_it_is_caught_up_with(
    make_sandbox: Any, rest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = make_sandbox(faults={"stuck_transaction": 1.0})
    client = rest(box)
    client.capture("web-01", "told")
    box.store.put_bytes(bucket=box.bucket, key="told", data=b"x")
    box.store.put_bytes(bucket=box.bucket, key="changed", data=b"x")
    box.store.put_bytes(bucket=box.bucket, key="deleted", data=b"x")
    with monkeypatch.context() as kill:
        kill.setattr(History, "effects", lambda *_, **__: None)
        client.capture("db-01", "untold")
        box.engine.end(effects(box)[0]["transaction"])
        box.wait_until(lambda: box.templates()[0]["finished"], what="the end of the first")
        for key in ("changed", "new"):
            box.store.put_bytes(bucket=box.bucket, key=key, data=b"new")
        box.store.delete(box.bucket, "deleted")
        upload = s3(box, "POST", f"{box.bucket}/m?uploads").text.partition("<UploadId>")[2].partition("<")[0]
        box.stop()
    before = len(box.history())
    box.start()
    caught = box.history(after=before)
    assert gapless(box.history())
    assert all(one["recovered"] for one in caught)
    assert [(one["what"], one.get("name") or one.get("key")) for one in caught] == [
        ("guest-online", None),
        ("capture-ended", None),
        ("capture-started", "untold"),
        ("guest-offline", None),
        ("object-put", "changed"),
        ("object-put", "new"),
        ("object-deleted", "deleted"),
        ("upload-started", "m"),
    ]
    assert caught[-1]["upload"] == upload
    box.stop()
    box.start()
    assert len(box.history()) == before + len(caught), "once"


def test_a_state_that_had_no_history_gets_one(make_sandbox: Any, rest: Any) -> None:
    box = make_sandbox(speed=3000.0, history=False)
    client = rest(box)
    number = captured(box, client)
    client.export(number, f"cos://us-south/{box.bucket}/disk.vhd")
    box.wait_until(lambda: box.store.head(box.bucket, "disk-0.vhd") is not None, what="the export")
    client.get(f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{number}/deleteObject.json")
    box.wait_until(lambda: not box.templates(), what="the deletion")
    assert box.history() == []
    assert not (box.root / "history.jsonl").exists()
    box.stop()
    again = make_sandbox()
    assert words(again) == [
        "capture-started", "guest-offline", "guest-online", "capture-ended", "export-started", "export-ended",
        "template-gone", "object-put",
    ]  # fmt: skip
    assert effects(again)[-1]["by"] == "service"


_KILLED = """
import os, sys, threading
from pathlib import Path
from sealift.sandbox import Sandbox
box = Sandbox(root=Path(sys.argv[1]))
box.start()
def put(name):
    for n in range(100_000):
        box.store.put_bytes(bucket=box.bucket, key=f"{name}-{n % 7}", data=str(n).encode())
        if n % 3 == 2:
            box.store.delete(box.bucket, f"{name}-{n % 7}")
for name in "abc":
    threading.Thread(target=put, args=(name,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_sandbox_loses_no_event(tmp_path: Path, make_sandbox: Any) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    history = tmp_path / "state" / "history.jsonl"
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        while child.poll() is None and history.stat().st_size < 100_000:
            os.sched_yield()
    finally:
        child.kill()
        child.communicate()
    told = history.read_bytes().count(b"\n")
    box = make_sandbox()
    events = box.history()
    assert gapless(events)
    assert len(events) - told <= 1, "at most the one change that the kill parted from its line"
    left: dict[str, str] = {}
    for event in effects(box):
        if event["what"] == "object-put":
            left[event["key"]] = event["etag"]
        else:
            del left[event["key"]]
    assert left == {one.key: one.etag for one in box.store.list(box.bucket)}


def test_nobody_sees_an_effect_before_its_line(make_sandbox: Any, rest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    box = make_sandbox(speed=3000.0)
    write, seen = History._write, set()

    def guarded(self: History, events: list[Event]) -> None:
        for event in events:
            if event["kind"] == "effect":
                lock = box.store.database._lock if event["what"].startswith("object") else box.world.lock
                assert lock._is_owned()  # type: ignore[attr-defined]
                seen.add(event["what"])
        write(self, events)

    monkeypatch.setattr(History, "_write", guarded)
    client = rest(box)
    number = captured(box, client)
    client.export(number, f"cos://us-south/{box.bucket}/disk.vhd")
    box.wait_until(lambda: words(box)[-1] == "export-ended", what="the export")
    client.get(f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{number}/deleteObject.json")
    box.wait_until(lambda: words(box)[-1] == "template-gone", what="the deletion")
    box.store.delete(box.bucket, "disk-0.vhd")
    assert len(seen) == 9
    assert box.engine.failures == {}


def test_many_threads_leave_no_gap(tmp_path: Path) -> None:
    history = History(path=tmp_path / "history.jsonl", clock=ManualClock())
    barrier = threading.Barrier(8)

    def write(name: int) -> None:
        barrier.wait()
        for n in range(300):
            history.effects([{"what": "x", "of": name, "n": n}, {"what": "y", "of": name, "n": n}])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    events = history.read()
    assert gapless(events)
    assert len(events) == 8 * 600
    for one, other in zip(events[::2], events[1::2], strict=True):
        assert (one["what"], other["what"]) == ("x", "y"), "what became so at once stands together"
        assert (one["of"], one["n"]) == (other["of"], other["n"])
    for start in (0, 1, 511, 512, 513, 4799, 4800, 9999):
        assert history.read(after=start, limit=3) == events[start : start + 3]
    assert history.read(after=-5, limit=2) == events[:2]


def test_a_long_file_keeps_effects_writes_and_faults(tmp_path: Path) -> None:
    history = History(path=tmp_path / "history.jsonl", limit=2000)
    for _ in range(100):
        history.request(service="classic", method="A::getObject", status=200, outcome="ok", reads=True)
    full = len(history.read())
    assert full < 30
    assert history.read()[-1] | {"seq": 0, "at": 0} == {
        "seq": 0, "at": 0, "kind": "note", "what": "history-thinned", "limit": 2000,
    }  # fmt: skip
    history.effect("object-put", key="k")
    history.request(service="classic", method="A::editObject", status=200, outcome="ok")
    history.request(service="classic", method="A::getObject", status=404, outcome="refused", reads=True)
    history.begin()
    history.hear("missing_total")
    history.request(service="classic", method="A::getObject", status=200, outcome="ok", reads=True)
    history.request(service="classic", method="A::getObject", status=200, outcome="ok", reads=True)
    more = history.read(after=full)
    assert [one.get("fault") or one.get("what") or one["outcome"] for one in more] == [
        "object-put", "ok", "refused", "missing_total",
    ]  # fmt: skip


def test_long_arguments_are_cut(tmp_path: Path) -> None:
    history = History(path=tmp_path / "history.jsonl")
    history.request(
        service="classic", method="A::b", status=200, outcome="ok",
        args={"filter": {"id": list(range(1000))}, "name": "n" * 5000, "small": [1]},
    )  # fmt: skip
    (event,) = history.read()
    assert event["args"]["filter"]["id"] == [*range(20), "… 980 more"]
    assert event["args"]["name"] == "n" * 1000 + "…"
    assert event["args"]["small"] == [1]


def test_the_admin_endpoint_gives_pages(make_sandbox: Any, rest: Any) -> None:
    client = rest(box := make_sandbox())
    client.capture("web-01")
    whole = client.admin("history")
    assert whole == box.history()
    assert client.admin("history?after=2") == whole[2:]
    assert client.admin("history?after=1&limit=1") == whole[1:2]
    assert client.session.get(f"{box.api_url}/sandbox/history?after=x", timeout=30).status_code == 400


def test_a_failing_sandbox_tells_so(make_sandbox: Any, rest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = rest(box := make_sandbox())
    monkeypatch.setattr(box.engine, "tick", lambda: 1 // 0)
    client.get("SoftLayer_Account/getObject.json")
    assert client.reply.status_code == 501
    assert (box.history()[-1]["outcome"], box.history()[-1]["status"]) == ("broken", 501)
