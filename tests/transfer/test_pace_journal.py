"""The rate that streams share, and the journal of parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sealift.transfer.journal import Journal, Subject
from sealift.transfer.pace import Pace

SUBJECT = Subject(bucket="b", key="k", etag="e", size=1000, part_size=100)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_bytes_pass_at_the_rate() -> None:
    clock = Clock()
    pace = Pace(bytes_per_second=1000, clock=clock, sleep=clock.sleep)
    for _ in range(10):
        pace.passed(500)
    assert clock.now == pytest.approx(105.0)


def test_a_pause_is_not_made_up_for() -> None:
    clock = Clock()
    pace = Pace(bytes_per_second=1000, clock=clock, sleep=clock.sleep)
    pace.passed(500)
    clock.now += 60
    began = clock.now
    for _ in range(4):
        pace.passed(500)
    assert clock.now - began == pytest.approx(2.0)


def test_without_a_rate_nothing_waits() -> None:
    clock = Clock()
    Pace(bytes_per_second=None, clock=clock, sleep=clock.sleep).passed(10**12)
    assert clock.now == 100.0


@pytest.mark.parametrize("rate", [0, -1.0])
def test_a_rate_of_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Pace(bytes_per_second=rate)


def test_parts_that_were_noted_are_known_to_the_next_try(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal.open(path, SUBJECT)
    assert journal.done == set()
    journal.note([3, 1])
    journal.note([1, 9])
    assert Journal.open(path, SUBJECT).done == {1, 3, 9}
    journal.remove()
    assert not path.exists()
    journal.remove()


@pytest.mark.parametrize(
    "change", [{"etag": "f"}, {"size": 1001}, {"part_size": 50}, {"key": "l"}, {"bucket": "c"}], ids=str
)
def test_a_journal_of_something_else_counts_for_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "j"
    Journal.open(path, SUBJECT).note([1])
    other = replace(SUBJECT, **change)
    assert Journal.open(path, other).done == set()
    assert Journal.open(path, SUBJECT).done == set(), "the other one has begun anew"


@pytest.mark.parametrize("cut", [1, 2])
def test_a_line_that_a_crash_cut_does_not_count_and_harms_no_later_one(tmp_path: Path, cut: int) -> None:
    subject = replace(SUBJECT, size=10_000)
    path = tmp_path / "j"
    Journal.open(path, subject).note([5, 12])
    path.write_bytes(path.read_bytes()[:-cut])  # "12" without its end, or "1"
    journal = Journal.open(path, subject)
    assert journal.done == {5}
    journal.note([7])
    assert Journal.open(path, subject).done == {5, 7}


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"\x00\xff", b"{}\n", b"[1]\n5\n", b'{"bucket": "b"}\n1\n', b"5\n"], ids=repr
)
def test_what_is_no_journal_counts_for_nothing(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(text)
    journal = Journal.open(path, SUBJECT)
    assert journal.done == set()
    journal.note([2])
    assert Journal.open(path, SUBJECT).done == {2}


def test_numbers_of_parts_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal.open(path, SUBJECT).note([1])
    with path.open("ab") as file:
        file.write(b"10\n-1\ntrue\nnull\n2.5\n")
    assert Journal.open(path, SUBJECT).done == {1}
