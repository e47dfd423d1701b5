"""Writes the files that monitoring needs, from the declared metrics: statsd_exporter's mapping and Grafana's dashboard.

``python -m tools.measure_files`` writes both; a test says when they are not up to date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from sealift.provider import metrics
from sealift.provider.metrics import METRICS, Kind, Metric

ROOT: Final = Path(__file__).resolve().parents[1]
MAPPING: Final = ROOT / "deploy/statsd/mapping.yml"
DASHBOARD: Final = ROOT / "deploy/grafana/sealift.json"
PREFIX: Final = "airflow"
"""What Airflow puts before every name, unless ``[metrics] statsd_prefix`` says something else."""

HOURS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 57600, 86400)
SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Buckets in seconds: of work that takes from seconds to a day, and of one look."""


def prometheus_name(metric: Metric) -> str:
    """Name a metric in Prometheus.

    :param metric: the metric.
    :returns: with ``_total`` for a counter, as OpenTelemetry's names become; ``_seconds`` for a timer, which
        statsd_exporter turns into seconds.
    """
    name = f"{PREFIX}.{metric.name}".replace(".", "_")
    return f"{name}_total" if metric.kind is Kind.COUNTER else f"{name}_seconds"


def mapping() -> str:
    """Make the mapping of statsd_exporter, for plain StatsD and for tags in InfluxDB's style.

    :returns: YAML.
    """
    lines = [
        "# How statsd_exporter (0.23 or later) names Sealift's metrics: --statsd.mapping-config=mapping.yml.",
        "# Made by tools/measure_files.py. Add the mappings to those of your Airflow, if it has some already.",
        "mappings:",
    ]
    for metric in METRICS:
        # First with the tags' values behind the name, then with tags proper, which become labels by themselves.
        for match, labels in ((f"{metric.name}{'.*' * len(metric.tags)}", list(metric.tags)), (metric.name, [])):
            lines += [
                f'  - match: "{PREFIX}.{match}"',
                f"    match_metric_type: {'counter' if metric.kind is Kind.COUNTER else 'observer'}",
                f'    name: "{prometheus_name(metric)}"',
                f'    help: "{metric.meaning}"',
            ]
            if metric.kind is Kind.TIMER:
                buckets = SECONDS if metric is metrics.POLL_DURATION else HOURS
                lines += [
                    "    observer_type: histogram",
                    "    histogram_options:",
                    f"      buckets: [{', '.join(f'{one:g}' for one in buckets)}]",
                ]
            if labels:
                lines.append("    labels:")
                lines += [f'      {label}: "${number}"' for number, label in enumerate(labels, 1)]
    return "\n".join(lines) + "\n"


def _selector(metric: Metric) -> str:
    return '{datacenter=~"$datacenter"}' if "datacenter" in metric.tags else ""


def _increase(metric: Metric, *by: str, over: str = "$__rate_interval") -> tuple[str, str]:
    """How many in each step, or over the whole time that is shown; and how the lines are called."""
    labels = f" by ({', '.join(by)})" if by else ""
    legend = " ".join(f"{{{{{one}}}}}" for one in by)
    return f"sum{labels} (increase({prometheus_name(metric)}{_selector(metric)}[{over}]))", legend


def _quantile(metric: Metric, quantile: float, *by: str, over: str = "$__range") -> tuple[str, str]:
    """A quantile of a duration over the whole time that is shown: work of hours is too rare for less."""
    name = f"{prometheus_name(metric)}_bucket"
    buckets = f"sum by ({', '.join(('le', *by))}) (increase({name}{_selector(metric)}[{over}]))"
    expression = f"histogram_quantile({quantile:g}, {buckets})"
    legend = " ".join([*(f"{{{{{one}}}}}" for one in by), f"p{quantile * 100:g}"])
    return expression, legend


def _both(metric: Metric, *by: str, over: str = "$__range") -> list[tuple[str, str]]:
    return [_quantile(metric, quantile, *by, over=over) for quantile in (0.5, 0.95)]


Panel = tuple[str, str, str, str, Sequence[tuple[str, str]]]
"""Title, kind, unit, what it says, and the expressions with their legends."""


