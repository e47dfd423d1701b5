"""What measures is held against known loads: CPU of ended, orphaned and living processes, calls, rows, chains."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from benchmarks.measuring.calls import Calls, Tail
from benchmarks.measuring.chains import Way, longest_chain, offline_at_most, percentile, ways
from benchmarks.measuring.metadata import MetadataDatabase, grown
from benchmarks.measuring.meter import CallMeter
from benchmarks.measuring.processes import Kept, MemoryWatch, cpu, kept, measured
from sealift.sandbox import Sandbox
from tools.processes import Program, new_mark

# Burns CPU by its own clock of CPU time, so that a busy machine changes nothing.
BURN = """
import os, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""
# Children that are waited for, one that is orphaned and ends later, and one of a child that has ended.
FAMILY = f"""{BURN}
for _ in range(3):
    child = os.fork()
    if not child:
        if not os.fork():
            burn(0.4)
            os._exit(0)
        burn(0.3)
        os.wait()
        os._exit(0)
    os.waitpid(child, 0)
if not os.fork():
    if not os.fork():
        burn(0.5)
        os._exit(0)
    os._exit(0)
os.wait()
burn(0.2)
print("done", flush=True)
time.sleep(600)
"""
COMING_AND_GOING = """
print("up", flush=True)
for _ in range(60):
    if not os.fork():
        burn(0.02)
        os._exit(0)
    os.wait()
print("done", flush=True)
time.sleep(600)
"""
SHARING = """
import os, time
held = bytes([1]) * {size}
for _ in range(3):
    if not os.fork():
        time.sleep(600)
print("held", flush=True)
time.sleep(600)
"""
LOAD = 3 * (0.3 + 0.4) + 0.5 + 0.2


def start(code: str, mark: str, log: Path, name: str = "scheduler-0") -> Program:
    return Program([sys.executable, "-c", code], env={}, mark=mark, log=log / f"{name}.log", cwd=log, stays=True)


def wait_for(log: Path, word: str) -> None:
    deadline = time.monotonic() + 120
    while word not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_that_a_tree_has_used_is_counted_whatever_became_of_its_processes(tmp_path: Path) -> None:
    mark = new_mark()
    program = start(FAMILY, mark, tmp_path)
    try:
        wait_for(tmp_path / "scheduler-0.log", "done")
        programs = kept(mark)
        assert [one.component for one in programs] == ["scheduler"]
        deadline = time.monotonic() + 60
        while len(program.left()) > 1:  # the orphan
            assert time.monotonic() < deadline
            time.sleep(0.05)
        used = cpu(programs)
    finally:
        program.stop()
    # Starting Python costs something as well; a tick is a hundredth of a second, and each process rounds to it.
    assert LOAD - 0.15 <= sum(used.values()) <= LOAD + 0.6
    assert 0.2 <= used["scheduler"] <= 0.7
    assert used["workers"] == pytest.approx(LOAD - 0.2, abs=0.25)


def test_counting_never_goes_backwards_while_processes_come_and_go(tmp_path: Path) -> None:
    code = f"{BURN}{COMING_AND_GOING}"
    mark = new_mark()
    program = start(code, mark, tmp_path, "api-server")
    try:
        wait_for(tmp_path / "api-server.log", "up")
        programs = kept(mark)
        readings = []
        while "done" not in (tmp_path / "api-server.log").read_text():
            readings.append(cpu(programs)["api-server"])
        readings.append(cpu(programs)["api-server"])
    finally:
        program.stop()
    assert readings == sorted(readings)
    assert 60 * 0.02 - 0.1 <= readings[-1] <= 60 * 0.02 + 0.6


def test_pages_that_forked_processes_share_count_once(tmp_path: Path) -> None:
    size = 64 * 2**20
    code = SHARING.format(size=size)
    mark = new_mark()
    program = start(code, mark, tmp_path, "triggerer-0")
    try:
        wait_for(tmp_path / "triggerer-0.log", "held")
        memory = MemoryWatch(kept(mark))
        memory.sample()
    finally:
        program.stop()
    assert size < memory.peaks["triggerer"] < 2 * size
    assert memory.resident["triggerer"] > 4 * size
    assert memory.peaks["airflow"] == memory.peaks["triggerer"]


def test_work_is_measured_by_what_it_adds(tmp_path: Path) -> None:
    mark = new_mark()
    program = start("import time; time.sleep(600)", mark, tmp_path, "worker-1")
    try:
        used = measured(kept(mark, component="workers"), lambda: time.sleep(0.2), memory_interval=0.05)
    finally:
        program.stop()
    assert used.wall >= 0.2
    assert used.airflow == pytest.approx(0.0, abs=0.1)
    assert used.memory["workers"] > 0


