"""What waiting costs, and how soon what comes next is begun.

``make bench-wait`` measures two worlds, both on PostgreSQL:

**500 waiting.** plan_exports runs over 500 servers whose captures last. Once all of them wait in the triggerers, the
CPU of all of Airflow's processes is measured over some minutes. Then captures are ended one by one, and once those
servers wait for their exports, exports. A *delay* is the time from the end of a transaction until what comes after it
has been done in the account or the bucket: from ``capture-ended`` to the server's ``export-started``, and from
``export-ended`` to the writing of its manifest, all by the sandbox's history and clock. So it holds the poll, the
event, the scheduler, the start of the worker process and the step itself, the proof of the image included: the next
task has *started* earlier.

**5,000 triggers.** One triggerer holds as many waits as servers: one server gets there by real programs, the others'
rows are copied from its (benchmarks/deferred_rows.py), their captures really run in the sandbox. Scheduler and DAG
processor are stopped, so that what is measured is the triggerer alone. Calls per interval are the most in any stretch
of one poll interval, since polls that come less often than that are no smaller.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import results_file
from benchmarks.measuring.chains import Way, percentile, ways
from benchmarks.measuring.processes import AIRFLOW, POSTGRESQL, SANDBOX, TRIGGERER, MemoryWatch, measured
from benchmarks.world import (
    CAPTURE,
    PLAN,
    PROJECT,
    WAIT_FOR_EXPORT,
    WAIT_FOR_TEMPLATE,
    WAVE,
    World,
    add_options,
    run_program,
    say,
    settings_of,
)

NAME = "bench-wait"
PARTS = ("waiting", "triggers")
FOR_EVER = 1e6
_IN_TRIGGERER = """
SELECT count(*) FROM task_instance JOIN trigger ON trigger.id = task_instance.trigger_id
 WHERE dag_id = :dag AND task_id = :task AND task_instance.state = 'deferred' AND triggerer_id IS NOT NULL
"""
_STARTED = """
SELECT dag_id, run_id FROM task_instance WHERE dag_id = :dag AND task_id = :task AND state = 'deferred'
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wait", description=__doc__)
    parser.add_argument("--servers", type=int, default=500, help="servers that wait")
    parser.add_argument("--triggers", type=int, default=5000, help="waits in one triggerer")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long each part is measured")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before that")
    parser.add_argument("--delays", type=int, default=200, help="captures that are ended one by one, then exports")
    parser.add_argument("--gap", type=float, default=2.0, help="seconds between two ends")
    parser.add_argument("--poll-interval", type=float, default=15.0)
    parser.add_argument("--wave-size", type=int, default=100)
    parser.add_argument("--slots", type=int, default=8, help="worker slots")
    parser.add_argument("--schedulers", type=int, default=1)
    parser.add_argument("--triggerers", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="Celery workers; 0 means LocalExecutor")
    parser.add_argument("--patience", type=float, default=12.0, help="seconds per server until all of them wait")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add_options(parser, result=results_file.RESULTS / f"{NAME}.json")
    return parser.parse_args(arguments)


def until(condition: Callable[[], bool], what: str, *, seconds: float, every: float = 3.0) -> None:
    """Wait for something.

    :raises TimeoutError: naming it, if it has not come by then.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(every)


@dataclass
class Waiting:
    """Looks at what waits in a world."""

    world: World

    def count(self, task: str) -> int:
        """Count the waits of a task that a triggerer has."""
        return int(self.world.metadata.rows(_IN_TRIGGERER, dag=WAVE, task=task)[0][0])

    def reach(self, task: str, goal: int, *, seconds: float) -> None:
        """Wait until so many wait, with a line of progress each minute."""
        told = [time.monotonic()]

        def there() -> bool:
            now = self.count(task)
            if time.monotonic() - told[0] > 60:
                told[0] = time.monotonic()
                say(f"  {now} of {goal} wait in {task}")
            return now >= goal

        until(there, f"{goal} waits in {task}", seconds=seconds, every=2.0)


def switch(world: World, **switches: Any) -> None:
    """Set switches of the sandbox."""
    world.sandbox.admin("POST", "switches", switches)


def end_one_by_one(world: World, kind: str, guests: Sequence[int], gap: float) -> None:
    """End the running captures or exports of some servers."""
    found = ways(world.effects())
    running = {
        one["templateId"]: one["id"]
        for one in world.sandbox.admin("GET", "transactions")
        if one["kind"] == kind and one["ended"] is None
    }
    for guest in guests:
        world.sandbox.admin("POST", f"transactions/{running[found[guest].template]}/end", {})
        time.sleep(gap)


def proven_at(world: World) -> dict[int, float]:
    """Tell when each server's manifest was written."""
    return {
        int(event["key"].split("/")[-2]): event["at"]
        for event in world.effects()
        if event["what"] == "object-put" and "/manifests/" in event["key"]
    }


