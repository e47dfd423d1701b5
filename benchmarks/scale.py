"""What one server costs when there are few and when there are thousands.

``make bench-scale`` runs plan_exports over each of SIZES servers, each size in a world of its own: PostgreSQL,
CeleryExecutor, Redis, two schedulers, two triggerers and two workers. ``make bench-scale SIZES=5000`` adds that size to
the same file.

CPU is counted from the trigger of plan_exports until its run has ended, over all of Airflow's processes. That is the
gross figure, and the one that the targets are about. What the same processes use while there is nothing to do is
measured before, for a while; the net figure is without it. A small run bears the idle cost of few seconds on few
servers, a large one that of many seconds on many, so that both ratios are shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import results_file
from benchmarks.measuring.chains import longest_chain, ways
from benchmarks.measuring.metadata import grown
from benchmarks.measuring.processes import AIRFLOW, cpu, difference, measured, of_airflow
from benchmarks.world import PLAN, World, add_options, run_program, say, settings_of

NAME = "bench-scale"
FEW = 100


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--sizes", type=lambda text: [int(one) for one in text.split(",")], default=[100, 500, 2000], help="as 100,500"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="how long captures and exports take")
    parser.add_argument("--max-offline", type=int, default=100, help="Sealift's cap on captures")
    parser.add_argument("--wave-size", type=int, default=100)
    parser.add_argument("--poll-interval", type=float, default=15.0)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which the idle cost is measured")
    parser.add_argument("--schedulers", type=int, default=2)
    parser.add_argument("--triggerers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="Celery workers; 0 means LocalExecutor")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--patience", type=float, default=6.0, help="seconds per server after which a run is given up")
    add_options(parser, result=results_file.RESULTS / f"{NAME}.json")
    return parser.parse_args(arguments)


def run_size(given: argparse.Namespace, size: int) -> dict[str, Any]:
    """Export so many servers, and tell what each cost."""
    settings = {
        # Both workers share the cores of one machine here.
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
        "AIRFLOW__SEALIFT__POLL_INTERVAL": f"{given.poll_interval:g}",
        "AIRFLOW__SEALIFT__MAX_OFFLINE": str(given.max_offline),
        "AIRFLOW__SEALIFT__MAX_EXPORTS": str(2 * given.max_offline),  # as the defaults: 20 and 40
        **settings_of(given),
    }
    with World(
        servers=size,
        seconds=given.seconds,
        seed=given.seed,
        settings=settings,
        database=given.database,
        schedulers=given.schedulers,
        triggerers=given.triggerers,
        celery_workers=given.workers,
        meter_triggerers=True,
        keep=given.keep,
    ) as world:
        programs = world.programs()
        idle = idle_cost(programs, given.idle)
        say(f"  idle: {sum(idle[name] for name in AIRFLOW if name in idle):.3f} of a core")
        before, workers_before = world.metadata.tables(), world.worker_processes()
        world.history.skip()
        state = []

        def work() -> None:
            params = world.params(max_offline=given.max_offline, wave_size=given.wave_size)
            world.airflow.api.trigger(PLAN, params, run_id=f"{NAME}-{size}")
            state.append(world.wait_run(PLAN, f"{NAME}-{size}", seconds=1200 + given.patience * size))

        used = measured(programs, work)
        calls = world.history.count()
        done = ways(world.effects()).values()
        net = {name: value - idle.get(name, 0.0) * used.wall for name, value in used.cpu.items()}
        per_server = {
            "cpu_s_by_component": {name: round(value / size, 4) for name, value in used.cpu.items()},
            "classic_calls": round(calls.total("classic") / size, 3),
            "classic_calls_triggerers": round(world.meter.calls.total() / size, 3),
            "classic_calls_waiting": round(world.meter.of("poll") / size, 3),
            "classic_calls_by_method": {
                name: round(count / size, 3) for name, count in calls.by_method["classic"].most_common()
            },
            "cos_calls": round(calls.total("cos") / size, 3),
            "cos_calls_by_method": {
                name: round(count / size, 3) for name, count in calls.by_method["cos"].most_common()
            },
            "iam_calls": round(calls.total("iam") / size, 3),
            "worker_processes": round((world.worker_processes() - workers_before) / size, 3),
            "database": grown(world.metadata.tables(), before, size),
        }
        return {
            "name": str(size),
            "servers": size,
            "state": state[0],
            "failed": size - world.manifests(),
            "wall_s": used.wall,
            "cpu_s": used.cpu,
            "cpu_s_per_server_gross": round(used.airflow / size, 4),
            "cpu_s_per_server_net": round(of_airflow(net) / size, 4),
            "idle_cores": idle,
            "peak_pss_mb": used.memory,
            "retried_tries": world.metadata.tries(),
            "captured_twice": sum(way.captures > 1 for way in done),
            "longest_chain_s": round(
                longest_chain([way for way in done if way.whole], max_offline=given.max_offline), 3
            ),
            "per_server": per_server,
            **calls.as_dict(),
        }


def idle_cost(programs: Sequence[Any], seconds: float) -> dict[str, float]:
    """Measure what programs use while there is nothing to do.

    :param programs: the keepers.
    :param seconds: for how long.
    :returns: shares of a core, by component; empty if there is no time.
    """
    if not seconds:
        return {}
    before, start = cpu(programs), time.monotonic()
    time.sleep(seconds)
    span = time.monotonic() - start
    return {name: round(value / span, 5) for name, value in difference(cpu(programs), before).items()}


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Make the figures of whatever sizes there are."""
    by_size = {run["servers"]: run for run in runs}
    found: dict[str, float | None] = {"failed": sum(run["failed"] for run in runs)}
    for size, run in sorted(by_size.items()):
        found[f"cpu_s_per_server_{size}"] = run["cpu_s_per_server_gross"]
        found[f"cpu_s_per_server_{size}_net"] = run["cpu_s_per_server_net"]
        found[f"postgresql_cpu_s_per_server_{size}"] = run["per_server"]["cpu_s_by_component"].get("postgresql", 0.0)
        found[f"redis_cpu_s_per_server_{size}"] = run["per_server"]["cpu_s_by_component"].get("redis", 0.0)
    few = by_size.get(FEW)
    for size, run in by_size.items():
        if few is not None and size > FEW:
            name = f"cpu_growth_{FEW}_to_{size}"
            found[name] = run["cpu_s_per_server_gross"] / few["cpu_s_per_server_gross"]
            found[f"{name}_net"] = run["cpu_s_per_server_net"] / few["cpu_s_per_server_net"]
    return found


