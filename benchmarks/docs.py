"""Writes the results into the tables of docs/performance.md: ``make bench-docs``.

A test holds page and results together. Between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` stands what
:data:`TABLES` makes of the results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results_file
from benchmarks.charts import FLEET, SCALE
from benchmarks.measuring.processes import AIRFLOW, POSTGRESQL, REDIS, SANDBOX

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
Results = Mapping[str, Any]
# Figure, what it is, what is to be reached.
TARGETS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "fleet": (
        ("wall_vs_longest_chain", "Sealift's wall time / the longest chain of transactions", "≤ 1.25"),
        ("wall_vs_poke", "wall time of poke mode / Sealift's, under the same cap", "≥ 5"),
        ("wall_vs_poke_10min", "the same with transactions of 10 minutes, computed", ""),
        ("wall_vs_poke_no_cap", "the same without a cap, 30 seconds", ""),
        ("cpu_vs_reschedule", "CPU of reschedule mode / Sealift's, under the same cap", "≥ 2"),
        ("cpu_vs_reschedule_no_cap", "the same without a cap", ""),
        ("calls_vs_per_server_poll", "Classic API calls spent on waiting, poke mode's / Sealift's", "≥ 20"),
        ("all_calls_vs_per_server_poll", "all Classic API calls, poke mode's / Sealift's", ""),
        ("wall_vs_procedure_serial_scaled", "wall time of the serial procedure, scaled / Sealift's", ""),
        ("wall_vs_procedure_xargs_scaled", "wall time of the procedure under xargs -P 8, scaled / Sealift's", ""),
        ("failed", "servers of Sealift's that failed", "0"),
    ),
    "scale": (
        ("cpu_s_per_server_2000", "CPU seconds per server among 2,000", "≤ 1.2"),
        ("cpu_growth_100_to_2000", "CPU per server among 2,000 / among 100", "≤ 1.25"),
        ("cpu_growth_100_to_5000", "CPU per server among 5,000 / among 100", "≤ 1.25"),
        ("cpu_growth_100_to_2000_net", "the first ratio without what idle processes use", ""),
        ("cpu_growth_100_to_5000_net", "the second without that", ""),
        ("failed", "servers that failed, over all sizes", "0"),
    ),
    "wait": (
        ("cores_500_waiting", "cores that all Airflow processes use while 500 servers wait", "≤ 0.25"),
        ("delay_p50_s", "seconds from the end of a transaction until what comes next is done, median", ""),
        ("delay_p99_s", "the same, 99th percentile", "≤ 30"),
        ("triggerer_core_share", "cores that a triggerer with 5,000 triggers uses", "≤ 0.3"),
        ("triggerer_rss_mb", "its resident memory in MB", "≤ 600"),
        ("api_calls_per_interval", "its Classic API calls in one poll interval", "≤ 120"),
        ("rate_limit_errors", "calls refused for the rate", "0"),
        ("failed", "tasks that failed", "0"),
    ),
    "download": (
        ("ratio_vs_best_peer", "the best peer's time / Sealift's, the worse of two sizes and two keys", "≥ 1.4"),
        ("ratio_vs_best_peer_2gib", "at 2 GiB", ""),
        ("ratio_vs_best_peer_10gib", "at 10 GiB", ""),
        ("ratio_of_lowest_limit", "the slowest limit's time / Sealift's, the worse of all", "≥ 0.8"),
        ("ratio_of_lowest_limit_2gib", "at 2 GiB", ""),
        ("ratio_of_lowest_limit_10gib", "at 10 GiB", ""),
        ("memory_mib", "Sealift's memory in MiB, at most", "≤ 128"),
    ),
    "proof": (
        ("l1_bytes_100gb", "bytes that L1 reads of an image of a 100 GB disk", "≤ 1,048,576"),
        ("l1_requests_100gb", "in so many requests", ""),
        ("l1_seconds_100gb", "seconds", ""),
        ("l1_bytes_2tb", "bytes that L1 reads of an image of a 2 TB disk", "≤ 6,291,456"),
        ("l1_requests_2tb", "in so many requests", ""),
        ("l1_seconds_2tb", "seconds", ""),
        ("l2_ratio_of_sha256", "CPU of the SHA-256 alone / CPU of L2 in the bucket", "≥ 0.9"),
        ("l2_ratio_of_sha256_file", "CPU of the SHA-256 alone / CPU of L2 of a file", ""),
        ("l2_memory_mib", "memory of L2 in the bucket, in MiB", ""),
    ),
    "convert": (
        ("speedup_vmdk", "time with qemu-img / Sealift's, into a streamOptimized VMDK, the worse of two sizes", "≥ 3"),
        ("speedup_vmdk_1gib", "at 1 GiB", ""),
        ("speedup_vmdk_10gib", "at 10 GiB", ""),
        ("speedup_qcow2", "time with qemu-img / Sealift's, into a compressed qcow2, the worse of two sizes", "≥ 1.5"),
        ("speedup_qcow2_1gib", "at 1 GiB", ""),
        ("speedup_qcow2_10gib", "at 10 GiB", ""),
        ("size_ratio", "size of Sealift's image / that of qemu-img's, the worst of all", "≤ 1.05"),
        ("memory_mib", "Sealift's memory in MiB, at most", "≤ 256"),
    ),
    "grid": (
        ("grid_opens_s", "seconds until the page shows, median", "< 2"),
        ("grid_opens_s_slowest", "the slowest", ""),
        ("grid_opens_s_without_cache", "seconds in a browser without anything in its cache, median", ""),
        ("list_of_dags_opens_s", "seconds until Airflow's list of DAGs shows, in the same browser, median", ""),
        ("dag_of_four_tasks_opens_s", "seconds until its page of a DAG of four tasks shows, median", ""),
        ("servers_named", "servers that the list names", "all"),
    ),
}


def number(value: float) -> str:
    """Write a figure with as many digits as it deserves."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(name: str) -> Callable[[Results], str]:
    """Make the writer of the table of a benchmark's figures, with what is to be reached."""

    def written(results: Results) -> str:
        found = results["figures"]
        rows = [
            [f"{words} (`{figure}`)", number(found[figure]), target]
            for figure, words, target in TARGETS[name]
            if figure in found
        ]
        return table(["Figure", "Measured", "To reach"], rows)

    return written


