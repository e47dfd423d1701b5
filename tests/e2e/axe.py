"""axe-core in a page, as the page's lock file pins it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import Page


def install(folder: Path, project_root: Path) -> Path:
    """Have npm install it.

    :param folder: where to.
    :param project_root: the repository.
    :returns: the script.
    """
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(project_root / "include/sealift/provider/ui/web" / name, folder)
    subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "node_modules/axe-core/axe.min.js"


def serious_in(page: Page, axe: Path, *, within: str = ".sl-page") -> list[str]:
    """Say what axe finds wrong in the page, as far as it is serious.

    :param page: the window.
    :param axe: the script.
    :param within: what is looked at, as a selector; Airflow's own frame around it is not.
    """
    page.add_script_tag(path=axe)
    found = page.evaluate("within => axe.run(document.querySelector(within))", within)["violations"]
    return [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['target']}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
