"""Sealift against IBM's documented procedure and against a plain Airflow DAG, with the same transactions.

``make bench-fleet N=200`` runs, one after the other, each in a world of its own:

- ``sealift``: plan_exports over N servers, with a cap on how many are offline at once;
- ``plain-poke-capped``, ``plain-reschedule-capped``: the DAGs of benchmarks/plain under the same cap, one sensor per
  server and wait. What is compared with Sealift is these;
- ``sealift-no-cap``, ``plain-poke``, ``plain-reschedule``: the same where all servers may be offline at once;
- ``procedure-serial``, ``procedure-xargs``: benchmarks/procedure over fewer servers, since it takes hours; what is
  scaled to N stands under ``scaled`` beside what was measured.

Parts that are there already in the results, with the same options, can be left out by ``--parts``: figures are made of
whatever runs the file holds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import results_file
from benchmarks.measuring.calls import Calls
from benchmarks.measuring.chains import longest_chain, offline_at_most, ways
from benchmarks.measuring.processes import PROCEDURE, Used, measured
from benchmarks.procedure.run import Procedure
from benchmarks.world import BUCKET, PLAN, PROJECT, WAVE, World, add_options, run_program, say, settings_of

NAME = "bench-fleet"
PARTS = (
    "sealift",
    "plain-poke-capped",
    "plain-reschedule-capped",
    "sealift-no-cap",
    "plain-poke",
    "plain-reschedule",
    "procedure-serial",
    "procedure-xargs",
)
PLAIN_DAGS = Path(__file__).with_name("plain") / "dags"
# By these the plain DAGs' sensors wait, and nothing else of theirs calls them.
_PLAIN_WAITS = ("SoftLayer_Account::getPrivateBlockDeviceTemplateGroups",)
TEN_MINUTES = 600.0
MODEL = (
    "under the cap, with r = ceil(n / max_offline): poke(T) = r * (2 T + h), h = poke(t) / r - 2 t as measured; "
    "sealift(T) = r * T + T + o, o = sealift(t) - (r * t + t) as measured; T = 600 s, t = the transactions of this run"
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("-n", "--servers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long captures and exports take")
    parser.add_argument("--slots", type=int, default=8, help="worker slots of each Airflow")
    parser.add_argument("--max-offline", type=int, default=20, help="Sealift's cap on captures (as by default)")
    parser.add_argument("--wave-size", type=int, default=100)
    parser.add_argument("--poll-interval", type=float, default=15.0, help="of each Airflow's waits")
    parser.add_argument("--serial-servers", type=int, default=4, help="servers of the serial procedure")
    parser.add_argument("--xargs-servers", type=int, default=24, help="servers of the procedure under xargs -P 8")
    parser.add_argument("--procedure-poll", type=float, default=10.0, help="seconds between the procedure's polls")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add_options(parser, result=results_file.RESULTS / f"{NAME}.json")
    return parser.parse_args(arguments)


def airflow_settings(given: argparse.Namespace, *, cap: int) -> dict[str, str]:
    """Give the settings that all Airflow variants share, then those of the command line."""
    return {
        "AIRFLOW__CORE__PARALLELISM": str(given.slots),
        "AIRFLOW__SEALIFT__POLL_INTERVAL": f"{given.poll_interval:g}",
        "AIRFLOW__SEALIFT__MAX_OFFLINE": str(cap),
        "AIRFLOW__SEALIFT__MAX_EXPORTS": str(2 * cap),  # as the defaults: 20 and 40
        **settings_of(given),
    }


def plain_settings(given: argparse.Namespace, *, cap: int) -> dict[str, str]:
    """Give the settings of a plain Airflow: those of all, without what Sealift ships to make its own tasks cheaper.

    Sealift's scheduler rests longer; who writes a plain DAG has Airflow's default. And Sealift's settings file, which
    ``PYTHONPATH`` would lead to, has the clients imported before tasks are forked; who writes a plain DAG has none.
    """
    return {
        **airflow_settings(given, cap=cap),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
        "PYTHONPATH": str(PROJECT / "include"),
    }


def world_of(given: argparse.Namespace, servers: int, **more: Any) -> World:
    """Make the world of one part."""
    return World(
        servers=servers, seconds=given.seconds, seed=given.seed, database=given.database, keep=given.keep, **more
    )


def outcome(
    name: str, servers: int, used: Used, calls: Calls, *, waiting: int, failed: int, world: World, max_offline: int
) -> dict[str, Any]:
    """Make one part's raw figures."""
    found = ways(world.effects()).values()
    done = [way for way in found if way.whole]
    return {
        "name": name,
        "servers": servers,
        "failed": failed,
        "wall_s": used.wall,
        "cpu_s": used.cpu,
        "cpu_s_compared": round(used.airflow or used.cpu.get(PROCEDURE, 0.0), 3),
        "peak_pss_mb": used.memory,
        "classic_calls": calls.total("classic"),
        "classic_calls_waiting": waiting,
        "cos_calls": calls.total("cos"),
        "longest_chain_s": round(longest_chain(done, max_offline=max_offline), 3),
        "offline_at_most": offline_at_most([way for way in found if way.capture_ended]),
        "captured_twice": sum(way.captures > 1 for way in found),
        **calls.as_dict(),
    }


