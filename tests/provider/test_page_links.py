"""The buttons of tasks that lead to the page: there while a task waits, and whatever became of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.types import TaskInstanceKey

from sealift.exports import names
from sealift.provider import page_links
from sealift.provider.ui.flows import FLOWS, Many, picture, steps_of

pytestmark = pytest.mark.airflow

RUN = "manual__2026-11-23T02:00:00+00:00"
PLAN = names.plan_id_for(dag_id="plan_exports", run_id=RUN)


def key(dag_id: str, run_id: str, *, map_index: int = -1) -> TaskInstanceKey:
    return TaskInstanceKey(dag_id=dag_id, task_id="t", run_id=run_id, try_number=1, map_index=map_index)


def asked(link: Any, ti_key: TaskInstanceKey) -> dict[str, str]:
    """What the page is asked to show."""
    url = urlsplit(link.get_link(None, ti_key=ti_key))
    assert (url.scheme, url.netloc) == ("", ""), "the host is the one by which the user reaches Airflow"
    assert url.path.endswith("/plugin/sealift")
    return {name: values[0] for name, values in parse_qs(url.query).items()}


def test_a_run_s_tasks_lead_to_its_plan_and_its_waves() -> None:
    assert asked(page_links.PlanPageLink(), key("plan_exports", RUN)) == {"view": "plan", "plan": PLAN}
    assert asked(page_links.WavePageLink(), key("plan_exports", RUN, map_index=2)) == {
        "view": "wave",
        "plan": PLAN,
        "wave": "2",
    }


def test_a_wave_s_tasks_lead_to_the_wave_and_to_their_server() -> None:
    run_id = names.wave_run_id(plan_id=PLAN, number=3)
    assert asked(page_links.WavePageLink(), key("export_servers", run_id)) == {
        "view": "wave",
        "plan": PLAN,
        "wave": "3",
    }
    assert asked(page_links.ServerPageLink(), key("export_servers", run_id, map_index=7)) == {
        "view": "server",
        "plan": PLAN,
        "wave": "3",
        "index": "7",
    }


def test_a_run_that_carries_no_wave_has_no_button() -> None:
    assert page_links.WavePageLink().get_link(None, ti_key=key("export_servers", "by hand")) == ""
    assert page_links.ServerPageLink().get_link(None, ti_key=key("export_servers", "by hand", map_index=1)) == ""


def test_the_path_of_airflow_s_base_address_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://tools.example.com/airflow/")
    assert page_links.page_url(view="plans") == "/airflow/plugin/sealift?view=plans"
    assert page_links.page_url() == "/airflow/plugin/sealift"


@pytest.fixture(scope="module")
def dagbag(project_root: Path) -> DagBag:
    return DagBag(dag_folder=str(project_root / "dags"))


def test_every_task_has_a_button_that_leads_to_the_page(dagbag: DagBag) -> None:
    operators = {one for link in page_links.LINKS for one in link.operators}
    for dag in dagbag.dags.values():
        for task in dag.tasks:
            cls = getattr(task, "operator_class", type(task))
            assert cls in operators, f"{dag.dag_id}.{task.task_id}: {cls.__name__} is in no list of page_links"


def test_every_task_that_touches_the_bucket_or_the_account_has_a_button_to_what_it_touched(dagbag: DagBag) -> None:
    """What chooses exports has none of its own; what asks, waits or reads has nothing but the tasks before."""
    without = {
        "ApproveRetentionOperator",
        "ChooseExportsOperator",
        "ChooseProofsOperator",
        "ChooseRehearsalsOperator",
        "DrillReportOperator",
        "WaitForWavesOperator",
    }
    for dag in dagbag.dags.values():
        for task in dag.tasks:
            cls = getattr(task, "operator_class", type(task))
            assert bool(cls.operator_extra_links) is (cls.__name__ not in without), f"{dag.dag_id}.{task.task_id}"


def test_the_plugin_registers_the_buttons_and_loads_no_operator_before_somebody_asks(project_root: Path) -> None:
    script = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('sealift_page', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "assert not any(one.startswith('sealift.provider.operators') for one in sys.modules)\n"
        "print(sorted(type(one).__name__ for one in module.SealiftPagePlugin.operator_extra_links))\n"
    )
    plugin = str(project_root / "plugins/sealift_page.py")
    done = subprocess.run(
        [sys.executable, "-c", script, plugin], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == str(sorted(type(one).__name__ for one in page_links.LINKS))


# The pictures of the flows


def test_the_pictures_hold_the_dags_tasks_in_their_order_and_each_dag_shows_its_own(dagbag: DagBag) -> None:
    assert set(FLOWS) == set(dagbag.dags)
    for dag_id, flow in FLOWS.items():
        dag = dagbag.dags[dag_id]
        order = [step.task_id for step in steps_of(flow)]
        assert sorted(order) == sorted(dag.task_ids)
        for place, task_id in enumerate(order):
            later = dag.get_task(task_id).get_flat_relative_ids(upstream=False)
            assert later <= set(order[place + 1 :]), f"{dag_id}: {task_id} is drawn after what follows it"
        mapped = {task.task_id for task in dag.tasks if task.get_closest_mapped_task_group() or task.is_mapped}
        assert {step.task_id for one in flow if isinstance(one, Many) for step in one.steps} == mapped
        assert f"](sealift/static/{dag_id}.svg)" in dag.doc_md


def test_a_picture_is_an_image_that_loads_and_runs_nothing() -> None:
    for flow in FLOWS.values():
        root = ET.fromstring(picture(flow))
        assert root.get("width") == "300"
        tags = {one.tag.rpartition("}")[2] for one in root.iter()}
        assert tags <= {"svg", "title", "rect", "text", "path"}
        assert not {name for one in root.iter() for name in one.attrib if name.startswith("on") or "href" in name}
        lowest = max(float(one.get("y")) for one in root.iter() if one.get("y"))
        assert lowest < float(root.get("height"))
        for text in root.iter("{http://www.w3.org/2000/svg}text"):
            assert len(text.text or "") <= 46, "longer lines leave the box"
