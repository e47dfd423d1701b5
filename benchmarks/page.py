"""How fast page and API answer over a ledger of 5,000 servers and 52 slots, in Airflow's real API server.

``python -m benchmarks.page`` fills a sandbox's bucket, starts the API server, waits for the first answer, and then asks
every route again and again, each time for another page, filter or server, so that no answer is a repeated one. Then a
browser opens the page and scrolls it: see :mod:`benchmarks.page_browser`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks import page_browser, results_file
from benchmarks.ledger import Year, fill
from sealift.exports import names
from sealift.sandbox import Sandbox
from tools.local_airflow import LocalAirflow
from tools.processes import Program, tail

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "sealift"
NAME = "bench-page"


def main(arguments: list[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--servers", type=int, default=5000)
    parser.add_argument("--slots", type=int, default=52)
    parser.add_argument("--calls", type=int, default=40, help="calls of each route")
    parser.add_argument("--without-index", action="store_true", help="leave the indexes out")
    parser.add_argument("--without-browser", action="store_true", help="only ask the API")
    parser.add_argument("--out", type=Path, default=results_file.RESULTS / f"{NAME}.json", help="where the figures go")
    given = parser.parse_args(arguments)
    machine = results_file.machine()
    year = Year(servers=given.servers, slots=given.slots, indexed=not given.without_index)
    with (
        TemporaryDirectory(prefix="sealift-page-") as folder,
        Sandbox(root=Path(folder) / "sandbox", scenario="demo", seed=7, tls=True) as sandbox,
    ):
        began = time.monotonic()
        filler = fill(sandbox.store, bucket=sandbox.bucket, region="us-south", prefix=PREFIX, year=year)
        print(f"{filler.count:,} objects in {time.monotonic() - began:.0f} s", flush=True)
        run = measure(Path(folder), sandbox, year, calls=given.calls, browser=not given.without_browser)
    settings = {
        "servers": given.servers,
        "slots": given.slots,
        "objects": filler.count,
        "indexed": year.indexed,
        "calls": given.calls,
        "browser": "Debian's chromium, 1400 x 1000, on the same machine",
        "command": f"make {NAME}",
        **machine,
    }
    results_file.put_run(given.out, {"name": "page", **run}, settings)
    results_file.put_figures(given.out, figures(run))
    print(json.dumps(run, indent=2))
    return 0


def figures(run: dict[str, Any]) -> dict[str, float | None]:
    """Make the figures."""
    routes = run["routes"]
    slowest = max(routes, key=lambda one: routes[one]["p95_ms"])
    return {
        "first_answer_s": run["first_answer_seconds"],
        "slowest_p95_ms": routes[slowest]["p95_ms"],
        "routes_above_300_ms": sum(one["p95_ms"] > 300 for one in routes.values()),
        "api_server_mb": run["largest_process_mb"],
        **(page_browser.figures(run["browser"]) if "browser" in run else {}),
    }


def measure(folder: Path, sandbox: Sandbox, year: Year, *, calls: int, browser: bool) -> dict[str, Any]:
    """Start the API server and ask it."""
    connections = {
        f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(fields) for conn_id, fields in sandbox.connections().items()
    }
    airflow = LocalAirflow(
        home=folder / "airflow",
        project_root=ROOT,
        settings={
            "AIRFLOW__SEALIFT__DEFAULT_PARAMS": json.dumps(
                {"bucket": sandbox.bucket, "region": "us-south", "prefix": PREFIX}
            ),
            **connections,
        },
    )
    airflow.home.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name("airflow")
    # The list of DAGs, which is opened beside the page, should hold what a deployment's does.
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        subprocess.run([program, *command], env=airflow.env, check=True, capture_output=True, cwd=ROOT)
    log = airflow.home / "api-server.log"
    server = Program(
        [program, "api-server", "--host", "127.0.0.1", "--port", str(airflow.port)],
        env=airflow.env,
        mark=airflow.mark,
        log=log,
        cwd=ROOT,
    )
    try:
        with httpx.Client(base_url=airflow.url, timeout=120, trust_env=False) as client:
            wait_until_up(client, server, log)
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            cold = first_answer(client)
            print(f"first answer after {cold:.1f} s", flush=True)
            found = {name: times(client, ask, calls) for name, ask in asks(year).items()}
            memory = {pid: resident(pid) for pid in airflow.running()}
            more = {"browser": page_browser.look(airflow.url)} if browser else {}
    finally:
        server.stop()
        airflow.api.close()
    return {"first_answer_seconds": round(cold, 1), "largest_process_mb": max(memory.values()), "routes": found, **more}


def wait_until_up(client: httpx.Client, server: Program, log: Path) -> None:
    """Wait until the API server answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not server.ended():
        try:
            if client.get("/api/v2/version").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"The API server did not come up:\n{tail(log)}")


