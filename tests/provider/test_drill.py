"""drill_restores: a task for each server whose turn it is; one that does not come back fails alone, and the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from sealift.exports.drills.models import Rehearsal
from sealift.exports.errors import NoSuchExportError, RehearsalFailedError
from sealift.exports.proofs import read_proofs
from sealift.provider.errors import ServersFailed
from sealift.provider.operators import deliver
from sealift.provider.operators.drill import ChooseRehearsalsOperator, DrillReportOperator, RehearseExportOperator
from sealift.provider.params import drill_params
from sealift.sandbox import Sandbox
from tests.cli.steps import PERIOD, Exported

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as sandbox:
        made = Exported(sandbox)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def house(exported: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, connection in exported.sandbox.connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__SEALIFT__DRILL_FOLDER", str(tmp_path / "scratch"))


class Ti:
    """A task instance of a run, with what was pushed and what other tasks returned."""

    def __init__(self, run_id: str, returned: Any = None) -> None:
        self.dag_id, self.run_id = "drill_restores", run_id
        self.returned = returned
        self.pushed: dict[str, Any] = {}

    def xcom_pull(self, *, task_ids: str) -> Any:
        assert task_ids == "choose_exports"
        return self.returned

    def xcom_push(self, *, key: str, value: Any) -> None:
        json.dumps(value)
        self.pushed[key] = value


def context(run_id: str, returned: Any = None, **params: Any) -> Any:
    defaults = {name: one.value for name, one in drill_params({}).items()}
    return {"params": defaults | {"level": "L2", **params}, "ti": Ti(run_id, returned)}


def choose(run_id: str, **params: Any) -> list[list[dict[str, Any]]]:
    return ChooseRehearsalsOperator(task_id="choose_exports").execute(context(run_id, **params))


def rehearse(run_id: str, batch: list[dict[str, Any]], **params: Any) -> list[dict[str, Any]]:
    return RehearseExportOperator(task_id="rehearse", exports=batch).execute(context(run_id, **params))


def report(run_id: str, batches: Any, **params: Any) -> tuple[dict[str, Any], str]:
    """The report, which is there either way, and what it raised."""
    told, raised = context(run_id, batches, **params), ""
    try:
        found = DrillReportOperator(task_id="report").execute(told)
    except ServersFailed as error:
        found, raised = told["ti"].pushed["report"], str(error)
    assert found == told["ti"].pushed["report"]
    return found, raised


def flip(exported: Exported, guest_id: int) -> None:
    disk = exported.manifest(guest_id, PERIOD).disks[0]
    path = exported.sandbox.store.path_of(exported.bucket, disk.key)
    assert path is not None
    body = bytearray(path.read_bytes())
    body[disk.size // 2] ^= 1
    path.unlink()  # its bytes may be shared with other objects
    path.write_bytes(body)


def test_a_drill_from_choice_to_report(exported: Exported, tmp_path: Path) -> None:
    batches = choose("run-1", within=1)
    assert [len(one) for one in batches] == [1, 1], "a task for each server"
    labels = {RehearseExportOperator(task_id="rehearse", exports=one).label for one in batches}
    assert labels == {exported.several.hostname, exported.other.hostname}
    for batch in batches:
        (done,) = rehearse("run-1", batch)
        assert (done["outcome"], done["level"]) == ("passed", "L2")
        assert done["seconds"] > 0
    assert list((tmp_path / "scratch" / "sealift-drills").iterdir()) == []
    found, raised = report("run-1", batches)
    assert raised == ""
    assert (found["servers"], found["proven"], found["by_level"]) == (2, 2, {"L2": 2})
    assert found["summary"].startswith("2 of 2 servers (100 %) came back")
    assert {one["outcome"] for one in found["drill"]} == {"passed"}
    manifest = exported.manifest(exported.other.guest_id, PERIOD)
    (proof,) = read_proofs(exported.cos, bucket=exported.bucket, prefix="sealift", manifest=manifest)
    assert proof.made_by == "drill_restores run-1"
    assert proof.recovery is not None
    assert choose("run-1", within=1) == batches, "another try chooses the same"


def test_many_share_tasks_and_one_that_fails_leaves_the_others_of_its_task_alone(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "TASKS_AT_MOST", 1)
    (batch,) = choose("run-2", exports=[exported.other.export_id, exported.several.hostname])
    flip(exported, exported.other.guest_id)
    with pytest.raises(RehearsalFailedError, match=rf"{exported.other.hostname} \(export .*did not come back"):
        rehearse("run-2", batch)
    found, raised = report("run-2", [batch])
    assert raised.startswith("1 of 2 exports did not come back. ")
    assert exported.other.export_id in raised
    assert found["drill"] == [
        {"hostname": exported.other.hostname, "outcome": "failed"},
        {"hostname": exported.several.hostname, "outcome": "passed"},
    ]
    assert (found["failing"], found["proven"]) == (1, 1)
    assert choose("run-3", within=2)[0][0]["export_id"] == exported.other.export_id
    assert choose("run-3", within=2)[0][0]["why"] == "again"


def test_a_task_that_left_no_word_is_reported_as_unfinished(exported: Exported) -> None:
    batches = choose("run-4", exports=[exported.several.export_id])
    found, raised = report("run-4", batches)
    assert "ended without a word" in raised
    assert found["drill"] == [{"hostname": exported.several.hostname, "outcome": "unfinished"}]
    keys = [one.key for one in exported.cos.list(exported.bucket, "sealift/reports/drills/") if "unfinished" in one.key]
    body = exported.cos.read(exported.bucket, keys[-1])
    assert Rehearsal.model_validate_json(body or b"").export_id == exported.several.export_id


def test_what_was_deleted_meanwhile_is_skipped(exported: Exported) -> None:
    (batch,) = choose("run-5", exports=[exported.several.export_id])
    gone = {**batch[0], "export_id": f"{exported.several.guest_id}-gone", "period": "gone"}
    with pytest.raises(AirflowSkipException, match="was deleted after it had been chosen"):
        rehearse("run-5", [gone])
    found, raised = report("run-5", [[gone]])
    assert raised == ""
    assert [one["outcome"] for one in found["drill"]] == ["gone"]


def test_without_an_export_nothing_is_chosen_and_the_report_says_so() -> None:
    assert choose("run-6", prefix="elsewhere") == []
    found, raised = report("run-6", [], prefix="elsewhere")
    assert raised == ""
    assert found["summary"] == "There is no finished export, and so nothing to rehearse."


def test_a_choice_that_failed_leaves_nothing_to_report_on() -> None:
    with pytest.raises(NoSuchExportError):
        choose("run-7", exports=["nobody"])
    with pytest.raises(ServersFailed, match="There is no drill to report on"):
        DrillReportOperator(task_id="report").execute(context("run-7"))
