"""``make demo``, ``make up`` and ``make down``: six servers of the sandbox exported through a real Airflow.

The demo went right if the bucket holds afterwards what the account's own state made due; the exit status says so, and
the last line gives the figures.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.live import Live

from sealift.exports import names
from sealift.exports.manifest import Manifest
from sealift.exports.plan import Outcome, Plan, read_plan
from sealift.exports.report import RunReport, ServerOutcome, read_run_report
from tools.airflow_rest import FINAL_STATES, AirflowError
from tools.demo_figures import Figures, counted, due, read_manifests
from tools.demo_stack import DemoStack
from tools.demo_view import Progress, Row, live_table, progress, result_table
from tools.processes import StartFailedError

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".state"
DAG, WAVE_DAG = "plan_exports", "export_servers"
BUCKET, PREFIX, TAG = "sealift-exports", "demo", "demo"
# The run takes about a minute; a machine that is busy with other things may need several.
RUN_SECONDS = 600.0


class DemoFailedError(Exception):
    """The demo cannot go on; the message says why and where to look."""


class Watch:
    """Follows one run of ``plan_exports`` and shows how far each server is.

    :param stack: the running programs.
    :param run_id: the run.
    :param console: where to show it. One that is no terminal gets a line for each change instead of a live table.
    """

    def __init__(self, *, stack: DemoStack, run_id: str, console: Console) -> None:
        """Begin to watch; nothing is asked yet."""
        self.stack = stack
        self.run_id = run_id
        self.console = console
        self.plan_id = names.plan_id_for(dag_id=DAG, run_id=run_id)
        self.plan: Plan | None = None
        self.begun = time.monotonic()
        self._said: dict[str, str] = {}

    def until_ended(self) -> str:
        """Show progress until the run has ended.

        :returns: its state.
        :raises DemoFailedError: if it takes too long.
        """
        api = self.stack.airflow.api
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while True:
                state = str(api.run(DAG, self.run_id)["state"])
                servers = self._servers()
                if self.console.is_terminal:
                    live.update(live_table(servers, self._refused(), elapsed=time.monotonic() - self.begun))
                else:
                    self._say_changes(servers)
                if state in FINAL_STATES:
                    return state
                if time.monotonic() - self.begun > RUN_SECONDS:
                    raise DemoFailedError(f"The run {self.run_id} has not ended after {RUN_SECONDS:.0f} s.")
                time.sleep(1)

    def _servers(self) -> list[Progress]:
        """Ask for the task instances of the plan's waves, once the plan is there."""
        if self.plan is None:
            key = names.plan_key(prefix=PREFIX, plan_id=self.plan_id)
            cos = self.stack.cos()
            if cos.head(BUCKET, key) is None:
                return []
            self.plan = read_plan(cos, bucket=BUCKET, key=key)
        found: list[Progress] = []
        for wave in self.plan.waves:
            run_id = names.wave_run_id(plan_id=self.plan_id, number=wave.number)
            try:
                instances = self.stack.airflow.api.task_instances(WAVE_DAG, run_id)
            except AirflowError:  # not started yet
                continue
            hostnames = [item.hostname for item in self.plan.slice(wave.number).items]
            found += progress(instances, hostnames, now=datetime.now(UTC))
        return found

    def _refused(self) -> Mapping[str, str]:
        items = self.plan.items_with(Outcome.NOT_EXPORTABLE) if self.plan else []
        return {item.hostname: "not exportable: " + ", ".join(one.rule for one in item.refusals) for item in items}

    def _say_changes(self, servers: Sequence[Progress]) -> None:
        now = {**{server.name: server.doing for server in servers}, **self._refused()}
        for name, doing in now.items():
            if self._said.get(name) != doing:
                elapsed = time.monotonic() - self.begun
                self.console.print(f"{elapsed:5.0f} s  {name:<12} {doing}", highlight=False)
        self._said = now


def export(stack: DemoStack, console: Console) -> tuple[Figures, Figures]:
    """Run the export and show what came of it.

    :param stack: the running programs.
    :param console: where to show it.
    :returns: what was due, and what came out.
    :raises DemoFailedError: if there is no report to show.
    """
    wanted = due(guest for guest in stack.guests() if TAG in guest["tags"])
    conf = {"tags": [TAG], "bucket": BUCKET, "region": "us-south", "prefix": PREFIX}
    run_id = stack.airflow.api.trigger(DAG, conf)
    console.print(f"triggered {DAG} for the servers tagged {TAG!r}", highlight=False)
    console.print(f"watch it: {stack.airflow.url}/dags/{DAG}/runs/{quote(run_id)}", highlight=False, soft_wrap=True)
    watch = Watch(stack=stack, run_id=run_id, console=console)
    state = watch.until_ended()
    cos = stack.cos()
    report = read_run_report(cos, bucket=BUCKET, key=names.report_key(prefix=PREFIX, plan_id=watch.plan_id))
    if report is None:
        raise DemoFailedError(f"The run {run_id} ended as {state} and left no report.\n{failures(stack, run_id)}")
    manifests = read_manifests(cos, bucket=BUCKET, prefix=PREFIX, period=report.period)
    seconds = time.monotonic() - watch.begun
    console.print(result_table(list(rows(report, manifests))))
    console.print(f"in {seconds:.0f} s, by the manifests in the bucket {BUCKET}", highlight=False)
    came = counted((manifest for _, manifest in manifests.values()), report.outcomes)
    if came != wanted:
        console.print(f"[red]due was[/]  {wanted.sentence()}", highlight=False)
        console.print(f"logs are under {stack.home}", highlight=False)
    return wanted, came


