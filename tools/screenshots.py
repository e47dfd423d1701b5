"""Takes the pictures of the documentation: a real run of the demo, in Airflow's own pages and as the terminal's table.

``python -m tools.screenshots`` starts the sandbox and Airflow, exports the six servers, writes the pictures into
``docs/images/`` and stops everything. It needs a Chromium; Debian's package ``chromium`` does.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Locator, Page, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tools.demo import DAG, ROOT, STATE, WAVE_DAG, ended_by_any_signal, export, uninterrupted
from tools.demo_stack import DemoStack

IMAGES = ROOT / "docs" / "images"
WIDTH = 1400
COLUMNS = 132
CONNECTION_TYPE = "IBM Cloud Object Storage"
# The grid's buttons and accordions move for a moment after they were clicked.
SETTLED_MS = 800

_THEME = TerminalTheme(
    (255, 255, 255),
    (30, 34, 42),
    [
        (30, 34, 42),
        (178, 34, 34),
        (0, 118, 48),
        (158, 106, 0),
        (30, 80, 180),
        (130, 60, 150),
        (0, 120, 130),
        (90, 90, 90),
    ],
)
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: {background}; }}
pre {{ display: inline-block; margin: 0; padding: 18px 22px; color: {foreground};
       font: 14.5px/1.164 "DejaVu Sans Mono", monospace; }}
{stylesheet}
</style><pre>{code}</pre>
"""


class PicturesFailedError(Exception):
    """A picture could not be taken; the message says why."""


class Pictures:
    """Takes pictures of one Airflow.

    :param browser: a started browser.
    :param url: Airflow's address.
    :param folder: where the pictures go.
    """

    def __init__(self, *, browser: Browser, url: str, folder: Path) -> None:
        """Open nothing yet."""
        self.browser = browser
        self.url = url
        self.folder = folder

    def run(self, run_id: str) -> None:
        """The grid of a wave's run with its group unfolded, beside the captures with the servers' names."""
        with self._page(f"dags/{WAVE_DAG}/runs/{quote(run_id)}/tasks/export.capture/mapped", height=690) as page:
            page.get_by_role("button", name="Expand all task groups").click()
            page.get_by_text("wait_for_export").first.wait_for()
            page.mouse.move(WIDTH, 0)
            page.wait_for_timeout(SETTLED_MS)
            self._save(page, "run-grid")

    def steps(self, run_id: str) -> None:
        """Every task of a wave's run, one line each."""
        with self._page(f"dags/{WAVE_DAG}/runs/{quote(run_id)}", height=860) as page:
            page.get_by_role("button", name="Expand all task groups").click()
            page.get_by_text("wait_for_export").first.wait_for()
            page.mouse.move(WIDTH, 0)
            page.wait_for_timeout(SETTLED_MS)
            self._save(page, "run-tasks")

    def trigger_form(self) -> None:
        """The trigger form of plan_exports, as it opens."""
        with self._page(f"dags/{DAG}", height=1700) as page:
            page.get_by_role("button", name="Trigger Dag").click()
            form = page.get_by_role("dialog")
            form.get_by_text("Run Parameters", exact=True).wait_for()
            form.get_by_text("Dry run").wait_for()
            page.wait_for_timeout(SETTLED_MS)
            self._save(form, "trigger-form")

    def connection_form(self) -> None:
        """The form of a new connection to Cloud Object Storage, with its own fields unfolded."""
        with self._page("connections", height=1900) as page:
            page.get_by_role("button", name="Add Connection").click()
            form = page.get_by_role("dialog")
            form.locator("input[name=connection_id]").fill("ibm_cos_default")
            form.get_by_role("combobox").fill(CONNECTION_TYPE)
            page.get_by_role("option", name=CONNECTION_TYPE).click()
            form.get_by_role("button", name="Extra Fields", exact=True).click()
            form.get_by_text("HMAC secret access key").wait_for()
            page.wait_for_timeout(SETTLED_MS)
            self._save(form, "connection-ibm-cos")

    def terminal(self, recorded: str) -> None:
        """What the demo printed.

        :param recorded: the text with its escape codes.
        """
        console = Console(record=True, width=COLUMNS, file=io.StringIO())
        console.print(Text.from_ansi(recorded), soft_wrap=True)
        html = console.export_html(theme=_THEME, inline_styles=True, code_format=_PAGE)
        page = self.browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.set_content(html)
        self._save(page.locator("pre"), "demo-table")
        page.close()

    @contextmanager
    def _page(self, path: str, *, height: int) -> Iterator[Page]:
        page = self.browser.new_page(viewport={"width": WIDTH, "height": height})
        page.goto(f"{self.url}/{path}")
        page.wait_for_load_state("networkidle")
        yield page
        page.close()

    def _save(self, what: Page | Locator, name: str) -> None:
        path = self.folder / f"{name}.png"
        what.screenshot(path=path, animations="disabled")
        print(f"{path}: {path.stat().st_size // 1000} kB")


def last_screen(console: Console) -> str:
    """Give what is left on a terminal at the end of the demo: without the lines of progress, which it draws over.

    :param console: the console that recorded the run; it was none of a terminal, so that progress came line by line.
    :returns: text with escape codes.
    """
    lines = console.export_text(styles=True).splitlines()
    begin = next(number for number, line in enumerate(lines) if "┏" in line)
    return "\n".join(lines[begin:])


def take(folder: Path, chromium: str) -> None:
    """Run the demo and take every picture.

    :param folder: where the pictures go.
    :param chromium: the browser's program.
    :raises PicturesFailedError: if the demo did not end as it should.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stack = DemoStack(home=STATE / "screenshots", project_root=ROOT)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    try:
        with ended_by_any_signal(), sync_playwright() as playwright:
            stack.start()
            stack.wait_until_ready()
            wanted, came = export(stack, console)
            console.print(came.sentence(), highlight=False)
            if came != wanted:
                raise PicturesFailedError(f"The demo did not end as it should:\n{console.export_text()}")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            pictures = Pictures(browser=browser, url=stack.airflow.url, folder=folder)
            pictures.terminal(last_screen(console))
            run_id = stack.airflow.api.runs(WAVE_DAG)[-1]["dag_run_id"]
            pictures.run(run_id)
            pictures.steps(run_id)
            pictures.trigger_form()
            pictures.connection_form()
            browser.close()
    finally:
        with uninterrupted():
            stack.stop()


def main(arguments: Sequence[str]) -> int:
    """Take the pictures.

    :param arguments: see ``--help``.
    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go (default: docs/images)")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser's program")
    given = parser.parse_args(arguments)
    if given.chromium is None:
        print("There is no chromium. On Debian: apt-get install -y --no-install-recommends chromium", file=sys.stderr)
        return 1
    try:
        take(given.folder.resolve(), given.chromium)
    except PicturesFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