def _rows() -> Iterable[tuple[str, list[Panel]]]:
    yield (
        "Exports",
        [
            (
                "Servers by outcome",
                "stat",
                "none",
                "How selected servers ended, over the time shown.",
                [_increase(metrics.EXPORTS, "outcome", over="$__range")],
            ),
            (
                "Exports",
                "timeseries",
                "none",
                "When they ended, and how.",
                [_increase(metrics.EXPORTS, "outcome")],
            ),
            (
                "Bytes exported",
                "timeseries",
                "bytes",
                "Proven images.",
                [_increase(metrics.EXPORT_BYTES, "datacenter")],
            ),
            (
                "Captures and exports submitted",
                "timeseries",
                "none",
                "A capture takes its server offline.",
                [_increase(metrics.SUBMISSIONS, "step", "outcome")],
            ),
            ("Capture", "timeseries", "s", "How long templates take.", _both(metrics.CAPTURE_DURATION)),
            ("Export", "timeseries", "s", "How long copies to the bucket take.", _both(metrics.EXPORT_DURATION)),
            ("A server's whole way", "timeseries", "s", "From capture to proof.", _both(metrics.SERVER_DURATION)),
        ],
    )
    yield (
        "Waiting",
        [
            (
                "Waits",
                "timeseries",
                "s",
                "Long waits for a slot or a turn: the caps bound the pace.",
                [_quantile(metrics.WAIT_DURATION, 0.95, "what", "outcome")],
            ),
            (
                "Looks at the account",
                "timeseries",
                "s",
                "One look answers for all that wait.",
                [_quantile(metrics.POLL_DURATION, 0.95, "outcome", over="$__rate_interval")],
            ),
        ],
    )
    yield (
        "Trouble",
        [
            (
                "Tries that failed",
                "timeseries",
                "none",
                "By step and error; see recover.md.",
                [_increase(metrics.FAULTS, "step", "fault")],
            ),
            (
                "Calls tried again",
                "timeseries",
                "none",
                "Passing faults of the two APIs.",
                [_increase(metrics.RETRIES, "api", "fault")],
            ),
        ],
    )
    yield (
        "Proofs and restore drills",
        [
            (
                "Proofs",
                "timeseries",
                "none",
                "By level; a failed one needs somebody.",
                [_increase(metrics.PROOFS, "level", "outcome")],
            ),
            (
                "Proofs' duration",
                "timeseries",
                "s",
                "By level.",
                [_quantile(metrics.PROOF_DURATION, 0.95, "level")],
            ),
            (
                "Restore drills",
                "stat",
                "none",
                "Over the time shown.",
                [_increase(metrics.DRILLS, "outcome", over="$__range")],
            ),
            ("Time to recover", "timeseries", "s", "By drill.", _both(metrics.DRILL_DURATION, "outcome")),
        ],
    )
    yield (
        "Delivery",
        [
            ("Deliveries", "timeseries", "none", "By place.", [_increase(metrics.DELIVERIES, "to", "outcome")]),
            ("Bytes delivered", "timeseries", "bytes", "By place.", [_increase(metrics.DELIVERY_BYTES, "to")]),
            ("Deliveries' duration", "timeseries", "s", "By place.", _both(metrics.DELIVERY_DURATION, "to")),
        ],
    )
    yield (
        "Retention",
        [
            (
                "Removals",
                "timeseries",
                "none",
                "What came of what was to go.",
                [_increase(metrics.REMOVALS, "what", "outcome")],
            ),
            ("Bytes freed", "timeseries", "bytes", "Deleted objects.", [_increase(metrics.REMOVED_BYTES, "what")]),
        ],
    )


_WIDTH: Final = 8
_HEIGHT: Final = 8
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> str:
    """Make the dashboard of Grafana (10 or later) for Prometheus behind statsd_exporter.

    :returns: JSON.
    """
    panels: list[dict[str, Any]] = []
    y = 0
    for row, wanted in _rows():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
            }
        )
        y += 1
        for number, one in enumerate(wanted):
            x = (number % (24 // _WIDTH)) * _WIDTH
            if number and x == 0:
                y += _HEIGHT
            panels.append(_panel(len(panels) + 1, x, y, *one))
        y += _HEIGHT
    made = {
        "uid": "sealift",
        "title": "Sealift",
        "description": "Exports of IBM Cloud Classic virtual servers. Made by tools/measure_files.py of Sealift.",
        "tags": ["sealift", "airflow"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-7d", "to": "now"},
        "timezone": "utc",
        "templating": {"list": _variables()},
        "panels": panels,
    }
    return json.dumps(made, indent=2) + "\n"


def _panel(
    number: int, x: int, y: int, title: str, kind: str, unit: str, words: str, wanted: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": words,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(wanted)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    name = prometheus_name(metrics.EXPORTS)
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "datacenter",
            "label": "Data center",
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": f"label_values({name}, datacenter)", "refId": "datacenter"},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def names_in(expression: str) -> set[str]:
    """Find the metrics that an expression of Prometheus names.

    :param expression: the expression.
    :returns: the names, without ``_bucket``.
    """
    return {one.removesuffix("_bucket") for one in re.findall(rf"\b{PREFIX}_\w+", expression)}


def main() -> None:
    """Write both files."""
    for path, text in ((MAPPING, mapping()), (DASHBOARD, dashboard())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"{path.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
