"""Each fault of the wire, met by the real clients: what it does to the service, and what a caller is told.

The sandbox's history says how often a request was carried out; the clients' verdicts must fit that.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest

from sealift.classic.client import ClassicClient
from sealift.classic.endpoints import TransportName
from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicBadReplyError,
    ClassicError,
    ClassicOutcomeUnknownError,
    ClassicRateLimitedError,
    ClassicTransientError,
)
from sealift.classic.limiter import Limiter
from sealift.classic.models import Guest
from sealift.cos.client import CosClient
from sealift.cos.errors import CosAuthError, CosError, CosTransientError
from sealift.cos.models import PutOutcome
from sealift.sandbox import Sandbox
from tests.chaos.faults import NEVER_CARRIED_OUT, WIRE_FAULTS, CallInfo, FaultPlan
from tests.chaos.proxy import FaultProxy

SERVERS = 60
PATIENT = 30.0
HANGING = frozenset({"hang", "hang_after"})
CLASSIC_ONLY = frozenset({"rate_limit", "error_in_200", "after_error_in_200"})
EVERYWHERE = [one for one in WIRE_FAULTS if one not in CLASSIC_ONLY | {"expired_token"}]
UNHARMED = frozenset({"slow", "twice"})


def deliveries(fault: str) -> int:
    """How often a request that meets a fault is carried out."""
    return 0 if fault in NEVER_CARRIED_OUT else 2 if fault == "twice" else 1


@dataclass
class World:
    """A sandbox, with a proxy before each service, and the clients that lead through them: making one takes long."""

    sandbox: Sandbox
    proxies: dict[str, FaultProxy]
    clients: dict[str, ClassicClient | CosClient] = field(default_factory=dict)
    sleeps: list[float] = field(default_factory=list)
    seen: int = 0

    def classic(self, transport: TransportName, *, timeout: float = PATIENT, tries: int = 5) -> ClassicClient:
        """A client of the Classic API that does not really wait between its tries."""
        known = self.clients.get(name := f"classic {transport} {timeout} {tries}")
        if known is None:
            known = self.clients[name] = ClassicClient(
                username=self.sandbox.username,
                api_key=self.sandbox.api_key,
                endpoint_url=self.proxies["classic"].url,
                transport=transport,
                timeout=timeout,
                max_attempts=tries,
                sleep=self.sleeps.append,
                rng=random.Random(1),
                limiter=Limiter(rate=48, sleep=lambda _: None),
            )
        assert isinstance(known, ClassicClient)
        return known

    def cos(self, *, timeout: float = PATIENT, tries: int = 5, new: bool = False) -> CosClient:
        """A client of the store that has a token, unless it is a new one."""
        known = self.clients.get(name := f"cos {timeout} {tries}")
        if known is None or new:
            made = CosClient(
                region=self.sandbox.region,
                endpoint_url=self.proxies["cos"].url,
                api_key=self.sandbox.cos_api_key,
                service_instance_id=self.sandbox.cos_service_instance_id,
                iam_endpoint=f"{self.proxies['iam'].url}/identity/token",
                timeout=timeout,
                max_attempts=tries,
                sleep=self.sleeps.append,
                rng=random.Random(1),
            )
            if new:
                self.clients[f"new {len(self.clients)}"] = made
                return made
            made.bucket_names()
            known = self.clients[name] = made
        assert isinstance(known, CosClient)
        return known


class Stage:
    """What one test sees and does of a world.

    :param world: all tests have the same.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sandbox = world.sandbox
        self.bucket = world.sandbox.bucket
        self.begin(FaultPlan(seed=0))

    def begin(self, plan: FaultPlan) -> None:
        """Go by a plan from now on, and count from here."""
        self.plan = plan
        for proxy in self.world.proxies.values():
            proxy.plan = plan
        self.world.sleeps.clear()
        self.world.seen = max((one["seq"] for one in self._news()), default=self.world.seen)

    def fault(self, name: str, where: str, draws: Callable[[float], bool] = lambda draw: True) -> None:
        """Have the next request meet a fault for certain, and count from here.

        :param draws: what the fault's draw must be like.
        """
        selector = f"{name}@{where}"
        service, _, method = where.partition(":")
        call = CallInfo(service=service, method=method, target="")
        for seed in itertools.count():
            tried = FaultPlan(seed=seed, times={selector: 1}).decide(call)
            assert tried is not None, selector
            if draws(tried.draw):
                break
        self.begin(FaultPlan(seed=seed, times={selector: 1}))

    def _news(self) -> list[dict[str, Any]]:
        return self.sandbox.history(after=self.world.seen)

    def requests(self, method: str) -> list[dict[str, Any]]:
        """The requests that reached the service."""
        found = (one for one in self._news() if one["kind"] == "request")
        return [one for one in found if one["method"].rpartition("::")[2] == method]

    def effects(self, what: str) -> list[dict[str, Any]]:
        """What came of them."""
        return [one for one in self._news() if one.get("what") == what]

    def count(self, method: str, least: int) -> int:
        """Count the requests, once so many have come: one that is not answered may still be under way."""
        self.sandbox.wait_until(lambda: len(self.requests(method)) >= least, what=f"{least} of {method}")
        return len(self.requests(method))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose captures last longer than the tests."""
    switches = {"requests_per_second": 0, "capture_refuses_third_party": False}
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), servers=SERVERS, seed=5, switches=switches) as sandbox:
        upstreams = {"classic": sandbox.api_url, "iam": sandbox.api_url, "cos": sandbox.cos_url}
        proxies = {
            service: FaultProxy(upstream=upstream, service=service, plan=FaultPlan(seed=0), slow_seconds=0.05)
            for service, upstream in upstreams.items()
        }
        for one in proxies.values():
            one.start()
        world = World(sandbox, proxies)
        yield world
        for client in world.clients.values():
            client.close()
        for one in proxies.values():
            one.stop()
            assert one.errors == []


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)


@pytest.fixture(scope="module")
def guests(world: World) -> Iterator[Guest]:
    """Servers that can be captured, each once."""
    found = world.classic("rest").list_guests()
    return iter([one for one in found if one.status == "ACTIVE" and one.active_transaction is None])


def in_time(fault: str, *, retried: bool = False) -> float:
    """A client's timeout: short where the fault makes it wait, and longer where another try must be in time."""
    return (1.0 if retried else 0.3) if fault in HANGING else PATIENT


