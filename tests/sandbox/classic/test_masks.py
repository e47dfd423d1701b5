"""Object masks as clients write them."""

from __future__ import annotations

import pytest

from sealift.sandbox.classic.errors import ApiError
from sealift.sandbox.classic.masks import mask_of, parse_mask

NESTED = {"id": {}, "blockDevices": {"device": {}, "diskImage": {"type": {"keyName": {}}}}}


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", {}),
        ("id", {"id": {}}),
        ("id,hostname", {"id": {}, "hostname": {}}),
        ("mask[id,hostname]", {"id": {}, "hostname": {}}),
        ("mask.hostname", {"hostname": {}}),
        ("filteredMask[id]", {"id": {}}),
        ("mask[id,blockDevices[device,diskImage[type[keyName]]]]", NESTED),
        ("id,blockDevices.device,blockDevices.diskImage.type.keyName", NESTED),
        ("mask[\n  id ,\tblockDevices [ device, diskImage . type [keyName] ] ]\n", NESTED),
        ("[mask[id],mask.blockDevices[device,diskImage.type.keyName]]", NESTED),
        ("mask(SoftLayer_Virtual_Guest)[id]", {"id": {}}),
        ("mask[guest(SoftLayer_Virtual_Guest)[id]]", {"guest": {"id": {}}}),
        ("mask[datacenter.name,datacenter[id]]", {"datacenter": {"name": {}, "id": {}}}),
        ("mask[id,]", {"id": {}}),
        ("mask[]", {}),
        ("mask", {"mask": {}}),
    ],
)
def test_reads_what_clients_send(text: str, tree: dict[str, object]) -> None:
    assert parse_mask(text) == tree


@pytest.mark.parametrize("text", ["mask[id", "id]", "mask[id;name]", "mask[[id]]", "a..b", "a b", "mask[a(]", ",", "é"])
def test_refuses_what_is_no_mask(text: str) -> None:
    with pytest.raises(ApiError, match="object mask is malformed"):
        parse_mask(text)


def test_reads_the_older_structure() -> None:
    assert mask_of({"blockDevices": {"diskImage": {}}, "id": ""}) == {"blockDevices": {"diskImage": {}}, "id": {}}


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_mask_is_an_empty_one(nothing: str | None) -> None:
    assert mask_of(nothing) == {}


def test_a_mask_of_another_kind_is_refused() -> None:
    with pytest.raises(ApiError):
        mask_of(7)
