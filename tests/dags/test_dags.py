"""The DAG files: they import, quickly, without the network, and are wired as the docs say."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.module_loading import import_string
from airflow.serialization.serialized_objects import BaseSerialization, DagSerialization

from sealift.provider.waits import read_xcom

pytestmark = pytest.mark.airflow

FILES = (
    "plan_exports",
    "export_servers",
    "examine_exports",
    "deliver_images",
    "prove_exports",
    "apply_retention",
    "drill_restores",
)

PARSE = """
import json, socket, sys, time
import airflow.sdk, airflow.configuration
def refuse(*args, **kwargs):
    raise AssertionError(f"a DAG file opened a connection while it was parsed: {args[1:]}")
socket.socket.connect = refuse
socket.create_connection = refuse
before = set(sys.modules)
start = time.process_time()
source = open(sys.argv[1]).read()
exec(compile(source, sys.argv[1], "exec"), {"__name__": "dag_file", "__file__": sys.argv[1]})
print(json.dumps({"seconds": time.process_time() - start, "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.fixture(scope="module")
def dagbag(project_root: Path) -> DagBag:
    return DagBag(dag_folder=str(project_root / "dags"))


def test_dags_import(dagbag: DagBag) -> None:
    assert dagbag.import_errors == {}
    assert set(dagbag.dags) == set(FILES)


@pytest.mark.parametrize("dag_id", FILES)
def test_dags_say_what_they_are(dagbag: DagBag, dag_id: str) -> None:
    dag = dagbag.dags[dag_id]
    assert dag.doc_md
    assert dag.description
    assert {"sealift", "ibm-cloud"} <= set(dag.tags)
    assert dag.schedule is None, "no schedule unless somebody sets one"
    for task in dag.tasks:
        assert task.owner == "data-platform"
        assert task.retries >= 2


def parsed(project_root: Path, dag_id: str) -> dict[str, Any]:
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", PARSE, str(project_root / "dags" / f"{dag_id}.py")],
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
                env=dict(os.environ),
            ).stdout.splitlines()[-1]
        )
        for _ in range(3)
    ]
    return min(runs, key=lambda run: run["seconds"])


@pytest.mark.parametrize("dag_id", FILES)
def test_parsing_costs_under_a_second_of_cpu_and_opens_no_connection(project_root: Path, dag_id: str) -> None:
    run = parsed(project_root, dag_id)
    assert run["seconds"] < 1.0, "CPU seconds over the bare Airflow import, the best of three"
    heavy = {"SoftLayer", "ibm_boto3", "ibm_botocore", "boto3", "sealift.sandbox", "airflow.models.dagrun"} & set(
        run["modules"]
    )
    assert not heavy


def test_the_way_of_one_server(dagbag: DagBag) -> None:
    dag = dagbag.dags["export_servers"]
    chain = ["capture", "wait_for_template", "wait_for_export"]
    for before, after in itertools.pairwise(chain):
        assert f"export.{after}" in dag.get_task(f"export.{before}").downstream_task_ids
    assert dag.get_task("summarise").trigger_rule == "all_done"


def test_finishing_work_goes_before_starting_work(dagbag: DagBag) -> None:
    """Of the tasks that want a worker: a proof before an export, an export before a capture, over all waves."""
    dag = dagbag.dags["export_servers"]
    order = ("export.capture", "export.wait_for_template", "export.wait_for_export", "summarise")
    tasks = [dag.get_task(name) for name in order]
    assert [one.priority_weight for one in tasks] == [1, 2, 3, 4]
    assert {one.weight_rule for one in tasks} == {"absolute"}, (
        "with another rule the weights of what comes after would count for what comes before"
    )
    assert len({one.pool for one in tasks}) == 1, "weights are compared within a pool"


def test_a_server_is_no_more_tasks_than_it_needs(dagbag: DagBag) -> None:
    """The scheduler looks at every unfinished task of a waiting server, on each of its passes."""
    group = dagbag.dags["export_servers"].task_group.get_child_by_label("export")
    assert {task.task_id for task in group.iter_tasks()} == {
        "export.capture",
        "export.wait_for_template",
        "export.wait_for_export",
    }


@pytest.mark.parametrize("task_id", ["export.capture", "export.wait_for_template", "export.wait_for_export"])
def test_all_that_waits_starts_in_the_triggerer(dagbag: DagBag, task_id: str) -> None:
    task = dagbag.dags["export_servers"].get_task(task_id)
    assert task.start_from_trigger is True
    args = task.start_trigger_args
    templated = {name for name, value in args.trigger_kwargs.items() if isinstance(value, str) and "{{" in value}
    pulls = [value for value in args.trigger_kwargs.values() if "xcom_pull" in str(value)]
    assert pulls
    assert all("map_indexes=" in value for value in pulls), "without it the triggerer would wait for ever"
    assert {"attempt", "classic_conn_id"} < templated
    assert templated <= set(task.template_fields), "Airflow renders no other"
    trigger = import_string(args.trigger_cls)(**args.trigger_kwargs)
    assert all(hasattr(trigger, name) for name in templated)
    assert hasattr(task, args.next_method)


