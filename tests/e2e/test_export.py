"""The whole way of six servers through a real Airflow, judged by what is in the bucket and account afterwards."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox.disks import build_raw
from sealift.sandbox.imaging import disk_spec

EXPORTED = {"web-01": 1, "db-01": 4, "win-01": 1, "batch-01": 1, "files-01": 1}
STEPS = {"capture", "wait_for_template", "wait_for_export"}
IN_THE_TRIGGERER = {
    "capture": "Created the template",
    "wait_for_template": "Started the export of the template",
}


@pytest.fixture(scope="module")
def tasks(exported) -> dict[tuple[str, int], dict[str, Any]]:
    """The wave's task instances of the servers, by step and map index."""
    instances = exported.house.api.task_instances("export_servers", exported.wave_run_id)
    return {
        (one["task_id"].removeprefix("export."), one["map_index"]): one for one in instances if one["map_index"] >= 0
    }


def test_every_server_ends_as_it_should(exported) -> None:
    assert exported.state == "success", exported.outcomes()
    outcomes = exported.outcomes()
    assert {name for name, one in outcomes.items() if one["kind"] == "exported"} == set(EXPORTED)
    legacy = outcomes["legacy-01"]
    assert (legacy["kind"], legacy["rule"]) == ("not exportable", "active-transaction")
    assert len(outcomes) == 6


def test_the_bucket_holds_what_the_manifests_name_and_nothing_else(exported) -> None:
    manifests = exported.manifests()
    assert {name: len(one["disks"]) for name, one in manifests.items()} == EXPORTED
    named = {disk["key"] for one in manifests.values() for disk in one["disks"]}
    named |= {one["record"]["key"] for one in manifests.values()}
    stored = {one.key: one for one in exported.house.sandbox.store.list(exported.bucket, f"{exported.prefix}/images/")}
    assert set(stored) == named
    for manifest in manifests.values():
        assert manifest["proof_level"] == "L1"
        for disk in manifest["disks"]:
            assert stored[disk["key"]].size == disk["size"]
            assert stored[disk["key"]].etag == disk["etag"]


def test_the_manifests_tell_how_long_it_took(exported) -> None:
    """Every export was submitted by the run itself; a capture of some seconds may be over before a poll sees it run."""
    for manifest in exported.manifests().values():
        timing = manifest["timing"]
        assert timing["capacity_bytes"] > 0
        assert timing["export"]["ended_at"] == manifest["exported_at"]
        assert timing["export"]["seconds"] > 0
        assert timing["capture"] is None or timing["capture"]["began_at"] == manifest["captured_at"]


def test_the_bytes_that_come_out_are_the_disks_that_went_in(exported, tmp_path: Path) -> None:
    house = exported.house
    guests = {one["hostname"]: one for one in house.sandbox.world.guests.values()}
    compared = 0
    for hostname, manifest in exported.manifests().items():
        sources = sorted(guests[hostname]["_disks"], key=lambda disk: int(disk["device"]))
        for source, disk in zip(sources, manifest["disks"], strict=True):
            assert source["device"] == disk["device"]
            raw = tmp_path / "disk.raw"
            build_raw(disk_spec(source, house.sandbox.switches.as_dict()["gigabyte"]), raw)
            image = house.sandbox.store.path_of(exported.bucket, disk["key"])
            command = ["qemu-img", "compare", "-f", "raw", "-F", "vpc", raw, image]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{disk['key']}: {done.stdout}{done.stderr}"
            compared += 1
    assert compared == 8


def test_the_manifests_tell_what_each_server_is_there_for(exported) -> None:
    manifests = exported.manifests()
    assert manifests["web-01"]["guest"]["dedicated_host_name"] == "dedicated-01"
    assert manifests["db-01"]["guest"]["dedicated_host_name"] is None
    assert [disk["device"] for disk in manifests["db-01"]["disks"]] == ["0", "2", "4", "5"]
    (partition,) = manifests["win-01"]["disks"][0]["partitions"]
    assert "07" in json.dumps(partition) or 7 in partition.values()
    assert {one["type"] for one in manifests["files-01"]["storage_not_in_image"]} == {"ISCSI", "NAS"}
    assert manifests["web-01"]["storage_not_in_image"] == []
    for manifest in manifests.values():
        assert {one["device"] for one in manifest["left_out"]} == {"1", "3", "7"}, "swap, CD and metadata"
        assert manifest["captured_at"] < manifest["exported_at"] < manifest["proven_at"]
        assert manifest["run"]["run_id"] == exported.wave_run_id


