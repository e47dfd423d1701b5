"""Which keys below an export's images are ours."""

from __future__ import annotations

import pytest

from sealift.exports import beside
from sealift.transfer.upload_targets import intermediate_prefix

IMAGES = "web-12345678/12345678-20261123T0200Z"


@pytest.mark.parametrize(
    "key",
    [
        beside.converted_key(images=IMAGES, format_="vmdk", index=0, suffix="vmdk"),
        beside.conversion_key(images=IMAGES, format_="vhd-fixed"),
    ],
)
def test_what_a_conversion_writes_is_known(key: str) -> None:
    assert beside.is_converted_file(key)
    assert not beside.is_piece_of_conversion(key)


def test_what_an_upload_keeps_beside_a_converted_disk_is_known() -> None:
    key = beside.converted_key(images=f"weekly/images/{IMAGES}", format_="qcow2", index=12, suffix="qcow2")
    assert beside.is_piece_of_conversion(f"{intermediate_prefix(key)}0a1b2c3d-08001")
    assert not beside.is_converted_file(f"{intermediate_prefix(key)}0a1b2c3d-08001")


@pytest.mark.parametrize(
    "name",
    ["disk-01.vmdk", "disk-0.vmdk.part", ".disk-0.vmdk.parts/x", ".disk-0.vmdk.parts/0a-1/2", ".disk-0.vmdk", "a.json"],
)
def test_other_objects_are_not(name: str) -> None:
    assert not beside.is_converted_file(f"{IMAGES}/converted/vmdk/{name}")
    assert not beside.is_piece_of_conversion(f"{IMAGES}/converted/vmdk/{name}")