def run_waiting(given: argparse.Namespace) -> dict[str, Any]:
    """Measure servers that wait, and the delays when they need not any longer."""
    n, k = given.servers, min(given.delays, given.servers)
    waves = -(-n // given.wave_size)
    settings = {
        "AIRFLOW__CORE__PARALLELISM": str(given.slots),
        "AIRFLOW__SEALIFT__POLL_INTERVAL": f"{given.poll_interval:g}",
        "AIRFLOW__SEALIFT__MAX_OFFLINE": str(n),
        "AIRFLOW__SEALIFT__MAX_EXPORTS": str(2 * n),
        "AIRFLOW__SEALIFT__ACTIVE_WAVES": str(waves),
        **settings_of(given),
    }
    with World(
        servers=n,
        seconds=FOR_EVER,
        seed=given.seed,
        settings=settings,
        schedulers=given.schedulers,
        triggerers=given.triggerers,
        celery_workers=given.workers,
        switches={"children_seconds_min": 1, "children_seconds_max": 2},
        keep=given.keep,
    ) as world:
        waiting = Waiting(world)
        # A short deadline of a wait would end it; these transactions last for days.
        params = world.params(
            max_offline=n,
            wave_size=given.wave_size,
            capture_deadline_minutes=10_000,
            export_deadline_minutes=10_000,
            stuck_minutes=9_000,
        )
        world.airflow.api.trigger(PLAN, params, run_id=NAME)
        waiting.reach(WAIT_FOR_TEMPLATE, n, seconds=600 + given.patience * n)
        say(f"  all {n} wait; {given.settle:.0f} s until they are measured")
        time.sleep(given.settle)
        earlier = world.history.count()
        used = measured(world.programs(), lambda: time.sleep(given.minutes * 60))
        calls = world.history.count()
        still = waiting.count(WAIT_FOR_TEMPLATE)
        say(f"  {used.airflow / used.wall:.3f} of a core; ending {k} captures")
        chosen = world.guests[:: max(1, n // k)][:k]
        end_one_by_one(world, "capture", chosen, given.gap)
        patience = 300 + 5 * k
        until(
            lambda: sum(bool(way.export_started) for way in ways(world.effects()).values()) >= k,
            f"{k} exports",
            seconds=patience,
        )
        waiting.reach(WAIT_FOR_EXPORT, k, seconds=patience)
        say(f"  ending {k} exports")
        end_one_by_one(world, "export", chosen, given.gap)
        until(lambda: len(proven_at(world)) >= k, f"{k} manifests", seconds=patience)
        later = world.history.count()
        proven, done = proven_at(world), ways(world.effects())
        failed = sum(counts["failed"] + counts["upstream_failed"] for counts in world.metadata.states(WAVE).values())
        captures, exports = delays([done[guest] for guest in chosen], proven)
        return {
            "name": "waiting",
            "servers": n,
            "still_waiting_at_the_end": still,
            "failed_tasks": failed,
            "wall_s": used.wall,
            "cpu_s": used.cpu,
            "cores": {name: round(value / used.wall, 4) for name, value in used.cpu.items()},
            "cores_airflow": round(used.airflow / used.wall, 4),
            "peak_pss_mb": used.memory,
            "classic_calls_per_interval": round(calls.total("classic") * given.poll_interval / used.wall, 2),
            "cos_calls_per_interval": round(calls.total("cos") * given.poll_interval / used.wall, 2),
            "rate_limit_errors": earlier.refused + calls.refused + later.refused,
            "delays_after_capture_s": [round(one, 3) for one in captures],
            "delays_after_export_s": [round(one, 3) for one in exports],
        }


def delays(done: Sequence[Way], proven: dict[int, float]) -> tuple[list[float], list[float]]:
    """Compute the delays after captures and after exports; see the module's first lines."""
    return (
        [way.export_started - way.capture_ended for way in done],
        [proven[way.guest] - way.export_ended for way in done],
    )


def run_triggers(given: argparse.Namespace) -> dict[str, Any]:
    """Measure one triggerer with thousands of waits."""
    n = given.triggers
    settings = {
        "AIRFLOW__SEALIFT__POLL_INTERVAL": f"{given.poll_interval:g}",
        "AIRFLOW__TRIGGERER__CAPACITY": str(n + 100),
        **settings_of(given),
    }
    with World(
        servers=n,
        seconds=FOR_EVER,
        seed=given.seed,
        settings=settings,
        switches={"children_seconds_min": 1, "children_seconds_max": 2},
        keep=given.keep,
    ) as world:
        waiting = Waiting(world)
        sample, *others = world.guests
        params = {
            "ids": [sample],
            "bucket": "sealift-exports",
            "capture_deadline_minutes": 10_000,
            "stuck_minutes": 9_000,
        }
        world.airflow.api.trigger(PLAN, params, run_id=NAME)
        waiting.reach(WAIT_FOR_TEMPLATE, 1, seconds=600)
        for name in (*world.airflow.named("scheduler"), *world.airflow.named("dag-processor"), "triggerer-0"):
            world.airflow.kill(name)
        say(f"  one waits; capturing {len(others)} more")
        ((_, run_id),) = world.metadata.rows(_STARTED, dag=WAVE, task=WAIT_FOR_TEMPLATE)
        copy_waits(world, sample, others, run_id=run_id, wave_size=given.wave_size)
        say("  rows are written; starting the triggerer")
        world.history.skip()
        world.airflow.start("triggerer-0")
        world.airflow.wait_until_lives("triggerer-0", seconds=120)
        waiting.reach(WAIT_FOR_TEMPLATE, n, seconds=300 + n / 2)
        say(f"  it has all {n}; {given.settle:.0f} s until it is measured")
        # Taking up is not waiting: each trigger asks for its XCom, and looks at its template for the first time.
        time.sleep(given.settle + 2 * given.poll_interval)
        taking_up = world.history.count()
        programs = world.programs()
        memory = MemoryWatch([one for one in programs if one.component == TRIGGERER])
        used = measured(programs, lambda: time.sleep(given.minutes * 60))
        memory.sample()
        calls = world.history.count()
        return {
            "name": "triggers",
            "triggers": n,
            "still_waiting_at_the_end": waiting.count(WAIT_FOR_TEMPLATE),
            "wall_s": used.wall,
            "cpu_s": used.cpu,
            "cores": {name: round(value / used.wall, 4) for name, value in used.cpu.items()},
            "triggerer_rss_mb": round(memory.resident[TRIGGERER] / 1e6, 1),
            "peak_pss_mb": used.memory,
            "classic_calls_while_taking_up": taking_up.total("classic"),
            "classic_calls": calls.total("classic"),
            "classic_calls_in_an_interval_at_most": calls.most_within(given.poll_interval),
            "classic_calls_per_interval": round(calls.total("classic") * given.poll_interval / used.wall, 2),
            "rate_limit_errors": taking_up.refused + calls.refused,
            "calls": calls.as_dict(),
        }


def copy_waits(world: World, sample: int, others: Sequence[int], *, run_id: str, wave_size: int) -> None:
    """Capture servers, and let each of them wait as the sample does."""
    from sealift.cli.connections import ReadConnection
    from sealift.connections import classic_client
    from sealift.exports.names import template_name

    fields = world.sandbox.admin("GET", "connections")["ibm_classic_default"]
    fields["extra"]["requests_per_second"] = 49  # as many as the client takes
    stored = ReadConnection.of_fields(fields, where="the sandbox's list")
    switch(world, requests_per_second=0)
    client = classic_client(stored, "ibm_classic_default")
    try:
        guests = client.get_guests([sample, *others])
        (first,) = [one for one in world.sandbox.admin("GET", "templates") if one["guestId"] == sample]
        period = first["name"].rpartition(f"{sample}-")[2]
        copies = []
        for guest in others:
            disks = [one.id for one in guests[guest].block_devices if one.left_out_because is None]
            name = template_name(f"{guest}-{period}")
            made = client.capture(guest, name=name, block_device_ids=disks, note=first["note"] or "")
            copies.append({"guest": guest, "template": made.id, "hostname": guests[guest].hostname})
            if len(copies) % 1000 == 0:
                say(f"  {len(copies)} captured")
    finally:
        client.close()
        switch(world, requests_per_second=50)
    asked = {
        "dag_id": WAVE,
        "run_id": run_id,
        "captured": CAPTURE,
        "waiting": WAIT_FOR_TEMPLATE,
        "sample": {"guest": sample, "template": first["id"], "hostname": guests[sample].hostname},
        "others": copies,
        "wave_size": wave_size,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.deferred_rows"],
        input=json.dumps(asked),
        env={**world.airflow.env, "PYTHONPATH": f"{PROJECT}:{world.airflow.env['PYTHONPATH']}"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the rows could not be written:\n{done.stderr[-4000:]}")


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Make the figures of whatever parts there are."""
    by_name = {run["name"]: run for run in runs}
    found: dict[str, float | None] = {
        "rate_limit_errors": sum(run["rate_limit_errors"] for run in runs),
    }
    waiting, triggers = by_name.get("waiting"), by_name.get("triggers")
    if waiting is not None:
        both = [*waiting["delays_after_capture_s"], *waiting["delays_after_export_s"]]
        found[f"cores_{waiting['servers']}_waiting"] = waiting["cores_airflow"]
        found["delay_p50_s"] = percentile(both, 0.5)
        found["delay_p99_s"] = percentile(both, 0.99)
        found["failed"] = waiting["failed_tasks"]
    if triggers is not None:
        found["triggerer_core_share"] = triggers["cores"][TRIGGERER]
        found["triggerer_rss_mb"] = triggers["triggerer_rss_mb"]
        found["api_calls_per_interval"] = triggers["classic_calls_in_an_interval_at_most"]
    return found


def main(arguments: Sequence[str]) -> int:
    """Run the parts and write the figures.

    :param arguments: see ``--help``.
    :returns: the exit status: 1 if something failed, or did not wait until the end.
    """
    given = parse(arguments)
    bad = 0
    for part in given.parts:
        say(f"{part}: begins")
        settings = {
            "servers": given.servers,
            "triggers": given.triggers,
            "minutes": given.minutes,
            "poll_interval": given.poll_interval,
            "delays": given.delays,
            "gap_s": given.gap,
            "wave_size": given.wave_size,
            "slots": given.slots,
            "schedulers": given.schedulers,
            "triggerers": given.triggerers,
            "executor": f"CeleryExecutor, {given.workers} workers" if given.workers else "LocalExecutor",
            "airflow": settings_of(given),
            "cores": f"of {', '.join(AIRFLOW)}; without {POSTGRESQL} and {SANDBOX}",
            "command": f"make {NAME}",
            **results_file.machine(),
        }
        run = run_waiting(given) if part == "waiting" else run_triggers(given)
        content = results_file.put_run(given.out, run, settings)
        results_file.put_figures(given.out, figures(content["runs"]))
        wanted = run.get("servers") or run.get("triggers")
        bad += run["still_waiting_at_the_end"] != wanted or run.get("failed_tasks", 0)
        say(f"{part}: {run['cores']} of a core")
    for name, value in results_file.read(given.out)["figures"].items():
        say(f"{name} = {value}")
    return int(bool(bad))


if __name__ == "__main__":
    run_program(main)
