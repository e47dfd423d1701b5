"""What the long story in a browser plays with: a house of its own without connections, and a camera."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from benchmarks.ledger import Year, fill
from sealift.exports import names
from sealift.sandbox import Sandbox
from tests.e2e.conftest import House
from tools.local_airflow import LocalAirflow

PAGE: Final = "/plugin/sealift"
PREFIX: Final = "sealift"
FLEET: Final = "fleet"
"""The place and the prefix of a year of 300 servers, for what six cannot show."""
SPEED: Final = 20
"""So many times faster than in earnest, and slow enough to be looked at."""
SETTLED_MS: Final = 800
"""Airflow's menus and dialogs move for a moment after a click."""

WIDE: Final = {"width": 1400, "height": 900}
NARROW: Final = {"width": 420, "height": 900}


@dataclass
class Story:
    """How far it is."""

    house: House
    dry_run: str = ""
    plan_id: str = ""
    failed: str = ""
    retried: str = ""
    run_ids: list[str] = field(default_factory=list)

    @property
    def sandbox(self) -> Sandbox:
        return self.house.sandbox

    def newest_run(self) -> str:
        """The run of plan_exports that was started last."""
        runs = self.house.api.runs("plan_exports")
        return str(max(runs, key=lambda one: one["queued_at"] or one["run_after"])["dag_run_id"])

    def report(self, plan_id: str) -> dict[str, Any]:
        return self.house.read_json(self.sandbox.bucket, names.report_key(prefix=PREFIX, plan_id=plan_id))

    def outcomes(self, plan_id: str) -> dict[str, str]:
        return {one["hostname"]: one["kind"] for one in self.report(plan_id)["outcomes"]}


@contextmanager
def story_house(root: Path, project_root: Path) -> Iterator[Story]:
    """Start Airflow without any connection, and a sandbox beside it.

    :param root: where everything goes.
    :param project_root: the repository.
    """
    airflow = LocalAirflow(
        home=root / "airflow",
        project_root=project_root,
        settings={
            "AIRFLOW__SEALIFT__POLL_INTERVAL": "1",
            "AIRFLOW__SEALIFT__RETRIES": "1",
            "AIRFLOW__SEALIFT__RETRY_DELAY": "2",
            # Every server of the scenario has it: whoever starts a run has to approve its plan.
            "AIRFLOW__SEALIFT__APPROVE_TAGS": "demo",
            "AIRFLOW__SEALIFT__DEFAULT_PARAMS": json.dumps({"prefix": PREFIX, "max_offline": 5, "wave_size": 5}),
            "AIRFLOW__SEALIFT__UI_PLACES": json.dumps([{"name": FLEET, "prefix": FLEET}]),
        },
    )
    with airflow, Sandbox(root=root / "sandbox", scenario="demo", seed=7, speed=SPEED, tls=True) as sandbox:
        fill(sandbox.store, bucket=sandbox.bucket, region="us-south", prefix=FLEET, year=Year(servers=300, slots=26))
        airflow.wait_until_ready(dags=("plan_exports", "export_servers"))
        yield Story(House(sandbox, airflow))
    assert airflow.running() == [], "Airflow left processes behind"


class Camera:
    """Takes pictures for the documentation, into docs/images where UI_PICTURES names it.

    :param folder: where they go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: list[str] = []

    @classmethod
    def of(cls, otherwise: Path) -> Camera:
        """The folder that UI_PICTURES names, or another one.

        :param otherwise: where pictures go that nobody wants.
        """
        named = os.environ.get("UI_PICTURES", "")
        folder = Path(named) if named else otherwise
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def take(self, what: Page | Locator, name: str, *, height: int = 0) -> None:
        """Take a picture.

        :param what: a page, or a part of one.
        :param name: the file's name without its ending.
        :param height: the window's for this picture; as it is for 0.
        """
        page = what if isinstance(what, Page) else what.page
        if height:
            page.set_viewport_size({"width": WIDE["width"], "height": height})
        page.mouse.move(0, 0)
        page.wait_for_timeout(SETTLED_MS)
        what.screenshot(path=self.folder / f"{name}.png", animations="disabled")
        self.taken.append(name)


@contextmanager
def looking(browser: Browser, url: str, *, mode: str = "light", size: dict[str, int] | None = None) -> Iterator[Page]:
    """Open a window of a browser that has never been here.

    :param browser: the browser.
    :param url: Airflow's address.
    :param mode: light or dark.
    :param size: the window's.
    """
    context: BrowserContext = browser.new_context(
        viewport=size or WIDE, base_url=url, color_scheme="dark" if mode == "dark" else "light"
    )
    context.add_init_script(f"localStorage.setItem('theme', '{mode}')")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    # A look at the bucket follows the one before after a while, which grows with how long it takes.
    page.set_default_timeout(60_000)
    expect.set_options(timeout=90_000)
    yield page
    context.close()


def make_connection(page: Page, connection_id: str, kind: str, fields: dict[str, Any]) -> None:
    """Fill in Airflow's form of a new connection, and save it.

    :param page: the window.
    :param connection_id: its id.
    :param kind: what the form calls its type.
    :param fields: as Airflow's JSON form has them.
    """
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill(connection_id)
    form.get_by_role("combobox").fill(kind)
    page.get_by_role("option", name=kind).click()
    unfold(form, "Standard Fields")
    for name in ("host", "login", "password"):
        if fields.get(name):
            form.locator(f"input[name={name}]").fill(str(fields[name]))
    # Airflow 3.3 tests no connection that has no port.
    form.locator("input[name=port]").fill("443")
    unfold(form, "Extra Fields")
    for name, value in fields["extra"].items():
        box = form.locator(f"#element_{name}")
        if box.get_attribute("role") == "combobox" or box.evaluate("one => one.tagName") != "INPUT":
            continue  # a choice, whose default is right
        box.fill(str(value))
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()


def unfold(form: Locator, section: str) -> None:
    """Unfold a section of the form.

    :param form: the form.
    :param section: its title.
    """
    button = form.get_by_role("button", name=section, exact=True)
    if button.get_attribute("aria-expanded") != "true":
        button.click()
    expect(button).to_have_attribute("aria-expanded", "true")


def start_from(page: Page, button: Locator) -> str:
    """Press an action's button of the page, and start its run.

    :param page: the window.
    :param button: the button.
    :returns: the run's id.
    """
    button.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Start the run").click()
    link = dialog.get_by_role("link", name=re.compile("^plan_exports: "))
    expect(link).to_be_visible()
    run_id = link.inner_text().removeprefix("plan_exports: ")
    dialog.get_by_role("button", name="Close").first.click()
    expect(dialog).to_be_hidden()
    return run_id