def test_airflow_renders_what_the_triggers_are_told(dagbag: DagBag) -> None:
    """As the triggerer does it: with the DAG as it is kept in the database."""
    dag = DagSerialization.from_dict(DagSerialization.to_dict(dagbag.dags["export_servers"]))
    gate = {"slots": {"bucket": "images"}, "max_offline": 3, "window": None}
    servers = [{"guest_id": 1}, {"guest_id": 2}]
    held = {
        ("read_wave", "gate", -1): gate,
        ("read_wave", "return_value", -1): servers,
        ("export.capture", "return_value", 1): {"template_id": 70},
        ("export.wait_for_template", "return_value", 1): {"template_id": 70, "submitted": True},
    }

    def pull(*, task_ids: str, key: str = "return_value", map_indexes: int) -> Any:
        return held[task_ids, key, map_indexes]

    told: dict[str, Any] = {}
    for step in ("capture", "wait_for_template", "wait_for_export"):
        task = dag.task_dict[f"export.{step}"]
        args = task.start_trigger_args
        kept = BaseSerialization.deserialize(args.trigger_kwargs)
        trigger = import_string(args.trigger_cls)(**kept)
        trigger.task_instance = SimpleNamespace(
            task=task, task_id=task.task_id, try_number=2, map_index=1, xcom_pull=pull
        )
        params = {"wave": {"classic_conn_id": "c", "cos_conn_id": "s", "region": "r"}}
        context: Any = {"ti": trigger.task_instance, "params": params, "dag": dag}
        trigger.render_template_fields(context)
        assert (context, trigger.task) == ({}, None), "thousands of triggers need not hold a DAG each"
        assert trigger.task_instance.task_id == task.task_id
        told[step] = trigger.serialize()[1]
        assert told[step]["attempt"] == "2"
        assert told[step]["classic_conn_id"] == "c"
        assert "{{" not in str(told[step])
    assert read_xcom(told["capture"]["gate"]) == gate
    assert read_xcom(told["capture"]["server"]) == servers[1]
    assert read_xcom(told["wait_for_template"]["terms"]) == {"template_id": 70}
    assert read_xcom(told["wait_for_export"]["terms"]) == {"template_id": 70, "submitted": True}


def test_the_trigger_form_has_fields_with_schemas(dagbag: DagBag) -> None:
    params = dagbag.dags["plan_exports"].params
    schemas = {name: params.get_param(name).schema for name in params}
    assert schemas["format"]["enum"] == ["vhd", "vmdk", "qcow2", "vhd-fixed", "raw"]
    assert schemas["wave_size"]["maximum"] == 100
    assert schemas["max_offline"]["minimum"] == 1
    assert schemas["dry_run"]["type"] == "boolean"
    assert schemas["ids"]["items"] == {"type": "integer"}
    assert all("title" in schema for schema in schemas.values())
    at_once = {name for name, schema in schemas.items() if "section" not in schema}
    assert at_once == {"tags", "hostnames", "all", "dry_run"}, "the other sections are folded"
    assert params["all"] is False, "nothing is selected unless somebody says so"


def test_the_report_waits_for_all_waves_and_waves_follow_one_another(dagbag: DagBag) -> None:
    dag = dagbag.dags["plan_exports"]
    order = ["make_plan", "approve", "export_waves", "wait_for_waves", "report"]
    # The waves are expanded over the plan, and wait for its approval.
    further = {"make_plan": {"export_waves"}}
    for before, after in itertools.pairwise(order):
        assert dag.get_task(before).downstream_task_ids == {after} | further.get(before, set())
    assert dag.get_task("wait_for_waves").trigger_rule == dag.get_task("report").trigger_rule == "all_done"
    assert dag.get_task("export_waves").max_active_tis_per_dagrun == 1
    params = dag.params
    assert params.get_param("only").schema["enum"] == [None, "failed", "missing"]
    assert [params[name] for name in ("only", "plan", "since", "slots", "wave_size")] == [None, None, None, [], None]