def test_each_server_was_captured_once_and_exported_once(exported) -> None:
    templates = [one for one in exported.house.sandbox.templates() if one["name"].endswith(exported.period)]
    assert sorted(one["name"] for one in templates) == sorted(
        f"sealift-{manifest['export_id']}" for manifest in exported.manifests().values()
    )


def test_every_step_of_every_server_is_a_mapped_task_with_its_name(exported, tasks: dict[Any, Any]) -> None:
    assert set(tasks) == {(step, index) for step in STEPS for index in range(len(EXPORTED))}
    assert {one["state"] for one in tasks.values()} == {"success"}
    for index in range(len(EXPORTED)):
        shown = {tasks[step, index]["rendered_map_index"] for step in STEPS}
        assert len(shown) == 1
        assert shown <= set(EXPORTED)


def test_each_task_waited_in_the_triggerer_which_started_the_transactions(exported, tasks: dict[Any, Any]) -> None:
    # A trigger's last lines reach Airflow's own log instead of the task's, where its end is told before they are read.
    elsewhere = exported.house.airflow.log.read_text(errors="replace")
    for (step, index), one in tasks.items():
        log = exported.house.api.log(
            "export_servers", exported.wave_run_id, one["task_id"], try_number=1, map_index=index
        )
        assert log.count(") starting {") == 1, f"{step} of {index} waited once, in the triggerer:\n{log}"
        if step in IN_THE_TRIGGERER:
            assert one["pid"] is None
            sentence = re.compile(f"{IN_THE_TRIGGERER[step]} .*{re.escape(one['rendered_map_index'])} ")
            assert sentence.search(log) or sentence.search(elsewhere), f"{step} of {index}:\n{log}"
            assert "::group::Pre Execute" not in log, f"{step} of {index} in no worker"
            continue
        assert one["pid"] is not None
        assert log.count("::group::Pre Execute") <= 1 or "look-again" in log, f"{step} of {index} in one worker"


def test_nothing_was_tried_twice(exported, tasks: dict[Any, Any]) -> None:
    assert {one["try_number"] for one in tasks.values()} == {1}
    plan = exported.house.api.task_instances("plan_exports", exported.run_id)
    assert {one["try_number"] for one in plan} == {1}


def test_xcoms_hand_on_ids_and_keys_only(exported) -> None:
    for dag_id, run_id in (("plan_exports", exported.run_id), ("export_servers", exported.wave_run_id)):
        xcoms = exported.house.api.xcoms(dag_id, run_id)
        assert xcoms
        for one in xcoms:
            text = json.dumps(one["value"])
            assert len(text) < 1500, f"{one['task_id']} hands on {len(text)} characters: {text[:300]}"
            for contents in ("footer_uuid", "partitions", "proof_bytes_read", "blockDevices"):
                assert contents not in text


def test_the_links_lead_to_the_template_the_object_and_the_manifest(exported, tasks: dict[Any, Any]) -> None:
    api = exported.house.api
    manifest = next(iter(exported.manifests().values()))
    index = next(i for i in range(5) if tasks["capture", i]["rendered_map_index"] == manifest["guest"]["hostname"])

    def links(task_id: str) -> dict[str, str]:
        path = f"dags/export_servers/dagRuns/{exported.wave_run_id}/taskInstances/{task_id}/links"
        return api.request("GET", path, params={"map_index": index})["extra_links"]

    assert any(str(manifest["template"]["id"]) in (link or "") for link in links("export.capture").values())
    started = list(links("export.wait_for_template").values())
    assert any((link or "").endswith(manifest["disks"][0]["key"]) for link in started)
    proven = list(links("export.wait_for_export").values())
    assert any(f"manifests/{manifest['guest']['id']}/" in (link or "") for link in proven)


