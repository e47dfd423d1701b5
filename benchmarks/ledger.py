"""A bucket as it looks after a year: thousands of servers, a slot each week, their plans, reports and manifests.

Everything is written by Sealift's own models; a slot's objects are made of the first one's by replacing its period, so
that a quarter of a million of them take a minute. They are put into the sandbox's store beside its HTTP side.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sealift.classic.models import Guest
from sealift.exports import names
from sealift.exports.durations import History
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.exports.plan import Outcome, Plan, assemble, plan_body, plan_item
from sealift.exports.plan_models import PlanItem
from sealift.exports.record import ConfigurationRecord
from sealift.exports.report import OutcomeKind, RunReport, ServerOutcome
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.exports.status.index import IndexedPlan, index_body, index_key
from sealift.exports.status.rows import Row, State
from sealift.sandbox.store.models import Attributes
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.records import attributes_to_text, key_bytes

DATACENTERS = ("dal10", "dal13", "fra02", "lon06", "tok05", "wdc07")
TAGS = (("prod",), ("prod", "web"), ("dev",), ("prod", "db"), ())
BATCH = 20_000

_PERIOD = "20200101T0000Z"
_PLAN = "PLANPLANPLAN"


class Filler:
    """Puts objects into a store many at a time: a file each, and their rows in one transaction.

    :param store: the store.
    :param bucket: the bucket.
    """

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self._bucket = bucket
        self._rows: list[tuple[Any, ...]] = []
        self._attributes = attributes_to_text(Attributes(content_type="application/json"))
        self._folders: set[Any] = set()
        self.count = 0

    def put(self, key: str, body: bytes, *, at: datetime) -> str:
        """Add an object.

        :param key: its key.
        :param body: its bytes.
        :param at: when it was written.
        :returns: its ETag.
        """
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        name = self._store.blobs.new_object_name(self._bucket, key)
        path = self._store.blobs.path(name)
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        path.write_bytes(body)
        self._rows.append(
            (self._bucket, key_bytes(key), "null", False, name, len(body), etag, at.timestamp(), self._attributes, "[]")
        )
        self.count += 1
        if len(self._rows) >= BATCH:
            self.end()
        return etag

    def end(self) -> None:
        """Write the rows of what was added so far."""
        with self._store.database.transaction() as tx:
            tx.executemany(
                "INSERT INTO objects (bucket, key, version_id, latest, delete_marker, blob, size, etag, modified,"
                " attributes, part_sizes) VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
                self._rows,
            )
        self._rows = []


@dataclass(kw_only=True)
class Year:
    """What to make.

    :param newest: the newest slot, whose run is still at work: half of its servers are done.
    :param failed: share of the exports that fail.
    :param indexed: whether every reported slot has its index.
    """

    servers: int = 5000
    slots: int = 52
    newest: datetime = field(default_factory=lambda: datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    failed: float = 0.01
    indexed: bool = True
    seed: int = 7

    @property
    def periods(self) -> list[datetime]:
        """The slots, oldest first."""
        return [self.newest - timedelta(weeks=one) for one in range(self.slots - 1, -1, -1)]


def fill(store: ObjectStore, *, bucket: str, region: str, prefix: str, year: Year) -> Filler:
    """Fill a bucket.

    :param store: the store; its bucket exists.
    :param bucket: the bucket.
    :param region: its region.
    :param prefix: what all keys begin with.
    :param year: what to make.
    :returns: what put the objects there; it knows how many.
    """
    settings = PlanSettings.from_params(
        {
            "classic_conn_id": "ibm_classic_default",
            "cos_conn_id": "ibm_cos_default",
            "bucket": bucket,
            "region": region,
            "prefix": prefix,
        }
    )
    made = _Year(Filler(store, bucket), settings, year)
    for slot in year.periods:
        made.put_slot(slot)
    made.filler.end()
    return made.filler


class _Year:
    def __init__(self, filler: Filler, settings: PlanSettings, year: Year) -> None:
        self.filler = filler
        self._settings = settings
        self._prefix = settings.prefix
        self._year = year
        self._rng = random.Random(year.seed)  # noqa: S311 - which exports fail
        self._plan = _first_plan(settings, year)
        self._plan_text = plan_body(self._plan)
        self._waves = {one: wave.number for wave in self._plan.waves for one in wave.guest_ids}
        exports = self._plan.items_with(Outcome.EXPORT)
        self._records = {item.guest_id: _record(item) for item in exports}
        self._manifests = {item.guest_id: _manifest(item, settings, self._records[item.guest_id]) for item in exports}
        self._texts = {number: canonical_json(one) for number, one in self._manifests.items()}

    def put_slot(self, slot: datetime) -> None:
        period = names.period_of_slot(slot)
        plan_id = names.plan_id_for(dag_id="plan_exports", run_id=f"scheduled__{slot.isoformat()}")
        at_work = slot == self._year.newest
        key = names.plan_key(prefix=self._prefix, plan_id=plan_id)
        etag = self.filler.put(key, _of(self._plan_text, period, plan_id, slot), at=slot)
        rows = {item.guest_id: self._row(item, period, plan_id, slot, at_work=at_work) for item in self._plan.items}
        if at_work:
            return
        ended = slot + timedelta(hours=9)
        report = RunReport(
            plan_id=plan_id,
            period=period,
            bucket=self._settings.bucket,
            reported_at=ended,
            outcomes=[_outcome(rows[item.guest_id], period, self._prefix) for item in self._plan.items],
        )
        key = names.report_key(prefix=self._prefix, plan_id=plan_id)
        report_etag = self.filler.put(key, canonical_json(report), at=ended)
        if self._year.indexed:
            plans = [IndexedPlan(plan_id=plan_id, etag=etag, report_etag=report_etag)]
            body = index_body(period=period, rows=rows, plans=plans, written_at=ended.isoformat())
            self.filler.put(index_key(prefix=self._prefix, period=period), body, at=ended)

    def _row(self, item: PlanItem, period: str, plan_id: str, slot: datetime, *, at_work: bool) -> Row:
        row = Row(
            number=item.guest_id,
            hostname=item.hostname,
            domain=item.domain or "",
            datacenter=item.datacenter or "",
            tags=tuple(item.tags),
            capacity=item.capacity_bytes,
            plan_id=plan_id,
            wave=self._waves.get(item.guest_id, -1),
        )
        if item.outcome is Outcome.NOT_EXPORTABLE:
            words = " ".join(one.sentence for one in item.refusals)
            return row._replace(state=State.SKIPPED, rule=item.refusals[0].rule, words=words)
        if at_work and item.guest_id % 2:
            return row._replace(state=State.RUNNING)
        if self._rng.random() < self._year.failed and not at_work:
            words = "SoftLayer_Exception_Public: the image template could not be created."
            failed_at = (slot + timedelta(hours=9)).timestamp()
            return row._replace(state=State.FAILED, task="capture", words=words, failed_at=failed_at)
        return self._finished(row, period, plan_id, slot)

    def _finished(self, row: Row, period: str, plan_id: str, slot: datetime) -> Row:
        manifest = self._manifests[row.number]
        done = slot + timedelta(minutes=20 + row.number % 500)
        key = names.manifest_key(prefix=self._prefix, guest_id=row.number, period=period)
        etag = self.filler.put(key, _of(self._texts[row.number], period, plan_id, slot), at=done)
        if slot >= self._year.newest - timedelta(weeks=2):
            # Records are only read for the page of one export: those of the newest slots will do.
            key = manifest.record.key.replace(_PERIOD, period)
            self.filler.put(key, self._records[row.number].body, at=done)
        assert manifest.timing is not None
        assert manifest.timing.capture is not None
        assert manifest.timing.export is not None
        return row._replace(
            state=State.EXPORTED,
            etag=etag,
            read=True,
            level=manifest.proof_level,
            done_at=done.timestamp(),
            bytes=manifest.total_bytes,
            disks=len(manifest.disks),
            capture_seconds=manifest.timing.capture.seconds,
            export_seconds=manifest.timing.export.seconds,
        )


def _of(text: bytes, period: str, plan_id: str, slot: datetime) -> bytes:
    """Make a slot's object of the first one's."""
    found = text.replace(_PERIOD.encode(), period.encode()).replace(_PLAN.encode(), plan_id.encode())
    return found.replace(b"2020-01-01T", slot.strftime("%Y-%m-%dT").encode())


def _outcome(row: Row, period: str, prefix: str) -> ServerOutcome:
    kinds = {
        State.EXPORTED: OutcomeKind.EXPORTED,
        State.FAILED: OutcomeKind.FAILED,
        State.SKIPPED: OutcomeKind.NOT_EXPORTABLE,
    }
    exported = row.state is State.EXPORTED
    return ServerOutcome(
        kind=kinds[row.state],
        server="virtual",
        id=row.number,
        hostname=row.hostname,
        domain=row.domain,
        export_id=names.export_id(guest_id=row.number, period=period),
        disks=row.disks,
        bytes=row.bytes,
        proof_level=row.level or None,
        manifest_key=names.manifest_key(prefix=prefix, guest_id=row.number, period=period) if exported else None,
        rule=row.rule or None,
        task=row.task or None,
        words=row.words or None,
    )


def _record(item: PlanItem) -> ConfigurationRecord:
    detail = {
        "id": item.guest_id,
        "hostname": item.hostname,
        "domain": item.domain,
        "maxCpu": 4,
        "maxMemory": 16384,
        "datacenter": {"name": item.datacenter},
        "networkComponents": [{"id": item.guest_id + n, "name": "eth", "port": n} for n in range(2)],
    }
    return ConfigurationRecord(
        guest_id=item.guest_id, detail=detail, block_devices=[], attached_network_storage=[], attributes=[]
    )


def _manifest(item: PlanItem, settings: PlanSettings, record: ConfigurationRecord) -> Manifest:
    began = datetime(2020, 1, 1, tzinfo=UTC)
    gigabytes = item.capacity_bytes / 10**9
    capture, export = 300 + 12 * gigabytes, 240 + 20 * gigabytes
    ends = [began + timedelta(seconds=one) for one in (capture, capture + 30, capture + 30 + export)]
    return Manifest.model_validate(
        {
            "export_id": item.export_id,
            "period": _PERIOD,
            "guest": {
                "id": item.guest_id,
                "hostname": item.hostname,
                "domain": item.domain,
                "datacenter": item.datacenter,
            },
            "template": {"id": item.guest_id + 1, "name": item.template_name},
            "captured_at": began,
            "exported_at": ends[2],
            "proven_at": ends[2] + timedelta(seconds=9),
            "bucket": settings.bucket,
            "region": settings.region,
            "format": "vhd",
            "proof_level": "L1",
            "disks": [
                {
                    "index": disk.index,
                    "device": disk.device,
                    "key": key,
                    "size": round(disk.capacity_bytes * 0.4),
                    "virtual_size": disk.capacity_bytes,
                    "capacity": disk.capacity,
                    "units": disk.units,
                    "format": "vhd-dynamic",
                    "etag": hashlib.sha256(key.encode()).hexdigest()[:32] + "-90",
                    "uploaded_at": ends[2],
                    "footer_uuid": f"{item.guest_id:032x}",
                    "creator": "tap",
                    "partition_table": "mbr",
                    "partitions": [{"number": 1, "start": 1048576, "size": disk.capacity_bytes - 1048576}],
                    "proof_level": "L1",
                    "checks": [{"id": one, "detail": "as it should be"} for one in ("footer", "header", "table")],
                    "proof_bytes_read": 1048576,
                    "proof_requests": 9,
                }
                for disk, key in zip(item.disks, item.disk_keys, strict=True)
            ],
            "record": {"key": names.record_key(item.images), "size": len(record.body), "digest": record.digest},
            "run": {
                "dag_id": "export_servers",
                "run_id": f"{_PLAN}.wave-0000",
                "try_number": 1,
                "plan_id": _PLAN,
                "sealift_version": "1",
            },
            "timing": {
                "capacity_bytes": item.capacity_bytes,
                "capture": {"seconds": capture, "began_at": began, "ended_at": ends[0]},
                "export": {"seconds": export, "began_at": ends[1], "ended_at": ends[2]},
            },
        }
    )


def _first_plan(settings: PlanSettings, year: Year) -> Plan:
    items = [
        plan_item(
            _guest(number),
            settings=settings,
            period=_PERIOD,
            done=False,
            past_slot=False,
            template_exists=False,
            history=History(),
        )
        for number in range(year.servers)
    ]
    return assemble(
        plan_id=_PLAN,
        created_at=datetime(2020, 1, 1, tzinfo=UTC),
        period=_PERIOD,
        settings=settings,
        selection=Selection.from_params({"all": True}),
        notes=[],
        items=items,
        history=History(),
    )


def _guest(number: int) -> Guest:
    id_ = 100_000_000 + 7 * number
    disks = [(0, "SYSTEM"), (2, "SYSTEM")][: 1 + number % 2]
    if number % 250 == 249:
        disks = []
    return Guest.model_validate(
        {
            "id": id_,
            "hostname": f"host{number:05d}",
            "domain": "example.com",
            "datacenter": {"name": DATACENTERS[number % len(DATACENTERS)]},
            "status": {"keyName": "ACTIVE"},
            "powerState": {"keyName": "RUNNING"},
            "tagReferences": [{"tag": {"id": 1, "name": tag}} for tag in TAGS[number % len(TAGS)]],
            "blockDevices": [
                {
                    "id": id_ + device,
                    "device": str(device),
                    "mountType": "Disk",
                    "diskImage": {
                        "id": id_ + device,
                        "capacity": (25, 100, 250)[number % 3],
                        "units": "GB",
                        "name": "disk",
                        "metadataFlag": False,
                        "type": {"keyName": kind},
                    },
                }
                for device, kind in disks
            ],
        }
    )
