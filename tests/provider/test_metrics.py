"""Metrics as Airflow sends them: by StatsD with and without tags, by OpenTelemetry, and into nothing without harm."""

from __future__ import annotations

import atexit
import logging
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from sealift.classic.errors import ClassicRateLimitedError
from sealift.exports.errors import ProofError, UnsettledProofError
from sealift.provider import metrics
from sealift.provider.errors import WaitFailed
from sealift.provider.metrics import METRICS, Kind, Metric
from tests.metrics_receivers import Collector, Line, StatsdServer, as_in_a_task, as_in_the_triggerer, metrics_of

pytestmark = pytest.mark.airflow


def values(metric: Metric) -> dict[str, str]:
    """A value for each tag that may be."""
    patterns = {metrics.DATACENTER: "dal13", metrics.FAULT: "ClassicRateLimitedError"}
    return {name: one[-1] if isinstance(one, tuple) else patterns[one] for name, one in metric.tags.items()}


def send_each() -> None:
    for metric in METRICS:
        metrics.send(metric, 3, **values(metric))


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    with StatsdServer() as server:
        for name, value in server.settings.items():
            monkeypatch.setenv(name, value)
        yield server


def test_names_are_valid_everywhere_and_none_is_the_beginning_of_another() -> None:
    names = [one.name for one in METRICS]
    assert len(set(names)) == len(names) >= 19
    for name in names:
        # OpenTelemetry: letters, digits, _ . - /, at most 255 characters; Prometheus turns dots into underscores.
        assert re.fullmatch(r"sealift\.[a-z]+(_[a-z]+)*", name)
        assert not [other for other in names if other.startswith(f"{name}.")]
    for metric in METRICS:
        assert not set(metric.tags) & {"job_id", "run_id", "dag_id", "task_id", "host", "le", "quantile"}
        for allowed in metric.tags.values():
            assert isinstance(allowed, re.Pattern) or all(re.fullmatch(r"[A-Za-z0-9_-]+", one) for one in allowed)


def test_plain_statsd_has_the_tags_behind_the_name(statsd: StatsdServer) -> None:
    with as_in_a_task():
        send_each()
    lines = [Line(one) for one in statsd.until(lambda found: len(found) >= len(METRICS))]
    assert {one.metric for one in lines} == set(METRICS)
    assert len(lines) == len(METRICS), "each is sent once"
    for line in lines:
        assert line.tags == values(line.metric)
        if line.metric.kind is Kind.COUNTER:
            assert (line.value, line.kind) == ("3", "c")
        else:
            assert (float(line.value), line.kind) == (3000.0, "ms")
    (shown,) = [one.full for one in lines if one.metric is metrics.EXPORTS]
    assert shown == "airflow.sealift.exports.failed.dal13"


