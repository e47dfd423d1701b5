"""Fault plans: repeatable, counted, and limited to what their selectors name; and the names that calls have."""

from __future__ import annotations

import json
import threading
import xmlrpc.client
from collections import Counter

import pytest

from tests.chaos.calls import call_of
from tests.chaos.faults import CallInfo, Fault, FaultPlan, Tally

CAPTURE = CallInfo(service="classic", method="SoftLayer_Virtual_Guest::createArchiveTemplate", target="/x")
PUT = CallInfo(service="cos", method="PutObject", target="b/k")


def test_the_same_seed_decides_the_same() -> None:
    def decisions(seed: int) -> list[str]:
        plan = FaultPlan(seed=seed, rates={"lost_reply": 0.2, "slow@cos": 0.3})
        return [fault.name if (fault := plan.decide(call)) else "" for call in [CAPTURE, PUT] * 100]

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


def test_a_selector_limits_a_fault_to_a_service_and_a_method() -> None:
    plan = FaultPlan(seed=1, rates={"lost_reply@classic:createArchiveTemplate": 1.0, "slow@cos": 1.0})
    faults = [plan.decide(one) for one in (CAPTURE, PUT, CallInfo(service="classic", method="x::y", target=""))]
    assert [one.name if one else None for one in faults] == ["lost_reply", "slow", None]
    assert plan.counts() == {"lost_reply": 1, "slow": 1}
    assert [one.call for one in plan.injected] == [CAPTURE, PUT]


def test_times_come_first_and_then_no_more() -> None:
    plan = FaultPlan(seed=1, times={"hang@cos": 2})
    assert [plan.decide(PUT) is not None for _ in range(4)] == [True, True, False, False]
    plan.set("hang@cos", rate=1.0)
    plan.clear()
    assert plan.decide(PUT) is None
    assert plan.counts() == {"hang": 2}
    assert plan.tallies() == {"hang@cos": Tally(asked=5, hits=2)}
    plan.set("hang@cos", times=1)
    assert plan.decide(PUT) is not None
    assert plan.tallies() == {"hang@cos": Tally(asked=6, hits=3)}


def test_what_is_certain_is_not_used_up_by_what_happens_beside_it() -> None:
    plan = FaultPlan(seed=1, rates={"slow": 1.0}, times={"lost_reply@cos": 2, "hang": 1})
    assert [one.name for _ in range(5) if (one := plan.decide(PUT))] == ["lost_reply", "lost_reply", "hang"] + [
        "slow"
    ] * 2
    assert sum(one.hits for one in plan.tallies().values()) == len(plan.injected) == 5


def test_selectors_do_not_disturb_each_other() -> None:
    """The n-th request that a selector fits meets the same fate, whatever else is asked and decided."""

    def fates(other: dict[str, float]) -> list[tuple[str, float]]:
        plan = FaultPlan(seed=3, rates={"lost_reply@cos": 0.3, **other})
        found = []
        for _ in range(200):
            plan.decide(CAPTURE)
            fault = plan.decide(PUT)
            found.append((fault.name, fault.draw) if fault else ("", 0.0))
        return found

    alone, disturbed = fates({}), fates({"hang@classic": 0.5, "slow@cos:GetObject": 0.9})
    assert alone == disturbed
    beside = fates({"slow@cos": 0.5})
    assert [one for one in alone if one[0]] == [one for one in beside if one[0] == "lost_reply"]


