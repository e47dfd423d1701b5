"""Object masks as clients write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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


NAMES = st.from_regex(r"[a-z][A-Za-z]{0,6}", fullmatch=True).filter(lambda name: name != "mask")
TREES = st.recursive(st.just({}), lambda sub: st.dictionaries(NAMES, sub, min_size=1, max_size=4), max_leaves=12)


def written(tree: dict[str, dict[str, object]], gap: str) -> str:
    parts = [f"{name}{gap}[{written(sub, gap)}]" if sub else name for name, sub in tree.items()]  # type: ignore[arg-type]
    return f"{gap},{gap}".join(parts)


@given(tree=TREES, gap=st.sampled_from(["", " ", "\n  ", "\t"]))
@settings(derandomize=True, deadline=None)
def test_every_tree_survives_being_written_and_read(tree: dict[str, dict[str, object]], gap: str) -> None:
    text = written(tree, gap)
    assert parse_mask(text) == parse_mask(f"mask[{text}]") == parse_mask(f"[mask[{text}]]") == tree


@given(st.text(alphabet="mask[](),. \nidA_9é;", max_size=40))
@example("mask[mask[mask.")
@settings(derandomize=True, deadline=None, max_examples=400)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tree = parse_mask(text)
    except ApiError as error:
        tree = {}
        words = error.message
    else:
        words = "malformed"
    assert isinstance(tree, dict)
    assert "malformed" in words