def test_statsd_with_tags_has_them_as_tags(statsd: StatsdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
    with as_in_a_task():
        send_each()
    lines = statsd.until(lambda found: len(found) >= len(METRICS))
    expected = {
        f"airflow.{','.join([one.name, *(f'{tag}={value}' for tag, value in values(one).items())])}" for one in METRICS
    }
    assert {one.partition(":")[0] for one in lines} == expected


def test_opentelemetry_has_them_as_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk._shared.observability.metrics import otel_logger
    from opentelemetry import metrics as otel

    with Collector() as collector:
        for name, value in collector.settings.items():
            monkeypatch.setenv(name, value)
        with as_in_a_task() as stats:
            send_each()
            provider: Any = otel.get_meter_provider()
            assert stats._backend is not None
            assert provider.force_flush()
            provider.shutdown()
            atexit.unregister(otel_logger.flush_otel_metrics)  # this process goes on without them
        arrived = collector.metrics()
    assert {f"airflow.{one.name}" for one in METRICS} == set(arrived)
    for metric in METRICS:
        found = arrived[f"airflow.{metric.name}"]
        if metric.kind is Kind.COUNTER:
            (point,) = found.sum.data_points
            assert found.sum.is_monotonic
            assert point.as_int == 3
        else:
            (point,) = found.exponential_histogram.data_points
            assert (point.count, point.sum) == (1, 3000.0)
        assert {one.key: one.value.string_value for one in point.attributes} == values(metric)


def test_a_component_that_the_sdk_is_not_ready_in_sends_by_airflow_s_own(
    statsd: StatsdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow.sdk._shared.observability.metrics.stats._factory", None)
    with as_in_the_triggerer():
        metrics.count_wait("slot", 1.5)
    (line,) = statsd.until(bool)
    assert line == "airflow.sealift.wait_duration.slot.done:1500.000000|ms"


def test_a_task_that_inherits_the_scheduler_s_metrics_sends_once(statsd: StatsdServer) -> None:
    with as_in_the_triggerer(), as_in_a_task():
        metrics.count_poll(0.25, failed=True)
        metrics.count_poll(0.25, failed=False)
    lines = statsd.until(lambda found: len(found) >= 2)
    assert [Line(one).tags["outcome"] for one in lines] == ["failed", "answered"]


def test_nothing_is_sent_where_airflow_sends_nothing(statsd: StatsdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
    with as_in_a_task():
        send_each()
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    with as_in_a_task():
        metrics.count_drill("restored", 1)
    assert metrics_of(statsd.until(lambda found: len(found) >= 2)) == {metrics.DRILLS, metrics.DRILL_DURATION}


@pytest.mark.parametrize(
    ("setting", "value", "arrive"),
    [
        ("ALLOW_LIST", "^sealift", True),
        ("ALLOW_LIST", "scheduler,dagrun", False),
        ("BLOCK_LIST", "sealift", False),
        ("BLOCK_LIST", "scheduler", True),
    ],
)
def test_airflow_s_lists_hold(
    statsd: StatsdServer, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, arrive: bool
) -> None:
    monkeypatch.setenv(f"AIRFLOW__METRICS__METRICS_{setting}", value)
    with as_in_a_task() as stats:
        send_each()
        # What comes after them shows that they would have come.
        stats._backend.statsd.incr("sealift.exports.after.all")
    lines = statsd.until(lambda found: any("after.all" in one for one in found))
    assert len(lines) == (len(METRICS) if arrive else 0) + 1


def test_a_tag_has_few_values(statsd: StatsdServer) -> None:
    with as_in_a_task():
        for outcome, datacenter in [("exported", "dal13"), ("made up", None), ("failed", "web-01.example.com:7|c\n")]:
            metrics.count_server(outcome, datacenter=datacenter)
        metrics.count_classic_retry(ClassicRateLimitedError("slow down"))
        metrics.count_cos_retry(ValueError("not one of ours"))
    lines = [Line(one).tags for one in statsd.until(lambda found: len(found) >= 5)]
    assert lines == [
        {"outcome": "exported", "datacenter": "dal13"},
        {"outcome": "other", "datacenter": "unknown"},
        {"outcome": "failed", "datacenter": "other"},
        {"api": "classic", "fault": "ClassicRateLimitedError"},
        {"api": "cos", "fault": "other"},
    ]


def test_faults_are_counted_by_step_and_pass_on(statsd: StatsdServer) -> None:
    def ends(error: BaseException) -> None:
        with pytest.raises(type(error)), metrics.counting_faults("capture"):
            raise error

    with as_in_a_task():
        ends(WaitFailed("It is stuck.", reason="stuck"))
        ends(ProofError("bad", check_id="x", key="k"))
        ends(RuntimeError("somebody else's"))
        ends(TaskDeferred(trigger=None, method_name="look_again"))
        ends(AirflowSkipException())
        ends(KeyboardInterrupt())
        metrics.count_drill("failed", 1)
    lines = statsd.until(lambda found: any("drills" in one for one in found))
    faults = [Line(one).tags for one in lines if Line(one).metric is metrics.FAULTS]
    assert faults == [{"step": "capture", "fault": one} for one in ("stuck", "ProofError", "other")]


@pytest.mark.parametrize(
    ("error", "done_before", "expected"),
    [
        (None, False, [("L3", "proven")]),
        (None, True, []),
        (ProofError("bad", check_id="x", key="k"), False, [("L2", "failed")]),
        (UnsettledProofError("changes", check_id="x", key="k"), False, []),
        (OSError("no network"), False, []),
    ],
    ids=["proven", "before", "bad", "unsettled", "network"],
)
def test_a_proof_counts_once_by_the_level_that_was_reached(
    statsd: StatsdServer, error: Exception | None, done_before: bool, expected: list[tuple[str, str]]
) -> None:
    def prove() -> None:
        with metrics.timing_proof("L2") as proof:
            if error is not None:
                raise error
            proof.level, proof.done_before = "L3", done_before

    with as_in_a_task():
        if error is None:
            prove()
        else:
            with pytest.raises(type(error)):
                prove()
        metrics.count_wait("turn", -5)
    lines = [Line(one) for one in statsd.until(lambda found: any("turn" in one for one in found))]
    for metric in (metrics.PROOFS, metrics.PROOF_DURATION):
        told = [(one.tags["level"], one.tags["outcome"]) for one in lines if one.metric is metric]
        assert told == expected
    (wait,) = [one for one in lines if one.metric is metrics.WAIT_DURATION]
    assert float(wait.value) == 0.0, "clocks may differ; a time is never negative"


def test_a_delivery_that_fails_is_counted_as_failed(statsd: StatsdServer) -> None:
    with as_in_a_task(), pytest.raises(OSError, match="full"), metrics.timing_delivery("s3://copies/x"):
        raise OSError("full")
    lines = [Line(one) for one in statsd.until(lambda found: len(found) >= 2)]
    assert {one.metric for one in lines} == {metrics.DELIVERIES, metrics.DELIVERY_DURATION}
    assert {tuple(one.tags.values()) for one in lines} == {("s3", "failed")}


class Breaks:
    """A backend that raises whatever is sent."""

    def __init__(self) -> None:
        self.asked = 0

    def incr(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        raise RuntimeError("no metrics today")

    timing = incr


def test_a_backend_that_fails_hurts_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    backend = Breaks()
    metrics._told.clear()
    with as_in_a_task() as stats, caplog.at_level(logging.WARNING, logger="sealift.provider.metrics"):
        stats.initialize(factory=lambda: backend, export_legacy_names=True)
        send_each()
        with metrics.counting_faults("plan"):
            result = "the task's own"
    assert result == "the task's own"
    assert backend.asked == len(METRICS)
    assert [one.getMessage() for one in caplog.records] == [
        "The metric sealift.exports could not be sent: RuntimeError: no metrics today"
    ]


def test_a_backend_that_cannot_be_made_hurts_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", "no port")
    metrics._told.clear()
    with as_in_a_task(), caplog.at_level(logging.WARNING, logger="sealift.provider.metrics"):
        send_each()
    (record,) = caplog.records
    assert "AirflowConfigException" in record.getMessage()


def test_a_server_that_nobody_runs_hurts_nothing(statsd: StatsdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(port))
    with as_in_a_task():
        send_each()
        send_each()
    assert statsd.lines() == []


def test_what_counts_an_export_takes_all_of_it_from_the_manifest(statsd: StatsdServer) -> None:
    from datetime import UTC, datetime, timedelta

    began = datetime(2026, 11, 23, 2, tzinfo=UTC)
    made: Any = SimpleNamespace(
        guest=SimpleNamespace(datacenter="ams03"),
        total_bytes=5 * 10**12,
        timing=SimpleNamespace(capture=SimpleNamespace(seconds=600.0), export=None),
        captured_at=began,
        proven_at=began + timedelta(hours=3),
    )
    with as_in_a_task():
        metrics.count_export(made)
    lines = statsd.until(lambda found: len(found) >= 4)
    assert sorted(lines) == [
        "airflow.sealift.capture_duration.ams03:600000.000000|ms",
        "airflow.sealift.export_bytes.ams03:5000000000000|c",
        "airflow.sealift.exports.exported.ams03:1|c",
        "airflow.sealift.server_duration.ams03:10800000.000000|ms",
    ]