def right(count: int, expected: int, fault: str) -> bool:
    """Whether a request was carried out as often as it should; where timeouts are short, a slow machine adds tries."""
    return count >= expected if fault in HANGING else count == expected


# Reads of the account

READ_ERRORS: dict[str, type[ClassicError]] = {
    "http_429": ClassicRateLimitedError,
    "rate_limit": ClassicRateLimitedError,
}
"""What one try of a read brings, where it is not a plain passing failure."""


@pytest.mark.parametrize("transport", get_args(TransportName))
@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_a_read_of_the_account_meets_a_fault(stage: Stage, transport: TransportName, fault: str) -> None:
    once = stage.world.classic(transport, timeout=in_time(fault), tries=1)
    stage.fault(fault, "classic:SoftLayer_Account::getObject")
    if fault in UNHARMED:
        assert once.account_id() > 0
    else:
        with pytest.raises(ClassicError) as caught:
            once.account_id()
        assert type(caught.value) is READ_ERRORS.get(fault, ClassicTransientError), caught.value
        assert caught.value.retryable
    assert stage.count("getObject", deliveries(fault)) == deliveries(fault)
    assert stage.plan.counts() == {fault: 1}


@pytest.mark.parametrize("transport", get_args(TransportName))
def test_reads_of_the_account_get_through_in_the_end(stage: Stage, transport: TransportName) -> None:
    client = stage.world.classic(transport, tries=40)
    guests = client.list_guests()
    first = guests[0].id
    for fault in sorted(WIRE_FAULTS.keys() - HANGING):
        stage.fault(fault, "classic:getVirtualGuests")
        assert client.get_guests([first]).keys() == {first}
        assert stage.plan.counts() == {fault: 1}
    rates = dict.fromkeys(sorted(WIRE_FAULTS.keys() - HANGING), 0.04)
    stage.begin(FaultPlan(seed=7, rates=rates))
    for _ in range(5):
        assert [one.id for one in client.list_guests()] == [one.id for one in guests]
    assert stage.plan.counts().total() >= 3