def fleet_runs(results: Results) -> str:
    """Write what each way to export the fleet took."""
    rows = []
    for run in results["runs"]:
        memory = run["peak_pss_mb"].get("airflow") or run["peak_pss_mb"].get("procedure", 0.0)
        rows.append(
            [
                f"`{run['name']}`",
                number(run["servers"]),
                number(run["offline_at_most"]) if "offline_at_most" in run else "",
                number(round(run["wall_s"])),
                number(round(run["cpu_s_compared"])),
                number(run["classic_calls"]),
                number(run["classic_calls_waiting"]),
                number(run["cos_calls"]),
                number(round(memory)),
                number(run["failed"]),
            ]
        )
        scaled = run.get("scaled")
        if scaled:
            rows.append(
                [
                    f"`{run['name']}`, **scaled**",
                    number(scaled["servers"]),
                    "",
                    number(round(scaled["wall_s"])),
                    number(round(scaled["cpu_s_compared"])),
                    number(scaled["classic_calls"]),
                    *("" for _ in range(4)),
                ]
            )
    head = ["", "servers", "offline at once", "wall s", "CPU s", "Classic calls", "of them waiting", "COS calls"]
    head += ["peak MB", "failed"]
    return table(head, rows) + f"\n\n![Wall time of each](images/{FLEET})"


