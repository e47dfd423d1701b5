"""The client against the sandbox: a whole capture and export, every fault that it injects, and thousands of servers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sealift.classic import filters
from sealift.classic.client import ClassicClient
from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicAuthError,
    ClassicError,
    ClassicNotFoundError,
    ClassicOutcomeUnknownError,
    ClassicRateLimitedError,
    ClassicTransientError,
    ClassicUnreachableError,
)
from sealift.classic.limiter import Limiter
from sealift.classic.models import Guest
from sealift.sandbox import Sandbox

Connect = Callable[..., ClassicClient]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The six servers of the demo; nothing here changes them but captures."""
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=300.0) as started:
        started.switches.set("requests_per_second", 0)
        yield started


@pytest.fixture
def sandbox(box: Sandbox) -> Iterator[Sandbox]:
    """The same with all faults ended after the test."""
    yield box
    box.faults.clear()


def connect_to(target: Sandbox, transport: str, **settings: Any) -> ClassicClient:
    given: dict[str, Any] = {
        "username": target.username,
        "api_key": target.api_key,
        "endpoint_url": target.api_url,
        "transport": transport,
        "timeout": 20.0,
        "sleep": lambda _: None,
        "rng": random.Random(7),
        "limiter": Limiter(rate=48, sleep=lambda _: None),
    }
    return ClassicClient(**(given | settings))


@pytest.fixture
def connect(sandbox: Sandbox, transport: str) -> Iterator[Connect]:
    made: list[ClassicClient] = []

    def make(**settings: Any) -> ClassicClient:
        made.append(connect_to(sandbox, transport, **settings))
        return made[-1]

    yield make
    for client in made:
        client.close()


def guest(client: ClassicClient, hostname: str) -> Guest:
    (found,) = client.list_guests(object_filter=filters.guests(hostname=hostname))
    return found


def disks(one: Guest) -> list[int]:
    return [device.id for device in one.block_devices if device.left_out_because is None]


def captures(target: Sandbox, name: str) -> int:
    return sum(one["name"] == name for one in target.templates())


def test_both_transports_read_the_same(sandbox: Sandbox) -> None:
    xmlrpc, rest = (connect_to(sandbox, transport) for transport in ("xmlrpc", "rest"))
    guests = xmlrpc.list_guests()
    assert len(guests) == 6
    assert guests == rest.list_guests()
    assert xmlrpc.get_guests([one.id for one in guests]) == {one.id: one for one in guests}
    assert xmlrpc.list_bare_metal() == rest.list_bare_metal() != []
    assert xmlrpc.datacenter_names() == rest.datacenter_names() > {"dal13"}
    assert xmlrpc.account_id() == rest.account_id()
    for one in guests:
        assert xmlrpc.guest_detail(one.id) == rest.guest_detail(one.id)
        assert xmlrpc.block_devices(one.id) == rest.block_devices(one.id) != []
        assert xmlrpc.attributes(one.id) == rest.attributes(one.id)
        assert xmlrpc.attached_storage(one.id) == rest.attached_storage(one.id)
    for client in (xmlrpc, rest):
        client.close()


def test_the_demo_servers_are_seen_as_they_are(connect: Connect) -> None:
    client = connect()
    by_name = {one.hostname: one for one in client.list_guests()}
    assert sum(len(disks(one)) for name, one in by_name.items() if name != "legacy-01") == 8
    assert by_name["web-01"].dedicated_host_name
    assert by_name["batch-01"].power_state == "HALTED"
    assert by_name["legacy-01"].active_transaction is not None
    storage = client.attached_storage(by_name["files-01"].id)
    assert {one.nas_type for one in storage} == {"ISCSI", "NAS"}
    detail = client.guest_detail(by_name["web-01"].id)
    assert detail["hostname"] == "web-01"
    assert detail["operatingSystem"]["softwareLicense"]["softwareDescription"]["name"]


def test_nothing_planted_is_ever_read(connect: Connect, sandbox: Sandbox) -> None:
    assert "PLANTED" in repr(list(sandbox.world.guests.values())), "there is nothing to find"
    client = connect()
    guests = client.list_guests()
    read: list[Any] = [guests, client.list_bare_metal(), client.templates_with_prefix("")]
    for one in guests:
        read += [client.guest_detail(one.id), client.block_devices(one.id), client.attributes(one.id)]
        read += [client.attached_storage(one.id), client.guest_states([one.id])]
    assert "PLANTED" not in repr(read)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"hostname": "*-01"}, 6),
        ({"hostname": "web*"}, 1),
        ({"hostname": "nope"}, 0),
        ({"tags": ["demo"]}, 6),
        ({"tags": ["db", "web"]}, 2),
        ({"datacenters": ["dal13"], "tags": ["demo"]}, 2),
        ({"datacenters": ["mars01"]}, 0),
        ({"domain": "example.com", "hostname": "*files*"}, 1),
    ],
)
def test_filters_select(connect: Connect, conditions: dict[str, Any], expected: int) -> None:
    assert len(connect().list_guests(object_filter=filters.guests(**conditions))) == expected