# Writes to the account

REFUSED: dict[str, type[ClassicError]] = {
    "http_429": ClassicRateLimitedError,
    "rate_limit": ClassicRateLimitedError,
    "expired_token": ClassicTransientError,
}
"""What a write brings where it is certain that nothing was done; after every other fault its outcome is unknown."""


@pytest.mark.parametrize("transport", get_args(TransportName))
@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_a_capture_is_sent_once_and_nobody_is_told_what_is_not_certain(
    stage: Stage, guests: Iterator[Guest], transport: TransportName, fault: str
) -> None:
    guest = next(guests)
    client = stage.world.classic(transport, timeout=in_time(fault))
    stage.fault(fault, "classic:createArchiveTemplate", lambda draw: draw < 0.5)
    outcome: ClassicError | None = None
    try:
        client.capture(guest.id, name=f"of-{guest.id}", block_device_ids=[guest.block_devices[0].id], note="")
    except ClassicError as error:
        outcome = error
    sent = stage.count("createArchiveTemplate", deliveries(fault))
    assert sent == deliveries(fault), "it was sent again, or not at all"
    assert [one["name"] for one in stage.effects("capture-started")] == [f"of-{guest.id}"] * min(sent, 1)
    if fault in UNHARMED:
        assert outcome is None
    else:
        assert type(outcome) is REFUSED.get(fault, ClassicOutcomeUnknownError), outcome
    assert sent == 0 or fault not in REFUSED, "a refusal is certain"


def test_of_a_capture_that_arrives_twice_the_second_reply_says_that_the_server_is_busy(
    stage: Stage, guests: Iterator[Guest]
) -> None:
    guest = next(guests)
    stage.fault("twice", "classic:createArchiveTemplate", lambda draw: draw >= 0.5)
    with pytest.raises(ClassicActiveTransactionError):
        stage.world.classic("rest").capture(
            guest.id, name="twice", block_device_ids=[guest.block_devices[0].id], note=""
        )
    assert [one["outcome"] for one in stage.requests("createArchiveTemplate")] == ["ok", "refused"]
    assert len(stage.effects("capture-started")) == 1


@pytest.fixture(scope="module")
def template(world: World, guests: Iterator[Guest]) -> int:
    """A template that is ready to be exported."""
    guest = next(guests)
    made = world.classic("rest").capture(guest.id, name="ready", block_device_ids=[guest.block_devices[0].id], note="")
    end_all(world.sandbox, made.id)
    return made.id


def end_all(sandbox: Sandbox, template: int) -> None:
    """End what a template is busy with."""
    for one in sandbox.transactions():
        if one["templateId"] == template and not one["ended"]:
            sandbox.engine.end(one["id"])

    def idle() -> bool:
        return all(one["ended"] for one in sandbox.transactions() if one["templateId"] == template)

    sandbox.wait_until(idle, what="the template's transactions")


