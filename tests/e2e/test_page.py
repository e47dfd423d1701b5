"""The page in Airflow's navigation, in a real browser: quick checks of each view."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

PAGE = "/plugin/sealift?place=main"


def test_the_entry_in_the_navigation_opens_the_page(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Sealift").click()
    expect(page.get_by_role("heading", name="Exports", level=1)).to_be_visible()
    expect(page).to_have_url(re.compile(r"/plugin/sealift$"))


def test_coverage_shows_each_server_with_its_state_in_words(page: Page, exported) -> None:
    page.goto(PAGE)
    grid = page.get_by_role("grid", name="Servers by slots")
    for hostname in exported.manifests():
        row = grid.get_by_role("row").filter(has=page.get_by_role("link", name=re.compile(rf"^{hostname}\b")))
        expect(row.get_by_role("gridcell", name=re.compile("structure proven"))).to_have_count(1)
    (skipped,) = [name for name, one in exported.outcomes().items() if one["outcome"] == "not exportable"]
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