def run_sealift(given: argparse.Namespace, *, capped: bool) -> dict[str, Any]:
    """Run plan_exports over all servers."""
    n = given.servers
    cap = given.max_offline if capped else n
    with world_of(given, n, settings=airflow_settings(given, cap=cap), meter_triggerers=True) as world:
        world.history.skip()
        state = []

        def work() -> None:
            params = world.params(max_offline=cap, wave_size=given.wave_size)
            world.airflow.api.trigger(PLAN, params, run_id=NAME)
            state.append(world.wait_run(PLAN, NAME, seconds=given.seconds * n + 1800, every=1))

        used = measured(world.programs(), work)
        failed = n - world.manifests()
        run = outcome(
            "sealift" if capped else "sealift-no-cap",
            n,
            used,
            world.history.count(),
            waiting=world.meter.of("poll"),
            failed=failed,
            world=world,
            max_offline=cap,
        )
        states = world.metadata.states(WAVE)
        return {**run, "state": state[0], "tasks": {task: dict(counts) for task, counts in states.items()}}


def run_plain(given: argparse.Namespace, mode: str, *, capped: bool) -> dict[str, Any]:
    """Run the plain DAG in one of its modes: one run for all servers, or under the cap one for each."""
    n = given.servers
    cap = given.max_offline if capped else n
    dag_id = f"plain_{mode}{'_capped' if capped else ''}"
    settings = plain_settings(given, cap=cap)
    more: dict[str, Any] = {"dags_folder": PLAIN_DAGS, "dags": (dag_id,), "pace": "quick"}
    with world_of(given, n, settings=settings, **more) as world:
        world.history.skip()
        servers = [{"id": guest} for guest in world.guests]
        given_to_all = {"prefix": "plain", "bucket": BUCKET}
        confs: list[dict[str, Any]] = [{"servers": servers, **given_to_all}]
        if capped:
            confs = [{**server, **given_to_all} for server in servers]

        def work() -> None:
            for number, conf in enumerate(confs):
                world.airflow.api.trigger(dag_id, conf, run_id=f"{NAME}-{number:04d}")
            world.wait_runs(dag_id, len(confs), seconds=given.seconds * n + 3600)

        used = measured(world.programs(), work)
        states = world.metadata.states(dag_id)
        calls = world.history.count()
        waiting = sum(calls.by_method["classic"][method] for method in _PLAIN_WAITS)
        run = outcome(
            f"plain-{mode}{'-capped' if capped else ''}",
            n,
            used,
            calls,
            waiting=waiting,
            failed=n - states["way.wait_for_objects"]["success"],
            world=world,
            max_offline=cap,
        )
        return {**run, "tasks": {task: dict(counts) for task, counts in states.items()}}


