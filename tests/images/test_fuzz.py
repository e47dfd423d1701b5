"""No damage makes a parser crash, hang or take more than 64 MiB; and the fuzzer sees it where one does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.images.source import ImageFormatError
from tests.images import fuzz
from tests.images.fuzz import KINDS, Edit, Ending, Overlaid, Run, Target, TooLargeError, TooSlowError, check, main, make
from tests.images.fuzz_targets import TARGETS

EDITS = st.lists(
    st.builds(
        Edit,
        kind=st.sampled_from(KINDS),
        where=st.floats(0, 1),
        value=st.integers(0, 2**64 - 1),
        length=st.sampled_from((1, 2, 4, 8, 16, 64, 512, 4096)),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", TARGETS)
def test_bad_bytes_give_a_report_or_a_clear_error(name: str) -> None:
    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(number=st.integers(0, 2**16), edits=EDITS)
    def gives(number: int, edits: list[Edit]) -> None:
        check(TARGETS[name], make(TARGETS[name], number, edits))

    gives()


# The fuzzer itself


def target(run: Callable[[Overlaid], object]) -> Target:
    return Target(name="a parser", seeds=lambda: [b"good bytes"], run=run)


def refuse(source: Overlaid) -> None:
    raise ImageFormatError("nothing is right", offset=0)


def say_nothing(source: Overlaid) -> None:
    raise ImageFormatError(" ", offset=0)


def test_refusals_and_crashes_are_told_apart() -> None:
    assert check(target(lambda source: source.read(0, 4)), Overlaid(b"good")).words == "passed"
    assert check(target(refuse), Overlaid(b"")).words == "ImageFormatError"
    assert check(target(lambda source: source.read(0, 5)), Overlaid(b"good")).words == "ShortReadError"
    with pytest.raises(AssertionError, match="says nothing"):
        check(target(say_nothing), Overlaid(b""))
    with pytest.raises(ZeroDivisionError):
        check(target(lambda source: 1 // source.size), Overlaid(b""))


def test_a_parser_that_takes_too_much_memory_is_found() -> None:
    with pytest.raises(TooLargeError, match="at most 67,108,864 are allowed"):
        check(target(lambda source: len(bytes(70 * 2**20))), Overlaid(b""))
    assert check(target(lambda source: len(bytes(60 * 2**20))), Overlaid(b"")).words == "passed"


def test_a_parser_that_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(source: Overlaid) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                sum(range(1000))
            except Exception:  # noqa: BLE001 - a parser that hides everything
                continue

    monkeypatch.setattr(fuzz, "CPU_SECONDS", 0.3)
    with pytest.raises(TooSlowError):
        check(target(hang), Overlaid(b""))


def test_changes_lie_over_the_good_bytes() -> None:
    made = Overlaid(b"0123456789")
    made.put(2, b"ab")
    made.put(3, b"XYZ")
    made.put(9, b"beyond")
    assert made.whole() == b"01aXYZ678b"
    assert made.read(4, 3) == b"YZ6"
    assert made.reads == [(4, 3)]
    made.size = 5
    made.put(4, b"!!")
    assert made.whole() == b"01aX!"


def test_every_kind_of_change_changes_something() -> None:
    for kind in KINDS:
        data = [make(TARGETS["kernel"], 0, [Edit(kind, 0.3, value, 16)]).whole() for value in range(12, 60)]
        assert any(one != make(TARGETS["kernel"], 0, []).whole() for one in data), kind


def test_a_run_counts_and_a_case_can_be_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(["lvm-text", "kernel"], seed=5, keep=tmp_path / "kept")
    run.go(seconds=300, most=3)
    assert sum(run.counts.values()) == 6
    assert run.failed == []
    assert not (tmp_path / "kept").exists()
    assert fuzz.case(TARGETS["kernel"], 5, 2).whole() == fuzz.case(TARGETS["kernel"], 5, 2).whole()
    assert main(["--target", "kernel", "--seed", "5", "--number", "2"]) == 0
    assert capsys.readouterr().out.startswith("kernel 2: ")


def die_in_the_third(names: list[str], seed: int, first: int, until: float, most: int, results: Any) -> None:
    for number in range(first, most):
        results.put(("began", "kernel", number, ""))
        if number == 2:
            os._exit(9)
        results.put(("ended", "kernel", number, Ending("passed", 0.5 + number, 7)))
    results.put(("done", "", most, ""))


def test_a_worker_that_dies_is_a_finding_and_not_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(["kernel"], seed=5, keep=tmp_path, work=die_in_the_third)
    run.go(seconds=300, most=5)
    assert run.counts == {("kernel", "passed"): 4, ("kernel", "FAILED"): 1}
    assert run.failed == [("kernel", 2)]
    assert run.most["kernel"] == (Ending("passed", 4.5, 7), Ending("passed", 0.5, 7))
    assert (tmp_path / "kernel-5-2.txt").read_text() == "the worker died with the exit status 9"
    assert (tmp_path / "kernel-5-2.bin").read_bytes() == fuzz.case(TARGETS["kernel"], 5, 2).whole()
    assert "FAILED kernel 2: the worker died" in capsys.readouterr().out