def test_a_program_that_has_gone_counts_for_nothing() -> None:
    assert cpu([Kept(component="scheduler", keeper=2**22 + 1)]) == {}


def test_calls_are_counted_as_the_sandbox_got_them(tmp_path: Path) -> None:
    with Sandbox(root=tmp_path / "box", servers=6, switches={"requests_per_second": 3}) as box:
        tail = Tail(tmp_path / "box" / "history.jsonl")
        tail.skip()
        auth = (box.username, box.api_key)
        with CallMeter(box.api_url) as meter, httpx.Client(auth=auth, trust_env=False) as client:
            client.headers["User-Agent"] = "sealift/1 (poll) another/2"
            answers = [client.get(f"{meter.url}/rest/v3.1/SoftLayer_Account/getObject.json") for _ in range(2)]
            client.headers["User-Agent"] = "sealift/1 (start) another/2"
            answers += [client.get(f"{meter.url}/rest/v3.1/SoftLayer_Account/getObject.json") for _ in range(3)]
        calls = tail.count()
    assert [one.status_code for one in answers] == [200, 200, 200, 500, 500]
    assert answers[0].json()["companyName"] == "Sealift Sandbox"
    assert (meter.calls.total(), meter.of("poll"), meter.of("start")) == (5, 2, 3)
    assert calls.by_method["classic"] == {"SoftLayer_Account::getObject": 5}
    assert calls.total("classic") == 5
    assert calls.refused == 2
    assert calls.most_within(60) == 5
    assert tail.count().most_within(60) == 0


def test_the_most_calls_of_a_stretch_may_begin_anywhere() -> None:
    calls = Calls(classic_at=[0.0, 9.0, 10.0, 11.0, 12.0, 30.0])
    assert [calls.most_within(seconds) for seconds in (0.5, 1, 3, 12)] == [1, 2, 4, 5]


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    line = json.dumps({"kind": "effect", "what": "capture-started"})
    path.write_text(line[:10])
    tail = Tail(path)
    assert list(tail.events()) == []
    path.write_text(f"{line}\n")
    assert [event["what"] for event in tail.events()] == ["capture-started"]


def test_tables_are_counted_and_compared(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/some.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE task_instance (id INTEGER, value TEXT)"))
        connection.execute(text("CREATE TABLE quiet (id INTEGER)"))
    database = MetadataDatabase(url)
    before = database.tables()
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO task_instance VALUES (:id, :value)"), [{"id": n, "value": "x" * 500} for n in range(200)]
        )
    more = grown(database.tables(), before, 100)
    database.close()
    engine.dispose()
    assert list(more) == ["task_instance"]
    assert more["task_instance"]["rows"] == 2
    assert more["task_instance"]["bytes"] >= 1000


def test_servers_that_are_offline_at_one_instant_are_counted() -> None:
    def captured(start: float, end: float) -> Way:
        return Way(1, capture_started=start, capture_ended=end)

    assert offline_at_most([]) == 0
    assert offline_at_most([captured(0, 10), captured(10, 20), captured(20, 30)]) == 1, "one begins as another ends"
    assert offline_at_most([captured(0, 10), captured(5, 20), captured(9, 12), captured(15, 30)]) == 3


def test_the_longest_chain_is_rounds_of_captures_and_the_last_export() -> None:
    done = [
        Way(n, capture_started=n, capture_ended=n + 30, export_started=n + 100, export_ended=n + 110) for n in range(10)
    ]
    assert longest_chain(done, max_offline=4) == 3 * 30 + 10
    assert longest_chain(done, max_offline=10) == 40
    assert longest_chain([], max_offline=4) == 0


def test_a_place_that_is_free_early_is_taken_early() -> None:
    def way(number: int, capture: float) -> Way:
        return Way(number, capture_started=number, capture_ended=number + capture, export_started=0, export_ended=0)

    # Two places: 10 and 50 begin, 20 follows the first at 10, 5 follows it at 30.
    assert longest_chain([way(0, 10), way(1, 50), way(2, 20), way(3, 5)], max_offline=2) == 50


def test_ways_are_gathered_from_effects() -> None:
    effects = [
        {"what": "capture-started", "guest": 1, "template": 7, "at": 10.0},
        {"what": "guest-offline", "guest": 1, "at": 10.0},
        {"what": "capture-ended", "guest": 1, "template": 7, "at": 40.0},
        {"what": "export-started", "template": 7, "at": 45.0},
        {"what": "export-ended", "template": 7, "at": 70.0},
        {"what": "export-ended", "template": 8, "at": 71.0},
    ]
    (way,) = ways(effects).values()
    assert (way.guest, way.template, way.captures, way.whole) == (1, 7, 1, True)
    assert (way.capture, way.export) == (30.0, 25.0)


def test_percentiles_are_values_that_came() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile([3.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