def run_procedure(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """Run IBM's procedure over some servers, and scale what it took to all of them."""
    m, at_once = (given.serial_servers, 1) if name == "procedure-serial" else (given.xargs_servers, 8)
    m = min(m, given.servers)
    with world_of(given, m, airflow_too=False) as world:
        world.history.skip()
        procedure = Procedure(world=world, servers=m, at_once=at_once, poll=given.procedure_poll)
        procedure.start()
        try:
            used = measured(
                [*procedure.programs(), *world.programs()], lambda: procedure.wait(seconds=m * given.seconds * 10 + 600)
            )
        finally:
            procedure.stop()
        calls = world.history.count()
        waiting = calls.by_method["classic"]["SoftLayer_Virtual_Guest_Block_Device_Template_Group::getObject"]
        run = outcome(
            name,
            m,
            used,
            calls,
            waiting=waiting,
            failed=m - len(procedure.done()),
            world=world,
            max_offline=at_once,
        )
    rounds = math.ceil(given.servers / at_once) / math.ceil(m / at_once)
    run["scaled"] = {
        "servers": given.servers,
        "wall_s": round(run["wall_s"] * rounds, 1),
        "cpu_s_compared": round(run["cpu_s_compared"] * given.servers / m, 1),
        "classic_calls": round(run["classic_calls"] * given.servers / m),
        "formula": f"wall: measured with {m} servers, times ceil(n / {at_once}) / ceil({m} / {at_once}); rest: n / {m}",
    }
    return run


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Make the figures of whatever runs there are; those that lack a run, or compare other numbers, are left out."""
    by_name = {run["name"]: run for run in runs}
    found: dict[str, float | None] = dict.fromkeys(
        (
            "failed",
            "wall_vs_longest_chain",
            "wall_vs_poke",
            "wall_vs_poke_10min",
            "wall_vs_poke_no_cap",
            "cpu_vs_reschedule",
            "cpu_vs_reschedule_no_cap",
            "calls_vs_per_server_poll",
            "all_calls_vs_per_server_poll",
            "wall_vs_procedure_serial_scaled",
            "wall_vs_procedure_xargs_scaled",
        )
    )
    sealift = by_name.get("sealift")
    if sealift is None:
        return found
    found["failed"] = sealift["failed"]
    if sealift["longest_chain_s"]:
        found["wall_vs_longest_chain"] = sealift["wall_s"] / sealift["longest_chain_s"]

    def beside(one: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
        """Give a run over as many servers."""
        run = by_name.get(name)
        return run if one is not None and run is not None and run["servers"] == one["servers"] else None

    if (poke := beside(sealift, "plain-poke-capped")) is not None:
        found["wall_vs_poke"] = poke["wall_s"] / sealift["wall_s"]
        found["wall_vs_poke_10min"] = ten_minutes(sealift, poke)
        found["calls_vs_per_server_poll"] = poke["classic_calls_waiting"] / max(sealift["classic_calls_waiting"], 1)
        found["all_calls_vs_per_server_poll"] = poke["classic_calls"] / sealift["classic_calls"]
    if (again := beside(sealift, "plain-reschedule-capped")) is not None:
        found["cpu_vs_reschedule"] = again["cpu_s_compared"] / sealift["cpu_s_compared"]
    if (free := by_name.get("sealift-no-cap")) is not None:
        if (poke := beside(free, "plain-poke")) is not None:
            found["wall_vs_poke_no_cap"] = poke["wall_s"] / free["wall_s"]
        if (again := beside(free, "plain-reschedule")) is not None:
            found["cpu_vs_reschedule_no_cap"] = again["cpu_s_compared"] / free["cpu_s_compared"]
    for name in ("serial", "xargs"):
        run = by_name.get(f"procedure-{name}")
        if run is not None and run["scaled"]["servers"] == sealift["servers"]:
            found[f"wall_vs_procedure_{name}_scaled"] = run["scaled"]["wall_s"] / sealift["wall_s"]
    return found


def ten_minutes(sealift: dict[str, Any], poke: dict[str, Any]) -> float:
    """Compute by :data:`MODEL` how many times longer poke mode takes with transactions of ten minutes."""
    settings = sealift["settings"]
    seconds = settings["transaction_seconds"]
    rounds = math.ceil(sealift["servers"] / settings["max_offline"])
    overhead_of_a_round = poke["wall_s"] / rounds - 2 * seconds
    overhead = sealift["wall_s"] - (rounds * seconds + seconds)
    slow = rounds * (2 * TEN_MINUTES + overhead_of_a_round)
    return float(slow / (rounds * TEN_MINUTES + TEN_MINUTES + overhead))


def main(arguments: Sequence[str]) -> int:
    """Run the parts and write the figures.

    :param arguments: see ``--help``.
    :returns: the exit status: 1 if a server of Sealift's failed.
    """
    given = parse(arguments)
    settings = {
        "servers": given.servers,
        "transaction_seconds": given.seconds,
        "slots": given.slots,
        "max_offline": given.max_offline,
        "wave_size": given.wave_size,
        "poll_interval": given.poll_interval,
        "procedure_poll": given.procedure_poll,
        "serial_servers": given.serial_servers,
        "xargs_servers": given.xargs_servers,
        "database": given.database,
        "executor": "LocalExecutor, one scheduler, one triggerer",
        "airflow": airflow_settings(given, cap=given.max_offline),
        "seed": given.seed,
        "model_of_ten_minutes": MODEL,
        "scaled": "what stands under `scaled` of a run was computed, not measured; `formula` says how",
        "command": f"make {NAME} N={given.servers}",
    }
    for part in given.parts:
        say(f"{part}: begins")
        machine = results_file.machine()
        if part.startswith("sealift"):
            run = run_sealift(given, capped=part == "sealift")
        elif part.startswith("plain"):
            run = run_plain(given, part.split("-")[1], capped=part.endswith("-capped"))
        else:
            run = run_procedure(given, part)
        content = results_file.put_run(given.out, run, {**settings, **machine})
        told = {"wall_s": run["wall_s"], "cpu_s": run["cpu_s_compared"], "failed": run["failed"]}
        say(f"{part}: {run['servers']} servers, {told}, calls {run['calls']}, scaled {run.get('scaled')}")
        results_file.put_figures(given.out, figures(content["runs"]))
    content = results_file.read(given.out)
    for name, value in content["figures"].items():
        say(f"{name} = {value}")
    return int(bool(content["figures"].get("failed")))


if __name__ == "__main__":
    run_program(main)
