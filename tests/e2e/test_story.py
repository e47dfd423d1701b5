"""The whole story in a browser: from the first look without a connection to the command that downloads an image.

It takes minutes, and is a part of ``make ui-test`` alone, which sets UI_STORY. ``make pictures`` plays it too, and
keeps its pictures under docs/images. Its parts go on from each other, in this order.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from sealift.exports import names
from tests.e2e.axe import serious_in
from tests.e2e.story import (
    FLEET,
    NARROW,
    PAGE,
    WIDE,
    Camera,
    Story,
    looking,
    make_connection,
    start_from,
    story_house,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("UI_STORY"), reason="long: make ui-test plays it"),
]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Iterator[Story]:
    with story_house(tmp_path_factory.mktemp("story"), project_root) as story:
        yield story


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Camera:
    return Camera.of(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def page(browser: Browser, story: Story) -> Iterator[Page]:
    """A window that shows this story's Airflow."""
    with looking(browser, story.house.airflow.url) as page:
        yield page


def test_the_first_look_says_what_is_missing(page: Page) -> None:
    page.goto(PAGE)
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("ibm_cos_default")
    expect(alert).to_contain_text("connection")


def test_the_connections_are_made_by_their_forms_and_their_test_buttons_say_so(page: Page, story: Story) -> None:
    kinds = {"ibm_classic": "IBM Cloud Classic (SoftLayer API)", "ibm_cos": "IBM Cloud Object Storage"}
    for connection_id, fields in story.sandbox.connections().items():
        make_connection(page, connection_id, kinds[fields["conn_type"]], fields)
    for connection_id in story.sandbox.connections():
        row = page.get_by_role("row").filter(has_text=connection_id)
        row.get_by_role("button", name="Test Connection").click()
        told = page.get_by_text("Test Connection Successful").first
        expect(told).to_be_visible()
        page.reload()


def test_a_place_without_exports_says_what_to_do(page: Page, story: Story) -> None:
    page.goto(PAGE)
    expect(page.get_by_text("Nothing is exported yet")).to_be_visible()
    run_id = start_from(page, page.get_by_role("button", name="Plan all servers"))
    assert story.house.api.wait("plan_exports", run_id, seconds=180) == "success"
    story.dry_run = names.plan_id_for(dag_id="plan_exports", run_id=run_id)
    assert story.house.calls() == {}, "a dry run changes nothing in the account"


def test_the_plan_says_what_would_be_done_and_what_it_costs(page: Page, story: Story, camera: Camera) -> None:
    page.goto(f"{PAGE}?view=plans")
    plans = page.get_by_role("table", name="Plans")
    expect(plans.get_by_role("row").filter(has_text=story.dry_run)).to_contain_text("dry run")
    page.get_by_label("Show").select_option(label="Plans that are carried out")
    expect(page.get_by_text("No plan was carried out yet")).to_be_visible()
    page.get_by_label("Show").select_option(label="Dry runs")
    plans.get_by_role("link", name=story.dry_run).click()
    expect(page.get_by_role("heading", name=f"Dry run {story.dry_run}")).to_be_visible()
    expect(page.get_by_role("region", name="Cost")).to_contain_text("$")
    expect(page.get_by_role("table", name="What the rules say")).to_be_visible()
    expect(page.get_by_role("table", name="Waves")).to_have_count(0)  # nothing of it is under way
    camera.take(page, "page-plan")


def test_a_plan_is_approved_before_servers_go_offline(page: Page, story: Story, camera: Camera) -> None:
    page.goto(f"{PAGE}?view=plan&plan={story.dry_run}")
    # The account says six times that it does not know the server: to the triggerer for each of the five, which leaves
    # them to workers, and to the first of those, which fails.
    story.sandbox.set_fault("guest_404", times=6, methods=["createArchiveTemplate"])
    run_id = start_from(page, page.get_by_role("button", name="Approve and export"))
    story.run_ids.append(run_id)
    story.plan_id = names.plan_id_for(dag_id="plan_exports", run_id=run_id)
    story.house.question("plan_exports", run_id)
    assert story.house.calls()["createArchiveTemplate"] == 0, "nobody has approved it yet"
    page.goto(f"/dags/plan_exports/runs/{quote(run_id)}/tasks/approve/required_actions")
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    expect(page.get_by_text("web-01").first).to_be_visible()
    camera.take(page, "page-approval", height=740)
    page.get_by_role("button", name="Approve").click()


