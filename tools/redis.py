"""A Redis server of its own, from Debian's package, for one Airflow's Celery: a password, loopback only, nothing kept.

Debian's own server, if there is one, is neither used nor touched. What it holds is gone when it stops.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import time
from pathlib import Path

from tools.private_server import PrivateServer
from tools.processes import Program, StartFailedError, free_ports, new_mark, tail

PACKAGE = "redis-server"


class RedisMissingError(Exception):
    """Redis is not on this machine; the message says how to get it."""


def program(*, path: str | None = None) -> Path:
    """Find ``redis-server``.

    :param path: the folders to look in, as PATH writes them; this process's own if not given.
    :returns: the program.
    :raises RedisMissingError: if there is none, with the apt line.
    """
    found = shutil.which("redis-server", path=path)
    if found is None:
        raise RedisMissingError(
            f"Redis is not here. Install it as root: apt-get install -y --no-install-recommends {PACKAGE}"
        )
    return Path(found)


class RedisServer(PrivateServer):
    """One server; a context manager that starts, stops and removes it.

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

    def url(self) -> str:
        """Give its address with its password: for an environment, never for argv."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id.

        :raises StartFailedError: if it was not started.
        """
        if self._program is None:
            raise StartFailedError("Redis was not started.")
        return self._program.pid

    def start(self, *, seconds: float = 30.0) -> None:
        """Start the server, and wait until it answers.

        :param seconds: how long to wait.
        :raises RedisMissingError: if it is not on this machine.
        :raises StartFailedError: if it does not come up, with the end of its log.
        """
        server = program()
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="sealift-redis-"))
        # The password stands in a file that only this user can read: argv can be read by everybody.
        conf = self.folder / "redis.conf"
        with os.fdopen(os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(
                "bind 127.0.0.1\n"
                f"port {self.port}\n"
                f"requirepass {self._password}\n"
                f"dir {self.folder}\n"
                'save ""\n'
                "appendonly no\n"
                # A broker that is short of memory must refuse a message, not forget one.
                "maxmemory-policy noeviction\n"
            )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS", "AIRFLOW"))}
        self._program = Program([server, conf], env=env, mark=self.mark, log=self.log, cwd=self.folder)
        deadline = time.monotonic() + seconds
        while not self.answers():
            if self._program.ended() or time.monotonic() > deadline:
                self.remove()
                raise StartFailedError(f"Redis did not come up. {self.log} ends with:\n{tail(self.log)}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Tell whether it takes its password and answers to PING."""
        try:
            return self.ask("PING") == "PONG"
        except OSError:
            return False

    def ask(self, *words: str) -> str:
        """Send one command that is answered in one line.

        :param words: the command and its arguments.
        :returns: the answer without the sign of its kind; an error's text begins with a word in capitals.
        :raises OSError: if the server cannot be reached.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
            stream = line.makefile("rw", newline="")
            for command in (("AUTH", self._password), words):
                stream.write(f"*{len(command)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in command))
            stream.flush()
            stream.readline()
            return stream.readline().strip()[1:]