def scale_runs(results: Results) -> str:
    """Write what one server cost at each size."""
    runs = sorted(results["runs"], key=lambda run: int(run["servers"]))
    rows: list[list[str]] = []

    def row(words: str, value: Callable[[Any], float | None]) -> None:
        values = [value(run) for run in runs]
        if any(one is not None for one in values):
            rows.append([words, *("" if one is None else number(one) for one in values)])

    def used(component: str) -> Callable[[Any], float | None]:
        return lambda run: run["per_server"]["cpu_s_by_component"].get(component)

    def grown(what: str) -> Callable[[Any], float | None]:
        return lambda run: sum(one[what] for one in run["per_server"]["database"].values())

    row("CPU seconds, Airflow", lambda run: run["cpu_s_per_server_gross"])
    for component in AIRFLOW:
        row(f"of it {component}", used(component))
    row("CPU seconds, Airflow, without idle loops", lambda run: run["cpu_s_per_server_net"])
    for component in (POSTGRESQL, REDIS, SANDBOX):
        row(f"CPU seconds, {component}", used(component))
    row("worker processes", lambda run: run["per_server"]["worker_processes"])
    row("Classic API calls", lambda run: run["per_server"]["classic_calls"])
    row("of them by triggerers: waiting and starting", lambda run: run["per_server"].get("classic_calls_triggerers"))
    row("of these by the poll: waiting", lambda run: run["per_server"].get("classic_calls_waiting"))
    row("COS calls", lambda run: run["per_server"]["cos_calls"])
    row("IAM calls", lambda run: run["per_server"]["iam_calls"])
    for what in ("rows", "bytes"):
        row(f"{what} in the metadata database", grown(what))
    row("wall seconds, all servers", lambda run: float(round(run["wall_s"])))
    head = ["per server", *(f"{run['servers']:,} servers" for run in runs)]
    return table(head, rows) + f"\n\n![CPU per server](images/{SCALE})"


def calls_by_method(results: Results) -> str:
    """Write which calls one server took at the greatest size."""
    run = max(results["runs"], key=lambda one: int(one["servers"]))
    per_server = run["per_server"]
    rows = [
        [f"`{method.replace('SoftLayer_', '')}`", number(count)]
        for kind in ("classic_calls_by_method", "cos_calls_by_method")
        for method, count in per_server[kind].items()
        if count >= 0.01
    ]
    return table([f"per server, among {run['servers']:,}", "calls"], rows)


def download_runs(results: Results) -> str:
    """Write what each way to download took at each size."""
    ways = list(dict.fromkeys(way for run in results["runs"] for way in run["ways"]))
    rows = []
    for way in ways:
        row = [f"`{way}`"]
        for run in results["runs"]:
            taken = run["ways"].get(way)
            row += [f"{taken[name]:,.2f}" for name in ("seconds", "cpu_seconds")] if taken else ["", ""]
            row.append(number(round(taken["memory_mib"])) if taken and taken["memory_mib"] else "")
        rows.append(row)
    head = [""]
    for run in results["runs"]:
        head += [f"{run['name']}, onto {run['onto']}: s", "CPU s", "MiB"]
    return table(head, rows)


# The name of a place in the page → whose results, and what is made of them.
TABLES: Mapping[str, tuple[str, Callable[[Results], str]]] = {
    "scale-figures": ("bench-scale", figures("scale")),
    "scale-runs": ("bench-scale", scale_runs),
    "scale-calls": ("bench-scale", calls_by_method),
    "wait-figures": ("bench-wait", figures("wait")),
    "fleet-figures": ("bench-fleet", figures("fleet")),
    "fleet-runs": ("bench-fleet", fleet_runs),
    "grid-figures": ("bench-grid", figures("grid")),
    "download-figures": ("bench-download", figures("download")),
    "download-runs": ("bench-download", download_runs),
    "proof-figures": ("bench-proof", figures("proof")),
    "convert-figures": ("bench-convert", figures("convert")),
}


def filled(page: str, results: Path) -> str:
    """Put what the results say into a page.

    :param page: the page's text.
    :param results: the folder of the results.
    :returns: the page's new text.
    :raises ValueError: if a place is missing in the page.
    """
    for name, (benchmark, write) in TABLES.items():
        content = results_file.read(results / f"{benchmark}.json")
        text = write(content) if content["runs"] else f"Not measured yet: `make {benchmark}`."
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page has not one place for {name}")
        before, rest = page.split(begin)
        page = f"{before}{begin}{text}\n{end}{rest.split(end)[1]}"
    return page


def main() -> int:
    """Write the page again."""
    PAGE.write_text(filled(PAGE.read_text(), results_file.RESULTS))
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
