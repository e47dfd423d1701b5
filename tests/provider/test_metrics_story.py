"""Every declared metric comes out of real operators, hooks and triggers over the sandbox, and out of nothing else; what
comes out is what the dashboard, the mapping and the page name."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from sealift.exports import names
from sealift.exports.errors import NoSuchExportError
from sealift.exports.plan import Outcome, wave_keys
from sealift.provider import metrics
from sealift.provider.errors import ServersFailed
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.metrics import METRICS, OTHER, Kind, Metric
from sealift.provider.operators.deliver import DeliverExportOperator
from sealift.provider.operators.plan import PLAN_KEY
from sealift.provider.operators.prove import ProveExportOperator
from sealift.provider.operators.report import PlanReportOperator, WaveReportOperator
from sealift.provider.operators.retention import ApplyRetentionOperator, DryRunRetentionOperator
from sealift.provider.params import deliver_params, prove_params, retention_params
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor
from sealift.provider.starting import start_capture, start_export
from sealift.provider.triggers.waits import TemplateWaitTrigger
from sealift.sandbox import Sandbox
from tests.cli.steps import LATER, Exported
from tests.metrics_receivers import Line, StatsdServer, as_in_a_task, metrics_of
from tools import measure_files

from .conftest import Pushed

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = {"classic_conn_id": "ibm_classic_default", "cos_conn_id": "ibm_cos_default", "region": "us-south"}


def export_one(made: Exported) -> None:
    """One server's whole way by what its tasks and their triggers call."""
    classic, cos = ClassicHook().client, CosHook(region="us-south")
    plan = made.plan("plan-3", names.period_of_slot(datetime(2026, 12, 7, 2, tzinfo=UTC)))
    item = min(plan.items_with(Outcome.EXPORT), key=lambda one: len(one.disks))
    wave = plan.slice(0)
    captured = start_capture(classic=classic, cos=cos, wave=wave, guest_id=item.guest_id, gate=made.gate)
    template_id = captured.handed_on["template_id"]
    wait = TemplateWaitTrigger(
        classic_conn_id="ibm_classic_default", terms=json.dumps(captured.handed_on), poll_interval=0.1
    )

    async def waited() -> list[Any]:
        return [event async for event in wait.run()]

    (whole,) = asyncio.run(waited())
    assert whole.payload["status"] == "done", whole
    created = classic.template_states([template_id])[template_id].create_date
    assert created is not None
    ended = {
        "template_id": template_id,
        "unfinished_at": (created + timedelta(seconds=0.1)).isoformat(),
        "over_at": (created + timedelta(seconds=0.2)).isoformat(),
    }
    told = {"wave": wave, "guest_id": item.guest_id, "template_id": template_id}
    started = start_export(classic=classic, cos=cos, **told, ended=ended)
    again = start_export(classic=classic, cos=cos, **told)
    assert again.handed_on.get("submitted", False) is False
    made.idle()
    # The sandbox is quicker than the seconds in which a store dates its objects.
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    seen = {one.key: (one.etag, one.size) for one in cos.client.list(made.bucket, names.disks_prefix(item.images))}
    event = {
        "status": "done",
        "reason": "exported",
        "sentence": ".",
        "look": {"at": datetime.now(UTC).isoformat(), "objects": seen},
    }
    proves = ProveWhenExportedSensor(
        task_id="wait_for_export",
        started=json.dumps(started.handed_on | {"started_at": hour_ago}),
        wave_key=wave_keys(plan)[0],
        bucket=made.bucket,
        **CONNECTIONS,
    )
    proves.resume_execution("execute_complete", {"event": event}, Pushed().context)


def prove_deliver_and_remove(made: Exported, folder: Path) -> None:
    """What other DAGs do with exports that are done."""
    kept = {
        "export_id": f"{made.several.guest_id}-{LATER}",
        "hostname": made.several.hostname,
        "bucket": made.bucket,
        "manifest_key": names.manifest_key(prefix="sealift", guest_id=made.several.guest_id, period=LATER),
    }
    context = Pushed().context

    def params(of: dict[str, Any], **changes: Any) -> Any:
        return context | {"params": {name: one.value for name, one in of.items()} | changes}

    ProveExportOperator(task_id="prove", exports=[kept]).execute(params(prove_params({}), level="L2"))
    gone = {**kept, "manifest_key": "sealift/manifests/1/x.json"}
    with pytest.raises(NoSuchExportError):
        ProveExportOperator(task_id="prove", exports=[gone]).execute(params(prove_params({})))
    DeliverExportOperator(task_id="deliver", exports=[kept]).execute(
        params(deliver_params({}, to=str(folder), aws_conn_id="none"))
    )
    rules = [{"name": "all", "servers": {"all": True}, "keep_last": 1}]
    dry_run = DryRunRetentionOperator(task_id="dry_run").execute(
        params(retention_params({}), rules=rules, bucket=made.bucket, region="us-south", prefix="sealift")
    )
    ApplyRetentionOperator(task_id="apply", planned=dry_run).execute(context)


