"""Where the programs of a cluster live: all in one place, or each as if it had a machine of its own.

Apart, a program has its own AIRFLOW_HOME with its own copies of the code, the plugins and (only where Airflow needs
them) the DAGs, its own logs, its own temporary folder, and its own loopback address for a host name. What one of them
writes to its disk, no other finds there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

# In a program's environment: what it gives as its host name.
HOST = "SEALIFT_CLUSTER_PART"
MODULE = "sealift_cluster_part"
_NAME_OF_PART = f"""import os


def name():
    return os.environ.get("{HOST}", "cluster")
"""


def say_hosts(home: Path) -> None:
    """Write the module that tells Airflow a program's host name to where Airflow looks for modules.

    :param home: an AIRFLOW_HOME.
    """
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / f"{MODULE}.py").write_text(_NAME_OF_PART)


def log_server(*, host: str, port: str) -> list[str | Path]:
    """Give the command that serves a program's logs as Airflow does, but on one address only.

    :param host: the address.
    :param port: the port.
    """
    options = ["--no-access-log", "--log-level=warning", "--factory"]
    app = "airflow.utils.serve_logs.log_server:get_app"
    return [sys.executable, "-m", "uvicorn", app, f"--host={host}", f"--port={port}", *options]


@dataclass(frozen=True)
class Place:
    """Where one program lives.

    :param host: what it gives as its host name.
    :param folder: its own AIRFLOW_HOME, if it has one.
    :param env: what is different in its environment.
    :param copies: (from, to) of what it has a copy of.
    """

    host: str
    folder: Path | None = None
    env: dict[str, str] = field(default_factory=dict)
    copies: tuple[tuple[Path, Path], ...] = ()

    def make(self) -> None:
        """Make its folders, unless they are there from a former start."""
        if self.folder is None:
            return
        say_hosts(self.folder)
        for source, target in self.copies:
            if not target.exists():
                shutil.copytree(source, target)
        Path(self.env["AIRFLOW__CORE__DAGS_FOLDER"]).mkdir(exist_ok=True)
        Path(self.env["TMPDIR"]).mkdir(exist_ok=True)


class Together:
    """All programs share everything, as on one machine."""

    temporary: Path | None = None

    def prepare(self, home: Path) -> None:
        """Make what is shared.

        :param home: the cluster's AIRFLOW_HOME.
        """
        say_hosts(home)

    def place(self, name: str, kind: str) -> Place:  # noqa: ARG002 - all kinds live alike
        """Give a program's place.

        :param name: the program.
        :param kind: its name without its number.
        """
        return Place(host=name)

    def remove(self) -> None:
        """Remove nothing: everything is in the cluster's home."""


class Apart:
    """Each program has its own folders and its own address.

    :param home: the cluster's folder.
    :param project_root: the folder with ``plugins/``, ``include/`` and ``deploy/``.
    :param dags: the folder of DAGs.
    :param with_dags: which kinds of program have a copy of the DAGs.
    """

    def __init__(self, *, home: Path, project_root: Path, dags: Path, with_dags: Collection[str]) -> None:
        """Remember where things come from; nothing is written yet."""
        self._home = home
        self._root = project_root
        self._dags = dags
        self._with_dags = with_dags
        self._count = 0
        # Sockets are put below the temporary folder, and their names may not be long.
        self._temporary = Path(tempfile.gettempdir()) / f"sealift-{secrets.token_hex(6)}"
        self.temporary: Path | None = None

    def prepare(self, home: Path) -> None:
        """Make what the programs' folders are in.

        :param home: the cluster's AIRFLOW_HOME, which only the making of the database uses.
        """
        say_hosts(home)
        self._temporary.mkdir(mode=0o700)
        self.temporary = self._temporary

    def place(self, name: str, kind: str) -> Place:
        """Give a program's place.

        :param name: the program.
        :param kind: its name without its number.
        """
        self._count += 1
        folder = self._home / "parts" / name
        copies = [
            (self._root / "plugins", folder / "plugins"),
            (self._root / "include", folder / "include"),
            (self._root / "deploy" / "airflow", folder / "settings"),
        ]
        if kind in self._with_dags:
            copies.append((self._dags, folder / "dags"))
        return Place(
            # All of 127.0.0.0/8 is loopback.
            host=f"127.0.1.{self._count}",
            folder=folder,
            env={
                "AIRFLOW_HOME": str(folder),
                "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
                "PYTHONPATH": os.pathsep.join(str(folder / one) for one in ("include", "settings")),
                "TMPDIR": str(self._temporary / name),
            },
            copies=tuple(copies),
        )

    def remove(self) -> None:
        """Remove the temporary folders; the others are in the cluster's home."""
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            self.temporary = None
