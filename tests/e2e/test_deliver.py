"""Images leave the bucket by real Airflow processes: by themselves once they are exported, and by hand."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

DAG = "deliver_images"


def test_what_has_finished_is_delivered_by_itself(house: Any) -> None:
    before = {one["dag_run_id"] for one in house.api.runs(DAG)}
    house.api.pause(DAG, paused=False)
    try:
        ran = house.plan(hostnames=["db-*"])
        assert ran.state == "success"
        deadline = time.monotonic() + 120
        while not (new := [one for one in house.api.runs(DAG) if one["dag_run_id"] not in before]):
            assert time.monotonic() < deadline, "the asset's event started no run"
            time.sleep(0.5)
        (run,) = new
        assert house.api.wait(DAG, run["dag_run_id"], seconds=180) == "success"
    finally:
        house.api.pause(DAG)
    assert run["run_type"] == "asset_triggered"
    ((hostname, manifest),) = ran.manifests().items()
    base = f"classic/{hostname}-{manifest['guest']['id']}/{manifest['export_id']}"
    stored = {one.key.removeprefix(f"{base}/"): one for one in house.sandbox.store.list("copies", base)}
    disks = {one["key"].rpartition("/")[2]: one for one in manifest["disks"]}
    assert len(disks) >= 2
    assert set(stored) == {*disks, "server.json", "manifest.json", "SHA256SUMS", "delivery.json"}
    for name, disk in disks.items():
        there, source = (
            house.sandbox.store.path_of(bucket, key).read_bytes()
            for bucket, key in (("copies", f"{base}/{name}"), (ran.bucket, disk["key"]))
        )
        assert there == source
    # The run takes what has finished since the one before it; other tests' exports may be among it.
    delivered = {
        one["map_index"]: one["rendered_map_index"]
        for one in house.api.task_instances(DAG, run["dag_run_id"])
        if one["task_id"] == "deliver"
    }
    assert hostname in delivered.values()
    chosen = house.api.xcom(DAG, run["dag_run_id"], "choose_exports")
    (index,) = [number for number, batch in enumerate(chosen) if batch[0]["export_id"] == manifest["export_id"]]
    assert delivered[index] == hostname
    log = house.api.log(DAG, run["dag_run_id"], "deliver", map_index=index)
    assert f"{manifest['export_id']} is in s3://copies/{base}" in log
    assert "every one checked" in log


def test_an_export_is_delivered_to_a_folder_by_hand(house: Any, exported: Any, tmp_path: Path) -> None:
    hostname, manifest = sorted(exported.manifests().items())[0]
    house.api.pause(DAG, paused=False)
    try:
        conf = {"exports": [manifest["export_id"]], "to": str(tmp_path), "prefix": exported.prefix}
        run_id = house.api.trigger(DAG, conf)
        assert house.api.wait(DAG, run_id, seconds=180) == "success"
    finally:
        house.api.pause(DAG)
    where = tmp_path / f"{hostname}-{manifest['guest']['id']}" / manifest["export_id"]
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=where, check=True)
    assert {one.name for one in where.iterdir()} == {
        "SHA256SUMS",
        "manifest.json",
        "server.json",
        *(one["key"].rpartition("/")[2] for one in manifest["disks"]),
    }


def test_what_cannot_be_delivered_says_what_to_do(house: Any) -> None:
    house.api.pause(DAG, paused=False)
    try:
        run_id = house.api.trigger(DAG, {"exports": ["nobody"], "to": "/srv/images"})
        assert house.api.wait(DAG, run_id, seconds=120) == "failed"
    finally:
        house.api.pause(DAG)
    assert "holds no images of a server named 'nobody'" in house.api.log(DAG, run_id, "choose_exports")
