"""The report of a run writes the index of its slots, and is worth as much where that does not work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.cos.errors import CosTransientError
from sealift.exports.status.books import Books
from sealift.exports.status.index import index_key, parse_index
from sealift.provider.operators.plan import PLAN_KEY, REFUSAL_KEY
from sealift.provider.operators.report import PlanReportOperator
from sealift.sandbox import Sandbox
from tests.cli.steps import PERIOD, Exported

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as sandbox:
        made = Exported(sandbox)
        yield made
        made.close()


def report(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Exception | None:
    for name, connection in exported.sandbox.connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    where = {
        "plan_id": "plan-1",
        "key": "sealift/plans/plan-1.json",
        "bucket": exported.bucket,
        "region": "us-south",
        "cos_conn_id": "ibm_cos_default",
    }

    def pulled(*, task_ids: str, key: str) -> Any:
        if (task_ids, key) == ("approve", REFUSAL_KEY):
            return None
        assert (task_ids, key) == ("make_plan", PLAN_KEY)
        return where

    try:
        PlanReportOperator(task_id="report").execute({"ti": SimpleNamespace(xcom_pull=pulled)})  # type: ignore[typeddict-item]
    except Exception as error:  # noqa: BLE001 - servers of the plan were never exported, and the report says so
        return error
    return None


def test_the_index_says_what_the_report_says(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    error = report(exported, monkeypatch)
    body = exported.cos.read(exported.bucket, index_key(prefix="sealift", period=PERIOD))
    assert body is not None, error
    index = parse_index(body)
    assert index is not None
    rows = index.rows()
    assert [one.plan_id for one in index.plans] == ["plan-1"]
    for item in (exported.several, exported.other):
        row = rows[item.guest_id]
        manifest = exported.manifest(item.guest_id, PERIOD)
        assert (row.cell, row.bytes, row.disks) == (manifest.proof_level, manifest.total_bytes, len(manifest.disks))
    assert {row.state.value for row in rows.values()} == {"exported", "failed", "skipped"}


def test_a_report_without_index_is_a_report(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any) -> Any:
        raise CosTransientError("503 from the store")

    monkeypatch.setattr(Books, "write_index_of", refused)
    error = report(exported, monkeypatch)
    assert "CosTransientError" not in type(error).__name__
    assert "The index could not be written" in capsys.readouterr().out