def test_a_run_is_watched_while_it_is_at_work(page: Page, story: Story, browser: Browser, camera: Camera) -> None:
    wave = f"{PAGE}?view=wave&plan={story.plan_id}&wave=0"
    page.goto(wave)
    servers = page.get_by_role("table", name="Servers of the wave")
    expect(
        servers.get_by_text("capture, the server is offline").or_(servers.get_by_text("image template is made")).first
    ).to_be_visible(timeout=120_000)
    expect(servers.get_by_text(re.compile(r"transaction \d+ on the (server|template)")).first).to_be_visible(
        timeout=60_000
    )
    camera.take(page, "page-wave", height=560)
    with looking(browser, story.house.airflow.url, mode="dark", size=NARROW) as narrow:
        narrow.goto(wave)
        expect(narrow.get_by_role("table", name="Servers of the wave")).to_be_visible()
        camera.take(narrow, "page-wave-narrow-dark")
    page.goto(PAGE)
    expect(page.get_by_role("gridcell", name=re.compile("running")).first).to_be_visible()


def test_the_task_of_a_server_that_still_waits_leads_to_the_page(page: Page, story: Story) -> None:
    run_id = names.wave_run_id(plan_id=story.plan_id, number=0)
    page.goto(f"/dags/export_servers/runs/{quote(run_id)}/tasks/export.capture/mapped/0/details")
    page.get_by_role("link", name="Server in Sealift").click()
    expect(page).to_have_url(re.compile(r"view=server&id=\d+"))
    expect(page.get_by_role("table", name="What became of the server, slot by slot")).to_be_visible()


def test_a_failure_is_told_in_words_with_the_next_step(page: Page, story: Story, camera: Camera) -> None:
    state = story.house.api.wait("plan_exports", story.run_ids[0], seconds=600)
    story.sandbox.faults.clear()
    assert state == "failed"
    outcomes = story.outcomes(story.plan_id)
    (story.failed,) = [name for name, kind in outcomes.items() if kind == "failed"]
    assert list(outcomes.values()).count("exported") == 4
    page.goto(f"{PAGE}?view=plan&plan={story.plan_id}")
    page.get_by_role("group", name="Servers by what became of them").get_by_role(
        "button", name=re.compile("^failed")
    ).click()
    servers = page.get_by_role("table", name="Servers of the plan")
    expect(servers.get_by_role("rowgroup").last.get_by_role("row")).to_have_count(1)
    expect(servers).to_contain_text(story.failed)
    expect(servers).to_contain_text("capture: ")
    expect(page).to_have_url(re.compile("state=failed"))
    servers.scroll_into_view_if_needed()
    camera.take(page, "page-failed")


def test_the_failed_are_tried_again_by_a_click(page: Page, story: Story) -> None:
    page.goto(f"{PAGE}?view=plan&plan={story.plan_id}")
    run_id = start_from(page, page.get_by_role("button", name="Retry the failed"))
    story.run_ids.append(run_id)
    story.house.question("plan_exports", run_id)
    page.goto(f"/dags/plan_exports/runs/{quote(run_id)}/tasks/approve/required_actions")
    page.get_by_role("button", name="Approve").click()
    assert story.house.api.wait("plan_exports", run_id, seconds=600) == "success"
    story.retried = names.plan_id_for(dag_id="plan_exports", run_id=run_id)
    assert story.outcomes(story.retried) == {story.failed: "exported"}
    page.goto(PAGE)
    row = (
        page.get_by_role("grid")
        .get_by_role("row")
        .filter(has=page.get_by_role("link", name=re.compile(f"^{story.failed}\\b")))
    )
    expect(row.get_by_role("gridcell", name=re.compile("structure proven")).first).to_be_visible(timeout=60_000)


def test_the_export_shows_its_manifest_and_the_command_that_downloads_it(
    page: Page, story: Story, camera: Camera, tmp_path: Path, project_root: Path
) -> None:
    page.goto(PAGE)
    page.get_by_role("grid").get_by_role("link", name=re.compile(f"^{story.failed}\\b")).click()
    export = page.get_by_role("region", name=re.compile("^Export "))
    expect(export).to_contain_text("manifests/")
    camera.take(page, "page-server")
    page.get_by_role("button", name="Copy the download command").click()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command.startswith("sealift download ")
    connections = tmp_path / "connections.json"
    connections.write_text(json.dumps(story.sandbox.connections()))
    connections.chmod(0o600)
    words = command.split()[1:]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sealift.cli",
            *words,
            "--connections",
            str(connections),
            "--to",
            str(tmp_path / "images"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project_root / "include")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "images").rglob("disk-0.vhd"))
    assert list((tmp_path / "images").rglob("SHA256SUMS"))


def test_a_dag_s_documentation_shows_its_flow(page: Page, camera: Camera) -> None:
    page.goto("/dags/plan_exports")
    page.get_by_role("button", name="Dag Docs").first.click()
    picture = page.get_by_role("img", name=re.compile("^make_plan, approve"))
    picture.scroll_into_view_if_needed()
    expect(picture).to_be_visible()
    assert picture.evaluate("one => one.complete && one.naturalWidth") == 300
    camera.take(page, "dag-docs")