@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_an_export_is_sent_once_and_nobody_is_told_what_is_not_certain(stage: Stage, template: int, fault: str) -> None:
    client = stage.world.classic("rest", timeout=in_time(fault))
    stage.fault(fault, "classic:copyToIcos", lambda draw: draw < 0.5)
    uri = f"cos://{stage.sandbox.region}/{stage.sandbox.bucket}/{fault}.vhd"
    outcome: ClassicError | None = None
    try:
        client.export_template(template, uri=uri, ibm_api_key=stage.sandbox.cos_api_key)
    except ClassicError as error:
        outcome = error
    sent = stage.count("copyToIcos", deliveries(fault))
    assert sent == deliveries(fault), "it was sent again, or not at all"
    assert len(stage.effects("export-started")) == min(sent, 1)
    if fault in UNHARMED:
        assert outcome is None
    else:
        assert type(outcome) is REFUSED.get(fault, ClassicOutcomeUnknownError), outcome
    assert not isinstance(outcome, ClassicBadReplyError)
    end_all(stage.sandbox, template)


# The store

STORE_FAULTS = [*EVERYWHERE, "expired_token"]
Ask = Callable[[CosClient, str, str], Any]
READS: dict[str, tuple[str, Ask, Any]] = {
    "list": (
        "ListObjectsV2",
        lambda cos, bucket, key: [one.size for one in cos.list(bucket, key)],
        [1000],
    ),
    "uploads": (
        "ListMultipartUploads",
        lambda cos, bucket, key: cos.list_multipart_uploads(bucket, key),
        [],
    ),
    "read": ("GetObject", lambda cos, bucket, key: cos.read(bucket, key), b"x" * 1000),
    "range": (
        "GetObject",
        lambda cos, bucket, key: cos.read_range(bucket, key, start=10, length=90),
        b"x" * 90,
    ),
    "head": ("HeadObject", lambda cos, bucket, key: getattr(cos.head(bucket, key), "size", None), 1000),
    "region": ("GetBucketLocation", lambda cos, bucket, key: cos.bucket_region(bucket), "us-south"),
    "buckets": ("ListBuckets", lambda cos, bucket, key: bucket in cos.bucket_names(), True),
}


@pytest.fixture(scope="module")
def key(world: World) -> str:
    """An object."""
    world.cos().put(world.sandbox.bucket, "read-me", b"x" * 1000)
    return "read-me"


@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("what", READS)
def test_a_read_of_the_store_meets_a_fault(stage: Stage, key: str, what: str, fault: str) -> None:
    method, ask, expected = READS[what]
    once = stage.world.cos(timeout=in_time(fault), tries=1)
    stage.fault(fault, f"cos:{method}", lambda draw: draw < 0.5)
    if fault in UNHARMED or fault == "expired_token":
        assert ask(once, stage.bucket, key) == expected
    else:
        with pytest.raises(CosTransientError):
            ask(once, stage.bucket, key)
    tries = deliveries(fault) + (fault == "expired_token")
    assert stage.count(method, tries) == tries
    assert stage.plan.counts() == {fault: 1}
    # That access is denied would be believed by now; the next test has it.
    stage.fault(fault, f"cos:{method}", lambda draw: (draw >= 0.5) == (fault == "twice"))
    assert ask(stage.world.cos(timeout=in_time(fault, retried=True)), stage.bucket, key) == expected
    assert stage.plan.counts() == {fault: 1}


@pytest.mark.parametrize("called", ["expired", "denied"])
@pytest.mark.parametrize("what", READS)
def test_an_old_token_is_renewed_whatever_the_store_calls_it(stage: Stage, key: str, what: str, called: str) -> None:
    method, ask, expected = READS[what]
    client = stage.world.cos(new=True, tries=1)
    client.bucket_region(stage.bucket)
    stage.fault("expired_token", f"cos:{method}", lambda draw: (draw < 0.5) == (called == "expired"))
    assert ask(client, stage.bucket, key) == expected
    assert len(stage.requests("token")) == 1
    assert stage.world.sleeps == []


