"""How a plan is cut into waves.

A wave holds servers of one period, so that a server stands in it once, however many of its exports a plan holds. The
next wave starts when few servers still wait for a capture, so a wave need only be large enough to keep the captures
busy while the next one starts: what waits longer costs Airflow's scheduler, and is of no use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sealift.exports import names
from sealift.exports.errors import SettingsError

LARGEST: Final = 100
"""Most servers in one wave: a run of more makes Airflow's scheduler slow."""

SMALLEST: Final = 20
"""Fewest servers in a wave that nobody asked to be smaller: a wave costs three tasks of its own."""

_WAVE_RUN: Final = re.compile(r"(.+)\.wave-([0-9]{4,})")


def wave_of_run(run_id: str) -> tuple[str, int] | None:
    """Say which wave a DAG run carries.

    :param run_id: see :func:`sealift.exports.names.wave_run_id`.
    :returns: the plan's id and the wave's number, from 0; None where it is no wave's run.
    """
    match = _WAVE_RUN.fullmatch(run_id)
    if match is None:
        return None
    plan_id, number = match[1], int(match[2])
    return (plan_id, number) if names.wave_run_id(plan_id=plan_id, number=number) == run_id else None


def wave_size_for(*, asked: int | None, max_offline: int, servers: int, waves_at_most: int) -> int:
    """Say how many servers go into one wave.

    :param asked: the user's wish, which holds; None where there is none.
    :param max_offline: most servers offline at once.
    :param servers: how many servers the plan exports.
    :param waves_at_most: how many waves Airflow can start for one plan.
    :returns: twice as many as can be offline at once, between 20 and 100, or more where there would be too many waves.
    """
    if asked is not None:
        return asked
    fewest = -(-servers // max(1, waves_at_most))
    return min(LARGEST, max(SMALLEST, 2 * max_offline, fewest))


def cut(exports: Sequence[tuple[str, int]], *, size: int) -> list[tuple[str, list[int]]]:
    """Cut exports into waves.

    :param exports: pairs of period and guest id, in the order in which they should go.
    :param size: most servers in one wave.
    :returns: for each wave its period and its guests. Periods follow each other in the order of their first export.
    """
    by_period: dict[str, list[int]] = {}
    for period, guest_id in exports:
        by_period.setdefault(period, []).append(guest_id)
    return [
        (period, guests[start : start + size])
        for period, guests in by_period.items()
        for start in range(0, len(guests), size)
    ]


def check_count(waves: int, *, servers: int, waves_at_most: int) -> None:
    """Refuse more waves than Airflow can start for one plan.

    :param waves: how many there are.
    :param servers: how many servers they hold.
    :param waves_at_most: Airflow's limit.
    :raises SettingsError: there are more.
    """
    if waves > waves_at_most:
        raise SettingsError(
            f"The plan would have {waves} waves, and Airflow takes {waves_at_most} ([core] max_map_length). Set "
            f"wave_size to {min(LARGEST, -(-servers // waves_at_most))} or more (at most {LARGEST}), or select fewer "
            "servers or slots."
        )