def test_the_trigger_form_says_how_servers_are_chosen_by_name(page: Page, story: Story) -> None:
    page.goto("/dags/plan_exports")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("link", name="Sealift")).to_have_attribute("href", re.compile("plugin/sealift$"))
    dialog.locator("#element_hostnames").fill("wbe-01")
    dialog.get_by_role("button", name="Trigger").last.click()
    expect(dialog).to_be_hidden()
    run_id = story.newest_run()
    assert story.house.api.wait("plan_exports", run_id, seconds=180) == "failed"
    log = story.house.api.log("plan_exports", run_id, "make_plan")
    assert "No server fits the selection (hostnames = wbe-01). Did you mean web-01" in log


def test_everything_can_be_done_by_keys(page: Page, story: Story) -> None:
    """From the navigation through filters and grid into an action's dialog, out of it, and into a server."""
    page.goto("/")
    page.get_by_role("link", name="Sealift", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("grid", name="Servers by slots")).to_be_visible()
    walk_to(page, "searchbox", "Name or id")
    page.keyboard.type("b")
    expect(page).to_have_url(re.compile("name=b"))
    walk_to(page, "button", "Tags All tags")
    page.keyboard.press("Enter")
    expect(page.get_by_role("checkbox", name=re.compile("demo"))).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile("tag="))
    page.keyboard.press("Escape")
    expect(page.get_by_role("checkbox", name=re.compile("demo"))).to_be_hidden()
    expect(page.locator(":focus")).to_have_attribute("aria-expanded", "false")
    walk_to(page, "button", "Clear filters")
    page.keyboard.press("Enter")
    expect(page.get_by_role("grid").get_by_role("rowheader").first).to_contain_text("batch-01")
    walk_to(page, "rowheader", "")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    button = page.get_by_role("button", name="Plan 1 server")
    expect(button).to_be_visible()
    walk_to(page, "button", "Plan 1 server", back=True)
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Start the run")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()
    walk_to(page, "rowheader", "")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("view=server"))


def walk_to(page: Page, role: str, name: str, *, back: bool = False) -> None:
    """Press Tab until something has the focus."""
    wanted = page.get_by_role(role, name=name, exact=True) if name else page.get_by_role(role)  # type: ignore[arg-type]
    for _ in range(80):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if wanted.and_(page.locator(":focus")).count():
            return
    raise AssertionError(f"no way by Tab to the {role} {name}")


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_serious_in_what_the_story_has_shown(
    story: Story, browser: Browser, axe: Path, mode: str, size: dict[str, int]
) -> None:
    plan = f"{PAGE}?view=plan&plan={story.plan_id}"
    with looking(browser, story.house.airflow.url, mode=mode, size=size) as page:
        page.goto(PAGE)
        page.get_by_role("button", name=re.compile("^Tags")).click()
        expect(page.get_by_role("checkbox", name=re.compile("demo"))).to_be_visible()
        assert serious_in(page, axe) == []
        page.goto(plan)
        page.get_by_role("button", name="Retry the failed").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.wait_for_timeout(600)
        assert serious_in(page, axe, within="[role=dialog]") == []
        for view, shown in {
            f"{plan}&state=failed": page.get_by_role("table", name="Waves"),
            f"{PAGE}?view=wave&plan={story.plan_id}&wave=0": page.get_by_role("table", name="Servers of the wave"),
            f"{PAGE}?view=plans": page.get_by_role("table", name="Plans"),
            f"{PAGE}?place={FLEET}": page.get_by_role("grid"),
            f"{PAGE}?place={FLEET}&view=charts": page.get_by_role("img", name=re.compile("^Time to recover")),
            f"{PAGE}?view=plan&plan=nowhere": page.get_by_role("alert"),
        }.items():
            page.goto(view)
            expect(shown.first).to_be_visible()
            assert serious_in(page, axe) == [], view
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                f"{view} is wider than the window"
            )


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_pictures_of_a_year(story: Story, browser: Browser, camera: Camera, mode: str) -> None:
    suffix = "-dark" if mode == "dark" else ""
    with looking(browser, story.house.airflow.url, mode=mode) as page:
        page.goto(f"{PAGE}?place={FLEET}")
        expect(page.get_by_role("grid").get_by_role("gridcell").first).to_be_visible(timeout=60_000)
        camera.take(page, f"page-coverage{suffix}")
        page.goto(f"{PAGE}?place={FLEET}&view=charts")
        expect(page.get_by_role("img", name=re.compile("^Time to recover"))).to_be_visible(timeout=60_000)
        if mode == "light":
            camera.take(page, "page-charts")
    if mode == "light":
        with looking(browser, story.house.airflow.url, size=NARROW) as page:
            page.goto(f"{PAGE}?place={FLEET}")
            expect(page.get_by_role("grid").get_by_role("gridcell").first).to_be_visible()
            camera.take(page, "page-coverage-narrow")
    for name in camera.taken:
        assert (camera.folder / f"{name}.png").stat().st_size < 300_000, f"{name} is too large for a repository"
