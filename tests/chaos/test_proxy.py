"""The proxy itself: it passes on what HTTP has, to clients that nobody here wrote, and ends when it is told to."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import requests

from sealift.classic.client import ClassicClient
from sealift.cos.client import CosClient
from sealift.sandbox import Sandbox
from tests.chaos.faults import WIRE_FAULTS, FaultPlan
from tests.chaos.peers import process_of
from tests.chaos.plain_service import PlainService
from tests.chaos.proxy import DroppedError, FaultProxy, Point

MIB = 2**20


@pytest.fixture
def service() -> Iterator[PlainService]:
    one = PlainService()
    yield one
    one.end()


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan(seed=1)


@contextmanager
def proxied(upstream: str, plan: FaultPlan, service: str = "cos", **settings: Any) -> Iterator[FaultProxy]:
    """A proxy of which nothing is left at the end."""
    with FaultProxy(upstream=upstream, service=service, plan=plan, **settings) as proxy:
        yield proxy
    assert proxy.errors == []
    assert not [one.name for one in threading.enumerate() if one.name.startswith("proxy-")]


@pytest.fixture
def proxy(service: PlainService, plan: FaultPlan) -> Iterator[FaultProxy]:
    with proxied(service.url, plan) as one:
        yield one


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as one:
        one.trust_env = False
        yield one


def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(body: bytes) -> str:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


# What HTTP has


def test_replies_of_all_kinds(proxy: FaultProxy, session: requests.Session, service: PlainService) -> None:
    assert session.get(f"{proxy.url}/chunked", timeout=10).text == "hello world"
    assert session.get(f"{proxy.url}/early", timeout=10).text == "late"
    assert session.get(f"{proxy.url}/by-end", timeout=10).text == "until the end"
    for path in ("/204", "/304"):
        reply = session.get(f"{proxy.url}{path}", timeout=10)
        assert (reply.status_code, reply.content) == (int(path[1:]), b"")
    head = session.head(f"{proxy.url}/large/1000000", timeout=10)
    assert (head.headers["Content-Length"], head.content) == ("1000000", b"")
    assert session.head(f"{proxy.url}/chunked", timeout=10).content == b""
    reply = session.put(f"{proxy.url}/b/k", data=b"v" * 700_000, timeout=10)
    assert reply.text == told(b"v" * 700_000)
    assert reply.raw.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
    assert session.post(f"{proxy.url}/b/k", data=iter([b"x" * 100_000, b"y"]), timeout=10).text == told(
        b"x" * 100_000 + b"y"
    )
    assert session.delete(f"{proxy.url}/b/k", timeout=10).text == told(b"")
    assert len(service.seen) == 10


def test_many_requests_share_a_connection_and_their_order(proxy: FaultProxy, plan: FaultPlan) -> None:
    """Requests that a client sends without waiting are answered one after the other."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        for number in range(50):
            client.sendall(f"PUT /b/{number} HTTP/1.1\r\nHost: x\r\nContent-Length: {number}\r\n\r\n".encode())
            client.sendall(b"q" * number)
        with client.makefile("rb") as replies:
            for number in range(50):
                length = 0
                while (line := replies.readline()) != b"\r\n":
                    length = int(line.split()[1]) if line.lower().startswith(b"content-length") else length
                assert replies.read(length).decode() == told(b"q" * number)


def test_what_is_no_http_ends_the_connection(proxy: FaultProxy, service: PlainService) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(nonsense)
            assert client.recv(1) == b""
    assert service.seen == []