def retried(stage: Stage, fault: str) -> CosClient:
    return stage.world.cos(timeout=in_time(fault, retried=True))


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_put_is_repeated_until_it_is_there(stage: Stage, fault: str) -> None:
    client = retried(stage, fault)
    stage.fault(fault, "cos:PutObject")
    client.put(stage.bucket, f"put-{fault}", b"v" * 300_000)
    expected = deliveries(fault) + (fault not in UNHARMED)
    assert right(len(stage.requests("PutObject")), expected, fault)
    puts = [one["size"] for one in stage.effects("object-put")]
    assert right(len(puts), expected, fault)
    assert set(puts) == {300_000}


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_conditional_put_is_carried_out_once_and_ours(stage: Stage, fault: str) -> None:
    key = f"conditional-{fault}"
    client = retried(stage, fault)
    stage.fault(fault, "cos:PutObject", lambda draw: draw < 0.5)
    assert client.put_if_absent(stage.bucket, key, b"ours") is PutOutcome.CREATED
    assert [one["key"] for one in stage.effects("object-put")] == [key]
    stage.fault(fault, "cos:PutObject")
    assert client.put_if_absent(stage.bucket, key, b"theirs") is PutOutcome.EXISTS_DIFFERENT
    assert client.read(stage.bucket, key) == b"ours"
    assert stage.effects("object-put") == []


def test_of_a_conditional_put_that_arrives_twice_the_second_reply_is_about_our_own_object(stage: Stage) -> None:
    client = stage.world.cos()
    stage.fault("twice", "cos:PutObject", lambda draw: draw >= 0.5)
    outcome = client.put_if_absent(stage.bucket, "conditional-second", b"ours")
    assert outcome is PutOutcome.EXISTS_SAME, "nobody can tell it from another's with the same bytes"
    assert len(stage.effects("object-put")) == 1


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_deletion_is_repeated_until_it_is_done(stage: Stage, fault: str) -> None:
    key = f"deleted-{fault}"
    client = retried(stage, fault)
    client.put(stage.bucket, key, b"v")
    stage.fault(fault, "cos:DeleteObject")
    client.delete(stage.bucket, key)
    assert client.head(stage.bucket, key) is None
    assert [one["key"] for one in stage.effects("object-deleted")] == [key]


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_preflight_leaves_nothing(stage: Stage, fault: str) -> None:
    """The write that it tries is never repeated: its reply lost, what it began is looked for and aborted."""
    client = retried(stage, fault)
    stage.fault(fault, "cos:CreateMultipartUpload")
    lost: CosError | None = None
    try:
        client.check_write(stage.bucket, f"preflight-{fault}")
    except CosTransientError as error:
        lost = error
    assert (lost is None) == (fault in UNHARMED or fault == "expired_token")
    left = client.list_multipart_uploads(stage.bucket, f"preflight-{fault}")
    assert len(left) == (fault == "twice"), "an upload that was begun twice: one of them is nobody's"


# IAM


@pytest.mark.parametrize("fault", EVERYWHERE)
def test_a_token_is_asked_for_until_it_comes(stage: Stage, fault: str) -> None:
    once = stage.world.cos(new=True, timeout=in_time(fault), tries=1)
    stage.fault(fault, "iam:token")
    if fault in UNHARMED:
        assert stage.bucket in once.bucket_names()
    else:
        with pytest.raises(CosTransientError):
            once.bucket_names()
    assert stage.count("token", deliveries(fault)) == deliveries(fault)
    again = stage.world.cos(new=True, timeout=in_time(fault, retried=True))
    stage.fault(fault, "iam:token")
    assert stage.bucket in again.bucket_names()
    assert stage.plan.counts() == {fault: 1}


def test_a_key_that_iam_refuses_is_not_asked_about_again(stage: Stage) -> None:
    client = stage.world.cos(new=True)
    stage.fault("expired_token", "iam:token")
    with pytest.raises(CosAuthError, match="IAM refused the API key"):
        client.bucket_names()
    assert stage.world.sleeps == []
    assert stage.requests("token") == []
