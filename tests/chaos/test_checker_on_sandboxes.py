"""The checker on what real sandboxes leave behind, after clients that do well and clients that do badly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox
from tests.chaos.checker import Findings, check, whole
from tests.chaos.evidence import open_store, read_history, true_images
from tests.chaos.story import BUCKET, PERIOD, only


class Client:
    """Does to a sandbox what an exporter does, well or badly."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._session = requests.Session()
        self._session.trust_env = False

    def call(self, path: str, *args: Any) -> Any:
        url, login = f"{self.box.rest_url}{path}.json", (self.box.username, self.box.api_key)
        return self._session.post(url, json={"parameters": list(args)}, auth=login, timeout=30).json()

    def guest(self, hostname: str) -> int:
        return next(int(one["id"]) for one in self.box.world.guests.values() if one["hostname"] == hostname)

    def capture(self, guest: int) -> int:
        devices = self.call(f"SoftLayer_Virtual_Guest/{guest}/getBlockDevices")
        names = {disk["device"] for disk in self.box.world.guests[guest]["_disks"]}
        disks = [{"id": one["id"]} for one in devices if one["device"] in names]
        path = f"SoftLayer_Virtual_Guest/{guest}/createArchiveTemplate"
        return int(self.call(path, f"sealift-{guest}-{PERIOD}", disks, "")["id"])

    def finish(self, template: int) -> None:
        self.box.wait_until(
            lambda: any(one["id"] == template and one["finished"] for one in self.box.templates()), what="the capture"
        )

    def export(self, guest: int, template: int) -> None:
        uri = f"cos://us-south/{BUCKET}/images/{guest}/disk.vhd"
        group = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{template}"
        assert self.call(f"{group}/copyToIcos", {"uri": uri, "ibmApiKey": self.box.cos_api_key}) is True
        self.box.wait_until(
            lambda: self.told("export-started") == self.told("export-ended"),
            what="the export",
        )

    def told(self, what: str) -> int:
        return sum(one.get("what") == what for one in self.box.history())

    def put(self, key: str, data: bytes, **headers: str) -> int:
        token = self.box.identity.token_for_api_key(self.box.cos_api_key)
        head = {"Authorization": f"Bearer {token}", **headers}
        return self._session.put(f"{self.box.cos_url}/{BUCKET}/{key}", data=data, headers=head).status_code

    def record(self, guest: int, template: int, expected: int | None = None) -> None:
        """Write record and manifest of what is in the bucket."""
        record = b"{}"
        self.put(f"images/{guest}/server.json", record)
        devices = sorted(disk["device"] for disk in self.box.world.guests[guest]["_disks"])
        stored = list(self.box.store.list(BUCKET, f"images/{guest}/disk-"))[:expected]
        content = {
            "export_id": f"{guest}-{PERIOD}",
            "bucket": BUCKET,
            "template": {"id": template},
            "disks": [
                {"key": one.key, "size": one.size, "etag": one.etag, "device": device}
                for one, device in zip(stored, devices, strict=False)
            ],
            "record": {
                "key": f"images/{guest}/server.json",
                "size": len(record),
                "digest": f"sha256:{hashlib.sha256(record).hexdigest()}",
            },
        }
        body = json.dumps(content).encode()
        assert self.put(f"manifests/{guest}/{PERIOD}.json", body, **{"If-None-Match": "*"}) == 200

    def judge(self, outcomes: dict[int, str], cap: int = 10) -> Findings:
        """Judge from the outside: by the folder alone, once the sandbox has stopped."""
        self.box.stop()
        root, named = self.box.root, {f"{guest}-{PERIOD}": outcome for guest, outcome in outcomes.items()}
        return check(
            history=read_history(root), store=open_store(root), caps=cap, servers=list(named), outcomes=named,
            secrets={"the API key": self.box.api_key, "COS's key": self.box.cos_api_key, "a planted word": "PLANTED-"},
            images=true_images(root),
        )  # fmt: skip


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    boxes: list[Sandbox] = []

    def make(**settings: Any) -> Client:
        box = Sandbox(
            root=tmp_path / "state", scenario="demo", speed=3000.0, switches={"requests_per_second": 0}, **settings
        )
        box.start()
        boxes.append(box)
        return Client(box)

    yield make
    for box in boxes:
        box.stop()


