"""Each benchmark runs end to end with a few servers; nothing is said of how long anything takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import download, fleet, proof, scale, wait

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.airflow, pytest.mark.timeout(900)]
SOON = ["--set", "AIRFLOW__SEALIFT__POLL_INTERVAL=1", "--set", "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=0.5"]


def read(path: Path) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Read figures and runs, whose shape is the agreed one."""
    content = json.loads(path.read_text())
    assert set(content) == {"figures", "settings", "runs"}
    assert all(isinstance(value, int | float) for value in content["figures"].values())
    return content["figures"], {run["name"]: run for run in content["runs"]}


def test_the_procedure(tmp_path: Path) -> None:
    out = tmp_path / "fleet.json"
    options = ["--servers=8", "--seconds=2", "--procedure-poll=1", "--xargs-servers=2", "--serial-servers=1"]
    assert fleet.main([*options, f"--out={out}", "--parts", "procedure-serial", "procedure-xargs"]) == 0
    figures, runs = read(out)
    assert figures == {}  # there is nothing to compare with
    for name, servers in (("procedure-serial", 1), ("procedure-xargs", 2)):
        run = runs[name]
        assert (run["servers"], run["failed"], run["captured_twice"]) == (servers, 0, 0)
        assert run["effects"]["capture-ended"] == run["effects"]["export-ended"] == servers
        assert run["by_method"]["classic"]["SoftLayer_Virtual_Guest::createArchiveTemplate"] == servers
        assert sum(run["by_method"]["classic"].values()) == run["classic_calls"]
        # How often it polls depends on how busy the machine is; at least once for each server.
        assert servers <= run["classic_calls_waiting"] < run["classic_calls"]
        assert run["cpu_s_compared"] == run["cpu_s"]["procedure"] > 0
        assert run["wall_s"] > run["longest_chain_s"] > 2
        assert run["scaled"]["servers"] == 8
    assert runs["procedure-serial"]["scaled"]["wall_s"] == pytest.approx(8 * runs["procedure-serial"]["wall_s"], abs=1)
    assert runs["procedure-xargs"]["scaled"]["wall_s"] == pytest.approx(runs["procedure-xargs"]["wall_s"], abs=1)


def test_what_one_server_costs(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    options = ["--seconds=2", "--idle=2", "--workers=0", "--schedulers=1", "--triggerers=1", "--poll-interval=1"]
    assert scale.main(["--sizes=2", *options, "--database=sqlite", f"--out={out}", *SOON]) == 0
    figures, runs = read(out)
    (run,) = runs.values()
    per_server = run["per_server"]
    assert figures["failed"] == 0
    assert figures["cpu_s_per_server_2"] == pytest.approx(
        sum(value for name, value in per_server["cpu_s_by_component"].items() if name != "sandbox"), abs=0.01
    )
    assert figures["cpu_s_per_server_2_net"] < figures["cpu_s_per_server_2"]
    # Three tasks of a server on workers, and those of the plan and the wave, shared out among two.
    assert 3 <= per_server["worker_processes"] <= 8
    assert per_server["database"]["task_instance"]["rows"] >= 3
    assert 0 < per_server["classic_calls_waiting"] < per_server["classic_calls"]
    assert run["effects"]["capture-started"] == run["effects"]["export-ended"] == 2
    assert sum(per_server["classic_calls_by_method"].values()) == pytest.approx(per_server["classic_calls"], abs=0.1)
    assert run["peak_pss_mb"]["airflow"] > 100


def test_downloads(tmp_path: Path) -> None:
    out = tmp_path / "download.json"
    places = [f"--disk={tmp_path}", f"--memory={tmp_path}"]
    assert download.main(["--sizes=0.02", "--rounds=1", *places, f"--out={out}"]) == 0
    figures, runs = read(out)
    (run,) = runs.values()
    assert set(run["ways"]) == set(download.WAYS)
    assert all(taken["seconds"] > 0 for taken in run["ways"].values())
    assert run["bytes"] == int(0.02 * 2**30)
    assert figures["memory_mib"] == max(run["ways"][way]["memory_mib"] for way in download.OURS)
    assert figures["ratio_vs_best_peer"] > 0
    assert figures["ratio_of_lowest_limit"] > 0


WAIT = ["--servers=2", "--triggers=5", "--delays=2", "--gap=0.1", "--minutes=0.1", "--settle=0", "--poll-interval=1"]


def test_what_waiting_costs(tmp_path: Path) -> None:
    out = tmp_path / "wait.json"
    assert wait.main([*WAIT, f"--out={out}", *SOON, "--parts", "waiting"]) == 0
    figures, runs = read(out)
    assert figures["failed"] == figures["rate_limit_errors"] == 0
    assert figures["cores_2_waiting"] > 0
    assert 0 < figures["delay_p50_s"] <= figures["delay_p99_s"]
    waiting = runs["waiting"]
    assert len(waiting["delays_after_capture_s"]) == len(waiting["delays_after_export_s"]) == 2


def test_what_a_triggerer_costs(tmp_path: Path) -> None:
    out = tmp_path / "wait.json"
    assert wait.main([*WAIT, f"--out={out}", *SOON, "--parts", "triggers"]) == 0
    figures, runs = read(out)
    triggers = runs["triggers"]
    assert triggers["still_waiting_at_the_end"] == 5
    # One poll for all, of templates and of servers, if there was one in so short a time.
    assert figures["api_calls_per_interval"] < 5
    assert figures["triggerer_rss_mb"] > 50
    assert figures["triggerer_core_share"] == triggers["cores"]["triggerer"] > 0
    assert "scheduler" not in triggers["cores"] or triggers["cores"]["scheduler"] == 0


def test_proofs(tmp_path: Path) -> None:
    """A table of full length and 16 MiB stored: the bytes that L1 reads are those of the full measurement."""
    out = tmp_path / "proof.json"
    given = ["--disks", "100gb", "2tb", "--stored=0.016", "--rounds=1", f"--disk={tmp_path}", f"--out={out}"]
    assert proof.main(given) == 0
    figures, _ = read(out)
    assert 0 < figures["l1_bytes_100gb"] <= 2**20
    assert 3 * 2**20 < figures["l1_bytes_2tb"] <= 6 * 2**20
    assert figures["l2_ratio_of_sha256"] > 0
    assert figures["l2_memory_mib"] < 512
