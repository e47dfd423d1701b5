"""The limiter keeps every window of one second below the API's 50 requests, whatever asks."""

from __future__ import annotations

import heapq
import json
import random
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path

import pytest

from sealift.classic.limiter import (
    API_LIMIT_PER_SECOND,
    InFile,
    InMemory,
    Limiter,
    _state_of_machine,
    shared_limiter,
)


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def most_in_a_second(times: list[float]) -> int:
    return max(sum(start <= one < start + 1 for one in times) for start in times)


@pytest.mark.parametrize("rate", [1, 10, 40, 45, 49])
def test_no_window_of_a_second_holds_fifty(rate: float) -> None:
    fake = FakeTime()
    limiter = Limiter(rate=rate, clock=fake.clock, sleep=fake.sleep)
    times = []
    for index in range(500):
        if index == 250:
            fake.now += 30  # an idle time does not save up more than the burst
        limiter.acquire()
        times.append(fake.now)
    assert most_in_a_second(times) < API_LIMIT_PER_SECOND
    # … and the rate is used, not undercut.
    assert times[249] - times[0] <= 250 / min(rate, 48)


def test_threads_share_the_rate() -> None:
    """Real threads; each sleeps for what the limiter tells it, recorded instead of waited for."""
    waits: list[float] = []
    lock = threading.Lock()

    def note(seconds: float) -> None:
        with lock:
            waits.append(seconds)

    limiter = Limiter(rate=40, clock=lambda: 0.0, sleep=note)
    threads = [threading.Thread(target=lambda: [limiter.acquire() for _ in range(20)]) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    times = [0.0] * (160 - len(waits)) + waits
    assert len(times) == 160
    assert most_in_a_second(times) < API_LIMIT_PER_SECOND
    assert len(set(waits)) == len(waits)  # no two were let through at one instant


def test_a_refusal_pauses_everybody() -> None:
    fake = FakeTime()
    limiter = Limiter(rate=40, clock=fake.clock, sleep=fake.sleep)
    limiter.acquire()
    limiter.pause(1.0)
    before = fake.now
    limiter.acquire()
    assert fake.now - before == pytest.approx(1.0)


def test_clients_of_one_account_share_a_limiter_and_the_lowest_rate_holds() -> None:
    first = shared_limiter(host="limits.example", account="a", rate=40)
    second = shared_limiter(host="limits.example", account="a", rate=10)
    assert first is second
    assert first.rate == 10
    assert shared_limiter(host="limits.example", account="a", rate=40).rate == 10
    assert shared_limiter(host="limits.example", account="b", rate=40) is not first


@pytest.mark.parametrize("rate", [0, -1, 50, 1000])
def test_a_rate_that_the_api_would_refuse_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="below 50"):
        Limiter(rate=rate)


TAKE = """
import json, sys, time
from pathlib import Path
from sealift.classic.limiter import InFile, Limiter
limiter = Limiter(rate=40.0, sleep=lambda seconds: None, state=InFile(path=Path(sys.argv[1])))
granted = []
for _ in range(40):
    now = time.monotonic()
    granted.append(now + limiter.acquire())
print(json.dumps(granted))
"""