def test_exports_of_a_real_sandbox_pass(client: Callable[..., Client]) -> None:
    real = client()
    guests = [real.guest(name) for name in ("web-01", "db-01", "win-01")]
    for guest in guests:
        template = real.capture(guest)
        real.finish(template)
        real.export(guest, template)
        real.record(guest, template)
    live = check(
        history=real.box.history(), store=real.box.store, caps=1, servers=[], outcomes={},
        images=true_images(real.box.root),
    )  # fmt: skip
    assert str(live) == "nothing was violated", "while it runs, too"
    assert str(real.judge(dict.fromkeys(guests, "exported"), cap=1)) == "nothing was violated"


def test_who_submits_again_blindly_is_caught(client: Callable[..., Client]) -> None:
    real = client()
    guest = real.guest("web-01")
    real.box.set_fault("lost_reply", times=1, methods=["createArchiveTemplate"])
    with pytest.raises(requests.ConnectionError):
        real.capture(guest)
    real.finish(real.box.templates()[0]["id"])
    template = real.capture(guest)
    real.finish(template)
    real.export(guest, template)
    real.record(guest, template)
    only(real.judge({guest: "exported"}), "duplicate_captures", f"server {guest}", "captured 2 times")


def test_too_many_offline_at_once_are_caught(client: Callable[..., Client]) -> None:
    real = client(faults={"stuck_transaction": 1.0})
    guests = [real.guest(name) for name in ("web-01", "db-01", "win-01")]
    for guest in guests:
        real.capture(guest)
    found = real.judge(dict.fromkeys(guests, "failed"), cap=2)
    only(found, "cap_overshoots", f"server {guests[2]}", f"offline already: {guests[0]}, {guests[1]}")


def test_a_manifest_before_the_last_disk_is_caught(client: Callable[..., Client]) -> None:
    real = client(faults={"missing_last_object": 1.0})
    guest = real.guest("db-01")
    template = real.capture(guest)
    real.finish(template)
    real.export(guest, template)
    real.record(guest, template)
    only(real.judge({guest: "exported"}), "false_done", f"server {guest}", "names disks 0, 2, 4 of captured 0, 2, 4, 5")


@pytest.mark.parametrize("fault", ["truncated_object", "damaged_object"])
def test_a_manifest_of_a_damaged_image_is_caught(client: Callable[..., Client], fault: str) -> None:
    real = client(faults={fault: 1.0})
    guest = real.guest("web-01")
    template = real.capture(guest)
    real.finish(template)
    real.export(guest, template)
    real.record(guest, template)
    only(real.judge({guest: "exported"}), "false_done", f"server {guest}", "does not hold the bytes")


def test_an_image_exported_again_after_its_manifest_is_caught(client: Callable[..., Client]) -> None:
    real = client()
    guest = real.guest("web-01")
    template = real.capture(guest)
    real.finish(template)
    real.export(guest, template)
    real.record(guest, template)
    real.export(guest, template)
    only(real.judge({guest: "exported"}), "false_done", f"server {guest}", "disk-0.vhd was put again")


def test_a_planted_secret_in_an_object_is_caught(client: Callable[..., Client]) -> None:
    real = client()
    real.put("plans/p.json", b'{"metadata": "PLANTED-userdata-1"}')
    only(real.judge({}), "leaks", "a planted word is in object sealift-exports/plans/p.json")


def test_a_half_written_last_line_is_left_out(client: Callable[..., Client]) -> None:
    real = client()
    real.capture(real.guest("web-01"))
    real.box.stop()
    before = read_history(real.box.root)
    assert "guest-offline" in {event.get("what") for event in before}
    path = real.box.root / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert whole(read_history(real.box.root))
    # Which line is the last depends on how soon the capture ends.
    assert read_history(real.box.root) == before[:-1]
