"""The proxy: clean, it changes nothing; with a fault, each of the real clients sees what its verdicts promise."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sealift.classic.client import ClassicClient
from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicError,
    ClassicOutcomeUnknownError,
    ClassicRateLimitedError,
    ClassicTransientError,
)
from sealift.cos.client import CosClient
from sealift.cos.models import PutOutcome
from sealift.sandbox import Sandbox
from tests.chaos.faults import WIRE_FAULTS, FaultPlan
from tests.chaos.peers import process_of
from tests.chaos.proxy import FaultProxy, Point

TIMEOUT = 1.0
REFUSED: dict[str, type[ClassicError]] = {
    "rate_limit": ClassicRateLimitedError,
    "http_429": ClassicRateLimitedError,
    "expired_token": ClassicTransientError,
}
"""What a write brings where the API refuses it for certain; with every other fault its outcome is unknown."""
NEVER_CARRIED_OUT = {
    "drop_before",
    "reset_before",
    "http_429",
    "http_500",
    "http_502",
    "http_503",
    "rate_limit",
    "error_in_200",
    "expired_token",
    "hang",
}
FINE = {"slow"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), servers=60, seed=5) as started:
        yield started


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan(seed=1)


@pytest.fixture
def points() -> list[Point]:
    return []


@pytest.fixture
def proxied(sandbox: Sandbox, plan: FaultPlan, points: list[Point]) -> Iterator[Callable[[str], FaultProxy]]:
    made: dict[str, FaultProxy] = {}

    def make(service: str) -> FaultProxy:
        if service not in made:
            upstream = sandbox.cos_url if service == "cos" else sandbox.api_url
            made[service] = FaultProxy(
                upstream=upstream, service=service, plan=plan, on_point=points.append, slow_seconds=0.1
            )
            made[service].start()
        return made[service]

    yield make
    for one in made.values():
        one.stop()
    assert not [one.name for one in threading.enumerate() if one.name.startswith("proxy-")]


@pytest.fixture
def classic(sandbox: Sandbox, proxied: Callable[[str], FaultProxy]) -> Callable[[str], ClassicClient]:
    def make(transport: Any) -> ClassicClient:
        return ClassicClient(
            username=sandbox.username,
            api_key=sandbox.api_key,
            endpoint_url=proxied("classic").url,
            transport=transport,
            timeout=TIMEOUT,
            requests_per_second=48,
            retry_max_wait=0.05,
        )

    return make


@pytest.fixture
def cos(sandbox: Sandbox, proxied: Callable[[str], FaultProxy]) -> CosClient:
    return CosClient(
        region=sandbox.region,
        endpoint_url=proxied("cos").url,
        api_key=sandbox.cos_api_key,
        service_instance_id=sandbox.cos_service_instance_id,
        iam_endpoint=f"{proxied('classic').url}/identity/token",
        timeout=TIMEOUT,
    )


# Classic


@pytest.mark.parametrize("fault", WIRE_FAULTS)
@pytest.mark.parametrize("transport", ["xmlrpc", "rest"])
def test_a_read_of_the_account_goes_through_whatever_happens_once(
    classic: Callable[[str], ClassicClient], plan: FaultPlan, transport: str, fault: str
) -> None:
    client = classic(transport)
    known = len(client.list_guests())
    plan.set(f"{fault}@classic", times=1)
    assert len(client.list_guests()) == known == 60
    assert plan.counts() == {fault: 1}


@pytest.fixture(scope="module")
def idle(sandbox: Sandbox) -> Iterator[int]:
    """Servers that can be captured, each to be used once."""
    busy = {one["guestId"] for one in sandbox.world.running.values()}
    return iter([number for number in sandbox.world.guests if number not in busy])


@pytest.mark.parametrize("fault", WIRE_FAULTS)
@pytest.mark.parametrize("transport", ["xmlrpc", "rest"])
def test_a_capture_is_sent_once_and_nothing_is_taken_for_certain_that_is_not(
    classic: Callable[[str], ClassicClient],
    plan: FaultPlan,
    sandbox: Sandbox,
    idle: Iterator[int],
    transport: str,
    fault: str,
) -> None:
    client = classic(transport)
    number = next(idle)
    guest = client.get_guests([number])[number]
    system = [one.id for one in guest.block_devices if one.device == "0"]
    name = f"sealift-{guest.id}-{transport}-{fault}"
    plan.set(f"{fault}@classic:createArchiveTemplate", times=1)
    outcome: Exception | None = None
    try:
        client.capture(guest.id, name=name, block_device_ids=system, note="n")
    except ClassicError as error:
        outcome = error
    accepted = [
        one
        for one in sandbox.writes()
        if one["method"] == "createArchiveTemplate" and name in one["args"] and not one["error"]
    ]
    assert len(accepted) == (0 if fault in NEVER_CARRIED_OUT else 1), "it was sent again, or not at all"
    if fault in FINE:
        assert outcome is None
    elif fault == "twice":
        assert outcome is None or isinstance(outcome, ClassicActiveTransactionError)
    else:
        assert type(outcome) is REFUSED.get(fault, ClassicOutcomeUnknownError), outcome
    assert plan.counts() == {fault: 1}


# The object store and IAM

COS_FAULTS = [one for one in WIRE_FAULTS if one not in {"rate_limit", "error_in_200"}]


@pytest.mark.parametrize("fault", COS_FAULTS)
def test_the_store_is_read_rightly_whatever_happens_once(
    cos: CosClient, plan: FaultPlan, sandbox: Sandbox, fault: str
) -> None:
    key = f"{fault}/a"
    cos.put(sandbox.bucket, key, b"x" * 1000)
    calls: dict[str, Callable[[], Any]] = {
        "list": lambda: [one.key for one in cos.list(sandbox.bucket, f"{fault}/")],
        "read": lambda: cos.read(sandbox.bucket, key),
        "range": lambda: cos.read_range(sandbox.bucket, key, start=10, length=90),
        "head": lambda: getattr(cos.head(sandbox.bucket, key), "size", None),
        "uploads": lambda: cos.list_multipart_uploads(sandbox.bucket, f"{fault}/"),
    }
    expected = {"list": [key], "read": b"x" * 1000, "range": b"x" * 90, "head": 1000, "uploads": []}
    for name, call in calls.items():
        plan.set(f"{fault}@cos", times=1)
        assert call() == expected[name], name
    assert plan.counts() == {fault: len(calls)}


@pytest.mark.parametrize("fault", COS_FAULTS)
def test_a_conditional_put_is_ours_or_not_whatever_happens_once(
    cos: CosClient, plan: FaultPlan, sandbox: Sandbox, fault: str
) -> None:
    plan.set(f"{fault}@cos:PutObject", times=1)
    assert cos.put_if_absent(sandbox.bucket, f"{fault}/put", b"ours") is not PutOutcome.EXISTS_DIFFERENT
    assert cos.read(sandbox.bucket, f"{fault}/put") == b"ours"
    plan.set(f"{fault}@cos:PutObject", times=1)
    assert cos.put_if_absent(sandbox.bucket, f"{fault}/put", b"theirs") is PutOutcome.EXISTS_DIFFERENT
    assert cos.read(sandbox.bucket, f"{fault}/put") == b"ours"


@pytest.mark.parametrize(
    "fault", [one for one in WIRE_FAULTS if one not in {"rate_limit", "error_in_200", "expired_token"}]
)
def test_a_token_is_had_whatever_happens_once(cos: CosClient, plan: FaultPlan, sandbox: Sandbox, fault: str) -> None:
    plan.set(f"{fault}@iam", times=1)
    assert isinstance(list(cos.list(sandbox.bucket, "nothing/")), list)
    assert plan.counts() == {fault: 1}


# The proxy itself


def test_a_large_object_goes_both_ways_and_ranges_come_as_asked(
    sandbox: Sandbox, proxied: Callable[[str], FaultProxy], tmp_path: Path
) -> None:
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config

    s3 = boto3.client(
        "s3",
        endpoint_url=proxied("cos").url,
        aws_access_key_id=sandbox.hmac_access_key_id,
        aws_secret_access_key=sandbox.hmac_secret_access_key,
        region_name=sandbox.region,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    data = os.urandom(12 * 2**20)
    source = tmp_path / "data"
    source.write_bytes(data)
    s3.upload_file(str(source), sandbox.bucket, "large")  # in parts, with 100-continue and checksums in trailers
    assert s3.get_object(Bucket=sandbox.bucket, Key="large")["Body"].read() == data
    ranged = s3.get_object(Bucket=sandbox.bucket, Key="large", Range="bytes=5000000-5000099")
    assert ranged["Body"].read() == data[5000000:5000100]
    assert s3.head_object(Bucket=sandbox.bucket, Key="large")["ContentLength"] == len(data)
    s3.delete_object(Bucket=sandbox.bucket, Key="large")


def test_curl_keeps_its_connection(sandbox: Sandbox, proxied: Callable[[str], FaultProxy]) -> None:
    url = f"{proxied('classic').url}/rest/v3.1/SoftLayer_Account/getObject.json"
    said = subprocess.run(
        ["curl", "-sv", "--noproxy", "*", "-K", "-", url, url],
        input=f'user = "{sandbox.username}:{sandbox.api_key}"\n',
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.count('"id"') == 2
    assert "Re-using existing connection" in said.stderr


def test_points_come_in_order_and_name_the_process_that_asked(
    sandbox: Sandbox, plan: FaultPlan, classic: Callable[[str], ClassicClient]
) -> None:
    seen: list[tuple[Point, int | None]] = []
    client = classic("xmlrpc")
    proxy = FaultProxy(
        upstream=sandbox.api_url,
        service="classic",
        plan=plan,
        on_point=lambda point: seen.append((point, process_of(point.peer_port))),
    )
    with proxy:
        client = ClassicClient(
            username=sandbox.username, api_key=sandbox.api_key, endpoint_url=proxy.url, transport="xmlrpc"
        )
        client.list_guests()
    assert [(one.method, one.phase) for one, _ in seen[:3]] == [
        ("SoftLayer_Account::getVirtualGuests", phase) for phase in ("arrived", "forwarded", "answered")
    ]
    assert {pid for one, pid in seen if one.phase != "answered"} == {os.getpid()}


def test_a_service_that_is_not_there_drops_the_connection(plan: FaultPlan) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    dead = f"http://127.0.0.1:{port}"
    with FaultProxy(upstream=dead, service="classic", plan=plan) as proxy, pytest.raises(requests.ConnectionError):
        requests.get(proxy.url, timeout=10, proxies={"http": ""})


def test_a_hanging_request_ends_with_the_proxy(sandbox: Sandbox, plan: FaultPlan) -> None:
    plan.set("hang", rate=1.0)
    with FaultProxy(upstream=sandbox.api_url, service="classic", plan=plan) as proxy:
        waiting = socket.create_connection(("127.0.0.1", proxy.port))
        waiting.sendall(b"GET /rest/v3.1/SoftLayer_Account.json HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.settimeout(0.3)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        waiting.settimeout(10)
    assert waiting.recv(1) == b""
    waiting.close()
