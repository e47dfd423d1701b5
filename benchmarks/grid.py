"""How soon Airflow's page of a finished wave shows: ``make bench-grid``.

A wave is exported with short transactions. Then a browser opens the wave's captures, which Airflow shows beside the
grid of the DAG, and the time runs until the grid's tasks and all host names of the list's first page stand there: in a
new tab of a browser that has been in this Airflow before, as people's have, and in one without anything in its cache.
All pages of the list together must name all of the wave's servers.

What Airflow itself takes is measured beside it, in the same browser: its list of two or three DAGs, and the page of
a DAG of four tasks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from benchmarks import results_file
from benchmarks.world import CAPTURE, PLAN, WAVE, World, add_options, run_program, say, settings_of
from tools.system_packages import PLACES

NAME = "bench-grid"
# The page's text is made once for a look: making it takes the page's own time.
_ALL_THERE = "names => { const text = document.body.innerText; return names.every(name => text.includes(name)); }"
_TASKS = ["read_wave", "summarise"]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=__doc__)
    parser.add_argument("-n", "--servers", type=int, default=100, help="servers of the wave")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long captures and exports take")
    parser.add_argument("--rounds", type=int, default=7, help="how often the page is opened")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    add_options(parser, result=results_file.RESULTS / f"{NAME}.json")
    return parser.parse_args(arguments)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's browser."""
    program = shutil.which("chromium", path=os.pathsep.join(PLACES))
    if program is None:
        raise SystemExit("There is no chromium. On Debian: apt-get install -y --no-install-recommends chromium")
    with sync_playwright() as playwright:
        # The browser only visits pages of this machine; as root it has no sandbox to run in.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def fresh(browser: Browser, url: str) -> Iterator[BrowserContext]:
    """Give a browser that has never been anywhere."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, base_url=url)
    context.set_default_timeout(60_000)
    yield context
    context.close()


def hostnames(world: World) -> dict[int, str]:
    """Read the servers' names out of the sandbox."""
    with closing(sqlite3.connect(f"file:{world.sandbox.root / 'world.sqlite'}?mode=ro", uri=True)) as account:
        rows = account.execute(
            "SELECT json_extract(doc, '$.id'), json_extract(doc, '$.hostname') FROM docs WHERE kind = 'guest'"
        )
        return {int(number): str(name) for number, name in rows}


def opened(context: BrowserContext, path: str, names: Sequence[str]) -> float:
    """Open a page in a tab of its own, and wait until it shows some names.

    :returns: seconds.
    """
    page = context.new_page()
    start = time.perf_counter()
    page.goto(path, wait_until="commit")
    page.wait_for_function(_ALL_THERE, arg=list(names))
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def pages(browser: Browser, url: str, path: str) -> list[str]:
    """Read all pages of the list of a wave's servers, as a person turns them.

    :returns: the text of each.
    """
    texts = []
    with fresh(browser, url) as context:
        page = context.new_page()
        page.goto(path)
        while True:
            page.wait_for_load_state("networkidle")
            texts.append(page.inner_text("body"))
            onwards = page.get_by_role("button", name="next page")
            if not onwards.count() or onwards.first.is_disabled():
                return texts
            onwards.first.click()
            page.wait_for_function("before => document.body.innerText != before", arg=texts[-1])


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Export a wave, and open its page."""
    n = given.servers
    settings = {"AIRFLOW__CORE__PARALLELISM": str(given.slots), **settings_of(given)}
    with World(
        servers=n, seconds=given.seconds, seed=given.seed, settings=settings, database=given.database, keep=given.keep
    ) as world:
        params = world.params(max_offline=n, wave_size=n)
        world.airflow.api.trigger(PLAN, params, run_id=NAME)
        world.wait_run(PLAN, NAME, seconds=900 + 10 * n)
        (wave,) = world.airflow.api.runs(WAVE)
        run_id = str(wave["dag_run_id"])
        names = hostnames(world)
        wanted = [names[guest] for guest in world.guests]
        path = f"/dags/{WAVE}/runs/{quote(run_id)}/tasks/{CAPTURE}/mapped"
        instances = world.airflow.api.task_instances(WAVE, run_id)
        rendered = {str(one["rendered_map_index"]) for one in instances if one["task_id"] == CAPTURE}
        with chromium() as browser:
            texts = pages(browser, world.airflow.url, path)
            first = [name for name in wanted if name in texts[0]]
            cold, shown = [], [*_TASKS, *first]
            for _ in range(given.rounds):
                with fresh(browser, world.airflow.url) as context:
                    cold.append(opened(context, path, shown))
            with fresh(browser, world.airflow.url) as context:
                opened(context, path, shown)
                warm = [opened(context, path, shown) for _ in range(given.rounds)]
                dags, small = ("/dags", [PLAN]), (f"/dags/{PLAN}", ["make_plan"])
                dag_list = [opened(context, *dags) for _ in range(given.rounds)]
                small_dag = [opened(context, *small) for _ in range(given.rounds)]
        return {
            "name": "wave",
            "servers": n,
            "failed": n - world.manifests(),
            "opens_s": [round(one, 3) for one in warm],
            "opens_without_cache_s": [round(one, 3) for one in cold],
            "list_of_dags_opens_s": [round(one, 3) for one in dag_list],
            "dag_of_four_tasks_opens_s": [round(one, 3) for one in small_dag],
            "named_on_the_first_page": len(first),
            "named_in_the_pages": sum(any(name in text for text in texts) for name in wanted),
            "named_by_the_api": len(rendered & set(wanted)),
        }


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Make the figures."""
    (run,) = runs
    return {
        "grid_opens_s": statistics.median(run["opens_s"]),
        "grid_opens_s_slowest": max(run["opens_s"]),
        "grid_opens_s_without_cache": statistics.median(run["opens_without_cache_s"]),
        "list_of_dags_opens_s": statistics.median(run["list_of_dags_opens_s"]),
        "dag_of_four_tasks_opens_s": statistics.median(run["dag_of_four_tasks_opens_s"]),
        "servers_named": run["named_in_the_pages"],
        "failed": run["failed"],
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and write the figures.

    :param arguments: see ``--help``.
    :returns: the exit status: 1 if a server failed or is not named.
    """
    given = parse(arguments)
    settings = {
        "servers": given.servers,
        "rounds": given.rounds,
        "transaction_seconds": given.seconds,
        "database": given.database,
        "browser": "Debian's chromium, 1400 x 1000, on the same machine",
        "airflow": settings_of(given),
        "command": f"make {NAME}",
        **results_file.machine(),
    }
    run = measure(given)
    content = results_file.put_run(given.out, run, settings)
    found = results_file.put_figures(given.out, figures(content["runs"]))["figures"]
    say(f"{found}")
    return int(found["failed"] > 0 or found["servers_named"] < given.servers)


if __name__ == "__main__":
    run_program(main)
