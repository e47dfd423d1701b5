"""The client's calls over both transports: what it asks, what it makes of replies, and what it refuses to believe."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sealift.classic.client import ClassicClient
from sealift.classic.errors import (
    ClassicAuthError,
    ClassicBadReplyError,
    ClassicNotFoundError,
    ClassicOutcomeUnknownError,
    ClassicTransientError,
)

Api = Any  # tests/classic/conftest.py's ScriptedApi

SYSTEM = {"keyName": "SYSTEM"}

# A virtual server as the service sends it (shape: the ibmcloud plugin's recorded getObject replies).
GUEST: dict[str, Any] = {
    "id": 124929698,
    "hostname": "web01",
    "domain": "example.org",
    "globalIdentifier": "9207eefb-0000",
    "fullyQualifiedDomainName": "web01.example.org",
    "privateNetworkOnlyFlag": False,
    "datacenter": {"id": 2434695, "name": "fra04"},
    "status": {"keyName": "ACTIVE"},
    "powerState": {"keyName": "RUNNING"},
    "blockDevices": [
        {
            "id": 1,
            "device": "0",
            "mountType": "Disk",
            "diskImage": {"id": 11, "capacity": 100, "units": "GB", "metadataFlag": False, "type": SYSTEM},
        },
        {"id": 2, "device": "1", "mountType": "Disk", "diskImage": {"id": 12, "type": {"keyName": "SWAP"}}},
        {"id": 3, "device": "3", "mountType": "CD", "diskImageId": None},
        {"id": 4, "device": "7", "mountType": "Disk", "diskImage": {"id": 14, "metadataFlag": True, "type": SYSTEM}},
    ],
    "tagReferences": [{"id": 5, "tag": {"id": 6, "name": "nightly"}}],
    "operatingSystem": {"id": 7, "passwords": [{"username": "root", "password": "PLANTED-root"}]},
}  # fmt: skip
TEMPLATE: dict[str, Any] = {
    "id": 12662782,
    "accountId": 307608,
    "createDate": "2016-11-20T20:26:01-06:00",
    "name": "sealift-1-a",
    "note": "n",
    "parentId": None,
    "statusId": 1,
    "transactionId": None,
    "globalIdentifier": "a11df647",
    "children": [
        {
            "id": 12662784,
            "transactionId": None,
            "blockDevicesDiskSpaceTotal": 18308227584.0,
            "datacenter": {"name": "dal05"},
            "blockDevices": [{"id": 9, "device": "0", "diskSpace": 18308227584.0, "units": "B"}],
        }
    ],
}


def numbered(count: int, *, start: int = 1) -> list[dict[str, Any]]:
    return [{"id": number, "hostname": f"h{number}"} for number in range(start, start + count)]


def pages(api: Api, rows: list[dict[str, Any]], *, total: bool = True) -> None:
    def respond(seen: Any) -> Any:
        found = rows[seen.offset : seen.offset + seen.limit]
        return api.ok(found, total=len(rows) if total else None)

    api.respond = respond


def test_a_guest_is_read_and_its_secrets_are_not(api: Api, client: ClassicClient) -> None:
    api.answers(api.ok([GUEST], total=1))
    (guest,) = client.list_guests()
    assert (guest.id, guest.hostname, guest.datacenter, guest.status, guest.tags) == (
        124929698,
        "web01",
        "fra04",
        "ACTIVE",
        ["nightly"],
    )
    assert guest.active_transaction is None
    assert {one.device: one.left_out_because is None for one in guest.block_devices} == {
        "0": True,
        "1": False,
        "3": False,
        "7": False,
    }
    assert "PLANTED" not in repr(guest)
    (seen,) = api.seen
    assert (seen.service, seen.method, seen.offset, seen.limit) == ("SoftLayer_Account", "getVirtualGuests", 0, 100)
    assert seen.filter == {
        "virtualGuests": {"id": {"operation": "orderBy", "options": [{"name": "sort", "value": ["ASC"]}]}}
    }


def test_paging_reads_to_the_end(api: Api, client: ClassicClient) -> None:
    pages(api, numbered(250))
    assert [one.id for one in client.list_guests()] == list(range(1, 251))
    assert [(seen.offset, seen.limit) for seen in api.seen] == [(0, 100), (100, 100), (200, 100)]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200])
def test_paging_without_a_total(api: Api, client: ClassicClient, count: int) -> None:
    pages(api, numbered(count), total=False)
    assert len(client.list_guests()) == count


def test_a_server_that_gives_smaller_pages_than_asked_for_is_read_to_the_end(api: Api, client: ClassicClient) -> None:
    rows = numbered(120)
    api.respond = lambda seen: api.ok(rows[seen.offset : seen.offset + min(50, seen.limit)], total=120)
    assert len(client.list_guests()) == 120


def test_a_list_that_moves_is_read_again(api: Api, client: ClassicClient) -> None:
    """A server vanishes after the first page: row 101 slips into it, and would be missed."""
    before, after = numbered(150), [one for one in numbered(150) if one["id"] != 1]

    def respond(seen: Any) -> Any:
        rows = before if len(api.seen) == 1 else after
        return api.ok(rows[seen.offset : seen.offset + seen.limit], total=len(rows))

    api.respond = respond
    assert [one.id for one in client.list_guests()] == list(range(2, 151))


def test_a_page_that_overlaps_is_merged_and_read_again(api: Api, client: ClassicClient) -> None:
    """A server appears before the first page: a row comes twice."""
    before, after = numbered(150), [{"id": 0, "hostname": "new"}, *numbered(150)]

    def respond(seen: Any) -> Any:
        rows = before if len(api.seen) == 1 else after
        return api.ok(rows[seen.offset : seen.offset + seen.limit], total=len(rows))

    api.respond = respond
    assert [one.id for one in client.list_guests()] == list(range(151))


def test_a_list_that_stays_short_is_an_error_and_not_a_silent_skip(api: Api, client: ClassicClient) -> None:
    api.respond = lambda seen: api.ok(numbered(3) if seen.offset == 0 else [], total=5)
    with pytest.raises(ClassicTransientError, match=r"getVirtualGuests: .*3 of 5 rows"):
        client.list_guests()


def test_a_server_that_ignores_the_offset_ends(api: Api, client: ClassicClient) -> None:
    api.respond = lambda seen: api.ok(numbered(100))
    with pytest.raises(ClassicTransientError, match="came twice"):
        client.list_guests()
    assert len(api.seen) == 6


def test_pages_shrink_where_the_reply_is_too_large(api: Api, make_client: Callable[..., ClassicClient]) -> None:
    rows = numbered(60)

    def respond(seen: Any) -> Any:
        if seen.limit > 25:
            return api.fault("Internal Error", "SoftLayer_Exception_Public")
        return api.ok(rows[seen.offset : seen.offset + seen.limit], total=60)

    api.respond = respond
    assert len(make_client(max_attempts=2).list_guests()) == 60
    assert [seen.limit for seen in api.seen] == [100, 100, 50, 50, 25, 25, 25]


def test_a_single_result_may_come_without_its_list(api: Api, client: ClassicClient) -> None:
    api.answers(api.ok(GUEST, total=1))
    assert [one.id for one in client.list_guests()] == [GUEST["id"]]
    assert list(client.get_guests([GUEST["id"]])) == [GUEST["id"]]


@pytest.mark.parametrize("nothing", [[], None, ""])
def test_no_result_has_many_shapes(api: Api, client: ClassicClient, nothing: Any) -> None:
    api.answers(api.ok(nothing))
    assert client.list_guests() == []
    assert client.guest_states([1]) == {}


def test_ids_are_asked_for_in_chunks_of_a_hundred(api: Api, client: ClassicClient) -> None:
    def respond(seen: Any) -> Any:
        wanted = seen.filter["virtualGuests"]["id"]["options"][0]["value"]
        return api.ok([{"id": one} for one in wanted if one != 77], total=len(wanted))

    api.respond = respond
    states = client.guest_states([*range(1, 251), 5, 5])
    assert set(states) == set(range(1, 251)) - {77}
    assert [len(seen.filter["virtualGuests"]["id"]["options"][0]["value"]) for seen in api.seen] == [100, 100, 50]
    assert all(list(seen.filter["virtualGuests"]) == ["id"] for seen in api.seen)
    assert client.guest_states([]) == {}
    assert len(api.seen) == 3


@pytest.mark.parametrize("method", ["get_guests", "guest_states", "template_states"])
def test_ids_that_nobody_asked_for_mean_an_ignored_filter(api: Api, client: ClassicClient, method: str) -> None:
    api.answers(api.ok([{"id": 1, "hostname": "a"}, {"id": 999, "hostname": "b"}], total=2))
    with pytest.raises(ClassicBadReplyError, match=r"SoftLayer_Account::get\w+: .*ignored the filter.*999"):
        getattr(client, method)([1, 2])


def test_a_missing_field_names_the_call_and_the_field_but_not_the_values(api: Api, client: ClassicClient) -> None:
    row = {"id": 1, "domain": "PLANTED.example", "blockDevices": [{"id": 2, "mountType": "Disk"}]}
    api.answers(api.ok([row], total=1))
    with pytest.raises(ClassicBadReplyError) as caught:
        client.list_guests()
    message = str(caught.value)
    assert "SoftLayer_Account::getVirtualGuests" in message
    assert "hostname: Field required" in message
    assert "blockDevices.0.device: Field required" in message
    assert "PLANTED" not in message


def test_a_row_without_id_is_refused(api: Api, client: ClassicClient) -> None:
    api.answers(api.ok([{"hostname": "a"}]))
    with pytest.raises(ClassicBadReplyError, match="field id"):
        client.list_guests()


def test_transactions_and_nil_in_both_shapes(api: Api, client: ClassicClient) -> None:
    transaction = {
        "id": 237949008,
        "createDate": "2021-04-01T09:22:26-05:00",
        "modifyDate": "",
        "elapsedSeconds": 91,
        "transactionGroup": "",
        "transactionStatus": {"name": "CLOUD_PROVISION_SETUP", "friendlyName": "Setup provision configuration"},
    }
    api.answers(
        api.ok(
            [
                {"id": 1, "activeTransaction": transaction, "powerState": {"keyName": "HALTED"}},
                {"id": 2, "activeTransaction": "", "powerState": ""},
                {"id": 3, "activeTransaction": None},
            ]
        )
    )
    states = client.guest_states([1, 2, 3])
    active = states[1].active_transaction
    assert active is not None
    assert (active.id, active.status_name, active.group_name, active.modify_date) == (
        237949008,
        "CLOUD_PROVISION_SETUP",
        None,
        None,
    )
    assert states[1].power_state == "HALTED"
    assert states[2].active_transaction is states[3].active_transaction is states[2].power_state is None


def test_templates_are_ours_private_parents_with_exactly_this_name(api: Api, client: ClassicClient) -> None:
    others = [
        TEMPLATE | {"id": 2, "name": "SEALIFT-1-A"},  # the API compares without regard to case
        TEMPLATE | {"id": 3, "accountId": 999},  # shared with us by another account
        TEMPLATE | {"id": 4, "parentId": 12662782},
        TEMPLATE | {"id": 5, "name": "sealift-1-ab"},
    ]
    own = {"id": 307608}
    api.respond = lambda seen: (
        api.ok(own) if seen.method == "getObject" else api.ok([*others, TEMPLATE], total=1 + len(others))
    )
    (template,) = client.templates_named("sealift-1-a")
    assert template.id == 12662782
    assert template.transactions_left == []
    assert template.children[0].block_devices[0].disk_space == 18308227584.0
    conditions = api.seen[0].filter["privateBlockDeviceTemplateGroups"]
    assert conditions["name"] == {"operation": "_= sealift-1-a"}
    assert conditions["id"]["operation"] == "orderBy"
    assert [one.id for one in client.templates_with_prefix("sealift-")] == [5, 12662782]
    assert api.seen[-1].filter["privateBlockDeviceTemplateGroups"]["name"] == {"operation": "^= sealift-"}
    assert sum(seen.method == "getObject" for seen in api.seen) == 1, "the account's id is asked for once"


def test_templates_of_one_period_are_asked_for_by_the_end_of_their_name(api: Api, client: ClassicClient) -> None:
    """A filter that the API ignores costs pages, and changes nothing."""
    own = {"id": 307608}
    rows = [
        TEMPLATE | {"id": 2, "name": "sealift-1-P"},  # the API compares without regard to case
        TEMPLATE | {"id": 3, "name": "sealift-1-p", "accountId": 999},
        TEMPLATE | {"id": 4, "name": "sealift-1-q"},
        TEMPLATE | {"id": 5, "name": "sealift-1-p"},
    ]
    api.respond = lambda seen: api.ok(own) if seen.method == "getObject" else api.ok(rows, total=len(rows))
    (template,) = client.templates_ending("-p")
    assert (template.id, template.name, template.children) == (5, "sealift-1-p", [])
    conditions = api.seen[0].filter["privateBlockDeviceTemplateGroups"]
    assert conditions["name"] == {"operation": "$= -p"}
    assert conditions["id"]["operation"] == "orderBy"
    assert "children" not in str(api.seen[0].mask)


def test_template_states(api: Api, client: ClassicClient) -> None:
    child = {"id": 6, "transactionId": 77, "transaction": {"id": 77, "statusChangeDate": "2021-04-01T09:22:26-05:00"}}
    api.answers(api.ok([TEMPLATE | {"children": [child]}, {"id": 8, "children": ""}]))
    states = client.template_states([12662782, 8, 9])
    assert states[12662782].transactions_left == [77]
    assert states[8].children == []
    assert 9 not in states


def test_account_id(api: Api, client: ClassicClient) -> None:
    api.answers(api.ok({"id": 307608}))
    assert client.account_id() == 307608
    api.answers(api.ok({}))
    with pytest.raises(ClassicBadReplyError, match=r"SoftLayer_Account::getObject.* id"):
        client.account_id()


def test_datacenters(api: Api, client: ClassicClient) -> None:
    api.answers(api.ok([{"id": 1, "name": "dal13"}, {"id": 2, "name": "fra02"}]))
    assert client.datacenter_names() == {"dal13", "fra02"}
    assert api.seen[0].service == "SoftLayer_Location_Datacenter"


def test_bare_metal_comes_with_its_inventory_only(api: Api, client: ClassicClient) -> None:
    row = {
        "id": 1,
        "hostname": "bm1",
        "domain": "example.org",
        "datacenter": {"name": "dal13"},
        "memoryCapacity": 64,
        "hardDrives": [{"id": 3, "hardwareComponentModel": {"name": "SSD", "capacity": "960"}}],
        "operatingSystem": {"passwords": [{"password": "PLANTED"}]},
        "remoteManagementAccounts": [{"password": "PLANTED"}],
    }
    api.answers(api.ok([row], total=1))
    (server,) = client.list_bare_metal()
    assert (server.id, server.datacenter) == (1, "dal13")
    assert server.inventory["memoryCapacity"] == 64
    assert server.inventory["hardDrives"] == [{"id": 3, "hardwareComponentModel": {"name": "SSD", "capacity": "960"}}]
    assert "PLANTED" not in repr(server)


def test_details_storage_and_attributes_leave_the_secrets_out(api: Api, client: ClassicClient) -> None:
    replies = {
        "getObject": GUEST | {"maxCpu": 2, "userData": [{"value": "PLANTED"}], "notes": ""},
        "getBlockDevices": [one | {"guest": {"password": "PLANTED"}} for one in GUEST["blockDevices"]],
        "getAttributes": [
            {"value": "1", "type": {"keyname": "BOOT_MODE", "name": "Boot Mode"}},
            {"value": "PLANTED", "type": {"keyname": "USER_DATA", "name": "User Data"}},
            {"value": "PLANTED"},
        ],
    }

    def respond(seen: Any) -> Any:
        if seen.method == "getAttachedNetworkStorages":
            storage = {"id": len(seen.args[0]), "nasType": seen.args[0], "capacityGb": 20, "password": "PLANTED"}
            return api.ok([storage])
        return api.ok(replies[seen.method])

    api.respond = respond
    detail = client.guest_detail(124929698)
    assert detail["maxCpu"] == 2
    assert detail["operatingSystem"] == {"id": 7}
    assert "notes" not in detail
    devices = client.block_devices(124929698)
    assert [one["device"] for one in devices] == ["0", "1", "3", "7"]
    storage = client.attached_storage(124929698)
    assert [(one.nas_type, one.capacity_gb) for one in storage] == [("NAS", 20), ("ISCSI", 20)]
    attributes = client.attributes(124929698)
    assert attributes == [{"value": "1", "type": {"keyname": "BOOT_MODE", "name": "Boot Mode"}}]
    assert "PLANTED" not in repr([detail, devices, storage, attributes])
    assert {seen.identifier for seen in api.seen} == {124929698}


def test_capture_sends_ids_only(api: Api, client: ClassicClient) -> None:
    api.answers(api.ok({key: value for key, value in TEMPLATE.items() if key != "children"}))
    template = client.capture(7, name="sealift-1-a", block_device_ids=[1, 5], note="a note: grüß")
    assert (template.id, template.name, template.children) == (12662782, "sealift-1-a", [])
    (seen,) = api.seen
    assert (seen.service, seen.method, seen.identifier) == ("SoftLayer_Virtual_Guest", "createArchiveTemplate", 7)
    assert seen.args == ["sealift-1-a", [{"id": 1}, {"id": 5}], "a note: grüß"]
    with pytest.raises(ValueError, match="block device"):
        client.capture(7, name="x", block_device_ids=[], note="")


@pytest.mark.parametrize("reply", [{"name": "x"}, [], True, None])
def test_a_capture_whose_reply_is_no_template_may_have_happened(api: Api, client: ClassicClient, reply: Any) -> None:
    api.answers(api.ok(reply))
    with pytest.raises(ClassicOutcomeUnknownError, match="look before"):
        client.capture(7, name="x", block_device_ids=[1], note="")
    assert len(api.seen) == 1


def test_export_is_accepted_by_a_literal_true_only(api: Api, client: ClassicClient) -> None:
    api.answers(api.ok(True))
    client.export_template(5, uri="cos://us-south/b/k/disk.vhd", ibm_api_key="PLANTED-cos")
    (seen,) = api.seen
    assert seen.method == "copyToIcos"
    assert seen.service == "SoftLayer_Virtual_Guest_Block_Device_Template_Group"
    assert seen.args == [{"uri": "cos://us-south/b/k/disk.vhd", "ibmApiKey": "PLANTED-cos"}]
    for wrong in (False, None, 1, "true", {"id": 5}, []):
        api.answers(api.ok(wrong))
        with pytest.raises(ClassicBadReplyError, match="copyToIcos"):
            client.export_template(5, uri="cos://us-south/b/k/disk.vhd", ibm_api_key="PLANTED-cos")


def test_keys_travel_where_they_belong(api: Api, make_client: Callable[..., ClassicClient], secret: str) -> None:
    api.answers(api.ok({"id": 1}))
    make_client().account_id()
    make_client(username="apikey").account_id()
    classic, cloud = api.seen
    assert all(secret not in seen.path for seen in api.seen)
    assert cloud.headers["Authorization"].startswith("Basic ")
    if api.transport == "rest":
        assert classic.headers["Authorization"].startswith("Basic ")
    else:
        assert "Authorization" not in classic.headers
        assert b"authenticate" in classic.body
        assert b"authenticate" not in cloud.body


def test_nothing_of_the_machine_gets_in(
    api: Api, make_client: Callable[..., ClassicClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Neither the SoftLayer package's files and variables, nor ~/.netrc, nor a proxy on the way to this machine."""
    # Were it read, the second section of the same name would be an error.
    (tmp_path / ".softlayer").write_text("[softlayer]\nusername = intruder\napi_key = INTRUDER\n[softlayer]\n")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login intruder password INTRUDER\n")
    (tmp_path / ".netrc").chmod(0o600)
    for name, value in {
        "HOME": str(tmp_path),
        "SL_USERNAME": "intruder",
        "SL_API_KEY": "INTRUDER",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    api.answers(api.ok({"id": 1}))
    assert make_client().account_id() == 1
    (seen,) = api.seen
    assert b"ntruder" not in seen.body
    if api.transport == "xmlrpc":
        assert "Authorization" not in seen.headers


def test_settings_are_checked() -> None:
    with pytest.raises(ClassicAuthError, match="no API key"):
        ClassicClient(username="a", api_key="")
    with pytest.raises(ClassicAuthError, match="no user name"):
        ClassicClient(username="", api_key="a")
    for wrong in ({"page_size": 101}, {"page_size": 0}, {"timeout": 0}, {"max_attempts": 0}, {"retry_max_wait": -1}):
        with pytest.raises(ValueError, match="page_size"):
            ClassicClient(username="a", api_key="b", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="below 50"):
        ClassicClient(username="limit", api_key="b", requests_per_second=50)


def test_the_clients_of_an_account_share_their_limiter() -> None:
    one = ClassicClient(username="shared", api_key="a")
    rest = ClassicClient(username="shared", api_key="a", transport="rest")
    other = ClassicClient(username="other", api_key="a")
    cloud, second = (ClassicClient(username="apikey", api_key=key) for key in ("a", "b"))
    assert one._limiter is rest._limiter
    assert len({id(client._limiter) for client in (one, other, cloud, second)}) == 4


def test_importing_the_client_is_cheap() -> None:
    code = "import sys, sealift.classic.client as c; c.ClassicClient(username='a', api_key='b'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "sealift.classic.client" in loaded
    assert {"SoftLayer", "requests", "airflow"}.isdisjoint(loaded)


def test_not_found(api: Api, client: ClassicClient) -> None:
    api.answers(api.fault("Unable to find object with id of '1'.", "SoftLayer_Exception_ObjectNotFound", status=404))
    with pytest.raises(ClassicNotFoundError, match=r"SoftLayer_Virtual_Guest::getObject.*Unable to find"):
        client.guest_detail(1)
    assert len(api.seen) == 1
