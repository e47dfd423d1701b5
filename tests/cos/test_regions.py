"""Regions, endpoints and location constraints."""

from __future__ import annotations

import pytest

from sealift.cos.errors import CosRegionError
from sealift.cos.regions import (
    REGIONS,
    STORAGE_CLASSES,
    check_region,
    endpoint_for,
    location_constraint_for,
    region_of_location_constraint,
)


def test_endpoints() -> None:
    suffix = "us-south.cloud-object-storage.appdomain.cloud"
    assert endpoint_for("us-south") == f"https://s3.{suffix}"
    assert endpoint_for("us-south", "private") == f"https://s3.private.{suffix}"
    assert endpoint_for("us-south", "direct") == f"https://s3.direct.{suffix}"
    with pytest.raises(ValueError, match="public, private or direct"):
        endpoint_for("us-south", "inner")  # type: ignore[arg-type]


@pytest.mark.parametrize("region", REGIONS)
def test_constraints_go_both_ways(region: str) -> None:
    for storage_class in STORAGE_CLASSES:
        assert region_of_location_constraint(location_constraint_for(region, storage_class)) == region
    assert region_of_location_constraint(region) == region


def test_cross_regions_are_told_from_regions() -> None:
    assert region_of_location_constraint("us-standard") == "us"
    with pytest.raises(CosRegionError, match="cross-region"):
        check_region("us")
    with pytest.raises(ValueError, match="storage class"):
        location_constraint_for("us-south", "golden")


def test_a_region_that_is_new_passes() -> None:
    check_region("af-cpt")


@pytest.mark.parametrize("region", ["", "x", "us_south", "us-south.evil.example/", "US-SOUTH", "ams03"])
def test_what_is_no_region(region: str) -> None:
    with pytest.raises(CosRegionError):
        endpoint_for(region)
