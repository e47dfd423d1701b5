"""The demo's servers go the whole way over the sandbox, with the real clients: plan, capture, export, proof, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sealift.classic.client import ClassicClient
from sealift.cos.client import CosClient
from sealift.exports import names
from sealift.exports.errors import RetryableStepError, SelectionError
from sealift.exports.manifest import read_manifest
from sealift.exports.plan import Outcome, Plan, PlanItem, make_plan, read_wave, write_plan
from sealift.exports.report import TaskFailure, make_run_report, make_wave_report
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.exports.slots import OfflineSlots
from sealift.exports.steps import ensure_captured, ensure_export_started, prove_and_record
from sealift.exports.surveying import SlotsPlace, survey
from sealift.exports.waiting import ExportJudge, TemplateJudge, Verdict, capture_terms, export_terms
from sealift.sandbox import Sandbox

DEADLINE = 60.0


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module", params=["xmlrpc", "rest"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=600.0) as started:
        yield started


@pytest.fixture(scope="module")
def classic(sandbox: Sandbox, transport: Any) -> Iterator[ClassicClient]:
    client = ClassicClient(
        username=sandbox.username, api_key=sandbox.api_key, endpoint_url=sandbox.api_url, transport=transport
    )
    yield client
    client.close()


@pytest.fixture(scope="module")
def cos(sandbox: Sandbox) -> CosClient:
    return CosClient(
        region="us-south",
        endpoint_url=sandbox.cos_url,
        api_key=sandbox.cos_api_key,
        service_instance_id=sandbox.cos_service_instance_id,
        iam_endpoint=sandbox.iam_url,
    )


@pytest.fixture(scope="module")
def plan_for(sandbox: Sandbox, classic: ClassicClient, cos: CosClient) -> Callable[..., Plan]:
    def make(period: str, selection: dict[str, Any] | None = None) -> Plan:
        return make_plan(
            settings=PlanSettings(
                classic_conn_id="c", cos_conn_id="o", bucket=sandbox.bucket, region="us-south", prefix="nightly"
            ),
            selection=Selection.from_params(selection or {"all": True}),
            classic=classic,
            cos=cos,
            plan_id=f"plan-{period}",
            period=period,
            now=now(),
        )

    return make


def wait(poll: Callable[[], Verdict | None]) -> Verdict:
    """Poll until there is a verdict."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        verdict = poll()
        if verdict is not None:
            return verdict
        time.sleep(0.1)
    raise AssertionError(f"no verdict within {DEADLINE} s")


def place_of(classic: ClassicClient, settings: PlanSettings) -> SlotsPlace:
    """Give the slots' place, with a settle time as short as the sandbox's captures are."""
    root = names.slots_root(prefix="", account_id=classic.account_id())
    return SlotsPlace(bucket=settings.bucket, root=root, settle=timedelta(minutes=1))


def wait_until_back(classic: ClassicClient, cos: CosClient, settings: PlanSettings) -> None:
    """Wait until no server counts as offline any more: a while after the end of its capture."""
    until = time.monotonic() + DEADLINE
    while left := survey(classic, cos, place_of(classic, settings), now=now()).guests():
        assert time.monotonic() < until, f"{left} count as offline"
        time.sleep(0.1)


def gate(classic: ClassicClient, cos: CosClient, settings: PlanSettings) -> OfflineSlots:
    return OfflineSlots(cos=cos, place=place_of(classic, settings), max_offline=settings.max_offline)


def export_one(item: PlanItem, settings: PlanSettings, classic: ClassicClient, cos: CosClient, api_key: str) -> None:
    """Take one server the whole way, each step twice where it may be run again."""
    capture = {
        "classic": classic,
        "cos": cos,
        "item": item,
        "settings": settings,
        "gate": gate(classic, cos, settings),
    }
    captured = ensure_captured(**capture)  # type: ignore[arg-type]
    assert not captured.adopted
    assert item.guest_id in survey(classic, cos, place_of(classic, settings), now=now()).guests()
    template_id = captured.template_id

    def account() -> dict[str, Any]:
        return {
            "template": classic.template_states([template_id]).get(template_id),
            "guest": classic.guest_states([item.guest_id]).get(item.guest_id),
            "now": now(),
        }

    terms = capture_terms(item, settings, template_id=template_id, started_at=now())
    making = TemplateJudge(terms)
    verdict = wait(lambda: making.observe(**account()))
    assert verdict.kind == "done", verdict
    wait_until_back(classic, cos, settings)
    assert ensure_captured(**capture).adopted  # type: ignore[arg-type]

    steps = {"classic": classic, "cos": cos, "item": item, "settings": settings, "template_id": template_id}
    started = ensure_export_started(**steps, ibm_api_key=api_key)
    assert not started.adopted
    assert ensure_export_started(**steps, ibm_api_key=api_key).adopted
    exporting = ExportJudge(export_terms(item, settings, template_id=template_id, started_at=now()))
    verdict = wait(
        lambda: exporting.observe(
            template=classic.template_states([template_id]).get(template_id),
            objects=list(cos.list(settings.bucket, names.disks_prefix(item.images))),
            now=now(),
        )
    )
    assert verdict.kind == "done", verdict

    proving = {**steps, "dag_id": "d", "run_id": "r", "try_number": 1, "second_look_seconds": 0.1}
    recorded = prove_and_record(**proving)
    assert not recorded.already
    assert prove_and_record(**proving) == recorded.model_copy(update={"already": True})


