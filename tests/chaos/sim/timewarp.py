"""Simulated time for a whole process, put in place before anything else is imported.

``datetime.now`` and ``time.time`` are turned by time-machine. ``time.sleep`` and ``time.monotonic`` become functions
that ask the scenario that runs; since modules take them as default values when they are imported, :func:`install` comes
first. So do the sources of chance: what is unique in earnest (tokens, request ids, jitter) follows from the scenario's
seed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import time_machine

if TYPE_CHECKING:
    from tests.chaos.sim.engine import Sim

_real_sleep, _real_monotonic = time.sleep, time.monotonic
_RealRandom = random.Random
_sim: Sim | None = None
_chance: random.Random = _RealRandom(0)
_traveller: Any = None


def _sleep(seconds: float) -> None:
    if _sim is None:
        _real_sleep(seconds)
    else:
        _sim.sleep(seconds)


def _monotonic() -> float:
    return _real_monotonic() if _sim is None else _sim.monotonic()


def _urandom(count: int) -> bytes:
    return _chance.randbytes(count)


class _SeededRandom(_RealRandom):
    """``random.Random()`` without a seed is one that follows from the scenario's."""

    def __init__(self, x: Any = None) -> None:
        super().__init__(_chance.getrandbits(64) if x is None else x)


def install() -> None:
    """Replace the clocks and the sources of chance of this process, for good.

    :raises RuntimeError: if something has been imported already that keeps the true ones.
    """
    early = [name for name in ("sealift", "airflow", "requests", "ibm_botocore") if name in sys.modules]
    if early:
        raise RuntimeError(f"imported before the clock was replaced: {', '.join(early)}")
    time.sleep, time.monotonic = _sleep, _monotonic
    os.urandom = _urandom
    random._urandom = _urandom  # type: ignore[attr-defined]
    random.Random = _SeededRandom  # type: ignore[misc]


def begin(sim: Sim, *, seed: int) -> None:
    """Give this process's time and chance to a scenario."""
    global _sim, _chance, _traveller  # noqa: PLW0603 - one scenario at a time has this process's clock
    _chance = _RealRandom(f"{seed}:chance")
    random.seed(f"{seed}:module")
    _traveller = time_machine.travel(sim.now, tick=False)
    _traveller = (_traveller, _traveller.start())
    _sim = sim


def end() -> None:
    """Give the true time back."""
    global _sim, _traveller  # noqa: PLW0603
    _sim = None
    if _traveller is not None:
        _traveller[0].stop()
        _traveller = None


def move_to(when: float) -> None:
    """Set the wall clock."""
    if _traveller is not None:
        _traveller[1].move_to(when)
