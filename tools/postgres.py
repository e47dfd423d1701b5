"""A PostgreSQL server of its own, from Debian's package, for one Airflow: a temporary data folder, and loopback only.

The server refuses to run as root; there it runs as ``nobody``. Debian's own cluster, if there is one, is neither used
nor touched. What it holds is gone when it is removed, so that it writes without waiting for the disk.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tools.private_server import PrivateServer
from tools.processes import Program, StartFailedError, free_ports, new_mark, tail

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs, one folder for each major version."""

PACKAGE = "postgresql"
USER = "airflow"
DATABASE = "airflow"
# None of this survives a power cut, and nothing here has to.
HURRIED = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
    # Where a scheduler is killed alone, the workers that it forked keep its connection open: what it had locked in a
    # transaction would stay locked for ever, and with it everything else.
    "idle_in_transaction_session_timeout": "15s",
}


class PostgresMissingError(Exception):
    """PostgreSQL's programs are not on this machine; the message says how to get them."""


def programs(*, debian: Path | None = None, path: str | None = None) -> Path:
    """Find the folder with ``initdb`` and ``postgres``: Debian's newest version, else what PATH leads to.

    :param debian: where Debian keeps its versions.
    :param path: the folders to look in, as PATH writes them; this process's own if not given.
    :returns: the folder.
    :raises PostgresMissingError: if there is none, with the apt line.
    """
    folders = [
        found.parent for found in (debian or DEBIAN).glob("*/bin/initdb") if (found.parent / "postgres").exists()
    ]
    if folders:
        return max(folders, key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0)
    initdb = shutil.which("initdb", path=path)
    if initdb is not None:
        return Path(initdb).resolve().parent
    raise PostgresMissingError(
        f"PostgreSQL is not here. Install it as root: apt-get install -y --no-install-recommends {PACKAGE}"
    )


class PostgresServer(PrivateServer):
    """One server with one database and one user; a context manager that starts, stops and removes it.

    :param log: gets the server's output.
    :param mark: the mark of its processes, where others are to share it.
    """

    def __init__(self, *, log: Path, mark: str = "") -> None:
        """Choose a port and a password; nothing is started or written yet."""
        self.log = log
        self.mark = mark or new_mark()
        (self.port,) = free_ports(1)
        self._password = secrets.token_urlsafe(24)
        super().__init__()

    @property
    def data(self) -> Path:
        """Its data folder.

        :raises StartFailedError: if it was not started.
        """
        if self.folder is None:
            raise StartFailedError("PostgreSQL was not started, so that it has no data folder.")
        return self.folder / "data"

    def url(self, driver: str = "psycopg2") -> str:
        """Give SQLAlchemy's address of the database, with its password: for an environment, never for argv.

        :param driver: the Python driver, as ``psycopg2`` or ``asyncpg``.
        """
        return f"postgresql+{driver}://{USER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self, *, seconds: float = 60.0) -> None:
        """Make the database where there is none yet, start the server, and wait until it answers.

        :param seconds: how long to wait.
        :raises PostgresMissingError: if its programs are not on this machine.
        :raises StartFailedError: if it does not come up, with the end of its log.
        """
        folder = programs()
        fresh = self.folder is None
        if fresh:
            self._make(folder)
        command: list[str | Path] = [
            *_as_user(),
            folder / "postgres",
            "-D",
            self.data,
            "-p",
            str(self.port),
            "-k",
            self.data.parent,
        ]
        options = [word for name, value in HURRIED.items() for word in ("-c", f"{name}={value}")]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._program = Program([*command, *options], env=_env(), mark=self.mark, log=self.log, cwd=Path("/"))
        self._wait(folder, seconds)
        if fresh:
            self._run(folder / "createdb", *self._socket(), DATABASE)

    def _make(self, folder: Path) -> None:
        # Not below a folder of root's: the server's user has to reach it. The name is short, as sockets' names must be.
        self.folder = Path(tempfile.mkdtemp(prefix="sealift-pg-"))
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        secret = self.folder / "password"
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(self._password)
        if os.geteuid() == 0:
            os.chown(secret, nobody.pw_uid, nobody.pw_gid)
        # Over the socket only who may enter the folder comes in; over the network everybody needs the password.
        methods = ("--auth-local=trust", "--auth-host=scram-sha-256")
        self._run(
            folder / "initdb",
            f"--pgdata={self.data}",
            f"--username={USER}",
            f"--pwfile={secret}",
            *methods,
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        secret.unlink()

    def _wait(self, folder: Path, seconds: float) -> None:
        assert self._program is not None
        deadline = time.monotonic() + seconds
        ask: list[str | Path] = [folder / "pg_isready", "--quiet", *self._socket(), "--dbname=postgres"]
        while subprocess.run(ask, env=_env(), check=False).returncode:
            if self._program.ended() or time.monotonic() > deadline:
                self.stop()
                raise StartFailedError(f"PostgreSQL did not come up. {self.log} ends with:\n{tail(self.log)}")
            time.sleep(0.05)

    def _socket(self) -> list[str]:
        return [f"--host={self.data.parent}", f"--port={self.port}", f"--username={USER}"]

    def _run(self, program: Path, *arguments: str) -> None:
        command: list[str | Path] = [*_as_user(), program, *arguments]
        done = subprocess.run(command, env=_env(), cwd="/", capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartFailedError(f"{program.name} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")


def _as_user() -> list[str | Path]:
    """What goes before a command that must not run as root. It replaces itself, so that signals reach the command."""
    if os.geteuid() != 0:
        return []
    group = pwd.getpwnam("nobody").pw_gid
    return ["setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups"]


def _env() -> dict[str, str]:
    """The environment without what would lead PostgreSQL's programs to another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "AIRFLOW"))}
    return {**kept, "LC_ALL": "C"}
