"""The documentation: links lead somewhere, every field and setting is described, and the example is a DAG."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from sealift.cli.convert import convert, convert_export
from sealift.cli.cost import cost
from sealift.cli.doctor import doctor
from sealift.cli.download import download
from sealift.cli.drill import drill
from sealift.cli.kits import kits
from sealift.cli.prove import prove, prove_export
from sealift.cli.retention import hold, retention
from sealift.cli.status import status
from sealift.exports.doctor_models import Kind
from sealift.exports.status.rows import State
from sealift.provider.get_provider_info import get_provider_info
from sealift.provider.params import deliver_params, drill_params, examine_params, plan_params, prove_params

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")


def anchors(page: Path) -> set[str]:
    """Name a page's headings as links do."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())
    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {path}{anchor}, and there is no such heading"


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_every_page_is_in_the_index(index: str) -> None:
    page = ROOT / index
    linked = {(page.parent / path).resolve() for path, _ in LINK.findall(page.read_text())}
    missing = [each.name for each in PAGES if each.name != "README.md" and each not in linked]
    assert not missing, f"{index} does not link to {', '.join(missing)}"


@pytest.mark.airflow
def test_every_field_of_the_trigger_form_is_described_with_its_default() -> None:
    text = (ROOT / "docs/export.md").read_text()
    titles = dict(re.findall(r"\| ([^|]*) \(`(\w+)`\) \| ", text))
    assert titles == {param.schema["title"]: name for name, param in plan_params({}).items()}
    words = {"`[]`": ([],), "none": ([], None), "off": (False,), "any time": (None,), "the connection's": (None,)}
    for name, param in plan_params({}).items():
        (told,) = re.findall(rf"\(`{name}`\) \| ([^|]*) \|", text)
        assert param.value in words.get(told, ()) or str(param.value) == told.strip("`"), f"{name}: {told}"


def test_every_setting_is_described_with_its_default() -> None:
    text = (ROOT / "docs/export.md").read_text().split("## Settings of the deployment")[1]
    told = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*?)`? \|", text, re.MULTILINE))
    options = get_provider_info()["config"]["sealift"]["options"]
    assert told == {name: option["default"] or "empty" for name, option in options.items()}


def test_every_finding_of_the_doctor_is_described() -> None:
    text = (ROOT / "docs/recover.md").read_text().split("## What it finds")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE) == [kind.value for kind in Kind]


def test_every_option_of_the_doctor_is_described_with_its_default() -> None:
    text = (ROOT / "docs/recover.md").read_text().split("## `sealift doctor`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", text, re.MULTILINE)
    told = {name: default.strip() for names, default in rows for name in re.findall(r"`(--[\w-]+)", names)}
    options = {option.opts[0]: option for option in doctor.params}
    assert set(told) == set(options)
    for name in ("--prefix", "--settled", "--plan-days"):
        default = options[name].default
        assert told[name].strip("`") == (default if isinstance(default, str) else f"{default:g}")


@pytest.mark.airflow
def test_every_field_of_the_examination_s_form_is_described() -> None:
    text = (ROOT / "docs/recover.md").read_text().split("## In Airflow")[1]
    assert set(examine_params({})) <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.airflow
def test_the_example_is_a_dag_that_runs_after_exports(tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import Asset

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    (tmp_path / "after_export.py").write_text(code)
    bag = DagBag(dag_folder=str(tmp_path))
    assert bag.import_errors == {}
    dag = bag.dags["after_export"]
    assert dag.timetable.asset_condition == Asset(name="sealift_exported", group="sealift")
    assert dag.task_ids == ["places", "look"]


PAGE_OF_COMMAND = (
    (download, "download"),
    (prove, "verify"),
    (prove_export, "verify"),
    (convert, "convert"),
    (convert_export, "convert"),
    (kits, "kits"),
    (retention, "retention"),
    (hold, "retention"),
    (cost, "retention"),
    (status, "watch"),
    (drill, "drill"),
)


@pytest.mark.parametrize(("command", "page"), PAGE_OF_COMMAND, ids=lambda one: getattr(one, "name", None))
def test_every_option_of_a_command_stands_in_its_page(command: click.Command, page: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text()
    shared = {"--region", "--cos-conn-id"}  # described with the connections
    options = {one.opts[0] for one in command.params if isinstance(one, click.Option)}
    missing = {option for option in options - shared if option not in text}
    assert not missing


def test_every_field_of_the_delivery_form_stands_in_its_page() -> None:
    text = (ROOT / "docs/deliver.md").read_text()
    params = deliver_params({}, to="", aws_conn_id="aws_default")
    shared = {"Bucket", "Region", "Prefix", "Cloud Object Storage"}  # as in the form of plan_exports
    titles = {str(param.schema["title"]) for param in params.values()}
    assert [title for title in titles - shared if f"*{title}*" not in text] == []


def test_every_field_of_the_form_of_proofs_stands_in_its_page() -> None:
    text = (ROOT / "docs/verify.md").read_text()
    shared = {"Bucket", "Region", "Prefix", "Cloud Object Storage"}  # as in the form of plan_exports
    titles = {str(param.schema["title"]) for param in prove_params({}).values()}
    assert [title for title in titles - shared if f"*{title}*" not in text] == []


def test_every_field_of_the_form_of_drills_stands_in_its_page() -> None:
    text = (ROOT / "docs/drill.md").read_text()
    shared = {"Bucket", "Region", "Prefix", "Cloud Object Storage"}  # as in the form of plan_exports
    titles = {str(param.schema["title"]) for param in drill_params({}).values()}
    assert [title for title in titles - shared if f"*{title}*" not in text] == []


@pytest.mark.airflow
def test_every_route_of_the_page_s_api_stands_in_its_page() -> None:
    from fastapi.routing import APIRoute

    from sealift.provider.ui.app import make_app

    told = set(re.findall(r"`(?:GET|POST) (?:/sealift/api|…)(/[^`]*)`", (ROOT / "docs/watch.md").read_text()))
    short = {"{server_id}": "{id}", "{plan_id}": "{plan}", "{number}": "{n}"}
    for route in make_app().routes:
        assert isinstance(route, APIRoute)
        path = route.path.removeprefix("/api")
        for long, brief in short.items():
            path = path.replace(long, brief)
        assert path in told, f"{path} is not described"


def test_every_state_is_described() -> None:
    text = (ROOT / "docs/watch.md").read_text().split("## The states")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z ]+)` \|", text, re.MULTILINE)) == {one.value for one in State}
