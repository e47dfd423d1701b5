"""The sandbox as a whole: addresses, restart, TLS, what is refused."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox
from sealift.sandbox.app import is_loopback
from sealift.sandbox.store import StoreInUseError


def test_it_serves_everything_and_stops(tmp_path: Path) -> None:
    threads = threading.active_count()
    with Sandbox(root=tmp_path) as box:
        assert requests.get(f"{box.rest_url}SoftLayer_Account/getObject.json", auth=(box.username, box.api_key)).ok
        token = requests.post(
            box.iam_url,
            data={"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": box.cos_api_key},
        ).json()["access_token"]
        head = {"Authorization": f"Bearer {token}"}
        assert requests.get(f"{box.cos_url}/{box.bucket}?list-type=2", headers=head).ok
        assert requests.get(f"{box.api_url}/nothing").status_code == 404
        urls = [box.api_url, box.cos_url]
        bucket = box.store.bucket(box.bucket)
        assert bucket is not None
        assert (bucket.location_constraint, bucket.region) == ("us-south-standard", "us-south")
    for url in urls:
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=2)
    box.stop()
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= threads


def test_connections_kept_alive_end_with_it(tmp_path: Path) -> None:
    with Sandbox(root=tmp_path) as box, requests.Session() as session:
        session.auth = (box.username, box.api_key)
        url = f"{box.rest_url}SoftLayer_Account/getObject.json"
        assert session.get(url).ok
        box.stop()
        with pytest.raises(requests.ConnectionError):
            session.get(url, timeout=2)


def test_keys_and_world_outlive_a_restart(make_sandbox: Any, rest: Any) -> None:
    first = make_sandbox(servers=9, seed=3)
    client = rest(first)
    keys = (first.username, first.api_key, first.cos_api_key, first.hmac_access_key_id, first.cos_service_instance_id)
    guests = dict(first.world.guests)
    client.post(f"SoftLayer_Virtual_Guest/{client.guest('web-01')['id']}/editObject.json", {"notes": "kept"})
    first.store.put_bytes(bucket=first.bucket, key="k", data=b"kept")
    ports = (first.api_url, first.cos_url)
    first.stop()
    first.start()
    assert (first.api_url, first.cos_url) == ports, "the same object serves at the same addresses"
    first.stop()
    second = make_sandbox(servers=100, seed=99)
    assert second.kept == {"seed": 3, "servers": 9, "scenario": None}, "the state decides"
    assert second.world.guests.keys() == guests.keys()
    assert keys == (
        second.username, second.api_key, second.cos_api_key, second.hmac_access_key_id, second.cos_service_instance_id,
    )  # fmt: skip
    assert rest(second).guest("web-01")["notes"] == "kept"
    assert second.store.path_of(second.bucket, "k").read_bytes() == b"kept"


def test_the_same_seed_gives_the_same_keys(make_sandbox: Any, tmp_path: Path) -> None:
    one, same, other = (make_sandbox(root=tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one.connections()["ibm_classic_default"]["password"] == same.api_key != other.api_key
    assert one.cos_api_key == same.cos_api_key != other.cos_api_key


def test_one_state_one_sandbox(make_sandbox: Any) -> None:
    make_sandbox()
    with pytest.raises(StoreInUseError):
        make_sandbox()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"faults": {"nosuch": 0.5}}, "no fault 'nosuch'"),
        ({"faults": {"empty_200": 1.5}}, "between 0 and 1"),
        ({"switches": {"nosuch": 1}}, "no switch 'nosuch'"),
        ({"speed": 0}, "speed"),
        ({"scenario": "nosuch"}, "no scenario"),
    ],
)
def test_nonsense_is_refused(make_sandbox: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_sandbox(**settings)


def test_the_folder_is_its_owners_alone(make_sandbox: Any) -> None:
    assert make_sandbox().root.stat().st_mode & 0o777 == 0o700


def test_tls(make_sandbox: Any, rest: Any) -> None:
    box = make_sandbox(tls=True)
    client = rest(box)
    assert box.api_url.startswith("https://")
    assert box.cos_url.startswith("https://")
    assert client.get("SoftLayer_Account/getObject.json")["id"] == 307608
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(box.api_url)
    for connection in box.connections().values():
        assert connection["extra"]["verify"] == str(box.tls.ca)
    json.dumps(box.connections())


def test_requests_do_not_wait_for_disks(make_sandbox: Any, rest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sealift.sandbox import imaging

    go, build = threading.Event(), imaging.cached_vhd
    monkeypatch.setattr(imaging, "cached_vhd", lambda spec, cache: (go.wait(30), build(spec, cache))[1])
    client = rest(make_sandbox(speed=10_000.0))
    number = client.capture("db-01")["id"]
    client.box.wait_until(lambda: bool(client.template(number)["children"]), what="the child")
    started = time.monotonic()
    for _ in range(20):
        assert client.template(number)["children"][0]["transactionId"] is not None
    assert time.monotonic() - started < 10
    go.set()
    client.box.wait_until(lambda: client.box.templates()[0]["finished"], what="the end, which waits for the work")


def test_many_clients_at_once_capture_each_server_once(make_sandbox: Any, rest: Any) -> None:
    box: Sandbox = make_sandbox(servers=40, speed=3000.0)
    client = rest(box)
    names = [one["hostname"] for one in box.world.guests.values()][6:26]
    numbers = {name: (client.guest(name)["id"], client.disks(client.guest(name))) for name in names}
    for one in box.world.guests.values():
        one.update(_software=[], _status="ACTIVE")
    box.set_fault("stuck_transaction", rate=1.0)

    def capture(name: str) -> str:
        number, disks = numbers[name]
        url = f"{box.rest_url}SoftLayer_Virtual_Guest/{number}/createArchiveTemplate.json"
        reply = requests.post(url, json={"parameters": [name, disks, None]}, auth=(box.username, box.api_key)).json()
        return str(reply.get("error", "done"))

    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(capture, names * 3))
    assert outcomes == {"done": 20, "There is currently an active transaction.": 40}
    assert len({one["id"] for one in box.templates()}) == 20
    assert len(box.summary()["offline_for_capture"]) == 20


def test_a_wait_that_is_in_vain_says_for_what(make_sandbox: Any) -> None:
    with pytest.raises(TimeoutError, match="the moon"):
        make_sandbox().wait_until(lambda: False, timeout=0.2, what="the moon")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("example", False)],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
