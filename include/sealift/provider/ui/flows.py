"""Pictures of the DAGs' flows, for their documentation in Airflow: which tasks follow, what each does, what runs it.

Airflow shows a DAG's documentation as Markdown, with pictures of at most 300 pixels' width and no diagrams of other
kinds (3.3.2), so a flow is drawn from top to bottom, as SVG. It is an image for the browser, which loads nothing for it
and runs nothing in it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 300
"""Pixels: Airflow shows no picture wider."""

_SIDE: Final = 12
_LINE: Final = 14
_GAP: Final = 20
_CHARACTERS: Final = 43


class RunsIn(StrEnum):
    """What is busy while a task runs."""

    WORKER = "worker"
    TRIGGERER = "no worker"
    BOTH = "no worker, then a worker"
    PERSON = "a person"


_COLORS: Final = {
    RunsIn.WORKER: ("#e6f4ea", "#38764a"),
    RunsIn.TRIGGERER: ("#e8f0fe", "#35609f"),
    RunsIn.BOTH: ("#e8f0fe", "#35609f"),
    RunsIn.PERSON: ("#fff4e5", "#8a5a12"),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A task.

    :param task_id: its id, with that of its group.
    :param words: what it does.
    """

    task_id: str
    words: str
    runs_in: RunsIn = RunsIn.WORKER

    @property
    def title(self) -> str:
        """What the picture calls it."""
        return self.task_id.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Many:
    """Tasks that run once for each of something.

    :param label: for each of what.
    """

    label: str
    steps: tuple[Step, ...]


Flow = Sequence[Step | Many]

FLOWS: Final[Mapping[str, Flow]] = {
    "plan_exports": (
        Step(task_id="make_plan", words="Chooses servers, applies the rules, writes the plan. A dry run ends here."),
        Step(
            task_id="approve",
            words="Where the plan has to be approved: waits for the answer. Without one nothing is captured.",
            runs_in=RunsIn.PERSON,
        ),
        Many(
            label="for each wave of at most 100 servers",
            steps=(
                Step(
                    task_id="export_waves",
                    words="Starts its run of export_servers; the next follows when few servers still wait.",
                    runs_in=RunsIn.TRIGGERER,
                ),
            ),
        ),
        Step(task_id="wait_for_waves", words="Waits for the end of all waves.", runs_in=RunsIn.TRIGGERER),
        Step(task_id="report", words="One report over all servers. Fails if any of them failed."),
    ),
    "export_servers": (
        Step(task_id="read_wave", words="Reads the wave's servers from the plan."),
        Many(
            label="for each server",
            steps=(
                Step(
                    task_id="export.capture",
                    words="Waits for an offline slot; then finds the image template, or has it made. "
                    "From here the server is offline.",
                    runs_in=RunsIn.TRIGGERER,
                ),
                Step(
                    task_id="export.wait_for_template",
                    words="Waits until the template is whole and the server is back; then has it copied to the bucket.",
                    runs_in=RunsIn.TRIGGERER,
                ),
                Step(
                    task_id="export.wait_for_export",
                    words="Waits until all objects are there; then proves them, saves the configuration, and writes "
                    "the manifest: exported.",
                    runs_in=RunsIn.BOTH,
                ),
            ),
        ),
        Step(task_id="summarise", words="The wave's report. Fails if any server failed."),
    ),
    "prove_exports": (
        Step(task_id="choose_exports", words="Finds the exports that are named."),
        Many(
            label="for each export",
            steps=(Step(task_id="prove", words="Reads the images in the bucket, and adds what was found."),),
        ),
    ),
    "deliver_images": (
        Step(task_id="choose_exports", words="Finds the exports that are named, or that have just finished."),
        Many(
            label="for each export",
            steps=(
                Step(task_id="deliver", words="Brings it to its place, checks every file, and says so in SHA256SUMS."),
            ),
        ),
    ),
    "drill_restores": (
        Step(task_id="choose_exports", words="Takes the servers whose turn it is, or the exports that are named."),
        Many(
            label="for each server",
            steps=(
                Step(
                    task_id="rehearse",
                    words="Brings its export into a scratch folder, proves it, and notes the time to recover.",
                ),
            ),
        ),
        Step(task_id="report", words="Which share of the servers came back, at which level, within what time."),
    ),
    "examine_exports": (
        Step(task_id="examine", words="Lists what belongs to no export, and says what to do. Changes nothing."),
    ),
    "apply_retention": (
        Step(task_id="dry_run", words="Says what would go by the rules, and why. Deletes nothing."),
        Step(
            task_id="approve",
            words="Where much would go: waits for the answer. Without one nothing is deleted.",
            runs_in=RunsIn.PERSON,
        ),
        Step(task_id="apply", words="Deletes what the dry run names, as far as it still goes."),
    ),
}
"""By DAG: its tasks in their order. tests/dags holds them against the DAGs."""