def test_filters_select_a_dedicated_host_and_ids(connect: Connect) -> None:
    client = connect()
    web = guest(client, "web-01")
    assert web.dedicated_host_id is not None
    by_host = filters.guests(dedicated_host_id=web.dedicated_host_id)
    assert [one.id for one in client.list_guests(object_filter=by_host)] == [web.id]
    by_ids = filters.guests(ids=[web.id, 1])
    assert [one.id for one in client.list_guests(object_filter=by_ids)] == [web.id]
    assert set(client.guest_states([web.id, 1])) == {web.id}


def test_capture_and_export_end_to_end(connect: Connect, sandbox: Sandbox, transport: str) -> None:
    client = connect()
    db, name = guest(client, "db-01"), f"sealift-whole-{transport}"
    assert client.templates_named(name) == []
    template = client.capture(db.id, name=name, block_device_ids=disks(db), note="a note")
    assert (template.name, template.note) == (name, "a note")
    assert client.guest_states([db.id])[db.id].active_transaction is not None
    with pytest.raises(ClassicActiveTransactionError):
        client.capture(db.id, name=f"{name}-2", block_device_ids=disks(db), note="")

    def idle() -> bool:
        (state,) = client.template_states([template.id]).values()
        return bool(state.children) and not state.transactions_left

    sandbox.wait_until(idle, what="the template to be finished")
    (done,) = client.templates_named(name)
    assert done.id == template.id
    (child,) = done.children
    assert sum(disk.disk_space is not None and disk.disk_space > 0 for disk in child.block_devices) == 4
    assert child.block_devices_disk_space_total
    assert client.guest_states([db.id])[db.id].active_transaction is None
    assert [one.id for one in client.templates_with_prefix(name)] == [template.id]
    assert [one.id for one in client.templates_ending(name[3:])] == [template.id]
    assert client.templates_ending(f"{name}-") == []

    stem = f"images/{name}/disk"
    uri = f"cos://{sandbox.region}/{sandbox.bucket}/{stem}.vhd"
    client.export_template(template.id, uri=uri, ibm_api_key=sandbox.cos_api_key)
    keys = [f"{stem}-{number}.vhd" for number in range(4)]
    sandbox.wait_until(
        lambda: idle() and all(sandbox.store.head(sandbox.bucket, key) for key in keys), what="the exported disks"
    )


@pytest.mark.parametrize("fault", ["rate_limit", "transient_500", "error_in_200", "lost_request"])
def test_reads_survive_passing_faults(connect: Connect, sandbox: Sandbox, fault: str) -> None:
    client = connect()
    client.account_id()
    sandbox.set_fault(fault, times=3)
    before = sandbox.faults.counters()[fault]["hits"]
    assert len(client.list_guests()) == 6
    assert sandbox.faults.counters()[fault]["hits"] == before + 3
    sandbox.set_fault(fault, rate=1.0)
    with pytest.raises(ClassicTransientError):
        client.account_id()


@pytest.mark.parametrize("fault", ["empty_200", "lost_reply"])
def test_reads_survive_lost_replies(connect: Connect, sandbox: Sandbox, fault: str) -> None:
    sandbox.set_fault(fault, times=2)
    assert len(connect().list_guests()) == 6


@pytest.mark.parametrize(
    ("fault", "error", "made"),
    [
        ("lost_reply", ClassicOutcomeUnknownError, 1),
        ("empty_200", ClassicOutcomeUnknownError, 1),
        ("lost_request", ClassicOutcomeUnknownError, 0),
        ("transient_500", ClassicOutcomeUnknownError, 0),
        ("error_in_200", ClassicOutcomeUnknownError, 0),
        ("rate_limit", ClassicRateLimitedError, 0),
    ],
)
def test_a_capture_is_sent_once_whatever_happens(
    connect: Connect, sandbox: Sandbox, transport: str, fault: str, error: type[ClassicError], made: int
) -> None:
    client = connect()
    batch, name = guest(client, "batch-01"), f"sealift-{fault}-{transport}"
    sandbox.wait_until(
        lambda: client.guest_states([batch.id])[batch.id].active_transaction is None, what="the server to be idle"
    )
    sandbox.set_fault(fault, times=1)
    with pytest.raises(ClassicError) as caught:
        client.capture(batch.id, name=name, block_device_ids=disks(batch), note="")
    assert type(caught.value) is error
    assert sandbox.faults.counters()[fault]["times"] == 0
    assert captures(sandbox, name) == made
    assert len(client.templates_named(name)) == made, "looking up tells what happened"


