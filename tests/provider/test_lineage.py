"""Lineage: server to template to objects to files, by the names that the page gives; nothing without OpenLineage.

Where OpenLineage's own provider is installed, its classes are used. Where it is not, plain ones take their place, which
keep what they are given.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sealift.classic.errors import ClassicAuthError
from sealift.exports.delivery import Delivered, DeliveredFile
from sealift.exports.manifest import Manifest
from sealift.provider import lineage
from sealift.provider.operators.capture import CaptureImageOperator
from sealift.provider.operators.deliver import DeliverExportOperator
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor

pytestmark = pytest.mark.airflow

ACCOUNT = 307608
EXPORT = "7-20260101T0000Z"
IMAGES = f"p/images/web-01-7/{EXPORT}"
MANIFEST_KEY = "p/manifests/7/20260101T0000Z.json"


INSTALLED = importlib.util.find_spec("airflow.providers.openlineage") is not None


class Kept:
    """Keeps what it is given."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update({"facets": {}, "run_facets": {}, "outputFacets": {}, **given})


class KeptFacet:
    """The base of a facet."""

    def with_additional_properties(self, **given: Any) -> Kept:
        return Kept(**given)


@pytest.fixture
def openlineage(monkeypatch: pytest.MonkeyPatch) -> None:
    if INSTALLED:
        return
    kinds = {name: type(name, (Kept,), {}) for name in ("InputDataset", "OutputDataset", "OperatorLineage")}
    facets = {
        "documentation_dataset": "DocumentationDatasetFacet",
        "storage_dataset": "StorageDatasetFacet",
        "dataset_version_dataset": "DatasetVersionDatasetFacet",
        "output_statistics_output_dataset": "OutputStatisticsOutputDatasetFacet",
    }
    modules = {
        "openlineage.client.event_v2": kinds,
        "openlineage.client.facet_v2": {"RunFacet": KeptFacet}
        | {module: SimpleNamespace(**{name: type(name, (Kept,), {})}) for module, name in facets.items()},
        "airflow.providers.openlineage.extractors": kinds,
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(lineage, "import_module", missing)


def manifest() -> Manifest:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    disks = [
        {
            "index": index,
            "device": device,
            "key": f"{IMAGES}/disk-{index}.vhd",
            "size": 1000 + index,
            "virtual_size": 10**9,
            "capacity": 25.0,
            "units": "GB",
            "format": "vhd-dynamic",
            "etag": f"etag{index}",
            "footer_uuid": "u",
            "creator": "x",
            "partition_table": "mbr",
            "uploaded_at": moment,
            "proof_level": "L1",
            "proof_bytes_read": 1,
            "proof_requests": 1,
            "checks": [],
        }
        for index, device in enumerate(("0", "2"))
    ]
    return Manifest.model_validate(
        {
            "export_id": EXPORT,
            "period": "20260101T0000Z",
            "guest": {"id": 7, "hostname": "web-01", "datacenter": "dal13"},
            "template": {"id": 70, "name": f"sealift-{EXPORT}"},
            "captured_at": moment,
            "exported_at": moment,
            "proven_at": moment,
            "bucket": "images",
            "region": "us-south",
            "format": "vhd",
            "proof_level": "L1",
            "disks": disks,
            "record": {"key": f"{IMAGES}/server.json", "size": 5, "digest": f"sha256:{'0' * 64}"},
            "run": {"dag_id": "export_servers", "run_id": "r", "try_number": 1, "sealift_version": "0"},
        }
    )


def named(datasets: list[Any]) -> list[str]:
    return [f"{one.namespace} {one.name}" for one in datasets]


SERVER = f"softlayer://{ACCOUNT} virtual-guests/7"
TEMPLATE = f"softlayer://{ACCOUNT} image-templates/70"
OBJECTS = [f"s3://images {IMAGES}/disk-0.vhd", f"s3://images {IMAGES}/disk-1.vhd"]


def account(answer: Any) -> Any:
    def account_id() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(client=SimpleNamespace(account_id=account_id))


def proven(answer: Any) -> ProveWhenExportedSensor:
    sensor = ProveWhenExportedSensor(task_id="w", started="{}", wave_key="w", bucket="images")
    sensor.__dict__["classic"] = account(answer)
    sensor._recorded = SimpleNamespace(manifest=manifest(), manifest_key=MANIFEST_KEY)  # type: ignore[assignment]
    return sensor


def test_an_export_goes_from_server_and_template_to_its_objects(openlineage: None) -> None:
    told = proven(ACCOUNT).get_openlineage_facets_on_complete(None)
    assert named(told.inputs) == [SERVER, TEMPLATE]
    assert named(told.outputs) == [*OBJECTS, f"s3://images {IMAGES}/server.json", f"s3://images {MANIFEST_KEY}"]
    disk = told.outputs[0]
    assert disk.facets["version"].datasetVersion == "etag0"
    assert (disk.facets["storage"].storageLayer, disk.facets["storage"].fileFormat) == ("ibm-cos", "vhd-dynamic")
    assert (disk.outputFacets["outputStatistics"].size, disk.outputFacets["outputStatistics"].fileCount) == (1000, 1)
    assert "web-01" in disk.facets["documentation"].description
    facet = told.run_facets["sealift_export"]
    assert (facet.export_id, facet.guest_id, facet.template_id, facet.proof_level) == (EXPORT, 7, 70, "L1")


def test_an_account_that_does_not_answer_leaves_the_objects(
    openlineage: None, caplog: pytest.LogCaptureFixture
) -> None:
    told = proven(ClassicAuthError("Invalid API token.")).get_openlineage_facets_on_complete(None)
    assert told.inputs == []
    assert named(told.outputs)[:2] == OBJECTS


def test_a_capture_in_a_worker_goes_from_server_to_template(openlineage: None) -> None:
    operator = CaptureImageOperator(
        task_id="capture", server={"guest_id": 7, "hostname": "web-01", "export_id": EXPORT}
    )
    assert operator.get_openlineage_facets_on_complete(None) is None, "nothing was captured yet"
    operator.__dict__["classic"] = account(ACCOUNT)
    operator._captured = {"guest_id": 7, "hostname": "web-01", "template_id": 70, "export_id": EXPORT}
    told = operator.get_openlineage_facets_on_complete(None)
    assert (named(told.inputs), named(told.outputs)) == ([SERVER], [TEMPLATE])


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://copies/classic/web-01-7/e", "s3://copies classic/web-01-7/e/disk-0.vhd"),
        ("/srv/images/web-01-7/e", f"file://{socket.gethostname()} /srv/images/web-01-7/e/disk-0.vhd"),
    ],
    ids=["bucket", "folder"],
)
def test_a_delivery_goes_from_objects_to_files(openlineage: None, place: str, expected: str) -> None:
    operator = DeliverExportOperator(task_id="deliver", exports=[])
    done = Delivered(
        export_id=EXPORT,
        place=place,
        files=(DeliveredFile(name="disk-0.vhd", size=1000, sha256="ab" * 32, already=False),),
        seconds=1.0,
    )
    operator._delivered = [(manifest(), done)]
    told = operator.get_openlineage_facets_on_complete(None)
    assert named(told.inputs) == OBJECTS
    assert named(told.outputs) == [expected]
    assert told.outputs[0].facets["version"].datasetVersion == f"sha256:{'ab' * 32}"
    assert told.outputs[0].outputFacets["outputStatistics"].size == 1000