def steps_of(flow: Flow) -> Iterator[Step]:
    """Give the tasks of a flow.

    :param flow: the flow.
    :returns: one after the other.
    """
    for one in flow:
        yield from (one,) if isinstance(one, Step) else one.steps


def picture(flow: Flow) -> str:
    """Draw a flow.

    :param flow: the flow.
    :returns: SVG. It has a light ground of its own, so that it can be read on a dark page as well.
    """
    parts: list[str] = []
    y = float(_SIDE)
    for place, one in enumerate(flow):
        if place:
            y = _arrow(parts, y)
        y = _step(parts, one, y, side=_SIDE) if isinstance(one, Step) else _many(parts, one, y)
    height = round(y + _SIDE)
    words = ", then ".join(one.title for one in steps_of(flow))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" role="img"><title>{escape(words)}</title>'
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _step(parts: list[str], step: Step, y: float, *, side: float) -> float:
    fill, ink = _COLORS[step.runs_in]
    lines = textwrap.wrap(step.words, _CHARACTERS - round(side - _SIDE) // 2)
    height = 28 + _LINE * len(lines) + 6
    width = WIDTH - 2 * side
    parts.append(
        f'<rect x="{side}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{ink}"/>'
        f'<text x="{side + 10}" y="{y + 18}" font-size="12.5" font-weight="600" fill="#1c2430">{step.title}</text>'
        f'<text x="{WIDTH - side - 10}" y="{y + 18}" font-size="9.5" text-anchor="end" fill="{ink}">'
        f"{step.runs_in}</text>"
    )
    for number, line in enumerate(lines):
        parts.append(
            f'<text x="{side + 10}" y="{y + 34 + _LINE * number}" font-size="11" fill="#39424e">{escape(line)}</text>'
        )
    return y + height


def _many(parts: list[str], many: Many, y: float) -> float:
    inside: list[str] = []
    at = y + 24
    for place, step in enumerate(many.steps):
        if place:
            at = _arrow(inside, at)
        at = _step(inside, step, at, side=_SIDE + 10)
    height = at + 10 - y
    for shift in (6, 3, 0):
        parts.append(
            f'<rect x="{_SIDE + shift / 2}" y="{y + shift}" width="{WIDTH - 2 * _SIDE - shift}" height="{height}" '
            'rx="8" fill="#f7f8fa" stroke="#b9c0ca"/>'
        )
    parts.append(f'<text x="{_SIDE + 12}" y="{y + 16}" font-size="10.5" fill="#5a6472">{escape(many.label)}</text>')
    parts += inside
    return y + height + 6


def _arrow(parts: list[str], y: float) -> float:
    middle = WIDTH / 2
    parts.append(
        f'<path d="M{middle} {y + 2}v{_GAP - 9}m-4 -1l4 6l4 -6" fill="none" stroke="#7b8591" stroke-width="1.4"/>'
    )
    return y + _GAP