def report(made: Exported) -> None:
    """The reports of the first plan: two of its servers were exported, the others' tasks never ran."""
    where = {
        "plan_id": "plan-1",
        "key": names.plan_key(prefix="sealift", plan_id="plan-1"),
        "bucket": made.bucket,
        "region": "us-south",
        "cos_conn_id": "ibm_cos_default",
    }

    def pulled(*, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        return where if (task_ids, key) == ("make_plan", PLAN_KEY) else None

    ti = SimpleNamespace(dag_id="d", run_id="r", xcom_pull=pulled, get_task_states=lambda **_: {})
    context: Any = {"ti": ti}
    wave = names.wave_key(prefix="sealift", plan_id="plan-1", number=0)
    connections = {name: CONNECTIONS[name] for name in ("cos_conn_id", "region")}
    with pytest.raises(ServersFailed):
        WaveReportOperator(task_id="summarise", wave_key=wave, bucket=made.bucket, **connections).execute(context)
    with pytest.raises(ServersFailed):
        PlanReportOperator(task_id="report").execute(context)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What a StatsD server received of all that."""
    root = tmp_path_factory.mktemp("story")
    with (
        StatsdServer() as server,
        pytest.MonkeyPatch.context() as patch,
        Sandbox(root=root / "sandbox", scenario="demo", speed=3000.0) as sandbox,
    ):
        for name, connection in sandbox.connections().items():
            patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        for name, value in server.settings.items():
            patch.setenv(name, value)
        made = Exported(sandbox)
        with as_in_a_task():
            export_one(made)
            sandbox.set_fault("rate_limit", rate=1.0, times=1)
            ClassicHook().client.account_id()
            sandbox.set_fault("cos_slow_down", rate=1.0, times=1)
            CosHook(region="us-south").client.read(made.bucket, "nothing")
            report(made)
            prove_deliver_and_remove(made, root / "delivered")
            metrics.count_drill("restored", 12.5)
        made.close()
        yield server.until(lambda found: metrics_of(found) == set(METRICS))


def test_every_declared_metric_is_sent_by_something_and_nothing_else_is(lines: list[str]) -> None:
    missing = {one.name for one in set(METRICS) - metrics_of(lines)}
    assert not missing
    assert metrics_of(lines) == set(METRICS)


def test_every_tag_that_is_sent_has_a_declared_value(lines: list[str]) -> None:
    for text in lines:
        line = Line(text)
        assert OTHER not in line.tags.values(), text
        assert line.kind == ("c" if line.metric.kind is Kind.COUNTER else "ms")


def told(lines: list[str], metric: Metric) -> list[tuple[str, ...]]:
    return sorted(tuple(Line(one).tags.values()) for one in lines if Line(one).metric is metric)


def test_what_is_sent_is_what_happened(lines: list[str]) -> None:
    (datacenter,) = [one[-1] for one in told(lines, metrics.EXPORTS) if one[0] == "exported"]
    assert re.fullmatch(metrics.DATACENTER, datacenter)
    ended = Counter(outcome for outcome, _ in told(lines, metrics.EXPORTS))
    # Two reports speak of the servers of a wave, and each is counted once.
    assert ended == {"exported": 1, "failed": 3, "not-exportable": 3}
    assert told(lines, metrics.SUBMISSIONS) == [
        ("capture", "submitted", datacenter),
        ("export", "adopted", datacenter),
        ("export", "submitted", datacenter),
    ]
    assert told(lines, metrics.PROOFS) == [("L1", "proven"), ("L2", "proven")]
    assert told(lines, metrics.WAIT_DURATION) == [("template", "done")]
    assert set(told(lines, metrics.POLL_DURATION)) == {("answered",)}
    assert told(lines, metrics.RETRIES) == [("classic", "ClassicRateLimitedError"), ("cos", "CosTransientError")]
    assert told(lines, metrics.FAULTS) == [("prove", "NoSuchExportError")]
    assert told(lines, metrics.DELIVERIES) == [("folder", "delivered")]
    assert ("export", "removed") in told(lines, metrics.REMOVALS)
    assert all(int(Line(one).value) > 0 for one in lines if Line(one).metric is metrics.REMOVED_BYTES)


# --- the files that name them


def glob(pattern: str) -> re.Pattern[str]:
    """A pattern of statsd_exporter: a star stands for one part of the name between dots."""
    return re.compile(re.escape(pattern).replace(r"\*", r"([^.]*)"))


@pytest.fixture(scope="module")
def mappings() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((ROOT / "deploy/statsd/mapping.yml").read_text())
    assert set(loaded) == {"mappings"}
    found: list[dict[str, Any]] = loaded["mappings"]
    return found


def test_the_files_are_up_to_date() -> None:
    stale = "run python -m tools.measure_files"
    assert measure_files.MAPPING.read_text() == measure_files.mapping(), stale
    assert measure_files.DASHBOARD.read_text() == measure_files.dashboard(), stale


def test_the_mapping_gives_each_line_one_name_with_its_tags(lines: list[str], mappings: list[dict[str, Any]]) -> None:
    for text in lines:
        line = Line(text)
        fits = [(one, match) for one in mappings if (match := glob(one["match"]).fullmatch(line.full))]
        ((rule, match),) = fits
        assert rule["match_metric_type"] == {"c": "counter", "ms": "observer"}[line.kind]
        assert rule["name"] == measure_files.prometheus_name(line.metric)
        labels = {name: match[int(value.removeprefix("$"))] for name, value in rule["labels"].items()}
        assert labels == line.tags


def test_the_mapping_gives_lines_with_tags_the_same_names(mappings: list[dict[str, Any]]) -> None:
    for metric in METRICS:
        ((rule),) = [one for one in mappings if glob(one["match"]).fullmatch(f"airflow.{metric.name}")]
        assert rule["name"] == measure_files.prometheus_name(metric)
        assert "labels" not in rule
        if metric.kind is Kind.TIMER:
            buckets = rule["histogram_options"]["buckets"]
            assert buckets == sorted(set(buckets))
            assert rule["observer_type"] == "histogram"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "deploy/grafana/sealift.json").read_text())
    return loaded


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [one["expr"] for panel in dashboard["panels"] for one in panel.get("targets", [])]


def test_the_dashboard_shows_every_metric_that_comes_out_and_no_other(
    dashboard: dict[str, Any], lines: list[str], mappings: list[dict[str, Any]]
) -> None:
    shown = set().union(*(measure_files.names_in(one) for one in expressions(dashboard)))
    came = {measure_files.prometheus_name(one) for one in metrics_of(lines)}
    assert shown == came
    assert shown == {one["name"] for one in mappings}
    for variable in dashboard["templating"]["list"][1:]:
        assert measure_files.names_in(variable["query"]["query"]) <= shown


def test_the_dashboard_asks_only_for_labels_that_there_are(dashboard: dict[str, Any]) -> None:
    by_name = {measure_files.prometheus_name(one): one for one in METRICS}
    for expression in expressions(dashboard):
        (name,) = measure_files.names_in(expression)
        asked = set(re.findall(r"by \(([^)]*)\)", expression)[0].split(", ")) if " by (" in expression else set()
        asked |= set(re.findall(r"(\w+)=~", expression))
        assert asked - {"le"} <= set(by_name[name].tags), expression
        assert ("le" in asked) == (by_name[name].kind is Kind.TIMER)
        assert expression.count("(") == expression.count(")")


def test_the_dashboard_s_panels_lie_beside_each_other(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_page_describes_every_metric_with_its_tags() -> None:
    text = (ROOT / "docs/measure.md").read_text()
    rows = re.findall(r"^\| `(sealift\.\w+)` \| (\w+)[^|]* \| ([^|]*) \|", text, re.MULTILINE)
    described = {name: (kind, re.findall(r"`(\w+)`", tags)) for name, kind, tags in rows}
    assert described == {one.name: (one.kind.value, list(one.tags)) for one in METRICS}


def test_the_page_names_every_value_of_a_tag() -> None:
    text = (ROOT / "docs/measure.md").read_text().split("| Tag | Values |")[1].split("\n\n")[0]
    for metric in METRICS:
        for name, allowed in metric.tags.items():
            assert f"`{name}`" in text
            if isinstance(allowed, tuple) and name != "level":
                assert all(f"`{one}`" in text for one in allowed), (metric.name, name)
