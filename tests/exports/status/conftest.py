"""A bucket with plans, manifests, reports and later proofs, made by the code that makes them in production."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from sealift.exports import names
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.exports.plan import Plan, make_plan, write_plan
from sealift.exports.proofs import LaterProof, ProvenBytes, add_proof
from sealift.exports.report import (
    TaskFailure,
    make_run_report,
    make_wave_report,
    read_wave_reports,
    write_run_report,
    write_wave_report,
)
from sealift.exports.selection import Selection
from sealift.exports.status.books import Books

PREFIX = "nightly"


class World:
    """One bucket, and an account whose servers are exported to it."""

    def __init__(self, cos: Any, classic: Any, settings: Callable[..., Any], now: datetime) -> None:
        self.cos = cos
        self.classic = classic
        self.settings = settings
        self.now = now
        cos.clock = lambda: self.now

    def books(self) -> Books:
        return Books(cos=self.cos, bucket="sealift-exports", prefix=PREFIX, clock=lambda: self.now)

    def plan(self, period: str, *, run_id: str = "", dry_run: bool = False, **chosen: Any) -> Plan:
        plan = make_plan(
            settings=self.settings(dry_run=dry_run),
            selection=Selection.from_params(chosen or {"all": True}),
            classic=self.classic,
            cos=self.cos,
            plan_id=names.plan_id_for(dag_id="plan_exports", run_id=run_id or f"run-{period}"),
            period=period,
            now=self.now,
        )
        write_plan(self.cos, plan)
        return plan

    def finish(self, plan: Plan, guest_id: int, **changes: Any) -> Manifest:
        """Put the manifest of one server of a plan into the bucket."""
        item = next(one for one in plan.items if one.guest_id == guest_id)
        manifest = Manifest.model_validate(manifest_of(item, self.now, plan.plan_id) | changes)
        key = names.manifest_key(prefix=PREFIX, guest_id=guest_id, period=item.period)
        self.cos.store(key, canonical_json(manifest))
        return manifest

    def report(self, plan: Plan, failed: Mapping[int, str] | None = None) -> None:
        """Report all waves of a plan, and the run."""
        self.report_waves(plan, failed)
        report = make_run_report(cos=self.cos, plan=plan, waves=read_wave_reports(self.cos, plan), now=self.now)
        write_run_report(self.cos, report, prefix=PREFIX)

    def report_waves(
        self, plan: Plan, failed: Mapping[int, str] | None = None, *, only: Collection[int] | None = None
    ) -> None:
        failures = {one: TaskFailure(task="capture", words=words) for one, words in (failed or {}).items()}
        for wave in plan.slices():
            if only is None or wave.number in only:
                report = make_wave_report(cos=self.cos, wave=wave, failures=failures, run_id="r", now=self.now)
                write_wave_report(self.cos, report, bucket="sealift-exports", prefix=PREFIX)

    def prove(self, manifest: Manifest, level: str = "L2") -> None:
        proof = LaterProof(
            export_id=manifest.export_id,
            made_at=self.now,
            made_by="a test",
            proof_level=level,
            disks=[ProvenBytes(key=one.key, etag=one.etag, size=one.size, sha256="1" * 64) for one in manifest.disks],
        )
        add_proof(self.cos, proof, bucket="sealift-exports", prefix=PREFIX, manifest=manifest)

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)


def manifest_of(item: Any, now: datetime, plan_id: str, **changes: Any) -> dict[str, Any]:
    captured = now - timedelta(minutes=40)
    return {
        "export_id": item.export_id,
        "period": item.period,
        "guest": {
            "id": item.guest_id,
            "hostname": item.hostname,
            "domain": item.domain,
            "datacenter": item.datacenter,
        },
        "template": {"id": item.guest_id + 900, "name": item.template_name},
        "captured_at": captured,
        "exported_at": now - timedelta(minutes=1),
        "proven_at": now,
        "bucket": "sealift-exports",
        "region": "us-south",
        "format": "vhd",
        "proof_level": "L1",
        "disks": [
            {
                "index": disk.index,
                "device": disk.device,
                "key": names.disk_key(images=item.images, index=disk.index),
                "size": 4 * 10**8,
                "virtual_size": disk.capacity_bytes,
                "capacity": disk.capacity,
                "units": disk.units,
                "format": "vhd-dynamic",
                "etag": f"e{item.guest_id}-{disk.index}",
                "uploaded_at": now - timedelta(minutes=1),
                "footer_uuid": "u",
                "creator": "c",
                "partition_table": "mbr",
                "proof_level": "L1",
                "checks": [{"id": "footer", "detail": "sound"}],
                "proof_bytes_read": 1,
                "proof_requests": 1,
            }
            for disk in item.disks
        ],
        "record": {"key": names.record_key(item.images), "size": 1, "digest": "sha256:" + "0" * 64},
        "run": {"dag_id": "d", "run_id": "r", "try_number": 1, "plan_id": plan_id, "sealift_version": "1"},
        "timing": {
            "capacity_bytes": item.capacity_bytes,
            "capture": {"seconds": 600.0, "began_at": captured, "ended_at": captured + timedelta(seconds=600)},
            "export": {
                "seconds": 900.0,
                "began_at": captured + timedelta(seconds=700),
                "ended_at": captured + timedelta(seconds=1600),
            },
        },
        **changes,
    }


@pytest.fixture
def world(cos: Any, make_classic: Any, make_guest: Any, make_bare_metal: Any, make_settings: Any, now: Any) -> World:
    """Five servers in two data centers, one of which may not be exported, and a bare metal server."""
    tag = [{"tag": {"id": 1, "name": "prod"}}]
    guests = [
        make_guest(101, hostname="web1", tagReferences=tag),
        make_guest(102, hostname="web2"),
        make_guest(103, hostname="db1", datacenter={"id": 2, "name": "fra02"}, data_disks=1, tagReferences=tag),
        make_guest(104, hostname="mail<b>", data_disks=0),
        make_guest(105, hostname="bare", blockDevices=[]),
    ]
    return World(cos, make_classic(guests=guests, bare_metal=[make_bare_metal(555)]), make_settings, now)