def test_lists_of_one_and_lists_without_total(connect: Connect, sandbox: Sandbox) -> None:
    client = connect()
    web = guest(client, "web-01")
    sandbox.set_fault("unwrapped_single", rate=1.0)
    sandbox.set_fault("missing_total", rate=1.0)
    assert len(client.list_guests()) == 6
    assert guest(client, "web-01") == web
    assert set(client.get_guests([web.id])) == {web.id}
    assert client.block_devices(web.id)[0]["device"] == "0"


def test_a_guest_that_vanishes(connect: Connect, sandbox: Sandbox) -> None:
    client = connect()
    web = guest(client, "web-01")
    sandbox.set_fault("guest_404", rate=1.0)
    assert client.guest_states([web.id]) == {}
    with pytest.raises(ClassicNotFoundError):
        client.guest_detail(web.id)


def test_keys(connect: Connect, sandbox: Sandbox, transport: str) -> None:
    with pytest.raises(ClassicAuthError, match="Invalid API token"):
        connect(api_key="PLANTED-wrong").account_id()
    with pytest.raises(ClassicAuthError):
        connect(username="somebody").account_id()
    account = connect().account_id()
    assert connect(username="apikey", api_key=sandbox.cos_api_key).account_id() == account
    with pytest.raises(ClassicAuthError):
        connect(username="apikey", api_key="PLANTED-wrong").account_id()


def test_over_tls(tmp_path: Path, transport: str) -> None:
    with Sandbox(root=tmp_path / "state", servers=1, tls=True) as secured:
        assert secured.tls is not None
        assert secured.api_url.startswith("https:")
        client = connect_to(secured, transport, verify=str(secured.tls.ca))
        assert client.account_id() > 0
        client.close()
        for action in (
            lambda one: one.account_id(),
            lambda one: one.capture(1, name="n", block_device_ids=[1], note=""),
        ):
            with pytest.raises(ClassicUnreachableError, match="certificate is not trusted"):
                action(connect_to(secured, transport, max_attempts=1))


def test_many_servers_are_read_whole_within_the_rate(tmp_path: Path, transport: str) -> None:
    """1,050 servers in 11 pages, the sandbox's own limit of 50 requests a second left on, none refused."""
    with Sandbox(root=tmp_path / "state", servers=1050, seed=5) as many:
        client = connect_to(many, transport, limiter=Limiter(rate=40))
        guests = client.list_guests()
        assert len({one.id for one in guests}) == 1050
        assert [one.id for one in guests] == sorted(one.id for one in guests)
        states = client.guest_states([one.id for one in guests])
        assert set(states) == {one.id for one in guests}
        many.set_fault("missing_total", rate=1.0)
        assert len(client.list_guests()) == 1050
        client.close()


def test_two_clients_in_many_threads_stay_below_the_rate(tmp_path: Path) -> None:
    with Sandbox(root=tmp_path / "state", servers=3) as busy:
        shared = Limiter(rate=40)
        clients = [connect_to(busy, transport, limiter=shared, max_attempts=1) for transport in ("xmlrpc", "rest")]
        number = clients[0].list_guests()[0].id
        with ThreadPoolExecutor(16) as pool:
            details = list(pool.map(lambda turn: clients[turn % 2].guest_detail(number), range(100)))
        assert [one["id"] for one in details] == [number] * 100
        assert 25 <= busy.counts()["peak_requests_per_second"] < 50
        for one in clients:
            one.close()


ASK = """
import sys
from sealift.classic.client import ClassicClient
client = ClassicClient(
    username=sys.argv[1], api_key=sys.stdin.readline().strip(), endpoint_url=sys.argv[2], requests_per_second=40.0
)
for _ in range(int(sys.argv[3])):
    assert client.account_id() > 0
client.close()
"""


def test_processes_whose_account_allows_less_settle_below_it_and_no_call_fails(tmp_path: Path) -> None:
    """Four processes share what they learn by the machine's file, as Airflow's tasks do; the limit is 12 a second."""
    calls = 45
    with Sandbox(root=tmp_path / "state", servers=1) as strict:
        strict.switches.set("requests_per_second", 12)
        workers = []
        for _ in range(4):
            worker = subprocess.Popen(
                [sys.executable, "-c", ASK, strict.username, strict.api_url, str(calls)],
                stdin=subprocess.PIPE,
                text=True,
                env={**os.environ, "TMPDIR": str(tmp_path)},
            )
            assert worker.stdin is not None
            worker.stdin.write(f"{strict.api_key}\n")
            worker.stdin.close()
            workers.append(worker)
        assert [one.wait(timeout=120) for one in workers] == [0, 0, 0, 0]
        counts = strict.counts()["calls"]
    refused = counts["refused for the rate"]
    assert counts["SoftLayer_Account::getObject"] == 4 * calls + refused
    assert 1 <= refused <= 0.2 * 4 * calls, "some, until it has learned"
    (state,) = tmp_path.glob("sealift-*/rate-*")
    assert state.stat().st_size == 24
