"""The page in Airflow's navigation, in a real browser: quick checks of each view."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.axe import serious_in

PAGE = "/plugin/sealift?place=main"


def test_the_entry_in_the_navigation_opens_the_page(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Sealift", exact=True).click()
    expect(page.get_by_role("heading", name="Exports", level=1)).to_be_visible()
    expect(page).to_have_url(re.compile(r"/plugin/sealift$"))


def test_coverage_shows_each_server_with_its_state_in_words(page: Page, exported) -> None:
    page.goto(PAGE)
    grid = page.get_by_role("grid", name="Servers by slots")
    for hostname in exported.manifests():
        row = grid.get_by_role("row").filter(has=page.get_by_role("link", name=re.compile(rf"^{hostname}\b")))
        expect(row.get_by_role("gridcell", name=re.compile("structure proven"))).to_have_count(1)
    (skipped,) = [name for name, one in exported.outcomes().items() if one["kind"] == "not exportable"]
    row = grid.get_by_role("row").filter(has=page.get_by_role("link", name=re.compile(rf"^{skipped}\b")))
    cell = row.get_by_role("gridcell", name=re.compile("skipped: ."))
    cell.hover()
    expect(page.get_by_role("tooltip")).to_contain_text(exported.outcomes()[skipped]["words"][:80])


def test_filters_narrow_the_servers_and_stand_in_the_address(page: Page, exported) -> None:
    page.goto(PAGE)
    rows = page.get_by_role("grid").get_by_role("rowheader")
    expect(rows).to_have_count(len(exported.outcomes()))
    page.get_by_role("searchbox", name="Name or id").fill("web-*")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(re.compile("name=web-"))
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_role("button", name=re.compile("^skipped")).click()
    expect(rows).to_have_count(1)
    page.reload()
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox", name="Name or id").fill("no-such-server")
    expect(page.get_by_text("No server fits these filters")).to_be_visible()


def test_several_tags_are_chosen_at_once_and_servers_ordered_by_state(page: Page, exported) -> None:
    page.goto(PAGE)
    rows = page.get_by_role("grid").get_by_role("rowheader")
    expect(rows).to_have_count(len(exported.outcomes()))
    page.get_by_role("button", name="Tags").click()
    tags = page.get_by_role("group", name="Tags").get_by_role("checkbox")
    for place in range(2):
        tags.nth(place).click()
        expect(tags.nth(place)).to_be_checked()  # once the address holds it
    expect(page).to_have_url(re.compile(r"tag=[^&]+&tag=[^&]+"))
    expect(page.get_by_role("button", name="Tags")).to_contain_text("2 tags")
    page.keyboard.press("Escape")
    expect(tags.first).to_be_hidden()
    page.get_by_role("combobox", name="Order by").select_option(label="State in the newest slot")
    (skipped,) = [name for name, one in exported.outcomes().items() if one["kind"] == "not exportable"]
    page.get_by_role("button", name="Clear filters").click()
    expect(rows.first).to_contain_text(skipped)
    page.get_by_role("button", name="The other way round").click()
    expect(rows.last).to_contain_text(skipped)


def test_the_servers_of_a_plan_are_chosen_by_what_became_of_them(page: Page, exported) -> None:
    page.goto(f"{PAGE}&view=plan&plan={exported.plan_id}")
    states = page.get_by_role("group", name="Servers by what became of them")
    states.get_by_role("button", name=re.compile("^exported")).click()
    rows = page.get_by_role("table", name="Servers of the plan").get_by_role("rowgroup").last.get_by_role("row")
    expect(rows).to_have_count(len(exported.manifests()))
    states.get_by_role("button", name=re.compile("^exported")).click()
    states.get_by_role("button", name=re.compile("^failed")).click()
    expect(page.get_by_text("No server fits")).to_be_visible()


def test_a_task_s_buttons_lead_to_what_it_did_and_to_its_server_on_the_page(page: Page, exported, house) -> None:
    def links(task_id: str, map_index: int = -1, *, dag_id: str = "export_servers", run_id: str = "") -> dict[str, str]:
        path = f"dags/{dag_id}/dagRuns/{quote(run_id or exported.wave_run_id, safe='')}/taskInstances/{task_id}/links"
        return house.api.request("GET", path, params={"map_index": map_index})["extra_links"]

    for step in ("capture", "wait_for_template", "wait_for_export"):
        found = links(f"export.{step}", 0)
        assert "/image-templates/" in found["Image template"]
        assert {"Server in Sealift", "Wave in Sealift"} <= set(found)
    found = links("export.wait_for_export", 0)
    assert "disk-0.vhd" in found["Exported disks"]
    assert "manifests" in found["Manifest"]
    assert exported.plan_id in links("read_wave")["Plan"]
    assert "Report" in links("summarise")
    for task_id in ("make_plan", "approve", "wait_for_waves", "report"):
        found = links(task_id, dag_id="plan_exports", run_id=exported.run_id)
        assert exported.plan_id in found["Plan in Sealift"]
        if task_id != "wait_for_waves":
            assert exported.plan_id in found["Report" if task_id == "report" else "Plan"]
    found = links("export_waves", 0, dag_id="plan_exports", run_id=exported.run_id)
    assert {"Plan in Sealift", "Wave", "Wave in Sealift"} <= set(found)
    # The address names no place, and the main run's is not the default one.
    page.goto(links("export.capture", 0)["Server in Sealift"])
    expect(page).to_have_url(re.compile(r"view=server&id=\d+"))
    expect(page).to_have_url(re.compile("place=main"))
    expect(page.get_by_role("region", name=re.compile("^Export "))).to_be_visible()


def test_the_grid_is_walked_by_keys(page: Page, exported) -> None:
    page.goto(PAGE)
    first = page.get_by_role("grid").get_by_role("rowheader").first
    expect(first).to_contain_text("batch-01")
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    cell = page.locator(":focus")
    expect(cell).to_have_attribute("role", "gridcell")
    expect(cell).to_have_attribute("data-row", "1")
    expect(page.get_by_role("tooltip")).to_contain_text("db-01")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("view=server"))


def test_what_goes_wrong_is_said_in_words(page: Page) -> None:
    page.goto("/plugin/sealift?place=nowhere")
    expect(page.get_by_role("alert").first).to_contain_text("There is no place 'nowhere'")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_nothing_is_loaded_from_another_host_and_nothing_fails(page: Page, house, mode: str) -> None:
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("/")
    page.evaluate("mode => localStorage.setItem('theme', mode)", mode)
    page.goto(PAGE)
    expect(page.get_by_role("heading", name="Exports", level=1)).to_be_visible()
    assert [url for url in asked if not url.startswith((house.airflow.url, "data:", "blob:"))] == []
    assert errors == []


def test_a_server_shows_its_export_and_the_command_that_downloads_it(page: Page, exported) -> None:
    manifest = exported.manifests()["db-01"]
    page.goto(f"{PAGE}&view=server&id={manifest['guest']['id']}")
    expect(page.get_by_role("region", name=f"Export {manifest['export_id']}")).to_contain_text(
        manifest["template"]["name"]
    )
    disks = page.get_by_role("table", name="Disks")
    for disk in manifest["disks"]:
        expect(disks).to_contain_text(disk["key"])
    expect(page.get_by_role("region", name="Download")).to_contain_text(f"sealift download {manifest['export_id']}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the download command").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith(f"sealift download {manifest['export_id']}")


def test_a_plan_shows_its_figures_and_its_wave_the_servers(page: Page, exported) -> None:
    page.goto(f"{PAGE}&view=plan&plan={exported.plan_id}")
    expect(page.get_by_role("heading", name=f"Plan {exported.plan_id}")).to_be_visible()
    rules = page.get_by_role("table", name="What the rules say")
    for rule in {one["rule"] for one in exported.outcomes().values() if one["rule"]}:
        expect(rules).to_contain_text(rule)
    page.get_by_role("link", name="Wave 1").click()
    servers = page.get_by_role("table", name="Servers of the wave")
    for hostname in exported.manifests():
        expect(servers.get_by_role("row").filter(has_text=hostname)).to_contain_text("exported")


def test_an_action_shows_its_run_and_starts_it(page: Page, exported, house) -> None:
    page.goto(PAGE)
    page.get_by_role("checkbox", name="Choose web-01").click()
    page.get_by_role("button", name="Plan 1 server").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text('"dry_run": true')
    dialog.get_by_role("button", name="Start the run").click()
    link = dialog.get_by_role("link", name=re.compile("^plan_exports: "))
    expect(link).to_be_visible()
    run_id = link.inner_text().removeprefix("plan_exports: ")
    assert house.api.wait("plan_exports", run_id, seconds=120) == "success"


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_axe_finds_nothing_serious_in_any_view(page: Page, exported, axe: Path, mode: str, width: int) -> None:
    guest = exported.manifests()["db-01"]["guest"]["id"]
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/")
    page.evaluate("mode => localStorage.setItem('theme', mode)", mode)
    views = {
        "": page.get_by_role("grid"),
        f"&view=server&id={guest}": page.get_by_role("table", name="Disks"),
        "&view=plans": page.get_by_role("table", name="Plans"),
        f"&view=plan&plan={exported.plan_id}": page.get_by_role("table", name="Waves"),
        f"&view=wave&plan={exported.plan_id}&wave=0": page.get_by_role("table", name="Servers of the wave"),
        "&view=charts": page.get_by_role("img", name=re.compile("^Servers by state")),
    }
    for view, shown in views.items():
        page.goto(PAGE + view)
        expect(shown).to_be_visible()
        serious = serious_in(page, axe)
        assert not serious, f"{view or 'coverage'}, {mode}, {width}: {serious}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view} is wider than the window"
