"""Draws the charts of docs/performance.md from the results: ``make bench-charts``.

The same results make the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import results_file
from benchmarks.measuring.processes import AIRFLOW, POSTGRESQL, REDIS

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SCALE, FLEET = "performance-scale.svg", "performance-fleet.svg"
WIDTH, ROW, LEFT, RIGHT, TOP = 860, 34, 200, 110, 64
COLOURS = {
    "scheduler": "#1f4e79",
    "workers": "#2e86c1",
    "triggerer": "#f39c12",
    "api-server": "#7d3c98",
    "dag-processor": "#95a5a6",
    "postgresql": "#1e8449",
    "redis": "#c0392b",
    "measured": "#2e86c1",
    "computed": "#aed6f1",
}
_FONT = 'font-family="DejaVu Sans, Arial, sans-serif" font-size="13"'


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its parts from left to right, and what stands at its end."""

    label: str
    parts: Sequence[tuple[str, float]]
    text: str

    @property
    def length(self) -> float:
        """What all parts come to."""
        return sum(value for _, value in self.parts)


def draw(title: str, bars: Sequence[Bar], legend: Sequence[str]) -> str:
    """Draw horizontal stacked bars.

    :param title: stands on top.
    :param bars: at least one.
    :param legend: which kinds of part to explain.
    :returns: an SVG.
    """
    height = TOP + ROW * len(bars) + 16
    longest = max(bar.length for bar in bars) or 1.0
    unit = (WIDTH - LEFT - RIGHT) / longest
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="24" {_FONT} font-weight="bold">{escape(title)}</text>',
    ]
    x = 16.0
    for kind in legend:
        lines.append(f'<rect x="{x:.0f}" y="36" width="12" height="12" fill="{COLOURS[kind]}"/>')
        lines.append(f'<text x="{x + 17:.0f}" y="47" {_FONT}>{escape(kind)}</text>')
        x += 34 + 7.6 * len(kind)
    for number, bar in enumerate(bars):
        y = TOP + number * ROW
        lines.append(f'<text x="{LEFT - 10}" y="{y + 17}" {_FONT} text-anchor="end">{escape(bar.label)}</text>')
        at = float(LEFT)
        for kind, value in bar.parts:
            lines.append(
                f'<rect x="{at:.1f}" y="{y}" width="{value * unit:.1f}" height="{ROW - 10}" fill="{COLOURS[kind]}"/>'
            )
            at += value * unit
        lines.append(f'<text x="{at + 6:.1f}" y="{y + 17}" {_FONT}>{escape(bar.text)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def scale_chart(results: Mapping[str, Any]) -> str | None:
    """Draw CPU seconds per server, by size and component; None where nothing was measured yet."""
    kinds = (*AIRFLOW, POSTGRESQL, REDIS)
    bars = []
    for run in sorted(results["runs"], key=lambda one: int(one["servers"])):
        shares = run["per_server"]["cpu_s_by_component"]
        parts = [(kind, float(shares[kind])) for kind in kinds if kind in shares]
        bars.append(Bar(f"{run['servers']} servers", parts, f"{sum(value for _, value in parts):.2f} s"))
    if not bars:
        return None
    seen = {kind for bar in bars for kind, _ in bar.parts}
    return draw("CPU seconds per exported server, without the sandbox", bars, [kind for kind in kinds if kind in seen])


def fleet_chart(results: Mapping[str, Any]) -> str | None:
    """Draw the wall time of each way to export the fleet; None where nothing was measured yet."""
    names = {
        "sealift": "Sealift",
        "plain-reschedule-capped": "plain, reschedule",
        "plain-poke-capped": "plain, poke",
        "sealift-no-cap": "Sealift, no cap",
        "plain-reschedule": "plain, reschedule, no cap",
        "plain-poke": "plain, poke, no cap",
        "procedure-xargs": "procedure, xargs -P 8",
        "procedure-serial": "procedure, serial",
    }
    runs = {run["name"]: run for run in results["runs"]}
    bars = []
    for name, label in names.items():
        if name in runs:
            run = runs[name]
            scaled = run.get("scaled")
            kind, seconds = ("computed", scaled["wall_s"]) if scaled else ("measured", run["wall_s"])
            bars.append(Bar(label, [(kind, float(seconds))], f"{seconds / 60:.0f} min"))
    if not bars:
        return None
    servers = runs["sealift"]["servers"] if "sealift" in runs else results["settings"]["servers"]
    kinds = [kind for kind in ("measured", "computed") if any(bar.parts[0][0] == kind for bar in bars)]
    return draw(f"Wall time for {servers} servers", bars, kinds)


def charts(results: Path) -> dict[str, str]:
    """Draw what there are results for.

    :param results: the folder of the results.
    :returns: SVGs by file name.
    """
    drawn = {
        SCALE: scale_chart(results_file.read(results / "bench-scale.json")),
        FLEET: fleet_chart(results_file.read(results / "bench-fleet.json")),
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def main(arguments: Sequence[str]) -> int:
    """Write the charts.

    :param arguments: see ``--help``.
    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.charts", description=__doc__)
    parser.add_argument("--results", type=Path, default=results_file.RESULTS)
    parser.add_argument("--folder", type=Path, default=IMAGES)
    given = parser.parse_args(arguments)
    for name, svg in charts(given.results).items():
        (given.folder / name).write_text(svg)
        print(given.folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
