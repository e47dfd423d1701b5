"""Fakes of the two ports, kept in memory, and makers of what they hold."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sealift.classic.errors import ClassicNotFoundError
from sealift.classic.models import BareMetalServer, Guest, GuestState, NetworkStorage, Template, Transaction
from sealift.cos.errors import CosNotFoundError, CosPreconditionError
from sealift.cos.models import ObjectInfo, PutOutcome
from sealift.exports.plan import Plan, PlanItem, make_plan
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.exports.slots import OfflineSlots
from sealift.exports.surveying import SlotsPlace
from sealift.images.vhd_writer import write_dynamic_vhd

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
PERIOD = "20261123T0200Z"
BUCKET = "sealift-exports"


def guest(id_: int = 101, **changes: Any) -> Guest:
    """A guest as the planning mask returns it: boot, swap, CD and metadata devices, and as many data disks as asked."""
    data_disks = changes.pop("data_disks", 0)
    capacity = changes.pop("capacity", 1)
    raw: dict[str, Any] = {
        "id": id_,
        "hostname": f"web{id_}",
        "domain": "example.com",
        "datacenter": {"id": 1, "name": "dal13"},
        "status": {"keyName": "ACTIVE"},
        "powerState": {"keyName": "RUNNING"},
        "privateNetworkOnlyFlag": False,
        "tagReferences": [],
        "operatingSystem": software("Debian", "Debian", "12.0-64 Minimal for VSI", "DEBIAN_12_64"),
        "softwareComponents": [software("Debian", "Debian", "12.0-64 Minimal for VSI", "DEBIAN_12_64")],
        "blockDevices": [
            device(id_ * 10, "0", capacity),
            device(id_ * 10 + 1, "1", 2, type_="SWAP"),
            {"id": id_ * 10 + 3, "device": "3", "mountType": "CD", "mountMode": "RO"},
            device(id_ * 10 + 7, "7", 64, units="MB", metadata=True),
            *(device(id_ * 10 + n, str(n), capacity) for n in (2, 4, 5, 6)[:data_disks]),
        ],
        **changes,
    }
    return Guest.model_validate(raw)


def device(
    id_: int, number: str, capacity: float, *, type_: str = "SYSTEM", units: str = "GB", metadata: bool = False
) -> dict[str, Any]:
    return {
        "id": id_,
        "device": number,
        "mountType": "Disk",
        "diskImage": {
            "id": id_ + 5000,
            "capacity": capacity,
            "units": units,
            "name": f"disk {number}",
            "metadataFlag": metadata,
            "type": {"keyName": type_},
        },
    }


def software(manufacturer: str, name: str, version: str, code: str | None) -> dict[str, Any]:
    description = {"manufacturer": manufacturer, "name": name, "version": version, "referenceCode": code}
    return {"id": 1, "softwareLicense": {"id": 2, "softwareDescription": description}}


def transaction(id_: int = 7, *, since: datetime = NOW, status: str = "CLOUD_SETUP") -> dict[str, Any]:
    return {
        "id": id_,
        "createDate": since.isoformat(),
        "statusChangeDate": since.isoformat(),
        "transactionStatus": {"name": status, "friendlyName": status.title()},
    }


def template(
    id_: int = 900,
    name: str = f"sealift-101-{PERIOD}",
    *,
    created: datetime = NOW,
    busy: bool = False,
    sizes: Sequence[float | None] = (5e9,),
) -> Template:
    """A template with one child for each of ``sizes``; ``busy`` puts a transaction on the first child."""
    children = [
        {
            "id": id_ + 1 + n,
            "transactionId": 70 if busy and n == 0 else None,
            "datacenter": {"name": f"dal{n}"},
            "blockDevicesDiskSpaceTotal": size,
            **({"transaction": transaction(70, since=created)} if busy and n == 0 else {}),
        }
        for n, size in enumerate(sizes)
    ]
    return Template.model_validate(
        {
            "id": id_,
            "name": name,
            "globalIdentifier": f"gid-{id_}",
            "createDate": created.isoformat(),
            "statusId": 1,
            "transactionId": None,
            "children": children,
        }
    )


class FakeClassic:
    """An account in memory. ``capture_acts`` and ``export_acts`` are run instead of the real effect, one per call."""

    def __init__(self, *, guests: Sequence[Guest] = (), bare_metal: Sequence[BareMetalServer] = ()) -> None:
        self.guests = {one.id: one for one in guests}
        self.bare_metal = list(bare_metal)
        self.templates: dict[int, Template] = {}
        self.last_transactions: dict[int, Transaction] = {}
        self.datacenters = {"dal10", "dal13", "fra02"}
        self.calls: list[tuple[str, Any]] = []
        self.filters: list[dict[str, Any] | None] = []
        self.capture_acts: list[Callable[[], Template | None]] = []
        self.export_acts: list[Callable[[], None]] = []
        self.details: dict[int, dict[str, Any]] = {}
        self.raw_devices: list[dict[str, Any]] = []
        self.raw_attributes: list[dict[str, Any]] = []
        self.storage: list[NetworkStorage] = []
        self.next_id = 900
        self.timeout = 60.0

    def count(self, call: str) -> int:
        return sum(name == call for name, _ in self.calls)

    def list_guests(self, *, object_filter: dict[str, Any] | None = None) -> list[Guest]:
        self.filters.append(object_filter)
        return list(self.guests.values())  # as the API does with a filter that it does not understand

    def get_guests(self, ids: Collection[int]) -> dict[int, Guest]:
        self.calls.append(("get_guests", list(ids)))
        return {one: self.guests[one] for one in ids if one in self.guests}

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]:
        self.calls.append(("guest_states", list(ids)))
        return {
            one: GuestState(
                id=one,
                power_state=self.guests[one].power_state,
                active_transaction=self.guests[one].active_transaction,
                last_transaction=self.last_transactions.get(one),
            )
            for one in ids
            if one in self.guests
        }

    def list_bare_metal(self, *, object_filter: dict[str, Any] | None = None) -> list[BareMetalServer]:
        self.filters.append(object_filter)
        return list(self.bare_metal)

    def datacenter_names(self) -> set[str]:
        return set(self.datacenters)

    def templates_named(self, name: str) -> list[Template]:
        self.calls.append(("templates_named", name))
        return [one for one in self.templates.values() if (one.name or "").lower() == name.lower()]

    def template_states(self, ids: Collection[int]) -> dict[int, Template]:
        self.calls.append(("template_states", list(ids)))
        return {one: self.templates[one] for one in ids if one in self.templates}

    def templates_with_prefix(self, prefix: str) -> list[Template]:
        return [one for one in self.templates.values() if (one.name or "").startswith(prefix)]

    def newest_templates(self, prefix: str, *, back_to: datetime) -> list[Template]:
        self.calls.append(("newest_templates", back_to))
        ours = self.templates_with_prefix(prefix)
        return [one for one in ours if one.create_date is None or one.create_date >= back_to]

    def templates_ending(self, suffix: str) -> list[Template]:
        self.calls.append(("templates_ending", suffix))
        return [one for one in self.templates.values() if (one.name or "").endswith(suffix)]

    def capture(self, guest_id: int, *, name: str, block_device_ids: Sequence[int], note: str) -> Template:
        self.calls.append(("capture", (guest_id, name, list(block_device_ids), note)))
        if self.capture_acts and (acted := self.capture_acts.pop(0)()) is not None:
            return acted
        return self.add_template(name)

    def add_template(self, name: str, **changes: Any) -> Template:
        made = template(self.next_id, name, **changes)
        self.next_id += 10
        self.templates[made.id] = made
        return made

    def export_template(self, template_id: int, *, uri: str, ibm_api_key: str) -> None:
        self.calls.append(("export_template", (template_id, uri, ibm_api_key)))
        if self.export_acts:
            self.export_acts.pop(0)()

    def block_devices(self, guest_id: int) -> list[dict[str, Any]]:
        return self.raw_devices

    def attached_storage(self, guest_id: int) -> list[NetworkStorage]:
        return self.storage

    def attributes(self, guest_id: int) -> list[dict[str, Any]]:
        return self.raw_attributes

    def guest_detail(self, guest_id: int) -> dict[str, Any]:
        if guest_id not in self.guests:
            raise ClassicNotFoundError(f"Unable to find object with id of '{guest_id}'.")
        return self.details.get(guest_id, {"id": guest_id, "hostname": self.guests[guest_id].hostname})


class FakeCos:
    """A bucket in memory that counts its writes."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str, datetime]] = {}
        self.preflights: list[dict[str, Any]] = []
        self.writes: list[str] = []
        self.heads = 0
        self.pages: list[str] = []
        self.reads: list[str] = []
        self.before_write: Callable[[str], None] = lambda key: None
        self.clock: Callable[[], datetime] = lambda: NOW

    def store(self, key: str, body: bytes, *, at: datetime | None = None, etag: str | None = None) -> None:
        self.objects[key] = (body, etag or hashlib.md5(body).hexdigest(), at or self.clock())

    def delete(self, bucket: str, key: str) -> None:
        self.before_write(key)
        self.objects.pop(key, None)

    def info(self, key: str) -> ObjectInfo:
        body, etag, at = self.objects[key]
        return ObjectInfo(key=key, size=len(body), etag=etag, last_modified=at)

    def preflight(self, **asked: Any) -> None:
        self.preflights.append(asked)

    def head(self, bucket: str, key: str, *, with_part_size: bool = False) -> ObjectInfo | None:
        self.heads += 1
        if key not in self.objects:
            return None
        info = self.info(key)
        return replace(info, part_size=info.size) if with_part_size else info

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        """Note each page that is asked for, as the store has them: 1,000 keys each."""
        for number, key in enumerate(key for key in sorted(self.objects) if key.startswith(prefix)):
            if number % 1000 == 0:
                self.pages.append(prefix)
            yield self.info(key)
        if not any(key.startswith(prefix) for key in self.objects):
            self.pages.append(prefix)

    def read(self, bucket: str, key: str) -> bytes | None:
        self.reads.append(key)
        return self.objects[key][0] if key in self.objects else None

    def read_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str | None = None) -> bytes:
        if key not in self.objects:
            raise CosNotFoundError("no such object", bucket=bucket, key=key)
        body, etag, _ = self.objects[key]
        if if_match is not None and if_match != etag:
            raise CosPreconditionError("the object was replaced", bucket=bucket, key=key)
        return body[start : start + length]

    def put_if_absent(
        self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json"
    ) -> PutOutcome:
        self.before_write(key)
        if key in self.objects:
            same = self.objects[key][0] == body
            return PutOutcome.EXISTS_SAME if same else PutOutcome.EXISTS_DIFFERENT
        self.writes.append(key)
        self.store(key, body)
        return PutOutcome.CREATED

    def put(self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        self.before_write(key)
        self.writes.append(key)
        self.store(key, body)


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def clock(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def period() -> str:
    return PERIOD


@pytest.fixture(scope="session")
def make_guest() -> Callable[..., Guest]:
    return guest


@pytest.fixture(scope="session")
def make_software() -> Callable[..., dict[str, Any]]:
    return software


@pytest.fixture(scope="session")
def make_transaction() -> Callable[..., dict[str, Any]]:
    return transaction


@pytest.fixture(scope="session")
def make_template() -> Callable[..., Template]:
    return template


@pytest.fixture(scope="session")
def make_bare_metal() -> Callable[..., BareMetalServer]:
    def make(id_: int = 555, **changes: Any) -> BareMetalServer:
        return BareMetalServer.model_validate(
            {
                "id": id_,
                "hostname": f"metal{id_}",
                "domain": "example.com",
                "datacenter": {"name": "dal13"},
                "inventory": {"memoryCapacity": 64},
                **changes,
            }
        )

    return make


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., PlanSettings]:
    def make(**changes: Any) -> PlanSettings:
        return PlanSettings.from_params(
            {
                "classic_conn_id": "ibm_classic_default",
                "cos_conn_id": "ibm_cos_default",
                "bucket": BUCKET,
                "region": "us-south",
                "prefix": "nightly",
                **changes,
            }
        )

    return make


@pytest.fixture(scope="session")
def make_classic() -> type[FakeClassic]:
    return FakeClassic


@pytest.fixture(scope="session")
def make_cos() -> type[FakeCos]:
    return FakeCos


@pytest.fixture(scope="session")
def make_time() -> type[FakeTime]:
    return FakeTime


@pytest.fixture
def cos() -> FakeCos:
    return FakeCos()


@pytest.fixture
def time(cos: FakeCos) -> FakeTime:
    """One clock for the steps and the store."""
    fake = FakeTime()
    cos.clock = fake.clock
    return fake


PLACE = SlotsPlace(bucket=BUCKET, root="offline-slots/307608", settle=timedelta(minutes=15))


@pytest.fixture
def gate_of(cos: FakeCos, time: FakeTime) -> Callable[..., OfflineSlots]:
    """Make a gate as another process would have it."""

    def make(*, max_offline: int = 5, store: Any = None, **changes: Any) -> OfflineSlots:
        return OfflineSlots(
            cos=store or cos,
            place=PLACE,
            max_offline=max_offline,
            clock=time.clock,
            monotonic=time.monotonic,
            **changes,
        )

    return make


@pytest.fixture
def plan_of(cos: FakeCos, make_settings: Callable[..., PlanSettings]) -> Callable[..., Plan]:
    """Plan a run over a fake account."""

    def make(classic: FakeClassic, selection: dict[str, Any] | None = None, **changes: Any) -> Plan:
        past_slot = changes.pop("past_slot", False)
        limits = changes.pop("limits", None)
        return make_plan(
            settings=make_settings(**changes),
            selection=Selection.from_params(selection or {"all": True}),
            classic=classic,
            cos=cos,
            plan_id="plan-1",
            period=PERIOD,
            now=NOW,
            past_slot=past_slot,
            limits=limits,
        )

    return make


@pytest.fixture
def item_of(plan_of: Callable[..., Plan]) -> Callable[..., PlanItem]:
    """Plan a run over one guest and return its item."""

    def make(one: Guest, **changes: Any) -> PlanItem:
        return plan_of(FakeClassic(guests=[one]), **changes).items[0]

    return make


@pytest.fixture(scope="session")
def vhd_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A dynamic VHD of a disk of 10^9 bytes with an MBR and one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\0\0", 0x83, b"\0\0\0", 2048, 10**9 // 512 - 2048)
    return _vhd(tmp_path_factory.mktemp("vhd"), bytes(446) + entry + bytes(48) + b"\x55\xaa")


@pytest.fixture(scope="session")
def blank_vhd_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A dynamic VHD of a disk of 10^9 bytes without a partition table."""
    return _vhd(tmp_path_factory.mktemp("vhd"), bytes(512))


def _vhd(folder: Path, first_sector: bytes) -> bytes:
    raw, out = folder / "disk.raw", folder / "disk.vhd"
    with raw.open("wb") as file:
        file.write(first_sector)
        file.seek(2048 * 512)
        file.write(b"sealift" * 1000)
        file.truncate(10**9)
    write_dynamic_vhd(raw=raw, out=out, uuid=UUID(int=7), timestamp=NOW)
    return out.read_bytes()