def test_a_client_of_http_1_0_gets_its_reply_and_the_end(proxy: FaultProxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(b"GET /plain HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as replies:
            assert replies.read().endswith(told(b"").encode())


def test_large_bodies_pass_in_pieces(proxy: FaultProxy, service: PlainService) -> None:
    """Both ways, with a length and in one huge chunk; of 64 MiB no more than a few pieces are in memory at a time."""
    size = 64 * MIB
    piece = b"z" * 65536

    def upload(head: bytes, tail: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
            client.sendall(head)
            for _ in range(size // len(piece)):
                client.sendall(piece)
            client.sendall(tail)
            with client.makefile("rb") as reply:
                return reply.read()

    tracemalloc.start()
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
            client.sendall(f"GET /large/{size} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            count = 0
            while got := client.recv(65536):
                count += len(got)
        assert size < count < size + 1000
        put = b"PUT /b/k HTTP/1.1\r\nConnection: close\r\n"
        assert upload(put + f"Content-Length: {size}\r\n\r\n".encode(), b"").startswith(b"HTTP/1.1 200")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB, f"{peak / MIB:.1f} MiB"
    assert service.seen[-1][2].startswith(f"{size} ")


# Clients that nobody here wrote


def curl(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--max-time", "30", *arguments], input=given, capture_output=True, check=False
    )


def test_curl_keeps_its_connection_waits_to_be_asked_and_sends_chunks(proxy: FaultProxy, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    (tmp_path / "data").write_bytes(data)
    said = curl("-v", f"{proxy.url}/a", f"{proxy.url}/b")
    assert b"Re-using existing connection" in said.stderr
    waiting = curl("-v", "-T", str(tmp_path / "data"), "-H", "Expect: 100-continue", f"{proxy.url}/b/k")
    assert b"100 Continue" in waiting.stderr
    assert waiting.stdout.decode() == told(data)
    assert curl("-T", "-", f"{proxy.url}/b/k", given=data).stdout.decode() == told(data)
    assert curl("-I", f"{proxy.url}/large/5").returncode == 0


# As curl says it: 52 no reply at all, 56 the connection was reset, 18 a part only, 28 too late.
CURL_SAYS = {
    "drop_before": 52,
    "lost_reply": 52,
    "reset_before": 56,
    "reset_after": 56,
    "truncated_body": 18,
    "hang": 28,
    "hang_after": 28,
}


@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_each_fault_as_curl_sees_it(service: PlainService, plan: FaultPlan, fault: str) -> None:
    plan.set(fault, times=1)
    with proxied(service.url, plan, "classic", slow_seconds=0.1) as proxy:
        said = curl("-w", "%{http_code}", "--max-time", "0.5" if fault.startswith("hang") else "30", f"{proxy.url}/x")
    assert said.returncode == CURL_SAYS.get(fault, 0), said.stderr
    if said.returncode == 0:
        number = "".join(one for one in fault if one.isdigit())
        expected = {"rate_limit": "500", "expired_token": "500"}.get(fault, number or "200")
        assert said.stdout[-3:].decode() == expected
    assert plan.counts() == {fault: 1}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo") as started:
        yield started


def boto_client(sandbox: Sandbox, url: str, **settings: Any) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=sandbox.hmac_access_key_id,
        aws_secret_access_key=sandbox.hmac_secret_access_key,
        region_name=sandbox.region,
        config=Config(s3={"addressing_style": "path"}, proxies={}, **settings),
    )


@pytest.mark.conformance
def test_boto3_finds_the_store_behind_it_as_it_is(sandbox: Sandbox, plan: FaultPlan, tmp_path: Path) -> None:
    """Signatures, 100-continue, checksums in trailers, parts, ranges and errors."""
    data = os.urandom(12 * MIB)
    (tmp_path / "data").write_bytes(data)
    with proxied(sandbox.cos_url, plan) as proxy:
        s3 = boto_client(sandbox, proxy.url)
        s3.upload_file(str(tmp_path / "data"), sandbox.bucket, "large")
        assert s3.get_object(Bucket=sandbox.bucket, Key="large")["Body"].read() == data
        ranged = s3.get_object(Bucket=sandbox.bucket, Key="large", Range="bytes=5000000-5000099")
        assert ranged["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert ranged["Body"].read() == data[5000000:5000100]
        assert s3.head_object(Bucket=sandbox.bucket, Key="large")["ContentLength"] == len(data)
        with pytest.raises(s3.exceptions.NoSuchKey):
            s3.get_object(Bucket=sandbox.bucket, Key="none")
        s3.delete_object(Bucket=sandbox.bucket, Key="large")
        s3.close()


@pytest.mark.conformance
def test_boto3_gets_through_faults_by_its_own_retries(sandbox: Sandbox, plan: FaultPlan) -> None:
    with proxied(sandbox.cos_url, plan, slow_seconds=0.05) as proxy:
        s3 = boto_client(sandbox, proxy.url, retries={"total_max_attempts": 4, "mode": "standard"}, read_timeout=5)
        faults = ["drop_before", "lost_reply", "twice", "slow", "http_500", "http_503", "after_502", "truncated_body"]
        for fault in faults:
            plan.set(f"{fault}@cos:PutObject", times=1)
            s3.put_object(Bucket=sandbox.bucket, Key=fault, Body=b"x" * 600_000)
        assert plan.counts() == Counter(faults)
        found = s3.list_objects_v2(Bucket=sandbox.bucket)["Contents"]
        assert {one["Key"]: one["Size"] for one in found if one["Key"] in faults} == dict.fromkeys(faults, 600_000)
        s3.close()


# Points


def test_a_call_has_the_name_here_that_the_sandbox_writes_down(sandbox: Sandbox, plan: FaultPlan) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()

    def note(point: Point) -> None:
        with lock:
            seen[point.service, point.method] += point.phase == "forwarded"

    begun = max((one["seq"] for one in sandbox.history()), default=0)
    with ExitStack() as stack:
        api = stack.enter_context(proxied(sandbox.api_url, plan, "classic", on_point=note))
        store = stack.enter_context(proxied_store(sandbox, plan, note))
        for transport in ("xmlrpc", "rest"):
            classic = ClassicClient(
                username=sandbox.username, api_key=sandbox.api_key, endpoint_url=api.url, transport=transport
            )
            guests = classic.list_guests()
            classic.account_id()
            classic.guest_detail(guests[0].id)
            classic.attached_storage(guests[0].id)
            classic.templates_with_prefix("none")
            classic.list_bare_metal()
            classic.close()
        cos = CosClient(
            region=sandbox.region,
            endpoint_url=store.url,
            api_key=sandbox.cos_api_key,
            service_instance_id=sandbox.cos_service_instance_id,
            iam_endpoint=f"{api.url}/identity/token",
        )
        cos.preflight(bucket=sandbox.bucket, region=sandbox.region, prefix="a")
        cos.put(sandbox.bucket, "a/b c", b"1")
        cos.head(sandbox.bucket, "a/b c")
        cos.read(sandbox.bucket, "a/b c")
        cos.delete(sandbox.bucket, "a/b c")
        cos.bucket_names()
        cos.close()
    history = [one for one in sandbox.history(after=begun) if one["kind"] == "request"]
    assert +seen == Counter((one["service"], one["method"]) for one in history)
    assert len({one for one, count in seen.items() if count}) >= 16


def proxied_store(sandbox: Sandbox, plan: FaultPlan, note: Callable[[Point], None]) -> FaultProxy:
    return FaultProxy(upstream=sandbox.cos_url, service="cos", plan=plan, on_point=note)


def test_points_come_in_order_and_a_request_waits_at_each(service: PlainService, plan: FaultPlan) -> None:
    there, go_on = threading.Semaphore(0), threading.Semaphore(0)
    seen: list[Point] = []

    def stop_at(point: Point) -> None:
        seen.append(point)
        there.release()
        assert go_on.acquire(timeout=30)

    with proxied(service.url, plan, on_point=stop_at) as proxy, socket.socket() as client:
        client.connect(("127.0.0.1", proxy.port))
        client.sendall(b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
        assert there.acquire(timeout=30)
        assert service.seen == [], "arrived, and not passed on"
        go_on.release()
        assert there.acquire(timeout=30)
        assert len(service.seen) == 1, "carried out"
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.settimeout(30)
        go_on.release()
        assert there.acquire(timeout=30)
        assert client.recv(12) == b"HTTP/1.1 200", "answered"
        go_on.release()
        port = client.getsockname()[1]
    assert [one.phase for one in seen] == ["arrived", "forwarded", "answered"]
    assert {(one.service, one.method, one.target, one.peer_port) for one in seen} == {("cos", "PutObject", "b/k", port)}


@pytest.mark.parametrize("drops", [False, True])
def test_a_request_outlives_its_sender_unless_somebody_drops_it(
    service: PlainService, plan: FaultPlan, drops: bool
) -> None:
    """The sender is killed while its request stands before the service: a network would deliver it all the same."""
    senders: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    phases: list[str] = []

    def kill(point: Point) -> None:
        phases.append(point.phase)
        if point.phase == "arrived":
            sender = senders.get(timeout=30)
            sender.kill()
            sender.wait(timeout=30)
            if drops:
                raise DroppedError

    with proxied(service.url, plan, on_point=kill) as proxy:
        senders.put(sender := subprocess.Popen(["curl", "-s", "--noproxy", "*", f"{proxy.url}/x"]))
        assert sender.wait(timeout=30) == -signal.SIGKILL
        until(lambda: drops or "forwarded" in phases)
    assert [path for _, path, _ in service.seen] == ([] if drops else ["/x"])


def test_the_process_at_the_other_end_is_known_while_it_waits(service: PlainService, plan: FaultPlan) -> None:
    found: list[int | None] = []

    def look(point: Point) -> None:
        if point.phase != "answered":
            found.append(process_of(point.peer_port, to=proxy.port))
            found.append(process_of(point.peer_port, among=[os.getpid(), 1]))

    with proxied(service.url, plan, on_point=look) as proxy:
        code = f"import urllib.request as u; u.build_opener(u.ProxyHandler({{}})).open('{proxy.url}/x').read()"
        child = subprocess.Popen([sys.executable, "-c", code])
        assert child.wait(timeout=60) == 0
        assert found == [child.pid, None] * 2
        found.clear()
        requests.get(f"{proxy.url}/x", timeout=30, proxies={"http": ""})
        assert found == [os.getpid()] * 4
    assert process_of(1) is None


def test_what_a_point_raises_ends_the_connection_and_is_kept(service: PlainService, plan: FaultPlan) -> None:
    def fail(point: Point) -> None:
        raise RuntimeError("the kill point failed")

    with FaultProxy(upstream=service.url, service="cos", plan=plan, on_point=fail) as proxy:
        assert curl(f"{proxy.url}/x").returncode == 52
    assert [str(one) for one in proxy.errors] == ["the kill point failed"]
    assert service.seen == []


# Faults, as far as clients do not show them


def test_large_requests_are_delivered_twice_whole(proxy: FaultProxy, plan: FaultPlan, service: PlainService) -> None:
    data = os.urandom(5 * MIB)
    plan.set("twice", rate=1.0)
    for body in (data, iter([data[:100], data[100:]])):
        assert requests.put(f"{proxy.url}/b/k", data=body, timeout=30, proxies={"http": ""}).text == told(data)
    assert service.seen == [("PUT", "/b/k", told(data))] * 4
    for path in ("/chunked", "/by-end", "/large/3000000", "/204"):  # either reply, whole
        for _ in range(4):
            plain = requests.get(f"{service.url}{path}", timeout=30, proxies={"http": ""})
            twice = requests.get(f"{proxy.url}{path}", timeout=30, proxies={"http": ""})
            assert (plain.status_code, plain.content) == (twice.status_code, twice.content)


@pytest.mark.parametrize(
    ("path", "comes"), [("/large/3000000", b"z" * 1_500_000), ("/chunked", b"hel"), ("/by-end", b""), ("/204", b"")]
)
def test_a_reply_that_is_cut_short_is_seen_to_be(proxy: FaultProxy, plan: FaultPlan, path: str, comes: bytes) -> None:
    plan.set("truncated_body", rate=1.0)
    said = curl(f"{proxy.url}{path}")
    assert said.returncode == (18 if comes else 52)
    assert said.stdout == comes
    assert curl("--head", f"{proxy.url}{path}").returncode == 52


def test_a_slow_request_waits_as_it_is_told(service: PlainService, plan: FaultPlan) -> None:
    waited: list[float] = []
    plan.set("slow", rate=1.0)
    with proxied(service.url, plan, sleep=waited.append, slow_seconds=400.0) as proxy:
        for _ in range(20):
            assert requests.get(f"{proxy.url}/x", timeout=30, proxies={"http": ""}).status_code == 200
    assert len(waited) == 20
    assert 20.0 <= min(waited) < max(waited) <= 400.0


# The service comes and goes


def test_a_service_that_is_away_is_a_dropped_connection_and_found_again(plan: FaultPlan) -> None:
    service = PlainService()
    with proxied(service.url, plan) as proxy, requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{proxy.url}/1", timeout=30).status_code == 200
        service.end()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
            client.sendall(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1) == b""
        service = PlainService(service.port)
        # The connection that the client has kept leads to the one before; what it says now is sent on a new one.
        assert session.get(f"{proxy.url}/3", timeout=30).status_code == 200
        assert [path for _, path, _ in service.seen] == ["/3"]
        service.end()


# The end


@pytest.mark.parametrize("fault", ["hang", "hang_after", "slow"])
def test_what_waits_ends_with_the_proxy(service: PlainService, plan: FaultPlan, fault: str) -> None:
    plan.set(fault, rate=1.0)
    clients = []
    with proxied(service.url, plan, slow_seconds=10_000.0) as proxy:
        for _ in range(20):
            clients.append(client := socket.create_connection(("127.0.0.1", proxy.port), timeout=30))
            client.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: plan.counts().total() == 20)
    for client in clients:
        client.setblocking(True)
        assert client.recv(1) == b""
        client.close()


def test_a_hanging_request_ends_when_its_client_goes(service: PlainService, plan: FaultPlan) -> None:
    plan.set("hang", rate=1.0)
    with proxied(service.url, plan) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
            client.sendall(b"PUT /x HTTP/1.1\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000)
            until(lambda: plan.counts().total() == 1)
        until(lambda: all(one.name != "proxy-cos" for one in threading.enumerate()))


def test_it_stops_in_the_middle_of_everything(service: PlainService, plan: FaultPlan) -> None:
    """Idle connections, half a request, half a reply that nobody reads, and clients at work."""
    stopping = threading.Event()

    def work(url: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not stopping.is_set():
                try:
                    session.get(f"{url}/x", timeout=30)
                except requests.RequestException:
                    return

    kept = []
    with proxied(service.url, plan) as proxy:
        workers = [threading.Thread(target=work, args=(proxy.url,)) for _ in range(4)]
        for one in workers:
            one.start()
        for sent in (
            b"",
            b"GET /x HT",
            b"PUT /x HTTP/1.1\r\nContent-Length: 9\r\n\r\n123",
            b"GET /large/99999999 HTTP/1.1\r\n\r\n",
        ):
            kept.append(client := socket.create_connection(("127.0.0.1", proxy.port), timeout=30))
            client.sendall(sent)
        until(lambda: len(service.seen) >= 50)
    stopping.set()
    for one in workers:
        one.join(timeout=30)
        assert not one.is_alive()
    for client in kept:
        client.close()


def test_one_that_was_never_started_can_be_stopped(service: PlainService, plan: FaultPlan) -> None:
    FaultProxy(upstream=service.url, service="cos", plan=plan).stop()


def test_many_clients_at_once(service: PlainService, plan: FaultPlan) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for turn in range(20):
                body = b"%d " % number * turn * 100
                assert session.put(f"{proxy.url}/b/{number}", data=body, timeout=60).text == told(body)
                done.append(number)

    with proxied(service.url, plan) as proxy:
        workers = [threading.Thread(target=work, args=(number,)) for number in range(30)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
    assert Counter(done) == dict.fromkeys(range(30), 20)