def main(arguments: Sequence[str]) -> int:
    """Run the sizes and write the figures.

    :param arguments: see ``--help``.
    :returns: the exit status: 1 if a server failed.
    """
    given = parse(arguments)
    failed = 0
    for size in given.sizes:
        say(f"{size} servers: begins")
        settings = {
            "transaction_seconds": given.seconds,
            "max_offline": given.max_offline,
            "wave_size": given.wave_size,
            "poll_interval": given.poll_interval,
            "database": given.database,
            "executor": f"CeleryExecutor, {given.workers} workers" if given.workers else "LocalExecutor",
            "schedulers": given.schedulers,
            "triggerers": given.triggerers,
            "idle_seconds": given.idle,
            "airflow": settings_of(given),
            "seed": given.seed,
            "gross": "cpu_s_per_server_* and cpu_growth_* are gross, idle loops included; *_net are without them",
            "command": f"make {NAME} SIZES={','.join(map(str, given.sizes))}",
            **results_file.machine(),
        }
        run = run_size(given, size)
        content = results_file.put_run(given.out, run, settings)
        found = figures(content["runs"])
        results_file.put_figures(given.out, found)
        failed += run["failed"]
        say(
            f"{size} servers: {run['wall_s']:.0f} s, {run['cpu_s_per_server_gross']} CPU-s per server "
            f"({run['cpu_s_per_server_net']} net), failed {run['failed']}, {run['cpu_s']}"
        )
    return int(bool(failed))


if __name__ == "__main__":
    run_program(main)
