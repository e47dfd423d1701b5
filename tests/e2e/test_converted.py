"""A plan that asks for VMDKs, through a real Airflow: the export is done when they are there, the same disks."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

DAG = "deliver_images"


@pytest.fixture(scope="module")
def ran(house: Any) -> Any:
    """One server with one disk; its exports of other tests have other prefixes."""
    return house.plan(hostnames=["web-01"], format="vmdk")


@pytest.fixture(scope="module")
def manifest(ran: Any) -> dict[str, Any]:
    ((_, found),) = ran.manifests().items()
    return dict(found)


def qemu(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["qemu-img", *words], capture_output=True, text=True, check=False)


def test_the_export_ends_with_its_conversion_recorded(ran: Any, manifest: dict[str, Any]) -> None:
    assert ran.state == "success", ran.outcomes()
    assert {name: one["kind"] for name, one in ran.outcomes().items()} == {"web-01": "exported"}
    images = manifest["disks"][0]["key"].rpartition("/")[0]
    assert (manifest["format"], manifest["disks"][0]["format"]) == ("vhd", "vhd-dynamic")
    conversion = manifest["conversion"]
    assert (conversion["format"], conversion["key"]) == ("vmdk", f"{images}/converted/vmdk/conversion.json")
    body = ran.house.sandbox.store.path_of(ran.bucket, conversion["key"]).read_bytes()
    assert conversion["digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
    record = json.loads(body)
    assert (record["export_id"], record["format"]) == (manifest["export_id"], "vmdk")
    assert record["made_by"].startswith("export_servers ")
    assert [(one["device"], one["source_key"], one["source_etag"]) for one in record["disks"]] == [
        (one["device"], one["key"], one["etag"]) for one in manifest["disks"]
    ]


def test_the_bucket_holds_the_vmdk_beside_the_vhd_and_nothing_else(ran: Any, manifest: dict[str, Any]) -> None:
    images = manifest["disks"][0]["key"].rpartition("/")[0]
    stored = {one.key.removeprefix(f"{images}/") for one in ran.house.sandbox.store.list(ran.bucket, f"{images}/")}
    assert stored == {"disk-0.vhd", "server.json", "converted/vmdk/disk-0.vmdk", "converted/vmdk/conversion.json"}


def test_qemu_reads_the_vmdk_and_finds_the_disk_of_the_vhd(ran: Any, manifest: dict[str, Any]) -> None:
    record = ran.house.read_json(ran.bucket, manifest["conversion"]["key"])
    store = ran.house.sandbox.store
    for disk, one in zip(manifest["disks"], record["disks"], strict=True):
        vhd, image = store.path_of(ran.bucket, disk["key"]), store.path_of(ran.bucket, one["key"])
        told = json.loads(qemu("info", "--output=json", "-f", "vmdk", image).stdout)
        assert told["virtual-size"] == disk["virtual_size"]
        assert told["format-specific"]["data"]["create-type"] == "streamOptimized"
        assert json.loads(qemu("check", "--output=json", "-f", "vmdk", image).stdout)["check-errors"] == 0
        said = qemu("compare", "-f", "vpc", "-F", "vmdk", vhd, image)
        assert "Images are identical" in said.stdout, said
        assert image.stat().st_size == one["size"]
        assert hashlib.sha256(image.read_bytes()).hexdigest() == one["sha256"]


def test_the_vmdk_is_what_a_delivery_in_that_format_brings(ran: Any, manifest: dict[str, Any], tmp_path: Path) -> None:
    house = ran.house
    house.api.pause(DAG, paused=False)
    try:
        conf = {"exports": [manifest["export_id"]], "to": str(tmp_path), "prefix": ran.prefix}
        run_id = house.api.trigger(DAG, conf | {"format": "vmdk", "kits": True})
        assert house.api.wait(DAG, run_id, seconds=180) == "success"
    finally:
        house.api.pause(DAG)
    where = tmp_path / f"web-01-{manifest['guest']['id']}" / manifest["export_id"]
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=where, check=True)
    assert {one.name for one in where.iterdir()} == {
        "SHA256SUMS", "conversion.json", "disk-0.vmdk", "kits", "manifest.json", "server.json",
    }  # fmt: skip
    record = house.read_json(ran.bucket, manifest["conversion"]["key"])
    stored = house.sandbox.store.path_of(ran.bucket, record["disks"][0]["key"])
    assert (where / "disk-0.vmdk").read_bytes() == stored.read_bytes()
    assert json.loads((where / "conversion.json").read_text())["disks"][0]["converted_key"] == record["disks"][0]["key"]