def test_processes_of_one_machine_share_the_rate(tmp_path: Path) -> None:
    """Four processes that ask as fast as they can; each notes when it may go on, without waiting for it."""
    workers = [
        subprocess.Popen([sys.executable, "-c", TAKE, str(tmp_path / "rate")], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    taken = sorted(moment for one in workers for moment in json.loads(one.communicate(timeout=60)[0]))
    assert [one.returncode for one in workers] == [0, 0, 0, 0]
    assert len(taken) == 160
    assert most_in_a_second(taken) < API_LIMIT_PER_SECOND
    assert taken[-1] - taken[0] > 2.5, "160 requests at 40 in a second"


def test_a_damaged_or_foreign_state_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "rate"
    nan = float("nan")
    for content in (
        b"",
        b"abc",
        struct.pack("<d", 1e12),
        struct.pack("<d", nan),
        struct.pack("<3d", nan, nan, nan),
        struct.pack("<3d", 1e12, 1e12, 1e12),
        struct.pack("<3d", 0.0, -3.0, 0.0),
        struct.pack("<4d", 1.0, 2.0, 3.0, 4.0),
    ):
        path.write_bytes(content)
        limiter = Limiter(rate=10.0, state=InFile(path=path))
        assert limiter.acquire() == 0.0
        assert limiter.in_force() == 10.0


def test_without_a_usable_folder_each_process_keeps_to_the_rate_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert isinstance(_state_of_machine("h", "a"), InMemory)


# What it learns


def one(rate: float = 20.0) -> tuple[Limiter, FakeTime]:
    fake = FakeTime()
    return Limiter(rate=rate, clock=fake.clock, sleep=fake.sleep), fake


def test_a_refusal_slows_everybody_down_and_five_minutes_without_one_forget_it() -> None:
    limiter, fake = one()
    limiter.pause(1.0)
    assert limiter.in_force() == pytest.approx(14.0)
    fake.now += 150
    assert limiter.in_force() == pytest.approx(17.0)
    fake.now += 150
    assert limiter.in_force() == 20.0


def test_what_is_refused_at_one_moment_counts_once() -> None:
    limiter, fake = one()
    for _ in range(12):
        limiter.pause(1.0)
        fake.now += 0.08
    assert limiter.in_force() == pytest.approx(14.0, rel=0.01)
    fake.now += 1.0
    limiter.pause(1.0)
    assert limiter.in_force() == pytest.approx(14.0 * 0.7, rel=0.01)


@pytest.mark.parametrize(("rate", "least"), [(20.0, 0.5), (0.2, 0.2)])
def test_it_never_stops_altogether(rate: float, least: float) -> None:
    limiter, fake = one(rate)
    for _ in range(60):
        limiter.pause(1.0)
        fake.now += 1.5
    assert limiter.in_force() == pytest.approx(least, rel=0.01, abs=0.1)
    began = fake.now
    limiter.acquire()
    limiter.acquire()
    assert fake.now - began <= 1.0 + 2 / least


def test_the_rate_that_was_learned_is_kept_to() -> None:
    limiter, fake = one()
    limiter.pause(1.0)
    times = []
    for _ in range(60):
        limiter.acquire()
        times.append(fake.now)
    assert most_in_a_second(times) <= 14 + 5, "the burst is smaller as well"
    assert times[-1] - times[0] == pytest.approx(60 / 14, rel=0.15)


def test_who_waits_in_the_line_at_the_old_rate_takes_a_new_place_after_a_refusal() -> None:
    """Somebody else is refused while it waits: it is not sent before the pause is over."""
    fake, state = FakeTime(), InMemory(start=1000.0)
    refused = Limiter(rate=16, clock=fake.clock, sleep=fake.sleep, state=state)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        fake.now += seconds
        if len(slept) == 1:
            refused.pause(1.0)

    waiting = Limiter(rate=16, clock=fake.clock, sleep=sleep, state=state)
    for _ in range(8):
        waiting.acquire()
    assert slept == []
    waiting.acquire()
    assert slept == pytest.approx([1 / 16, 1.0])


def test_processes_learn_from_each_other(tmp_path: Path) -> None:
    first, second = (Limiter(rate=10.0, state=InFile(path=tmp_path / "rate")) for _ in range(2))
    first.pause(0.0)
    assert second.in_force() == pytest.approx(7.0, rel=0.01)


def test_a_file_of_a_sealift_that_learned_nothing_is_read(tmp_path: Path) -> None:
    fake = FakeTime()
    (tmp_path / "rate").write_bytes(struct.pack("<d", 1005.0))
    limiter = Limiter(rate=10.0, clock=fake.clock, sleep=fake.sleep, state=InFile(path=tmp_path / "rate"))
    assert limiter.in_force() == 10.0
    assert limiter.acquire() == pytest.approx(5.1 - limiter.burst / 10)
    assert (tmp_path / "rate").stat().st_size == 24


class Account:
    """A server that refuses what exceeds its limit, and clients of several machines that have work without end."""

    def __init__(self, *, limit: int, rates: list[float], clients: int) -> None:
        self.limit = limit
        self.recent: deque[float] = deque()
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.line: list[tuple[float, int, str]] = []
        self.clocks, self.limiters = [], []
        for rate in rates:
            state = InMemory(start=1000.0)
            for _ in range(clients):
                fake = FakeTime()
                self.clocks.append(fake)
                self.limiters.append(Limiter(rate=rate, clock=fake.clock, sleep=fake.sleep, state=state))
                heapq.heappush(self.line, (fake.now, len(self.limiters) - 1, "ask"))

    def run(self, seconds: float) -> None:
        rng = random.Random(11)
        while self.line[0][0] < 1000.0 + seconds:
            now, number, act = heapq.heappop(self.line)
            self.clocks[number].now = now
            if act == "ask":
                self.limiters[number].acquire()
                heapq.heappush(self.line, (self.clocks[number].now + rng.uniform(0.01, 0.05), number, "arrive"))
                continue
            while self.recent and self.recent[0] <= now - 1.0:
                self.recent.popleft()
            pause = 0.0
            if len(self.recent) >= self.limit:
                self.refused.append(now - 1000.0)
                self.limiters[number].pause(1.0)
                pause = rng.uniform(0.0, 0.5)
            else:
                self.recent.append(now)
                self.answered.append(now - 1000.0)
            heapq.heappush(self.line, (now + pause + rng.uniform(0.01, 0.05), number, "ask"))


@pytest.mark.parametrize(
    ("limit", "rates"), [(50, [48.0, 48.0, 48.0]), (50, [20.0, 20.0, 20.0]), (50, [45.0, 10.0, 20.0]), (20, [48.0])]
)
def test_machines_that_know_nothing_of_each_other_settle_below_the_account_s_limit(
    limit: int, rates: list[float]
) -> None:
    account = Account(limit=limit, rates=rates, clients=8)
    account.run(900)
    later = [moment for moment in account.refused if moment >= 60]
    served = sum(moment >= 60 for moment in account.answered)
    assert account.refused[0] < 10, "they begin above it"
    assert len(later) <= 0.01 * served, f"{len(later)} refused of {served}"
    assert 0.6 * limit <= served / 840 <= limit
