"""deliver_images: which exports, where to, and what it says; over the sandbox, to folders and into a bucket of S3."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from sealift.exports.errors import InputError, NoSuchExportError
from sealift.exports.manifest import Manifest, read_manifest
from sealift.exports.names import manifest_key
from sealift.exports.plan import Outcome, PlanItem
from sealift.provider.assets import delivered_asset, exported_asset
from sealift.provider.operators import deliver as module
from sealift.provider.operators.deliver import ChooseExportsOperator, DeliverExportOperator, check_target, place_of
from sealift.provider.params import deliver_params
from sealift.sandbox import Sandbox
from tests.cli.steps import Steps

pytestmark = pytest.mark.airflow

PERIOD = "20261123T0200Z"


class Exported(Steps):
    """Two servers that are exported."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        plan = self.plan("plan-1", PERIOD)
        self.items: list[PlanItem] = sorted(plan.items_with(Outcome.EXPORT), key=lambda one: -len(one.disks))[:2]
        templates = {one.guest_id: self.capture(one) for one in self.items}
        self.idle()
        for one in self.items:
            self.export(one, templates[one.guest_id])
        self.idle()
        for one in self.items:
            self.prove(one, templates[one.guest_id])

    def key(self, item: PlanItem) -> str:
        return manifest_key(prefix="sealift", guest_id=item.guest_id, period=PERIOD)

    def manifest(self, item: PlanItem) -> Manifest:
        found = read_manifest(self.cos, bucket=self.bucket, key=self.key(item))
        assert found is not None
        return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as sandbox:
        made = Exported(sandbox)
        sandbox.store.create_bucket(
            "copies", location_constraint="us-south-standard", service_instance=sandbox.cos_service_instance_id
        )
        yield made
        made.close()