def rows(report: RunReport, manifests: Mapping[int, tuple[str, Manifest]]) -> Iterator[Row]:
    """Make the table's rows: what is exported from its manifest, the rest from the run's report."""
    for outcome in report.outcomes:
        if outcome.server == "virtual" and outcome.id in manifests:
            key, manifest = manifests[outcome.id]
            yield Row(
                server=manifest.guest.hostname,
                template=str(manifest.template.id),
                disks=str(len(manifest.disks)),
                size=f"{manifest.total_bytes:,}",
                proof=manifest.proof_level,
                seconds=f"{(manifest.proven_at - manifest.captured_at).total_seconds():.0f}",
                result=key,
            )
        else:
            yield Row(server=outcome.hostname or str(outcome.id), result=_reason(outcome), ok=False)


def _reason(outcome: ServerOutcome) -> str:
    where = f" in {outcome.task}" if outcome.task else ""
    return f"{outcome.kind}{where}: {outcome.words}"


def failures(stack: DemoStack, run_id: str) -> str:
    """Collect the end of the log of each task that failed, for a run that could not report."""
    texts = []
    for task in stack.airflow.api.task_instances(DAG, run_id):
        if task["state"] == "failed":
            arguments: dict[str, Any] = {"try_number": task["try_number"], "map_index": task["map_index"]}
            log = stack.airflow.api.log(DAG, run_id, task["task_id"], **arguments)
            texts.append(f"{task['task_id']}:\n" + "\n".join(log.splitlines()[-15:]))
    return "\n".join([*texts, f"All logs are under {stack.home}."])


@contextmanager
def ended_by_any_signal() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the demo as Ctrl-C does, and Ctrl-C even where a shell had it ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {each: signal.signal(each, signal.default_int_handler) for each in numbers}
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let nothing but SIGKILL break off the clearing up."""
    each = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {one: signal.signal(one, signal.SIG_IGN) for one in each}
    try:
        yield
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)


def show(stack: DemoStack, console: Console, *, keep: bool) -> int:
    """Start everything, export, and stop everything unless it is to be kept.

    :param stack: what to start.
    :param console: where to show it.
    :param keep: whether to leave it running if all went well.
    :returns: the exit status.
    """
    begun = time.monotonic()
    figures: tuple[Figures, Figures] | None = None
    try:
        with ended_by_any_signal():
            with console.status("starting the sandbox and Airflow"):
                stack.start()
                stack.wait_until_ready()
            console.print(f"sandbox and Airflow are up after {time.monotonic() - begun:.0f} s", highlight=False)
            figures = export(stack, console)
    except KeyboardInterrupt:
        console.print("interrupted")
        keep = False
    except (DemoFailedError, StartFailedError, AirflowError) as error:
        console.print(str(error), style="red", highlight=False, markup=False)
        keep = False
    finally:
        if figures is None or not keep:
            with uninterrupted():
                stack.stop()
    if figures is None:
        return 1
    if keep:
        stack.let_go()
        _say_where(stack, console)
    else:
        console.print("everything that was started has been stopped", highlight=False)
    wanted, came = figures
    console.print(came.sentence(), highlight=False, soft_wrap=True)
    return 0 if came == wanted else 1


def _say_where(stack: DemoStack, console: Console) -> None:
    running = stack.running()
    assert running is not None
    console.print(f"Airflow  {running['airflow']}", highlight=False)
    console.print(f"Sandbox  {running['sandbox']} (state, connections and faults under /sandbox/)", highlight=False)
    console.print("Stop both with: make down", highlight=False)


def main(arguments: Sequence[str]) -> int:
    """Do what the Makefile asks for.

    :param arguments: ``demo``, ``up`` or ``down``.
    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("command", choices=("demo", "up", "down"))
    command = parser.parse_args(arguments).command
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=130)
    stack = DemoStack(home=STATE / ("demo" if command == "demo" else "up"), project_root=ROOT)
    if command == "down":
        stopped = [each for each in ("up", "demo") if DemoStack(home=STATE / each, project_root=ROOT).stop()]
        console.print("stopped" if stopped else "nothing was running")
        return 0
    if command == "up" and stack.running():
        console.print("already running")
        _say_where(stack, console)
        return 0
    return show(stack, console, keep=command == "up")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
