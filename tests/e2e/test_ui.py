"""What a person sees in Airflow's own pages: the connections' forms, the trigger form, and the servers of a wave."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect


def connection_form(page: Page, conn_type: str) -> Locator:
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").first.click()
    page.keyboard.type(conn_type)
    page.keyboard.press("Enter")
    return dialog


@pytest.mark.parametrize(
    ("conn_type", "name", "standard", "extra", "hidden"),
    [
        (
            "ibm_classic",
            "IBM Cloud Classic (SoftLayer API)",
            ["API endpoint", "User name", "API key", "Port"],
            ["Transport", "Network", "Timeout (seconds)", "Requests per second"],
            ["Schema", "Host", "Login"],
        ),
        (
            "ibm_cos",
            "IBM Cloud Object Storage",
            ["Endpoint URL", "IBM Cloud API key", "Port"],
            ["Region", "Endpoint kind", "Bucket", "API key for the export"],
            ["Schema", "Login", "Host"],
        ),
    ],
)
def test_the_connection_form_shows_its_fields(
    page: Page, conn_type: str, name: str, standard: list[str], extra: list[str], hidden: list[str]
) -> None:
    dialog = connection_form(page, conn_type)
    expect(dialog.get_by_text(name).first).to_be_visible()
    # One of the two sections is open at a time.
    sections = {"Standard Fields": standard, "Extra Fields": extra}
    for section, labels in sections.items():
        button = dialog.get_by_role("button", name=section, exact=True)
        if button.get_attribute("aria-expanded") != "true":
            button.click()
        expect(button).to_have_attribute("aria-expanded", "true")
        for label in labels:
            expect(dialog.locator("label").filter(has_text=label).first).to_be_visible()
    for label in hidden:
        expect(dialog.get_by_text(label, exact=True)).to_have_count(0)


def test_the_trigger_form_has_a_field_for_each_parameter(page: Page) -> None:
    page.goto("/dags/plan_exports")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    for label in ("Tags", "Host names", "All servers", "Dry run"):
        expect(dialog.get_by_text(label).first).to_be_visible()  # without unfolding anything
    for section, labels in {
        "More on which servers": ["Ids", "Domains", "Data centers", "Dedicated hosts"],
        "Where to": ["Bucket", "Region", "Prefix"],
        "How": ["Format", "Most servers offline", "Capture window", "Wave size"],
    }.items():
        dialog.get_by_text(section, exact=True).click()
        for label in labels:
            # The words of other sections, folded ones too, may hold the same word.
            expect(dialog.get_by_text(label).filter(visible=True).first).to_be_visible()


def test_a_dag_s_documentation_shows_a_picture_of_its_flow(page: Page) -> None:
    page.goto("/dags/export_servers")
    page.get_by_role("button", name="Dag Docs").first.click()
    picture = page.get_by_role("img", name="read_wave; for each server capture")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("one => one.complete && one.naturalWidth") == 300


def test_the_wave_shows_its_servers_by_name(page: Page, exported) -> None:
    page.goto(f"/dags/export_servers/runs/{quote(exported.wave_run_id)}/tasks/export.capture/mapped")
    for hostname in exported.manifests():
        expect(page.get_by_text(hostname, exact=True).first).to_be_visible()


def test_the_test_button_of_a_connection_tells_good_from_bad(house) -> None:
    for connection_id, fields in house.sandbox.connections().items():
        reply = house.airflow.test_connection(connection_id, **fields)
        assert reply["status"] is True, reply
        wrong = house.airflow.test_connection(connection_id, **{**fields, "password": "not-the-key"})
        assert wrong["status"] is False
        assert "not-the-key" not in wrong["message"]