def test_many_threads_get_what_one_would() -> None:
    def decided(threads: int) -> list[Fault]:
        plan = FaultPlan(seed=9, rates={"lost_reply": 0.1, "hang": 0.1})
        found: list[Fault] = []

        def ask() -> None:
            for _ in range(400 // threads):
                fault = plan.decide(PUT)
                if fault is not None:
                    found.append(fault)

        asking = [threading.Thread(target=ask) for _ in range(threads)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        assert plan.counts() == Counter(one.name for one in found)
        return sorted(found, key=lambda one: (one.name, one.draw))

    assert decided(1) == decided(8) != []


def test_a_fault_of_one_service_never_meets_another() -> None:
    plan = FaultPlan(seed=1, rates={"rate_limit": 1.0})
    assert plan.decide(PUT) is None
    assert plan.decide(CAPTURE) is not None


def test_a_key_is_called_bad_only_where_that_was_asked_for() -> None:
    token = CallInfo(service="iam", method="token", target="/identity/token")
    assert FaultPlan(seed=1, rates={"expired_token": 1.0}).decide(token) is None
    assert FaultPlan(seed=1, rates={"expired_token@iam": 1.0}).decide(token) is not None


def test_a_method_may_be_a_pattern() -> None:
    plan = FaultPlan(seed=1, rates={"slow@airflow:state:*": 1.0})
    calls = [CallInfo(service="airflow", method=one, target="") for one in ("state:deferred", "run", "state:success")]
    assert [plan.decide(one) is not None for one in calls] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "rate"),
    [("nonsense", 0.1), ("slow", 1.5), ("slow", -0.1), ("slow@nowhere", 0.1), ("rate_limit@cos", 0.1)],
)
def test_nonsense_is_refused(text: str, rate: float) -> None:
    with pytest.raises(ValueError, match=text):
        FaultPlan(seed=1, rates={text: rate})


XML = b"<?xml version='1.0'?><methodCall><methodName>createArchiveTemplate</methodName></methodCall>"


