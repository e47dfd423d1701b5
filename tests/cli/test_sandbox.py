"""``sealift sandbox`` as a person calls it: real processes over a state of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

Run = Callable[..., subprocess.CompletedProcess[str]]
SEALIFT = str(Path(sys.executable).with_name("sealift"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "box"


@pytest.fixture
def run(state: Path) -> Iterator[Run]:
    """Run a sandbox command on the state; whatever still serves it at the end is stopped."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SEALIFT, "sandbox", *words, "--state", str(state)], capture_output=True, text=True, timeout=90, check=False
        )

    yield call
    call("down")


def connections(printed: str) -> dict[str, dict[str, object]]:
    """The connections that a shell would get from the printed export lines."""
    found = {}
    for line in printed.splitlines():
        if line.startswith("export AIRFLOW_CONN_"):
            (word,) = shlex.split(line.removeprefix("export "))
            name, _, value = word.partition("=")
            found[name] = json.loads(value)
    return found


def test_up_status_down(run: Run, state: Path) -> None:
    assert run("status").returncode == 1
    assert run("status", "--json").stdout.strip() == "{}"
    more = ["--fault", "empty_200=0.0", "--set", "xmlrpc_nil=nil"]
    up = run("up", "--detach", "--scenario", "demo", "--speed", "50", *more)
    assert up.returncode == 0, up.stderr
    made = connections(up.stdout)
    classic, cos = made["AIRFLOW_CONN_IBM_CLASSIC_DEFAULT"], made["AIRFLOW_CONN_IBM_COS_DEFAULT"]
    assert classic["conn_type"] == "ibm_classic"
    assert cos["conn_type"] == "ibm_cos"
    added = [shlex.split(line) for line in up.stdout.splitlines() if line.startswith("airflow connections add ")]
    assert [one[:5] for one in added] == [
        ["airflow", "connections", "add", "ibm_classic_default", "--conn-json"],
        ["airflow", "connections", "add", "ibm_cos_default", "--conn-json"],
    ]
    assert [json.loads(one[5]) for one in added] == [classic, cos]
    url = f"{classic['host']}/rest/v3.1/SoftLayer_Account/getVirtualGuests.json"
    reply = requests.get(url, auth=(str(classic["login"]), str(classic["password"])), timeout=10)
    assert reply.headers["SoftLayer-Total-Items"] == "6"

    status = json.loads(run("status", "--json").stdout)
    assert (status["guests"], status["speed"], status["scenario"]) == (6, 50.0, "demo")
    assert f"{status['pid']}" in run("status").stdout
    for name in ("sandbox.json", "connections.json"):
        assert (state / name).stat().st_mode & 0o777 == 0o600
    left = json.loads((state / "connections.json").read_text())
    assert left == {"ibm_classic_default": classic, "ibm_cos_default": cos}
    command = [SEALIFT, "doctor", "--connections", str(state / "connections.json")]
    doctor = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (doctor.returncode, doctor.stdout.splitlines()[-1]) == (0, "no findings."), doctor.stderr
    again = run("up", "--detach")
    assert again.returncode == 1
    assert "serves" in again.stderr
    assert "already" in again.stderr
    assert run("seed").returncode == 1, "a state that is served is left alone"

    down = run("down")
    assert (down.returncode, down.stdout.strip()) == (0, "stopped")
    assert not (state / "sandbox.json").exists()
    assert not (state / "connections.json").exists()
    assert run("status").returncode == 1
    assert run("down").returncode == 0


def test_down_and_up_again_keeps_the_state(run: Run, state: Path) -> None:
    first = connections(run("up", "--detach", "--servers", "7", "--seed", "3").stdout)
    run("down")
    second = run("up", "--detach")
    assert "made with other settings and is kept" in (state / "sandbox.log").read_text()
    assert json.loads(run("status", "--json").stdout)["guests"] == 7
    classic = "AIRFLOW_CONN_IBM_CLASSIC_DEFAULT"
    assert connections(second.stdout)[classic]["password"] == first[classic]["password"]