@pytest.mark.slow
def test_the_demo_ends_as_it_is_due(
    plan_for: Callable[..., Plan], classic: ClassicClient, cos: CosClient, sandbox: Sandbox
) -> None:
    bare_metal = {one.hostname for one in classic.list_bare_metal()}
    plan = plan_for("20261123T0200Z", {"all": True, "exclude": {"hostnames": sorted(bare_metal) or ["-"]}})
    assert [item.outcome for item in plan.items].count(Outcome.EXPORT) == 5
    (key,) = write_plan(cos, plan)
    wave = read_wave(cos, bucket=sandbox.bucket, key=key)

    for item in wave.items:
        export_one(item, wave.settings, classic, cos, sandbox.cos_api_key)

    waves = {0: make_wave_report(cos=cos, wave=wave, failures={}, run_id="w", now=now())}
    report = make_run_report(cos=cos, plan=plan, waves=waves, now=now())
    assert report.summary == "5 exported, 8 disks proven, 1 not exportable, 0 failed"
    wait_until_back(classic, cos, wave.settings)
    assert len(classic.templates_with_prefix(names.TEMPLATE_PREFIX)) == 5
    storage: list[str] = []
    for one in report.outcomes:
        if one.manifest_key:
            manifest = read_manifest(cos, bucket=sandbox.bucket, key=one.manifest_key)
            assert manifest is not None
            assert manifest.captured_at < manifest.exported_at < manifest.proven_at
            assert all(disk.proof_bytes_read < 2**20 for disk in manifest.disks)
            storage += [one.type or "" for one in manifest.storage_not_in_image]
    assert sorted(storage) == ["ISCSI", "NAS"]
    written = b"".join(
        cos.read(sandbox.bucket, info.key) or b""
        for info in cos.list(sandbox.bucket, "nightly/")
        if info.key.endswith(".json")
    )
    assert b"PLANTED" not in written
    assert sandbox.cos_api_key.encode() not in written

    again = plan_for("20261123T0200Z")
    assert [item.outcome for item in again.items].count(Outcome.ALREADY_EXPORTED) == 5
    assert again.waves == []


def test_a_lost_reply_of_the_sandbox_is_adopted_and_captured_once(
    plan_for: Callable[..., Plan], classic: ClassicClient, cos: CosClient, sandbox: Sandbox
) -> None:
    plan = plan_for("20261124T0200Z")
    item = plan.items_with(Outcome.EXPORT)[0]
    sandbox.set_fault("lost_reply@createArchiveTemplate", times=1)

    captured = ensure_captured(
        classic=classic,
        cos=cos,
        item=item,
        settings=plan.settings,
        gate=gate(classic, cos, plan.settings),
        look_waits=(0.1, 0.1, 0.5),
    )

    assert captured.adopted
    assert len(classic.templates_named(item.template_name)) == 1


def test_unknown_input_is_refused_by_the_real_account(plan_for: Callable[..., Plan]) -> None:
    with pytest.raises(SelectionError, match="no data center named 'dal99'"):
        plan_for("x", {"datacenters": ["dal99"]})
    with pytest.raises(SelectionError, match="no server with the id 999999999"):
        plan_for("x", {"ids": [999999999]})


def test_a_server_that_got_busy_after_the_plan_fails_alone_and_says_so(
    plan_for: Callable[..., Plan], classic: ClassicClient, cos: CosClient
) -> None:
    wait_until_back(classic, cos, plan_for("20261125T0200Z").settings)  # of those that the tests before captured
    plan = plan_for("20261125T0200Z")
    # By its name: a capture that another test left running would be over in a moment.
    busy = next(item for item in plan.items if item.hostname == "legacy-01")
    assert busy.outcome is Outcome.NOT_EXPORTABLE
    assert busy.refusals[0].rule == "active-transaction"

    with pytest.raises(RetryableStepError, match="active transaction") as caught:
        ensure_captured(
            classic=classic, cos=cos, item=busy, settings=plan.settings, gate=gate(classic, cos, plan.settings)
        )

    wave = plan.slice(0).model_copy(update={"items": [busy]})
    failures = {busy.guest_id: TaskFailure(task="capture", words=str(caught.value), rule=caught.value.rule)}
    report = make_wave_report(cos=cos, wave=wave, failures=failures, run_id="w", now=now())
    assert [(one.kind.value, one.rule) for one in report.outcomes] == [("not exportable", "active-transaction")]
    assert classic.templates_named(busy.template_name) == []
