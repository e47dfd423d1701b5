"""prove_exports: finished exports are read once more in the bucket, and what was found stands beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.exports import names
from sealift.exports.errors import InputError, NoSuchExportError, ProofError
from sealift.exports.proofs import proof_level, read_proofs
from sealift.provider.operators import deliver
from sealift.provider.operators.prove import ChooseProofsOperator, ProveExportOperator
from sealift.provider.params import prove_params
from sealift.sandbox import Sandbox
from tests.cli.steps import Exported

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as sandbox:
        made = Exported(sandbox)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def connections(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, connection in exported.sandbox.connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


def context(params: dict[str, Any]) -> Any:
    defaults = {name: one.value for name, one in prove_params({}).items()}
    return {"params": defaults | params, "ti": SimpleNamespace(dag_id="prove_exports", run_id="manual")}


def choose(**params: Any) -> list[list[dict[str, Any]]]:
    return ChooseProofsOperator(task_id="choose_exports").execute(context(params))


def test_exports_are_named_as_people_call_them_and_proven_once(exported: Exported) -> None:
    item = exported.several
    batches = choose(exports=[item.hostname, str(item.guest_id)], period=item.period)
    assert [[one["export_id"] for one in batch] for batch in batches] == [[item.export_id]]
    task = ProveExportOperator(task_id="prove", exports=batches[0])
    assert task.label == item.hostname
    (done,) = task.execute(context({"level": "L2"}))
    assert done["export_id"] == item.export_id
    assert done["level"] == "L2"
    manifest = exported.manifest(item.guest_id, item.period)
    proofs = read_proofs(exported.cos, bucket=exported.bucket, prefix="sealift", manifest=manifest)
    assert proof_level(manifest, proofs) == "L2"
    assert proofs[-1].made_by == "prove_exports manual"


def test_many_exports_share_tasks(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "TASKS_AT_MOST", 1)
    ids = [one.export_id for one in (exported.several, exported.other)]
    (batch,) = choose(exports=ids)
    assert [one["export_id"] for one in batch] == ids
    assert ProveExportOperator(task_id="prove", exports=batch).label == "2 exports"


@pytest.mark.parametrize(
    ("params", "words"),
    [({}, "Nothing is named"), ({"exports": ["  "]}, "Nothing is named"), ({"exports": ["no-such-server"]}, "no-such")],
)
def test_what_is_not_there_ends_before_anything_is_read(params: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose(**params)


def test_an_export_that_was_deleted_or_damaged_meanwhile_fails_in_words(exported: Exported) -> None:
    item = exported.other
    (batch,) = choose(exports=[item.export_id])
    task = ProveExportOperator(task_id="prove", exports=batch)
    gone = ProveExportOperator(
        task_id="prove",
        exports=[{**batch[0], "manifest_key": names.manifest_key(prefix="sealift", guest_id=1, period="x")}],
    )
    with pytest.raises(NoSuchExportError, match="was deleted since this run began"):
        gone.execute(context({}))
    disk = exported.manifest(item.guest_id, item.period).disks[0]
    exported.sandbox.store.put_bytes(bucket=exported.bucket, key=disk.key, data=b"something else")
    with pytest.raises(ProofError, match="was replaced or deleted since it was proven"):
        task.execute(context({}))