def test_what_left_nothing_has_no_lineage(openlineage: None) -> None:
    assert DeliverExportOperator(task_id="deliver", exports=[]).get_openlineage_facets_on_complete(None) is None
    sensor = ProveWhenExportedSensor(task_id="w", started="{}", wave_key="w", bucket="images")
    assert sensor.get_openlineage_facets_on_complete(None) is None


def test_without_openlineage_nothing_is_asked_and_nothing_told(without: None) -> None:
    assert proven(AssertionError("nobody wants to know")).get_openlineage_facets_on_complete(None) is None
    assert lineage.capture_lineage({}, account=1) is None
    assert lineage.delivery_lineage([]) is None


def test_the_page_names_the_datasets(project_root: Any) -> None:
    text = (project_root / "docs/measure.md").read_text()
    for words in ("softlayer://<account id>", "virtual-guests/<id>", "image-templates/<id>", "s3://<bucket>"):
        assert f"`{words}`" in text


def test_events_of_the_real_provider_are_as_its_schema_says(openlineage: None) -> None:
    told = proven(ACCOUNT).get_openlineage_facets_on_complete(None)
    if not INSTALLED:
        assert type(told).__name__ == "OperatorLineage"
        return
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState  # type: ignore[import-not-found]
    from openlineage.client.serde import Serde  # type: ignore[import-not-found]

    event = RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        eventType=RunState.COMPLETE,
        producer="https://example.com/test",
        run=Run(runId="0192d5f4-6b1d-7c3e-8f00-000000000001", facets=told.run_facets),
        job=Job(namespace="airflow", name="export_servers.wait_for_export"),
        inputs=told.inputs,
        outputs=told.outputs,
    )
    written = json.loads(Serde.to_json(event))
    assert written["run"]["facets"]["sealift_export"]["export_id"] == EXPORT
    assert written["outputs"][0]["outputFacets"]["outputStatistics"]["size"] == 1000
    assert written["inputs"][0]["namespace"] == f"softlayer://{ACCOUNT}"


@pytest.mark.skipif(not INSTALLED, reason="OpenLineage's provider is no dependency of Sealift")
def test_the_real_provider_asks_the_operator() -> None:
    from airflow.providers.openlineage.extractors.base import DefaultExtractor  # type: ignore[import-not-found]

    told = DefaultExtractor(proven(ACCOUNT)).extract_on_complete(SimpleNamespace(state="success"))
    assert named(told.inputs) == [SERVER, TEMPLATE]
    assert named(told.outputs)[:2] == OBJECTS
    assert told.run_facets["sealift_export"].export_id == EXPORT
