"""Runs IBM's procedure over some servers, one after the other or several at a time, as a person's shell would."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring.processes import PROCEDURE, kept
from benchmarks.world import BUCKET, REGION, World
from tools.processes import Program, new_mark

SCRIPT = Path(__file__).with_name("export_one.sh")
# What a shell's user types. A server that fails leaves the others alone.
_LOOP = 'for guest in $(cat guests); do "$SCRIPT" "$guest" >> done || echo "$guest failed" >&2; done'
_XARGS = 'xargs -P "$AT_ONCE" -n 1 "$SCRIPT" < guests >> done || true'


class Procedure:
    """The procedure over some servers; :meth:`start` it, :meth:`wait` for its end, :meth:`stop` it.

    :param world: whose servers.
    :param servers: how many of them.
    :param at_once: how many at a time; 1 is the plain loop.
    :param poll: seconds between two polls.
    """

    def __init__(self, *, world: World, servers: int, at_once: int, poll: float) -> None:
        """Write the list of servers and the clients' settings; nothing is started yet."""
        self.folder = world.root / "procedure"
        self.folder.mkdir()
        self.mark = new_mark()
        self._at_once = at_once
        self._program: Program | None = None
        found = world.sandbox.admin("GET", "connections")
        classic, cos = found["ibm_classic_default"], found["ibm_cos_default"]
        (self.folder / "guests").write_text("".join(f"{guest}\n" for guest in world.guests[:servers]))
        (self.folder / "done").touch()
        settings = self.folder / "softlayer.conf"
        settings.touch(mode=0o600)
        settings.write_text(
            f"[softlayer]\nusername = {classic['login']}\napi_key = {classic['password']}\n"
            f"endpoint_url = {world.sandbox.api_url}/rest/v3.1/\ntimeout = 60\n"
        )
        kept_names = {name: value for name, value in os.environ.items() if not name.startswith(("SL_", "PYTHON"))}
        self._env: dict[str, Any] = {
            **kept_names,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "SCRIPT": str(SCRIPT),
            "SL_CONF": str(settings),
            "IAM_URL": cos["extra"]["iam_endpoint"],
            "COS_URL": cos["host"],
            "API_KEY": cos["password"],
            "BUCKET": BUCKET,
            "REGION": REGION,
            "PREFIX": "procedure",
            "POLL": f"{poll:g}",
            "AT_ONCE": str(at_once),
        }

    def start(self) -> None:
        """Start the shell."""
        text = _LOOP if self._at_once == 1 else _XARGS
        self._program = Program(
            ["bash", "-c", text],
            env=self._env,
            mark=self.mark,
            log=self.folder / "procedure.log",
            cwd=self.folder,
            stays=True,  # so that what it has used can be read at its end
        )

    def programs(self) -> list[Any]:
        """Find its keeper, to measure it by."""
        return kept(self.mark, component=PROCEDURE)

    def wait(self, *, seconds: float) -> None:
        """Wait for its end.

        :raises TimeoutError: if it does not come by then.
        """
        assert self._program is not None
        deadline = time.monotonic() + seconds
        while not self._program.ended():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the procedure is not over after {seconds:.0f} s")
            time.sleep(0.2)

    def done(self) -> set[int]:
        """Tell which servers it exported, by its own word."""
        return {int(line) for line in (self.folder / "done").read_text().split()}

    def stop(self) -> None:
        """End it."""
        if self._program is not None:
            self._program.stop()