@pytest.fixture(autouse=True)
def connections(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = exported.sandbox
    for name, connection in sandbox.connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    elsewhere = {
        "conn_type": "aws",
        "login": sandbox.hmac_access_key_id,
        "password": sandbox.hmac_secret_access_key,
        "extra": {
            "region_name": sandbox.region,
            "endpoint_url": sandbox.cos_url,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps(elsewhere))


@pytest.fixture
def s3(exported: Exported) -> Iterator[Any]:
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=exported.sandbox.cos_url,
        region_name="us-south",
        aws_access_key_id=exported.sandbox.hmac_access_key_id,
        aws_secret_access_key=exported.sandbox.hmac_secret_access_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    yield client
    client.close()


class Events(dict[Any, Any]):
    """What a task's outlets say."""

    def __missing__(self, outlet: Any) -> Any:
        self[outlet] = SimpleNamespace(extra={})
        return self[outlet]


def context(params: dict[str, Any], events: dict[Any, Any] | None = None) -> Any:
    defaults = {name: one.value for name, one in deliver_params({}, to="", aws_conn_id="elsewhere").items()}
    return {
        "params": defaults | params,
        "triggering_asset_events": events or {},
        "outlet_events": Events(),
        "ti": SimpleNamespace(dag_id="deliver_images", run_id="manual"),
    }


def choose(params: dict[str, Any], events: dict[Any, Any] | None = None) -> list[list[dict[str, Any]]]:
    return ChooseExportsOperator(task_id="choose_exports").execute(context(params, events))


def event(**extra: Any) -> Any:
    return SimpleNamespace(extra=extra)


def test_exports_are_named_as_people_call_them(exported: Exported) -> None:
    first, second = exported.items
    found = choose({"to": "/srv/images", "exports": [first.hostname, str(second.guest_id), first.export_id]})
    assert [[one["export_id"] for one in batch] for batch in found] == [[first.export_id], [second.export_id]]
    assert found[0][0] == {
        "schema_version": 1,
        "export_id": first.export_id,
        "hostname": first.hostname,
        "bucket": exported.bucket,
        "manifest_key": exported.key(first),
    }


def test_exports_that_have_finished_are_delivered(exported: Exported, caplog: pytest.LogCaptureFixture) -> None:
    first, second = exported.items
    here = [event(bucket=exported.bucket, manifest_key=exported.key(one)) for one in (first, second, first)]
    gone = event(bucket=exported.bucket, manifest_key="sealift/manifests/1/gone.json")
    found = choose({"to": "/srv/images"}, {exported_asset(): [*here, gone]})
    assert [batch[0]["export_id"] for batch in found] == [first.export_id, second.export_id]


@pytest.mark.parametrize(
    ("params", "events", "said"),
    [
        ({"to": "/srv"}, {}, "Nothing is named"),
        ({"to": "srv/images", "exports": ["web"]}, {}, "is no place to deliver to"),
        ({"to": None, "exports": ["web"]}, {}, "is no place to deliver to"),
        ({"to": "/srv", "exports": ["nobody"]}, {}, "no images of a server named 'nobody'"),
        ({"to": "/srv"}, {"asset": [event()]}, "made by hand"),
        ({"to": "/srv", "exports": ["web"], "format": "vdi"}, {}, "not delivered as 'vdi'"),
    ],
    ids=["nothing", "relative", "nowhere", "unknown", "by hand", "format"],
)
def test_what_is_wrong_is_said_before_anything_is_brought(
    params: dict[str, Any], events: dict[Any, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        choose(params, events)


def test_more_exports_than_airflow_maps_share_tasks(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TASKS_AT_MOST", 1)
    first, second = exported.items
    found = choose({"to": "/srv", "exports": [first.export_id, second.export_id]})
    assert [[one["export_id"] for one in batch] for batch in found] == [[first.export_id, second.export_id]]
    assert DeliverExportOperator(task_id="d", exports=found[0]).label == "2 exports"
    assert DeliverExportOperator(task_id="d", exports=found[0][:1]).label == first.hostname


def deliver(exports: list[dict[str, Any]], params: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    made = context(params)
    task = DeliverExportOperator(task_id="deliver", exports=exports, outlets=[delivered_asset()])
    return task.execute(made), made["outlet_events"]


def test_an_export_is_delivered_to_a_folder(
    exported: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = exported.items[0]
    params = {"to": str(tmp_path), "exports": [first.export_id]}
    ((export,),) = choose(params)
    (told,), events = deliver([export], params)
    where = tmp_path / f"{first.hostname}-{first.guest_id}" / first.export_id
    assert told["place"] == str(where)
    assert (
        told["brought"]
        == told["bytes"]
        == sum(one.stat().st_size for one in where.iterdir() if one.name != "SHA256SUMS")
    )
    sums = dict(reversed(line.split("  ")) for line in (where / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in where.iterdir() if one.name != "SHA256SUMS"
    }
    ((outlet, said),) = events.items()
    assert outlet == delivered_asset()
    assert said.extra == {"exports": [{"export_id": first.export_id, "place": str(where)}]}
    (again,), _ = deliver([export], params)
    assert again == told | {"brought": 0}


def test_an_export_is_delivered_into_a_bucket_without_a_disk(
    exported: Exported, tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = exported.items[0]
    params = {"to": "s3://copies/classic", "exports": [first.export_id], "aws_conn_id": "elsewhere"}
    ((export,),) = choose(params)
    (told,), _ = deliver([export], params)
    base = f"classic/{first.hostname}-{first.guest_id}/{first.export_id}"
    assert told["place"] == f"s3://copies/{base}"
    listed = {one["Key"]: one["Size"] for one in s3.list_objects_v2(Bucket="copies", Prefix=base)["Contents"]}
    disks = [disk.key.rpartition("/")[2] for disk in exported.manifest(first).disks]
    assert set(listed) == {
        f"{base}/{name}" for name in (*disks, "server.json", "manifest.json", "SHA256SUMS", "delivery.json")
    }
    assert list(tmp_path.iterdir()) == []

    def body(name: str) -> bytes:
        return bytes(s3.get_object(Bucket="copies", Key=f"{base}/{name}")["Body"].read())

    sums = dict(reversed(line.split("  ")) for line in body("SHA256SUMS").decode().splitlines())
    for disk in exported.manifest(first).disks:
        name = disk.key.rpartition("/")[2]
        assert body(name) == exported.cos.read(exported.bucket, disk.key)
        assert sums[name] == hashlib.sha256(body(name)).hexdigest()
    notes = json.loads(body("delivery.json"))
    assert {one["checked_by"] for one in notes.values()} == {"SHA-256 of its parts"}

    (again,), _ = deliver([export], params)
    assert again["brought"] == 0, "the bucket is asked, and nothing is read"
    s3.put_object(Bucket="copies", Key=f"{base}/{disks[0]}", Body=b"other bytes")
    (third,), _ = deliver([export], params)
    assert third["brought"] == exported.manifest(first).disks[0].size
    assert body(disks[0]) == exported.cos.read(exported.bucket, exported.manifest(first).disks[0].key)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_an_export_is_delivered_in_another_format_with_kits(
    exported: Exported, tmp_path: Path, s3: Any, kind: str
) -> None:
    second = exported.items[1]
    to = str(tmp_path) if kind == "folder" else "s3://copies/converted"
    params = {"to": to, "exports": [second.export_id], "format": "vmdk", "kits": True, "aws_conn_id": "elsewhere"}
    ((export,),) = choose(params)
    (told,), _ = deliver([export], params)
    base = f"{second.hostname}-{second.guest_id}/{second.export_id}"

    def body(name: str) -> bytes:
        if kind == "folder":
            return (tmp_path / base / name).read_bytes()
        return bytes(s3.get_object(Bucket="copies", Key=f"converted/{base}/{name}")["Body"].read())

    sums = dict(reversed(line.split("  ")) for line in body("SHA256SUMS").decode().splitlines())
    assert {"disk-0.vmdk", "conversion.json", "server.json", "manifest.json", "kits/vmware/server.ovf"} <= set(sums)
    assert "disk-0.vhd" not in sums
    assert all(hashlib.sha256(body(name)).hexdigest() == sha256 for name, sha256 in sums.items())
    assert json.loads(body("conversion.json"))["made_by"] == "deliver_images manual"
    assert told["bytes"] == sum(len(body(name)) for name in sums)
    (again,), _ = deliver([export], params)
    assert again["brought"] == 0


def test_an_export_that_is_gone_by_now_is_said(exported: Exported, tmp_path: Path) -> None:
    export = {"export_id": "1-x", "hostname": "web", "bucket": exported.bucket, "manifest_key": "sealift/gone.json"}
    with pytest.raises(NoSuchExportError, match="1-x is gone"):
        deliver([export], {"to": str(tmp_path)})


@pytest.mark.parametrize("to", ["", "images", "s3://", "s3:///prefix", "ftp://x/y", "~/images"])
def test_what_is_no_place_is_refused(to: str) -> None:
    with pytest.raises(InputError, match="is no place"):
        check_target(to)


@pytest.mark.parametrize(
    ("to", "label"),
    [
        ("/srv/images", "/srv/images/web-7/7-x"),
        ("/srv/images/", "/srv/images/web-7/7-x"),
        ("s3://b", "s3://b/web-7/7-x"),
        ("s3://b/", "s3://b/web-7/7-x"),
        ("s3://b/deep/er/", "s3://b/deep/er/web-7/7-x"),
    ],
)
def test_each_export_has_a_place_of_its_own(to: str, label: str) -> None:
    check_target(to)
    assert place_of(to, PurePosixPath("web-7/7-x"), aws_conn_id="elsewhere").label == label
