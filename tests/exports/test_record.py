"""The configuration record holds what the allow-list names, and no secret wherever one is planted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.classic.models import NetworkStorage
from sealift.exports.errors import LedgerError
from sealift.exports.jsontext import digest
from sealift.exports.record import ConfigurationRecord, build_record, parse_record, pick

PLANTED = "PLANTED-s3cr3t"

DETAIL: dict[str, Any] = {
    "id": 101,
    "globalIdentifier": "9207eefb",
    "fullyQualifiedDomainName": "web101.example.com",
    "hostname": "web101",
    "domain": "example.com",
    "createDate": "2021-10-11T02:49:31-06:00",
    "maxCpu": 2,
    "maxMemory": 4096.0,
    "notes": "Owner: the shop team\nReboot on Sundays",
    "hourlyBillingFlag": True,
    "localDiskFlag": False,
    "primaryIpAddress": "161.222.111.111",
    "postInstallScriptUri": "https://example.com/setup.sh",
    "datacenter": {"id": 1, "name": "dal13", "longName": "Dallas 13", "statusId": 2},
    "status": {"keyName": "ACTIVE", "name": "Active"},
    "powerState": {"keyName": "RUNNING", "name": "Running"},
    "dedicatedHost": {"id": 77, "name": "rack"},
    "networkVlans": [{"id": 2, "vlanNumber": 925, "networkSpace": "PUBLIC"}, {"id": 1, "vlanNumber": 924}],
    "networkComponents": [
        {
            "id": 5,
            "macAddress": "06:f9:65:9b:23:65",
            "primarySubnet": {"id": 9, "cidr": 26, "gateway": "10.0.0.1"},
            "securityGroupBindings": [{"id": 3, "securityGroup": {"id": 4, "name": "allow_outbound"}}],
        }
    ],
    "operatingSystem": {
        "id": 6,
        "softwareLicense": {"id": 7, "softwareDescription": {"name": "Debian", "version": "12", "referenceCode": "D"}},
    },
    "softwareComponents": [{"id": 8, "softwareLicense": {"softwareDescription": {"name": "Debian"}}}],
    "tagReferences": [{"id": 1, "tag": {"id": 2, "name": "web"}}, {"id": 3, "tag": {"id": 4, "name": "nightly"}}],
    "billingItem": {
        "id": 11,
        "nextInvoiceTotalRecurringAmount": 122.082,
        "package": {"keyName": "SUSPEND_CLOUD_SERVER"},
        "children": [{"categoryCode": "guest_disk0", "description": "100 GB (SAN)"}],
        "orderItem": {"preset": {"keyName": "B1_2X4X100"}, "order": {"userRecord": {"username": "someone"}}},
    },
}
DEVICES: list[dict[str, Any]] = [
    {"id": 12, "device": "2", "diskImage": {"id": 2, "capacity": 100, "units": "GB", "type": {"keyName": "SYSTEM"}}},
    {"id": 10, "device": "0", "diskImage": {"id": 1, "capacity": 25, "units": "GB", "name": "root"}},
]
ATTRIBUTES: list[dict[str, Any]] = [
    {"value": "yes", "type": {"keyname": "MONITORED", "name": "Monitored"}},
    {"value": PLANTED, "type": {"keyname": "USER_DATA", "name": "User Data"}},
]
STORAGE = [
    NetworkStorage(id=9, nas_type="NAS", capacity_gb=20, mount_address="nas.example.com:/vol"),
    NetworkStorage(id=5, nas_type="ISCSI", capacity_gb=100, lun_id="3", service_resource_backend_ip_address="10.1.1.1"),
]


@pytest.fixture
def record_of(make_guest: Callable[..., Any], make_classic: Any) -> Callable[..., ConfigurationRecord]:
    def make(
        detail: dict[str, Any] = DETAIL,
        devices: list[dict[str, Any]] = DEVICES,
        attributes: list[dict[str, Any]] = ATTRIBUTES,
        storage: list[NetworkStorage] = STORAGE,
    ) -> ConfigurationRecord:
        classic = make_classic(guests=[make_guest(101)])
        classic.details[101] = detail
        classic.raw_devices, classic.raw_attributes, classic.storage = devices, attributes, storage
        return build_record(classic, 101)

    return make


def test_the_record_holds_what_ibms_procedure_asks_for(record_of: Callable[..., ConfigurationRecord]) -> None:
    record = record_of()

    assert record.guest_id == 101
    detail = record.detail
    assert detail["hostname"] == "web101"
    assert detail["maxCpu"] == 2
    assert detail["datacenter"] == {"id": 1, "name": "dal13", "longName": "Dallas 13"}
    assert detail["networkComponents"][0]["securityGroupBindings"] == [
        {"securityGroup": {"id": 4, "name": "allow_outbound"}}
    ]
    assert detail["operatingSystem"]["softwareLicense"]["softwareDescription"]["referenceCode"] == "D"
    assert detail["billingItem"] == {
        "package": {"keyName": "SUSPEND_CLOUD_SERVER"},
        "orderItem": {"preset": {"keyName": "B1_2X4X100"}},
        "children": [{"categoryCode": "guest_disk0", "description": "100 GB (SAN)"}],
    }
    assert detail["notes"] == DETAIL["notes"]
    assert detail["postInstallScriptUri"] == "https://example.com/setup.sh"
    assert [one["device"] for one in record.block_devices] == ["0", "2"]
    assert record.attributes == [{"value": "yes", "type": {"keyname": "MONITORED", "name": "Monitored"}}]
    assert any("passwords" in one for one in record.left_out)


def test_the_record_names_the_storage_that_is_not_in_the_image(
    record_of: Callable[..., ConfigurationRecord],
) -> None:
    record = record_of()

    assert [(one.id, one.attached_as, one.in_image) for one in record.attached_network_storage] == [
        (5, "ISCSI", False),
        (9, "NAS", False),
    ]
    assert [(one.id, one.mount, one.lun_id) for one in record.storage_not_in_image()] == [
        (5, None, "3"),
        (9, "nas.example.com:/vol", None),
    ]


def test_an_unchanged_server_has_an_unchanged_digest(record_of: Callable[..., ConfigurationRecord]) -> None:
    shuffled = copy.deepcopy(DETAIL)
    for name in ("networkVlans", "tagReferences"):
        shuffled[name].reverse()
    shuffled = dict(reversed(shuffled.items()))
    shuffled["maxCpu"] = 2.0  # one transport says 2, the other 2.0
    shuffled["placementGroup"] = None
    again = record_of(shuffled, DEVICES[::-1], ATTRIBUTES[::-1], STORAGE[::-1])

    assert again.body == record_of().body
    assert again.digest == digest(again.body)
    assert record_of({**DETAIL, "maxCpu": 4}).digest != again.digest


def test_a_record_comes_back_from_the_bucket(record_of: Callable[..., ConfigurationRecord]) -> None:
    record = record_of()

    assert parse_record(record.body, bucket="b", key="k").body == record.body
    with pytest.raises(LedgerError, match="b/k is not a configuration record"):
        parse_record(b"{}", bucket="b", key="k")


# Secrets


def plant(value: Any) -> Any:
    """Put secrets of every kind beside every field of a reply, at every depth."""
    if isinstance(value, dict):
        planted = {key: plant(one) for key, one in value.items()}
        planted.update(
            {
                "password": PLANTED,
                "passwords": [{"username": "root", "password": PLANTED, "notes": PLANTED}],
                "userData": [{"value": PLANTED, "type": {"keyname": "USER_DATA"}}],
                "credential": {"username": PLANTED, "password": PLANTED},
                "allowedHost": {"credential": {"password": PLANTED}},
                "sshKeys": [{"key": PLANTED}],
                "apiAuthenticationKey": PLANTED,
                "someFieldOfTomorrow": PLANTED,
            }
        )
        return planted
    if isinstance(value, list):
        return [*(plant(one) for one in value), {"password": PLANTED}, PLANTED]
    return value


def test_no_secret_comes_through_wherever_it_is_planted(record_of: Callable[..., ConfigurationRecord]) -> None:
    clean = record_of()
    devices = [one for one in plant(DEVICES) if isinstance(one, dict)]
    attributes = [one for one in plant(ATTRIBUTES) if isinstance(one, dict)]

    record = record_of(plant(DETAIL), devices, attributes)

    assert PLANTED not in record.body.decode()
    assert record.detail == clean.detail


@pytest.mark.parametrize("name", sorted(DETAIL))
def test_a_field_that_turns_into_an_object_lets_nothing_through(
    record_of: Callable[..., ConfigurationRecord], name: str
) -> None:
    for shape in ({"value": PLANTED}, [PLANTED], [{"value": PLANTED}], {"name": {"x": PLANTED}}):
        assert PLANTED not in record_of({**DETAIL, name: shape}).body.decode()


@pytest.mark.parametrize(
    "line",
    [
        f"root password: {PLANTED}",
        f"Passwort {PLANTED}",
        f"passphrase={PLANTED}",
        f"pw: {PLANTED}",
        f"API key {PLANTED}",
        f"api_key={PLANTED}",
        f"secret {PLANTED}",
        f"Token: {PLANTED}",
        f"aws access-key {PLANTED}",
        f"key = {PLANTED}",
        f"credentials {PLANTED}",
    ],
)
def test_notes_lose_the_lines_that_speak_of_secrets(record_of: Callable[..., ConfigurationRecord], line: str) -> None:
    notes = record_of({**DETAIL, "notes": f"Owner: shop\n{line}\nReboot on Sundays"}).detail["notes"]

    assert notes == "Owner: shop\n[left out: looks like a secret]\nReboot on Sundays"


@pytest.mark.parametrize("end", ["\n-----END RSA PRIVATE KEY-----\nReboot on Sundays", ""], ids=["whole", "cut off"])
def test_notes_lose_key_blocks_as_a_whole(record_of: Callable[..., ConfigurationRecord], end: str) -> None:
    block = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n{PLANTED}"
    notes = record_of({**DETAIL, "notes": f"Owner: shop\n{block}{end}"}).detail["notes"]
    kept = "\nReboot on Sundays" if end else ""
    assert notes == f"Owner: shop\n[left out: looks like a secret]{kept}"


@pytest.mark.parametrize(
    "attribute",
    [
        {"value": PLANTED, "type": {"keyname": "user_data", "name": "x"}},
        {"value": PLANTED, "type": {"keyname": "ROOT_PASSWORD", "name": "x"}},
        {"value": PLANTED, "type": {"keyname": "X", "name": "API token"}},
        {"value": f"password={PLANTED}", "type": {"keyname": "X", "name": "x"}},
        {"value": {"inner": PLANTED}, "type": {"keyname": "X"}},
        {"value": "fine", "type": PLANTED},
    ],
)
def test_attributes_that_speak_of_secrets_lose_their_value(
    record_of: Callable[..., ConfigurationRecord], attribute: dict[str, Any]
) -> None:
    assert PLANTED not in record_of(attributes=[attribute]).body.decode()


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        (f"https://user:{PLANTED}@example.com:8443/a.sh?token={PLANTED}#{PLANTED}", "https://example.com:8443/a.sh"),
        (f"https://[{PLANTED}", "[left out: looks like a secret]"),
    ],
)
def test_the_post_install_scripts_address_loses_user_and_query(
    record_of: Callable[..., ConfigurationRecord], uri: str, kept: str
) -> None:
    assert record_of({**DETAIL, "postInstallScriptUri": uri}).detail["postInstallScriptUri"] == kept


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(PLANTED),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "name", "notes", "password", "value", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_picking_takes_plain_values_at_named_paths_only(value: Any) -> None:
    plain = isinstance(value, str | int)

    assert pick({"a": value, "b": PLANTED}, [("a",)]) == ({"a": value} if plain else {})
    under = pick({"a": value}, [("a", "id")])
    kept = under.get("a", [])
    for one in kept if isinstance(kept, list) else [kept]:
        assert set(one) == {"id"}
        assert isinstance(one["id"], str | int)
