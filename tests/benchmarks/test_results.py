"""Results are merged, figures follow from runs, and page and charts say what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import charts, convert, docs, download, fleet, grid, proof, results_file, scale, wait
from benchmarks.world import settings_of


def size_run(size: int, cpu: float, *, idle: float = 0.2, failed: int = 0) -> dict[str, Any]:
    return {
        "name": str(size),
        "servers": size,
        "failed": failed,
        "wall_s": 100.0,
        "cpu_s_per_server_gross": cpu,
        "cpu_s_per_server_net": cpu - idle,
        "per_server": {
            "cpu_s_by_component": {"scheduler": cpu / 2, "workers": cpu / 2, "postgresql": 0.25, "sandbox": 0.1},
            "worker_processes": 3.1,
            "classic_calls": 9.0,
            "classic_calls_waiting": 0.4,
            "classic_calls_by_method": {"SoftLayer_Account::getVirtualGuests": 9.0},
            "cos_calls": 20.0,
            "cos_calls_by_method": {"GetObject": 20.0},
            "iam_calls": 3.0,
            "database": {"task_instance": {"rows": 3.0, "bytes": 4096.0}, "xcom": {"rows": 5.0, "bytes": 1000.0}},
        },
    }


def fleet_run(
    name: str, servers: int, wall: float, cpu: float, calls: int, waiting: int, **more: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "servers": servers,
        "failed": 0,
        "wall_s": wall,
        "cpu_s_compared": cpu,
        "classic_calls": calls,
        "classic_calls_waiting": waiting,
        "cos_calls": 10,
        "longest_chain_s": 180.0,
        "offline_at_most": 20,
        "peak_pss_mb": {"airflow": 900.0},
        "settings": {"slots": 8, "transaction_seconds": 30.0, "max_offline": 40},
        **more,
    }


SCALED = {"servers": 200, "wall_s": 16000.0, "cpu_s_compared": 1000.0, "classic_calls": 2000}
FLEET = [
    fleet_run("sealift", 200, 216.0, 240.0, 1800, 60),
    fleet_run("plain-poke-capped", 200, 1700.0, 600.0, 2400, 1800),
    fleet_run("plain-reschedule-capped", 200, 500.0, 600.0, 2400, 1800),
    fleet_run("sealift-no-cap", 200, 160.0, 250.0, 1800, 60),
    fleet_run("plain-poke", 200, 320.0, 300.0, 1000, 400),
    fleet_run("plain-reschedule", 200, 300.0, 500.0, 1000, 400),
    fleet_run("procedure-serial", 4, 320.0, 20.0, 40, 20, scaled=SCALED),
]
WAITING = {
    "name": "waiting",
    "servers": 500,
    "cores_airflow": 0.2,
    "failed_tasks": 0,
    "rate_limit_errors": 1,
    "delays_after_capture_s": [float(n) for n in range(1, 51)],
    "delays_after_export_s": [float(n) for n in range(51, 101)],
}
TRIGGERS = {
    "name": "triggers",
    "cores": {"triggerer": 0.22, "scheduler": 0.0},
    "triggerer_rss_mb": 450.5,
    "classic_calls_in_an_interval_at_most": 104,
    "rate_limit_errors": 2,
}


def test_a_run_takes_the_place_of_the_one_of_its_name_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "results" / "some.json"
    results_file.put_run(path, size_run(100, 1.0), {"seed": 1})
    results_file.put_run(path, size_run(500, 1.1), {"seed": 1})
    content = results_file.put_run(path, size_run(100, 0.9), {"seed": 2})
    assert [(run["name"], run["cpu_s_per_server_gross"]) for run in content["runs"]] == [("500", 1.1), ("100", 0.9)]
    assert [run["settings"] for run in content["runs"]] == [{"seed": 1}, {"seed": 2}]
    assert set(results_file.read(path)) == {"figures", "settings", "runs"}


def test_figures_are_merged_and_those_without_runs_go(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    results_file.put_figures(path, {"one": 1.23456789, "two": 2, "three": 3.0})
    content = results_file.put_figures(path, {"one": 1.5, "three": None})
    assert content["figures"] == {"one": 1.5, "two": 2}
    assert json.loads(path.read_text()) == content


def test_figures_of_sizes() -> None:
    found = scale.figures([size_run(100, 1.0), size_run(2000, 1.2), size_run(5000, 1.5, failed=3)])
    assert found["cpu_s_per_server_2000"] == 1.2
    assert found["cpu_growth_100_to_2000"] == pytest.approx(1.2)
    assert found["cpu_growth_100_to_5000"] == pytest.approx(1.5)
    assert found["cpu_growth_100_to_2000_net"] == pytest.approx(1.0 / 0.8)
    assert found["postgresql_cpu_s_per_server_100"] == 0.25
    assert found["failed"] == 3
    assert "cpu_growth_100_to_2000" not in scale.figures([size_run(2000, 1.2)])


def test_figures_of_the_fleet() -> None:
    found = fleet.figures(FLEET)
    assert found["wall_vs_longest_chain"] == pytest.approx(1.2)
    assert found["wall_vs_poke"] == pytest.approx(1700 / 216)
    assert found["cpu_vs_reschedule"] == pytest.approx(2.5)
    assert found["calls_vs_per_server_poll"] == pytest.approx(30.0)
    assert found["all_calls_vs_per_server_poll"] == pytest.approx(2400 / 1800)
    assert found["wall_vs_procedure_serial_scaled"] == pytest.approx(16000 / 216)
    assert found["wall_vs_poke_no_cap"] == pytest.approx(2.0)
    assert found["cpu_vs_reschedule_no_cap"] == pytest.approx(2.0)
    # Five rounds. Poke: 280 s of overhead for each. Sealift: these and an export, 36 s of overhead.
    assert found["wall_vs_poke_10min"] == pytest.approx(5 * (2 * 600 + 280) / (6 * 600 + 36))


def test_what_compares_other_numbers_of_servers_makes_no_figure() -> None:
    found = fleet.figures([FLEET[0], fleet_run("plain-poke-capped", 100, 900.0, 1.0, 1, 1)])
    assert found["failed"] == 0
    assert found["wall_vs_poke"] is None
    assert found["cpu_vs_reschedule"] is None
    assert set(fleet.figures([FLEET[1]]).values()) == {None}


def download_run(name: str, ours: float, peer: float, limit: float) -> dict[str, Any]:
    ways = {
        "sealift-iam": ours,
        "sealift-hmac": ours - 0.1,
        "rclone": peer,
        "aws": peer + 2,
        "sha256": limit,
        "copy": 0.1,
    }
    return {
        "name": name,
        "onto": "disk",
        "ways": {way: {"seconds": s, "cpu_seconds": s, "memory_mib": 90.0} for way, s in ways.items()},
    }


DOWNLOADS = [download_run("2 GiB", 2.0, 3.0, 1.7), download_run("10 GiB", 9.0, 18.0, 7.0)]


def test_figures_of_downloads_are_the_worst_of_all() -> None:
    found = download.figures(DOWNLOADS)
    assert found["ratio_vs_best_peer"] == found["ratio_vs_best_peer_2gib"] == pytest.approx(1.5)
    assert found["ratio_vs_best_peer_10gib"] == pytest.approx(2.0)
    assert found["ratio_of_lowest_limit"] == found["ratio_of_lowest_limit_10gib"] == pytest.approx(7 / 9)
    assert found["memory_mib"] == 90.0
    assert set(download.figures([]).values()) == {None}


def convert_run(name: str, ours: float, peer: float) -> dict[str, Any]:
    ways = {
        "sealift": {"seconds": ours, "size": 500, "memory_mib": 150.0},
        "qemu-sdk": {"seconds": peer, "size": 510, "memory_mib": 90.0},
    }
    targets = dict.fromkeys(convert.TARGETS, ways)
    rounds = {target: {way: [taken] for way, taken in ways.items()} for target in targets}
    return {"name": name, "targets": targets, "rounds": rounds}


CONVERSIONS = [convert_run("1 GiB", 10.0, 30.0), convert_run("10 GiB", 100.0, 350.0)]


def proof_run(name: str, l1_bytes: int, cpu: float) -> dict[str, Any]:
    mib = 2**20
    ways = {
        "l1": {"bytes": l1_bytes, "requests": 7, "seconds": 0.25},
        "l2_bucket": {"seconds": 2.0, "cpu_seconds": cpu, "memory_mib": 90.0 + cpu},
        "l2_file": {"seconds": 1.0, "cpu_seconds": 1.0, "memory_mib": 50.0},
        "sha256": {"seconds": 0.75, "cpu_seconds": 0.75},
    }
    return {"name": name, "image_bytes": 1024 * mib, "ways": ways, "rounds": {}}


PROOFS = [proof_run("100gb", 400_000, 1.0), proof_run("2tb", 4_300_000, 1.25)]


def test_figures_of_proofs_are_the_worst_of_both_disks() -> None:
    found = proof.figures(PROOFS)
    assert (found["l1_bytes_100gb"], found["l1_bytes_2tb"], found["l1_requests_2tb"]) == (400_000, 4_300_000, 7)
    assert found["l2_ratio_of_sha256"] == pytest.approx(0.75 / 1.25)
    assert found["l2_ratio_of_sha256_file"] == pytest.approx(0.75)
    assert found["l2_memory_mib"] == 91.25
    assert proof.figures([]) == {}


def test_figures_of_waiting() -> None:
    assert wait.figures([WAITING, TRIGGERS]) == {
        "cores_500_waiting": 0.2,
        "delay_p50_s": 50.0,
        "delay_p99_s": 99.0,
        "failed": 0,
        "triggerer_core_share": 0.22,
        "triggerer_rss_mb": 450.5,
        "api_calls_per_interval": 104,
        "rate_limit_errors": 3,
    }


OPENED: dict[str, Any] = {
    "opens_s": [1.0],
    "opens_without_cache_s": [4.0],
    "list_of_dags_opens_s": [0.5],
    "dag_of_four_tasks_opens_s": [0.75],
}


def test_figures_of_the_page() -> None:
    times = {
        "opens_s": [1.0, 3.0, 1.5],
        "opens_without_cache_s": [4.0, 5.0, 6.0],
        "list_of_dags_opens_s": [0.5, 0.75, 0.7],
        "dag_of_four_tasks_opens_s": [1.0],
    }
    found = grid.figures([{**times, "named_in_the_pages": 100, "failed": 0}])
    assert found == {
        "grid_opens_s": 1.5,
        "grid_opens_s_slowest": 3.0,
        "grid_opens_s_without_cache": 5.0,
        "list_of_dags_opens_s": 0.7,
        "dag_of_four_tasks_opens_s": 1.0,
        "servers_named": 100,
        "failed": 0,
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with results of everything, made up."""
    pages = [{"name": "wave", "servers": 100, **OPENED, "named_in_the_pages": 100, "failed": 0}]
    parts: dict[str, tuple[Any, list[dict[str, Any]]]] = {
        "bench-scale": (scale, [size_run(100, 1.0), size_run(2000, 1.2)]),
        "bench-fleet": (fleet, FLEET),
        "bench-wait": (wait, [WAITING, TRIGGERS]),
        "bench-grid": (grid, pages),
        "bench-download": (download, DOWNLOADS),
        "bench-proof": (proof, PROOFS),
        "bench-convert": (convert, CONVERSIONS),
    }
    for name, (module, runs) in parts.items():
        path = tmp_path / f"{name}.json"
        for run in runs:
            results_file.put_run(path, run, run.get("settings", {}))
        results_file.put_figures(path, module.figures(runs))
    return tmp_path


