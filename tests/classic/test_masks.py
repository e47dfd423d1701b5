"""The masks hold no secret, name a local property at every level, and prune what nobody asked for."""

from __future__ import annotations

import re

import pytest

from sealift.classic import masks

MASKS = {
    name: value
    for name, value in vars(masks).items()
    if name.isupper() and isinstance(value, str) and value.startswith("mask[")
}

# Properties of the API that are relations to whole objects: without a sub-mask they would bring all their locals along.
STRUCTURES = {
    "activeTransaction", "billingItem", "blockDeviceTemplateGroup", "blockDevices", "children", "datacenter",
    "dedicatedHost", "diskImage", "hardDrives", "hardwareComponentModel", "hardwareStatus", "lastKnownPowerState",
    "lastTransaction", "networkComponents", "networkVlans", "operatingSystem", "orderItem", "package", "placementGroup",
    "powerState", "preset", "primarySubnet", "processors", "securityGroup", "securityGroupBindings",
    "softwareComponents", "softwareDescription", "softwareLicense", "status", "tag", "tagReferences", "transaction",
    "transactionGroup", "transactionStatus", "type",
}  # fmt: skip


def test_there_are_masks_to_look_at() -> None:
    assert {"GUEST_PLANNING", "GUEST_DETAIL", "TEMPLATE", "BARE_METAL", "NETWORK_STORAGE"} <= set(MASKS)


@pytest.mark.parametrize("name", MASKS)
def test_no_mask_names_a_secret(name: str) -> None:
    hits = re.findall(
        r"pass\w*|secret\w*|credential\w*|userdata\w*|username|token\w*|apikey\w*|sshkey\w*|\baccount(?!Id\b)\w*|userRecord",
        MASKS[name],
        flags=re.IGNORECASE,
    )
    assert hits == []


def walk(tree: masks.Tree, path: str = "") -> list[tuple[str, masks.Tree]]:
    return [(path, tree)] + [found for name, below in tree.items() if below for found in walk(below, f"{path}.{name}")]


@pytest.mark.parametrize("name", MASKS)
def test_every_level_names_a_local_property_and_every_structure_its_parts(name: str) -> None:
    for path, tree in walk(masks.tree_of(MASKS[name])):
        leaves = {leaf for leaf, below in tree.items() if not below}
        # A template's and a guest's status is a structure; a network component's is a plain text.
        structures = STRUCTURES - ({"status"} if path.endswith(("networkComponents", "hardwareStatus")) else set())
        assert leaves, f"{name}{path} names no local property"
        assert not leaves & structures, f"{name}{path} names a whole object: {leaves & structures}"


def test_tree_of_reads_nesting_and_refuses_loose_brackets() -> None:
    assert masks.tree_of("mask[a,b[c,d[e]],f]") == {"a": {}, "b": {"c": {}, "d": {"e": {}}}, "f": {}}
    for wrong in ("mask[a,b[c]", "mask[a]]"):
        with pytest.raises(ValueError, match="bracket"):
            masks.tree_of(wrong)


def test_prune_keeps_what_was_asked_for_only() -> None:
    tree = masks.tree_of("mask[id,name,note,os[id,license[name]],disks[id],datacenter]")
    raw = {
        "id": 1,
        "name": "a",
        "note": "",
        "secret": "x",
        "os": {"id": 2, "passwords": [{"password": "x"}], "license": {"name": "Debian", "key": "x"}},
        "disks": [{"id": 3, "password": "x"}, {"id": 4}],
        "datacenter": {"name": "dal13"},  # the mask named it as a plain property: nobody vouches for what is in it
    }
    assert masks.prune(raw, tree) == {
        "id": 1,
        "name": "a",
        "os": {"id": 2, "license": {"name": "Debian"}},
        "disks": [{"id": 3}, {"id": 4}],
    }
