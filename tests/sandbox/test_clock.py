"""Clocks."""

from __future__ import annotations

import time

import pytest

from sealift.sandbox.clock import ManualClock, SystemClock


def test_the_systems_clock_is_the_time() -> None:
    assert abs(SystemClock().now() - time.time()) < 5


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(start=100.0)
    assert clock.now() == clock.now() == 100.0
    clock.advance(2.5)
    assert clock.now() == 102.5
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