def test_the_page_shows_every_result(results: Path) -> None:
    page = docs.filled(docs.PAGE.read_text(), results)
    assert "| CPU per server among 2,000 / among 100 (`cpu_growth_100_to_2000`) | 1.20 | ≤ 1.25 |" in page
    assert "| per server | 100 servers | 2,000 servers |" in page
    assert "| rows in the metadata database | 8 | 8 |" in page
    assert "| `procedure-serial`, **scaled** | 200 |  | 16,000 |" in page
    assert "| the same, 99th percentile (`delay_p99_s`) | 99 | ≤ 30 |" in page
    assert "| `Account::getVirtualGuests` | 9 |" in page
    assert "Not measured yet" not in page
    assert docs.filled(page, results) == page


def test_every_figure_of_the_targets_is_one_that_a_benchmark_makes() -> None:
    runs = [size_run(size, 1.0) for size in (100, 2000, 5000)]
    made = {
        "fleet": set(fleet.figures(FLEET)),
        "scale": set(scale.figures(runs)),
        "wait": set(wait.figures([WAITING, TRIGGERS])),
        "download": set(download.figures(DOWNLOADS)),
        "proof": set(proof.figures(PROOFS)),
        "convert": set(convert.figures(CONVERSIONS)),
        "grid": set(grid.figures([{**OPENED, "named_in_the_pages": 1, "failed": 0}])),
    }
    for name, targets in docs.TARGETS.items():
        assert {figure for figure, _, _ in targets} <= made[name]


