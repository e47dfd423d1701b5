"""The limiter keeps every window of one second below the API's 50 requests, whatever asks."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import threading
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
    for content in (b"", b"abc", struct.pack("<d", 1e12), struct.pack("<d", float("nan"))):
        path.write_bytes(content)
        limiter = Limiter(rate=10.0, state=InFile(path=path))
        assert limiter.acquire() == 0.0


def test_without_a_usable_folder_each_process_keeps_to_the_rate_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert isinstance(_state_of_machine("h", "a"), InMemory)