def test_in_the_foreground_until_a_signal(state: Path) -> None:
    process = subprocess.Popen([SEALIFT, "sandbox", "up", "--state", str(state)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        match = re.search(r"API (http://\S+),", first)
        assert match, first
        assert requests.get(f"{match[1]}/sandbox/state", timeout=10).json()["guests"] == 6
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
    assert not (state / "sandbox.json").exists()


def test_a_sandbox_that_was_killed_leaves_a_state_that_serves(run: Run, state: Path) -> None:
    run("up", "--detach")
    pid = json.loads(run("status", "--json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while run("status").returncode == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (state / "sandbox.json").exists()
    assert run("up", "--detach").returncode == 0
    assert json.loads(run("status", "--json").stdout)["pid"] != pid


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fault", "nosuch=1"], "there is no fault 'nosuch'"),
        (["--fault", "empty_200"], "--fault takes NAME=VALUE"),
        (["--fault", "empty_200=often"], "between 0 and 1"),
        (["--fault", "empty_200=2"], "between 0 and 1"),
        (["--set", "nosuch=1"], "there is no switch 'nosuch'"),
        (["--set", "xmlrpc_nil=x"], "one of empty, nil"),
        (["--servers", "10001"], "10001"),
        (["--speed", "0"], "0"),
        (["--host", "0.0.0.0"], "--allow-non-loopback"),
    ],
)
def test_nonsense_is_refused_before_anything_is_made(run: Run, state: Path, words: list[str], message: str) -> None:
    done = run("up", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not state.exists()


def test_other_addresses_only_with_a_warning(run: Run) -> None:
    done = run("up", "--host", "0.0.0.0", "--allow-non-loopback", "--fault", "nosuch=1")
    assert done.returncode == 2, "the fault keeps it from listening: this test opens nothing to the network"
    assert "WARNING" in done.stderr
    assert "0.0.0.0" in done.stderr


def test_a_port_that_is_taken(run: Run, tmp_path: Path) -> None:
    run("up", "--detach")
    port = json.loads(run("status", "--json").stdout)["api_url"].rpartition(":")[2]
    done = subprocess.run(
        [SEALIFT, "sandbox", "up", "--state", str(tmp_path / "other"), "--api-port", port],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "in use" in done.stderr
    detached = subprocess.run(
        [SEALIFT, "sandbox", "up", "--detach", "--state", str(tmp_path / "third"), "--api-port", port],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert detached.returncode == 1
    assert "did not start" in detached.stderr


def test_tls(run: Run) -> None:
    up = run("up", "--detach", "--tls")
    assert up.returncode == 0, up.stderr
    classic = connections(up.stdout)["AIRFLOW_CONN_IBM_CLASSIC_DEFAULT"]
    assert str(classic["host"]).startswith("https://")
    assert json.loads(run("status", "--json").stdout)["guests"] == 6


def test_seed(run: Run, state: Path) -> None:
    done = run("seed", "--scenario", "demo", "--disks")
    assert done.returncode == 0, done.stderr
    assert "6 virtual servers, 2 bare metal servers, 9 disks built" in done.stdout
    assert len(list((state / "images").glob("*.vhd"))) == 9
    done = run("seed", "--servers", "5000", "--fresh")
    assert "5000 virtual servers" in done.stdout
    assert float(re.search(r"in ([0-9.]+) s", done.stdout)[1]) < 30  # type: ignore[index]
    assert not list((state / "images").glob("*.vhd"))


def test_seed_does_not_throw_away_what_is_not_its_own(run: Run, state: Path) -> None:
    state.mkdir()
    (state / "precious").write_text("mine")
    done = run("seed", "--fresh")
    assert done.returncode == 1
    assert "left alone" in done.stderr
    assert (state / "precious").read_text() == "mine"


def test_version_and_help() -> None:
    assert subprocess.run([SEALIFT, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    shown = subprocess.run([SEALIFT, "sandbox", "up", "--help"], capture_output=True, text=True, check=True).stdout
    for option in ("--servers", "--seed", "--speed", "--fault", "--set", "--state", "--host", "--tls", "--detach"):
        assert option in shown
