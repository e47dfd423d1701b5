"""Exports of the sandbox's servers by the product's own steps, for tests of commands that look at what they leave."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sealift.classic.client import ClassicClient
from sealift.cli.connections import ReadConnection
from sealift.connections import classic_client, cos_client
from sealift.cos.client import CosClient
from sealift.exports import names
from sealift.exports.manifest import Manifest, read_manifest
from sealift.exports.names import manifest_key
from sealift.exports.plan import Outcome, Plan, PlanItem, make_plan, write_plan
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.exports.slots import OfflineSlots
from sealift.exports.steps import ensure_captured, ensure_export_started, prove_and_record
from sealift.exports.surveying import SlotsPlace, settle_time
from sealift.sandbox import Sandbox

PERIOD, LATER = "20261123T0200Z", "20261130T0200Z"


class Steps:
    """A sandbox in which every step of an export can be made, and stopped at."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        made = {name: ReadConnection.of_fields(one, where=name) for name, one in sandbox.connections().items()}
        self.classic: ClassicClient = classic_client(made["ibm_classic_default"], "c")
        self.cos: CosClient = cos_client(made["ibm_cos_default"], "o")
        self.bucket = sandbox.bucket
        self.settings = PlanSettings(
            classic_conn_id="c", cos_conn_id="o", bucket=self.bucket, region="us-south", prefix="sealift"
        )
        self.place = SlotsPlace(
            bucket=self.bucket,
            root=names.slots_root(prefix="", account_id=self.classic.account_id()),
            settle=settle_time(timeout=self.classic.timeout, minutes=None),
        )
        self.gate = OfflineSlots(cos=self.cos, place=self.place, max_offline=5)

    def plan(self, plan_id: str, period: str) -> Plan:
        plan = make_plan(
            settings=self.settings,
            selection=Selection.from_params({"all": True}),
            classic=self.classic,
            cos=self.cos,
            plan_id=plan_id,
            period=period,
            now=datetime.now(UTC),
        )
        write_plan(self.cos, plan)
        return plan

    def idle(self) -> None:
        self.sandbox.wait_until(lambda: not any(one["ended"] is None for one in self.running()), what="idleness")

    def running(self) -> list[dict[str, Any]]:
        return [one for one in self.sandbox.transactions() if one["kind"] in {"capture", "export"}]

    def capture(self, item: PlanItem) -> int:
        captured = ensure_captured(
            classic=self.classic, cos=self.cos, item=item, settings=self.settings, gate=self.gate
        )
        return captured.template_id

    def export(self, item: PlanItem, template_id: int) -> None:
        ensure_export_started(
            classic=self.classic,
            cos=self.cos,
            item=item,
            settings=self.settings,
            template_id=template_id,
            ibm_api_key=self.sandbox.cos_api_key,
        )

    def prove(self, item: PlanItem, template_id: int) -> None:
        prove_and_record(
            classic=self.classic,
            cos=self.cos,
            item=item,
            settings=self.settings,
            template_id=template_id,
            dag_id="d",
            run_id="r",
            try_number=1,
            second_look_seconds=0.1,
        )

    def close(self) -> None:
        self.classic.close()
        self.cos.close()


class Exported(Steps):
    """Two servers that are exported, one of them twice."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        first = self.plan("plan-1", PERIOD)
        several, other = sorted(first.items_with(Outcome.EXPORT), key=lambda one: -len(one.disks))[:2]
        self.whole_way([several, other])
        again = {one.guest_id: one for one in self.plan("plan-2", LATER).items}
        self.whole_way([again[several.guest_id]])
        self.several, self.other = several, other

    def whole_way(self, items: list[PlanItem]) -> None:
        templates = {one.guest_id: self.capture(one) for one in items}
        self.idle()
        for one in items:
            self.export(one, templates[one.guest_id])
        self.idle()
        for one in items:
            self.prove(one, templates[one.guest_id])

    def manifest(self, guest_id: int, period: str) -> Manifest:
        key = manifest_key(prefix="sealift", guest_id=guest_id, period=period)
        found = read_manifest(self.cos, bucket=self.bucket, key=key)
        assert found is not None
        return found
