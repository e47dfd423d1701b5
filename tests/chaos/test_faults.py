"""Fault plans: repeatable, counted, and limited to what their selectors name; and the names that calls have."""

from __future__ import annotations

import json

import pytest

from tests.chaos.calls import call_of
from tests.chaos.faults import CallInfo, FaultPlan

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


def test_a_fault_of_one_service_never_meets_another() -> None:
    plan = FaultPlan(seed=1, rates={"rate_limit": 1.0})
    assert plan.decide(PUT) is None
    assert plan.decide(CAPTURE) is not None


@pytest.mark.parametrize(("text", "rate"), [("nonsense", 0.1), ("slow", 1.5), ("slow", -0.1)])
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
        ("classic", "POST", "/identity/token", b"", "token"),
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
        ("airflow", "PATCH", "/execution/task-instances/1-2/run", b"{}", "run"),
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