def test_the_examination_is_one_task_that_looks_where_scheduled_exports_go(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__EXAMINE_SCHEDULE", "@daily")
    monkeypatch.setenv(
        "AIRFLOW__SEALIFT__DEFAULT_PARAMS", '{"tags": ["export"], "bucket": "images", "prefix": "weekly"}'
    )
    bag = DagBag(dag_folder=str(project_root / "dags" / "examine_exports.py"))
    assert bag.import_errors == {}
    dag = bag.dags["examine_exports"]
    assert dag.schedule == "@daily"
    assert dag.task_ids == ["examine"]
    assert (dag.params["bucket"], dag.params["prefix"]) == ("images", "weekly")
    assert dag.params["fail_on_findings"] is False
    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    assert all("title" in schema for schema in schemas.values())
    at_once = {name for name, schema in schemas.items() if "section" not in schema}
    assert at_once == {"fail_on_findings", "thorough"}


def test_retention_asks_between_the_dry_run_and_the_deletion(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [{"name": "all", "servers": {"all": True}, "keep_daily": 14}]
    monkeypatch.setenv("AIRFLOW__SEALIFT__RETENTION_SCHEDULE", "@weekly")
    monkeypatch.setenv("AIRFLOW__SEALIFT__RETENTION_RULES", json.dumps(rules))
    monkeypatch.setenv("AIRFLOW__SEALIFT__DEFAULT_PARAMS", '{"bucket": "images", "prefix": "weekly"}')
    bag = DagBag(dag_folder=str(project_root / "dags" / "apply_retention.py"))
    assert bag.import_errors == {}
    dag = bag.dags["apply_retention"]
    assert dag.schedule == "@weekly"
    assert dag.max_active_runs == 1
    assert dag.get_task("approve").upstream_task_ids == {"dry_run"}
    assert dag.get_task("apply").upstream_task_ids == {"dry_run", "approve"}
    assert dag.get_task("apply").trigger_rule == "all_success", "what is rejected is skipped"
    assert dag.get_task("approve").defaults == ["Reject"]
    assert (dag.params["bucket"], dag.params["prefix"], dag.params["rules"]) == ("images", "weekly", rules)
    assert all("title" in dag.params.get_param(name).schema for name in dag.params)


def test_deliveries_follow_exports_where_a_place_is_set(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__DELIVER_TO", "s3://elsewhere/images")
    monkeypatch.setenv("AIRFLOW__SEALIFT__DELIVER_AWS_CONN_ID", "elsewhere")
    monkeypatch.setenv("AIRFLOW__SEALIFT__DELIVERIES", "5")
    bag = DagBag(dag_folder=str(project_root / "dags" / "deliver_images.py"))
    assert bag.import_errors == {}
    dag = bag.dags["deliver_images"]
    assert [one.name for one in dag.schedule] == ["sealift_exported"]
    assert (dag.params["to"], dag.params["aws_conn_id"]) == ("s3://elsewhere/images", "elsewhere")
    assert dag.max_active_runs == 1, "what finishes meanwhile is gathered"
    deliver = dag.get_task("deliver")
    assert deliver.upstream_task_ids == {"choose_exports"}
    assert deliver.partial_kwargs["max_active_tis_per_dagrun"] == 5
    assert deliver.partial_kwargs["map_index_template"] == "{{ task.label }}"
    assert [one.name for one in deliver.partial_kwargs["outlets"]] == ["sealift_delivered"]
    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    assert all("title" in schema for schema in schemas.values())
    assert {name for name, schema in schemas.items() if "section" not in schema} == {"exports", "to", "period"}


def test_drills_are_a_task_for_each_server_between_the_choice_and_a_report_that_always_comes(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__DRILL_SCHEDULE", "@weekly")
    monkeypatch.setenv("AIRFLOW__SEALIFT__DRILLS", "3")
    monkeypatch.setenv("AIRFLOW__SEALIFT__DRILL_POOL", "downloads")
    monkeypatch.setenv("AIRFLOW__SEALIFT__DEFAULT_PARAMS", '{"bucket": "images", "prefix": "weekly"}')
    bag = DagBag(dag_folder=str(project_root / "dags" / "drill_restores.py"))
    assert bag.import_errors == {}
    dag = bag.dags["drill_restores"]
    assert dag.schedule == "@weekly"
    assert dag.max_active_runs == 1, "the next turn follows from the last drill"
    rehearse, report = dag.get_task("rehearse"), dag.get_task("report")
    assert rehearse.upstream_task_ids == {"choose_exports"}
    assert rehearse.partial_kwargs["max_active_tis_per_dagrun"] == 3
    assert rehearse.partial_kwargs["pool"] == "downloads"
    assert rehearse.partial_kwargs["map_index_template"] == "{{ task.label }}"
    assert report.upstream_task_ids == {"rehearse"}
    assert report.trigger_rule == "all_done"
    assert (dag.params["bucket"], dag.params["prefix"], dag.params["level"]) == ("images", "weekly", "L4")
    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    assert all("title" in schema for schema in schemas.values())
    assert {name for name, schema in schemas.items() if "section" not in schema} == {"within", "level", "exports"}


def test_schedule_and_defaults_come_from_the_settings(
    project_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__SCHEDULE", "0 2 * * 6")
    monkeypatch.setenv("AIRFLOW__SEALIFT__DEFAULT_PARAMS", '{"tags": ["export"], "bucket": "images"}')
    bag = DagBag(dag_folder=str(project_root / "dags" / "plan_exports.py"))
    assert bag.import_errors == {}
    dag = bag.dags["plan_exports"]
    assert dag.schedule == "0 2 * * 6"
    assert dag.params["tags"] == ["export"]
    assert dag.params["bucket"] == "images"


def test_an_unknown_default_is_named(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__DEFAULT_PARAMS", '{"buckett": "images"}')
    bag = DagBag(dag_folder=str(project_root / "dags" / "plan_exports.py"))
    assert "buckett" in str(bag.import_errors)
