"""What the demo shows: each server's step while the run goes on, and the table at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

# The steps of one server in their order: task id in the group → what happens then, as a person would say it.
STEPS = {
    "capture": "waiting for an offline slot",
    "wait_for_template": "being captured (offline)",
    "wait_for_export": "being copied and proven",
}
GROUP = "export."
FINISHED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})
WAITING = frozenset({None, "scheduled", "queued", "none"})


@dataclass(frozen=True)
class Progress:
    """How far one server is.

    :param name: its host name.
    :param step: how many steps are done.
    :param doing: what happens now, in words.
    :param state: ``waiting``, ``running``, ``done`` or ``failed``.
    :param seconds: since its first task began, until now or until its last task ended.
    """

    name: str
    step: int
    doing: str
    state: str
    seconds: float


def progress(instances: Iterable[Mapping[str, Any]], hostnames: Sequence[str], *, now: datetime) -> list[Progress]:
    """Work out each server's progress from the task instances of a wave's run.

    :param instances: as Airflow's REST API gives them.
    :param hostnames: of the wave's servers, in their order.
    :param now: the time.
    :returns: one entry for each server that has tasks, in the order of the wave.
    """
    servers: dict[int, dict[str, Mapping[str, Any]]] = {}
    for instance in instances:
        if instance["task_id"].startswith(GROUP) and instance["map_index"] >= 0:
            step = instance["task_id"].removeprefix(GROUP)
            servers.setdefault(instance["map_index"], {})[step] = instance
    return [_one(hostnames[index], servers[index], now) for index in sorted(servers)]


def _one(name: str, tasks: Mapping[str, Mapping[str, Any]], now: datetime) -> Progress:
    states = {step: (tasks.get(step) or {}).get("state") for step in STEPS}
    done = sum(state == "success" for state in states.values())
    failed = next((step for step, state in states.items() if state == "failed"), None)
    if failed is not None:
        doing, state = f"failed: {STEPS[failed]}", "failed"
    elif done == len(STEPS):
        doing, state = "exported", "done"
    else:
        step = next(step for step, each in states.items() if each != "success")
        begun = states[step] not in WAITING or done
        doing, state = (STEPS[step], "running") if begun else ("waiting its turn", "waiting")
        if states[step] == "up_for_retry":
            doing += ", to be tried again"
    return Progress(name, done, doing, state, duration(tasks.values(), now=now, ended=state in ("done", "failed")))


def duration(instances: Iterable[Mapping[str, Any]], *, now: datetime, ended: bool) -> float:
    """Tell how long a server has been on its way, in seconds."""
    instances = list(instances)
    starts = [moment(each["start_date"]) for each in instances if each.get("start_date")]
    if not starts:
        return 0.0
    ends = [moment(each["end_date"]) for each in instances if each.get("end_date")]
    last = max(ends) if ended and ends else now
    return max(0.0, (last - min(starts)).total_seconds())


def moment(text: str) -> datetime:
    """Read a time as the API writes it."""
    return datetime.fromisoformat(text)


_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red"), "running": ("▸", "cyan"), "waiting": ("·", "dim")}


def live_table(servers: Sequence[Progress], refused: Mapping[str, str], *, elapsed: float) -> Table:
    """Draw the progress of all servers.

    :param servers: those that are exported.
    :param refused: host name → why it is not exported.
    :param elapsed: seconds since the run was triggered.
    """
    table = Table(title=f"exporting, {elapsed:.0f} s", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "server", "steps", "now", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left", no_wrap=column != "now")
    for server in servers:
        mark, style = _MARKS[server.state]
        bar = "■" * server.step + "□" * (len(STEPS) - server.step)
        table.add_row(Text(mark, style), server.name, Text(bar, style), server.doing, f"{server.seconds:.0f}")
    for name, reason in refused.items():
        table.add_row(Text("-", "yellow"), name, "", Text(reason, "yellow"), "")
    return table


@dataclass(frozen=True)
class Row:
    """One server in the table at the end; what does not apply is empty."""

    server: str
    template: str = ""
    disks: str = ""
    size: str = ""
    proof: str = ""
    seconds: str = ""
    result: str = ""
    ok: bool = True


def result_table(rows: Sequence[Row]) -> Table:
    """Draw the table at the end."""
    table = Table(show_lines=False, header_style="bold", pad_edge=False)
    for column in ("server", "template", "disks", "bytes", "proof", "seconds"):
        justify = "right" if column in ("disks", "bytes", "seconds") else "left"
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("manifest, or the reason why not", overflow="fold")
    for row in rows:
        cells = (row.template, row.disks, row.size, row.proof, row.seconds)
        table.add_row(Text(row.server, "green" if row.ok else "yellow"), *cells, row.result)
    return table
