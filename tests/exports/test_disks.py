"""Disks become objects in device order, and capacities are read both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sealift.exports.disks import capacity_range, planned_disks


def test_devices_are_ordered_by_number_not_by_text(make_guest: Callable[..., Any]) -> None:
    guest = make_guest(1, data_disks=2)
    devices = [
        one.model_copy(update={"device": "10" if one.device == "2" else one.device}) for one in guest.block_devices
    ]

    disks = planned_disks(guest.model_copy(update={"block_devices": devices[::-1]}))

    assert [(disk.index, disk.device) for disk in disks] == [(0, "0"), (1, "4"), (2, "10")]


def test_a_capacity_means_a_range() -> None:
    assert capacity_range(25, "GB") == (25 * 10**9, 25 * 2**30)
    assert capacity_range(64, "mb") == (64 * 10**6, 64 * 2**20)
    with pytest.raises(ValueError, match="'floppies'"):
        capacity_range(1, "floppies")