@pytest.mark.parametrize(
    ("service", "verb", "target", "body", "method"),
    [
        ("classic", "POST", "/xmlrpc/v3.1/SoftLayer_Virtual_Guest", XML, CAPTURE.method),
        ("classic", "POST", "/rest/v3.1/SoftLayer_Virtual_Guest/7/createArchiveTemplate.json", b"{}", CAPTURE.method),
        ("classic", "GET", "/rest/v3.1/SoftLayer_Account.json", b"", "SoftLayer_Account::getObject"),
        ("classic", "GET", "/rest/v3.1/SoftLayer_Virtual_Guest/7.json", b"", "SoftLayer_Virtual_Guest::getObject"),
        (
            "classic",
            "DELETE",
            "/rest/v3.1/SoftLayer_Virtual_Guest/7.json",
            b"",
            "SoftLayer_Virtual_Guest::deleteObject",
        ),
        ("classic", "GET", "/rest/v3/SoftLayer_Account/getHardware", b"", "SoftLayer_Account::getHardware"),
        ("classic", "POST", "/identity/token", b"", "token"),
        ("cos", "POST", "/identity/token", b"", "token"),
        ("cos", "GET", "/b?prefix=a%2F", b"", "ListObjects"),
        ("cos", "PUT", "/b", b"", "CreateBucket"),
        ("cos", "POST", "/b?delete", b"", "DeleteObjects"),
        ("cos", "GET", "/b/k?uploadId=u", b"", "ListParts"),
        ("cos", "GET", "/b?list-type=2&prefix=a%2F", b"", "ListObjectsV2"),
        ("cos", "GET", "/b?uploads", b"", "ListMultipartUploads"),
        ("cos", "GET", "/b?location", b"", "GetBucketLocation"),
        ("cos", "GET", "/", b"", "ListBuckets"),
        ("cos", "PUT", "/b/k", b"", "PutObject"),
        ("cos", "HEAD", "/b/k", b"", "HeadObject"),
        ("cos", "DELETE", "/b/k", b"", "DeleteObject"),
        ("cos", "POST", "/b/k?uploads", b"", "CreateMultipartUpload"),
        ("cos", "PUT", "/b/k?partNumber=1&uploadId=u", b"", "UploadPart"),
        ("cos", "POST", "/b/k?uploadId=u", b"", "CompleteMultipartUpload"),
        ("cos", "DELETE", "/b/k?uploadId=u", b"", "AbortMultipartUpload"),
        (
            "airflow",
            "PATCH",
            "/execution/task-instances/1-2/state",
            json.dumps({"state": "deferred"}).encode(),
            "state:deferred",
        ),
        (
            "airflow",
            "PATCH",
            "/execution/task-instances/1-2/state",
            b'{"state":"deferred","trigger_kwargs":{"state":"running"},"next_kwargs":"cut sho',
            "state:deferred",
        ),
        ("airflow", "PATCH", "/execution/task-instances/1-2/run", b"{}", "run"),
        ("airflow", "PUT", "/execution/task-instances/1-2/rtif", b"{}", "rtif"),
        ("airflow", "GET", "/execution/task-instances/previous/d/t", b"", "task-instances:previous"),
        ("airflow", "GET", "/execution/task-instances/states?dag_id=d", b"", "task-instances:states"),
        ("airflow", "DELETE", "/execution/xcoms/d/r/t/state", b"", "xcoms:clear"),
        ("airflow", "PUT", "/execution/store/ti/1-2/connections/state", b"{}", "store:set"),
        ("airflow", "PUT", "/execution/store/asset/by-name/value?name=n", b"{}", "asset-store:set"),
        ("airflow", "GET", "/execution/variables/store", b"", "variables:get"),
        ("airflow", "GET", "/execution/dag-runs/d/r/state", b"", "dag-runs:state"),
        ("airflow", "GET", "/execution/health/ping", b"", "health:get"),
        ("airflow", "POST", "/api/v2/dags/plan_exports/dagRuns", b"{}", "api:dagRuns:set"),
        ("airflow", "PATCH", "/api/v2/dags/d/dagRuns/r/taskInstances/t/3", b"{}", "api:taskInstances:set"),
        ("airflow", "POST", "/api/v2/dags/d/clearTaskInstances", b"{}", "api:clearTaskInstances:set"),
        ("airflow", "POST", "/auth/token", b"{}", "auth:token"),
        ("airflow", "PUT", "/execution/task-instances/1-2/heartbeat", b"{}", "heartbeat"),
        ("airflow", "POST", "/execution/xcoms/d/r/t/return_value", b"{}", "xcoms:set"),
        ("airflow", "GET", "/execution/xcoms/d/r/t/return_value", b"", "xcoms:get"),
        ("airflow", "PUT", "/execution/store/ti/1-2/template_id", b"{}", "store:set"),
        ("airflow", "POST", "/execution/dag-runs/export_servers/x", b"{}", "dag-runs:trigger"),
        ("airflow", "GET", "/execution/connections/c", b"", "connections:get"),
    ],
)
def test_calls_have_one_name_each(service: str, verb: str, target: str, body: bytes, method: str) -> None:
    assert call_of(service, verb, target, body).method == method


def test_targets_say_on_what() -> None:
    head = {
        "headers": {"SoftLayer_Virtual_GuestInitParameters": {"id": 1234}, "resultLimit": {"limit": 2, "offset": 0}}
    }
    body = xmlrpc.client.dumps((head, "name"), methodname="createArchiveTemplate").encode()
    call = call_of("classic", "POST", "/xmlrpc/v3.1/SoftLayer_Virtual_Guest", body)
    assert call.target == "/xmlrpc/v3.1/SoftLayer_Virtual_Guest/1234"
    assert call_of("cos", "GET", "/b?list-type=2&prefix=a%2Fb", b"").target == "b/a/b"
    assert call_of("cos", "PUT", "/b/a%20b/c", b"").target == "b/a b/c"
    assert call_of("airflow", "POST", "/execution/xcoms/d/r/t/k?map_index=3", b"").target.endswith("/t/k?map_index=3")
    assert "1-2" in call_of("airflow", "PATCH", "/execution/task-instances/1-2/state", b"{}").target


def test_copies_are_told_by_their_header() -> None:
    assert call_of("cos", "PUT", "/b/k", b"", ["x-amz-copy-source"]).method == "CopyObject"
    assert call_of("cos", "PUT", "/b/k?partNumber=1&uploadId=u", b"", ["x-amz-copy-source"]).method == "UploadPartCopy"