def first_answer(client: httpx.Client) -> float:
    """Ask until the ledger has been read, and say how long that took."""
    began = time.monotonic()
    while True:
        reply = client.get("/sealift/api/coverage")
        if reply.status_code == httpx.codes.OK:
            return time.monotonic() - began
        if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            raise SystemExit(f"{reply.status_code}: {reply.text}")
        time.sleep(0.2)


def asks(year: Year) -> dict[str, Callable[[int], tuple[str, dict[str, Any]]]]:
    """What is asked: by name, a path and its query for each call."""
    rng = random.Random(year.seed)  # noqa: S311 - which pages are asked for
    periods = [names.period_of_slot(one) for one in year.periods]
    ids = [100_000_000 + 7 * number for number in range(year.servers) if number % 250 != 249]
    plan = names.plan_id_for(dag_id="plan_exports", run_id=f"scheduled__{year.periods[-1].isoformat()}")

    def even() -> int:
        return rng.choice([one for one in ids if one % 2 == 0])

    return {
        "coverage, a page of 100": lambda n: ("coverage", {"offset": 100 * (n % 50)}),
        "coverage, a page of 500": lambda n: ("coverage", {"limit": 500, "offset": 10 * n}),
        "coverage, by name": lambda n: ("coverage", {"name": f"host{n:03d}"}),
        "coverage, failed in any slot": lambda n: (
            "coverage",
            {"state": "failed", "in_slot": "any", "offset": n, "order": "last_export", "descending": True},
        ),
        "coverage, tag and data center": lambda n: (
            "coverage",
            {"tag": "prod", "datacenter": ["dal13", "fra02"], "order": "size", "offset": n},
        ),
        "filters": lambda n: ("filters", {"nothing": n}),
        "server": lambda _n: (f"servers/{rng.choice(ids)}", {}),
        "export": lambda _n: (f"servers/{even()}/exports/{periods[-1]}", {}),
        "charts": lambda n: ("charts", {"slots": 1 + n % 52}),
        "plans": lambda n: ("plans", {"offset": n % 40}),
        "plan": lambda n: (f"plans/{plan}", {"offset": 100 * (n % 50)}),
        "waves": lambda n: (f"plans/{plan}/waves", {"nothing": n}),
        "wave": lambda n: (f"plans/{plan}/waves/{n % 40}", {}),
        "prices": lambda n: ("prices", {"nothing": n}),
    }


def times(client: httpx.Client, ask: Callable[[int], tuple[str, dict[str, Any]]], calls: int) -> dict[str, Any]:
    """Ask again and again; the first call does not count."""
    took, sizes = [], []
    for number in range(calls + 1):
        path, query = ask(number)
        began = time.monotonic()
        reply = client.get(f"/sealift/api/{path}", params=query)
        seconds = time.monotonic() - began
        if reply.status_code != httpx.codes.OK:
            print(f"{reply.request.url}: {reply.status_code} {reply.text}", flush=True)
            continue
        took.append(seconds)
        sizes.append(len(reply.content))
    first, later = took[0], sorted(took[1:])
    return {
        "first_ms": round(first * 1000),
        "median_ms": round(statistics.median(later) * 1000),
        "p95_ms": round(later[max(0, -(-len(later) * 95 // 100) - 1)] * 1000),
        "kilobytes": round(statistics.median(sizes) / 1000),
    }


def resident(pid: int) -> int:
    """A process's resident memory in MB."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in text.splitlines() if line.startswith("VmRSS")), 0)


if __name__ == "__main__":
    sys.exit(main())
