"""Each rule speaks when it should, with its severity, and says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sealift.exports import rules
from sealift.exports.plan import Outcome, PlanItem
from sealift.exports.rules import RULES, Severity

UBUNTU = ("Ubuntu", "Ubuntu", "20.04-64 Minimal for VSI", "UBUNTU_20_64")


@pytest.mark.parametrize(
    ("changes", "settings", "rule", "severity", "says"),
    [
        ({"activeTransaction": "T"}, {}, "active-transaction", "refuse", "Cloud_Setup, transaction 7"),
        ({"blockDevices": []}, {}, "no-disk", "refuse", "no disk that can be captured"),
        ({"softwareComponents": ["veeam"]}, {}, "third-party-software", "refuse", "Veeam Agent 5"),
        (
            {"softwareComponents": ["veeam"]},
            {"waive": ["third-party-software"]},
            "third-party-software",
            "warn",
            "waived",
        ),
        ({"capacity": 1200}, {}, "disk-too-large", "refuse", "1.28 TB"),
        ({"capacity": 1200}, {"waive": ["disk-too-large"]}, "disk-too-large", "warn", "waived"),
        ({}, {"prefix": "/".join(["a" * 200] * 5)}, "key-too-long", "refuse", "shorten the prefix"),
        ({}, {"format": "vmdk"}, "conversion", "info", "converted into vmdk in the bucket"),
        ({"status": {"keyName": "DISCONNECTED"}}, {}, "not-active", "warn", "unconfirmed"),
        ({"status": None}, {}, "not-active", "warn", "not told"),
        ({"privateNetworkOnlyFlag": True}, {}, "private-network-only", "warn", "IBM's release notes say"),
        ({"operatingSystem": "centos"}, {}, "blocked-system", "warn", "unconfirmed"),
        ({"hostname": "web 1?"}, {}, "cos-name", "warn", "web-1"),
        ({"powerState": {"keyName": "HALTED"}}, {}, "stopped", "info", "HALTED"),
    ],
)
def test_a_rule_speaks(
    make_guest: Callable[..., Any],
    make_software: Callable[..., Any],
    make_transaction: Callable[..., Any],
    item_of: Callable[..., PlanItem],
    changes: dict[str, Any],
    settings: dict[str, Any],
    rule: str,
    severity: str,
    says: str,
) -> None:
    made: dict[str, Any] = {
        "T": make_transaction(),
        "veeam": make_software("Veeam", "Agent", "5", "VEEAM_5"),
        "centos": make_software("CentOS", "CentOS Stream", "8", "CENTOS_STREAM_8"),
    }
    changes = {
        key: [made[one] for one in value] if isinstance(value, list) and value else made.get(str(value), value)
        for key, value in changes.items()
    }

    item = item_of(make_guest(101, **changes), **settings)

    found = [one for one in item.findings if one.rule == rule]
    assert found, [one.rule for one in item.findings]
    assert {one.severity.value for one in found} == {severity}
    assert any(says in one.sentence for one in found)
    assert (item.outcome is Outcome.NOT_EXPORTABLE) == any(one.severity is Severity.REFUSE for one in item.findings)
    assert [one.severity for one in item.findings] == sorted(
        (one.severity for one in item.findings), key=list(Severity).index
    )


def test_a_plain_server_is_exported_and_what_is_left_out_is_recorded(
    make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]
) -> None:
    item = item_of(make_guest(101, data_disks=3))

    assert item.outcome is Outcome.EXPORT
    assert item.findings == []
    assert [(disk.index, disk.device, disk.block_device_id) for disk in item.disks] == [
        (0, "0", 1010),
        (1, "2", 1012),
        (2, "4", 1014),
        (3, "5", 1015),
    ]
    assert [(one.device, one.reason) for one in item.left_out] == [
        ("1", "it is the swap disk"),
        ("3", "it is a CD drive"),
        ("7", "it is the metadata disk"),
    ]
    assert item.capacity_bytes == 4 * 10**9


def test_the_largest_disk_that_surely_fits_is_not_refused(
    make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]
) -> None:
    assert item_of(make_guest(101, capacity=1192)).outcome is Outcome.EXPORT
    assert item_of(make_guest(101, capacity=1193)).outcome is Outcome.NOT_EXPORTABLE


def test_the_operating_system_is_no_third_party_software(
    make_guest: Callable[..., Any], make_software: Callable[..., Any]
) -> None:
    own = make_software(*UBUNTU)
    bare = make_software("Ubuntu", "Ubuntu", "20.04", None)

    assert rules.third_party_software(make_guest(1, operatingSystem=own, softwareComponents=[own])) == []
    assert rules.third_party_software(make_guest(1, operatingSystem=bare, softwareComponents=[bare])) == []
    assert rules.third_party_software(make_guest(1, operatingSystem=own, softwareComponents=[{"id": 4}])) == []
    assert rules.third_party_software(make_guest(1, operatingSystem=None, softwareComponents=[])) == []
    plesk = make_software("Plesk", "Plesk", "18", None)
    assert rules.third_party_software(make_guest(1, operatingSystem=own, softwareComponents=[own, plesk])) == [
        "Plesk 18"
    ]


def test_an_export_whose_template_exists_is_not_refused_for_what_hinders_captures(
    make_guest: Callable[..., Any],
    make_software: Callable[..., Any],
    make_transaction: Callable[..., Any],
    make_classic: Any,
    plan_of: Callable[..., Any],
    period: str,
) -> None:
    veeam = make_software("Veeam", "Agent", "5", "VEEAM_5")
    hindered = make_guest(101, activeTransaction=make_transaction(), softwareComponents=[veeam])
    classic = make_classic(guests=[hindered])
    assert plan_of(classic).items[0].outcome is Outcome.NOT_EXPORTABLE
    classic.add_template(f"sealift-101-{period}")

    assert plan_of(classic).items[0].outcome is Outcome.EXPORT


def test_a_region_that_ibms_page_does_not_name_is_a_remark_on_the_plan(
    make_guest: Callable[..., Any], make_classic: Any, plan_of: Callable[..., Any]
) -> None:
    plan = plan_of(make_classic(guests=[make_guest()]), region="br-sao")

    assert [one.rule for one in plan.findings] == ["region-unlisted"]
    assert "br-sao" in plan.findings[0].sentence
    assert plan_of(make_classic(guests=[make_guest()])).findings == []


def test_rules_have_ids_of_their_own_and_only_refusals_can_be_waived() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.severity is Severity.REFUSE for rule in RULES if rule.waivable)
    assert all(rule.sentence.endswith(".") for rule in RULES)


def test_what_is_unconfirmed_for_virtual_servers_never_refuses() -> None:
    assert all(rule.severity is Severity.WARN for rule in RULES if "unconfirmed" in rule.sentence)