def test_a_page_without_a_place_is_refused(results: Path) -> None:
    with pytest.raises(ValueError, match="scale-figures"):
        docs.filled("nothing", results)


def test_charts_are_drawn_to_scale(results: Path) -> None:
    drawn = charts.charts(results)
    assert set(drawn) == {charts.SCALE, charts.FLEET}
    assert drawn == charts.charts(results)
    svg = drawn[charts.FLEET]
    assert "Wall time for 200 servers" in svg
    assert "267 min" in svg
    whole = charts.WIDTH - charts.LEFT - charts.RIGHT
    assert f'width="{whole:.1f}"' in svg
    assert f'width="{whole * 216 / 16000:.1f}"' in svg
    assert charts.COLOURS["computed"] in svg


def test_the_page_says_what_the_results_say() -> None:
    text = docs.PAGE.read_text()
    assert docs.filled(text, results_file.RESULTS) == text, "make bench-docs writes it again"


def test_the_charts_show_what_the_results_say() -> None:
    for name, svg in charts.charts(results_file.RESULTS).items():
        assert (charts.IMAGES / name).read_text() == svg, "make bench-charts draws them again"


def test_committed_results_have_the_agreed_shape() -> None:
    for path in results_file.RESULTS.glob("bench-*.json"):
        content = json.loads(path.read_text())
        assert set(content) == {"figures", "settings", "runs"}
        assert all(isinstance(value, int | float) for value in content["figures"].values())
        assert content["runs"]


def test_settings_come_from_a_file_and_then_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "some.env"
    file.write_text("# a reason\nexport AIRFLOW__A__B='1'\n\nAIRFLOW__C__D=x=y\n")
    given = scale.parse(["--settings-file", str(file), "--set", "AIRFLOW__A__B=2"])
    assert settings_of(given) == {"AIRFLOW__A__B": "2", "AIRFLOW__C__D": "x=y"}
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        settings_of(scale.parse(["--set", "nonsense"]))


def test_options_stand_at_the_values_of_the_targets() -> None:
    assert scale.parse([]).sizes == [100, 500, 2000]
    assert scale.parse(["--sizes", "5000"]).sizes == [5000]
    given = fleet.parse([])
    assert (given.servers, given.seconds, given.slots) == (200, 30.0, 8)
    waits = wait.parse([])
    assert (waits.servers, waits.triggers, waits.poll_interval) == (500, 5000, 15.0)