def test_clearing_a_whole_wave_captures_and_exports_nothing_again(exported) -> None:
    house = exported.house
    before, manifests = house.calls(), exported.manifests()
    house.api.clear("export_servers", exported.wave_run_id, ["read_wave"])
    assert house.api.wait("export_servers", exported.wave_run_id, seconds=300) == "success"
    assert house.calls() == before
    assert exported.manifests() == manifests
    tries = [one["try_number"] for one in house.api.task_instances("export_servers", exported.wave_run_id)]
    assert max(tries) >= 2, "the tasks did run again"


def test_a_dry_run_writes_the_plan_and_stops(house) -> None:
    before = house.calls()
    ran = house.plan(tags=["demo"], dry_run=True)
    assert ran.state == "success"
    assert [item["hostname"] for item in ran.plan()["items"] if item["outcome"] == "export"] == list(EXPORTED)
    assert house.calls() == before
    assert ran.manifests() == {}
    assert not list(house.sandbox.store.list(ran.bucket, f"{ran.prefix}/images/"))


def lines_of(exported, task_id: str, index: int) -> list[dict[str, Any]]:
    """The lines of a task's log file, as Airflow writes them."""
    where = f"dag_id=export_servers/run_id={exported.wave_run_id}/task_id={task_id}/map_index={index}"
    files = sorted((exported.house.airflow.home / "logs" / where).rglob("attempt=1.log*"))
    assert files, where
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_every_line_of_a_server_s_tasks_says_which_export_server_and_template(exported, tasks: dict[Any, Any]) -> None:
    by_name = exported.manifests()
    for (step, index), task in tasks.items():
        manifest = by_name[task["rendered_map_index"]]
        known = {
            "export_id": manifest["export_id"],
            "guest_id": manifest["guest"]["id"],
            "hostname": manifest["guest"]["hostname"],
        }
        lines = lines_of(exported, task["task_id"], index)
        said = [one for one in lines if "export_id" in one]
        assert said, f"{step} of {index} says nothing"
        for line in said:
            assert known.items() <= line.items(), line
            assert line.get("template_id", manifest["template"]["id"]) == manifest["template"]["id"]
        ours = [one for one in lines if one["event"].startswith((f"{known['hostname']}", "Created", "Started the"))]
        assert ours, f"{step} of {index}: no line of ours"
        for line in ours:
            assert known.items() <= line.items(), f"{step} of {index} says without its fields: {line}"
            assert line.get("template_id") == manifest["template"]["id"] or "Waiting for an offline" in line["event"]


def test_the_figures_of_the_run_came_by_statsd_from_tasks_and_triggerer(exported) -> None:
    manifests = exported.manifests().values()
    datacenters = [one["guest"]["datacenter"] for one in manifests]
    figures = exported.house.figures()

    def total(name: str, **tags: str) -> float:
        return sum(
            float(one.value)
            for one in figures
            if one.metric.name == f"sealift.{name}" and tags.items() <= one.tags.items()
        )

    for datacenter in set(datacenters):
        # The house is shared: other tests export as well.
        assert total("exports", outcome="exported", datacenter=datacenter) >= datacenters.count(datacenter)
        assert total("submissions", step="capture", outcome="submitted", datacenter=datacenter) > 0
        assert total("submissions", step="export", outcome="submitted", datacenter=datacenter) > 0
    assert total("exports", outcome="not-exportable") >= 1
    assert total("export_bytes") >= sum(disk["size"] for one in manifests for disk in one["disks"])
    assert total("proofs", level="L1", outcome="proven") >= len(EXPORTED)
    for name in ("server_duration", "export_duration", "proof_duration", "poll_duration"):
        assert total(name) > 0, name
    for what in ("slot", "template", "export"):
        assert [one for one in figures if one.tags.get("what") == what], what
    assert "other" not in {value for one in figures for name, value in one.tags.items() if name != "fault"}
