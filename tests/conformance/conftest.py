"""slcli and the SoftLayer managers, pointed at a sandbox over REST and over XML-RPC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox import Sandbox


class Slcli:
    """Runs slcli as a person would, with a configuration file of its own.

    :param transport: ``rest`` or ``xmlrpc``.
    """

    def __init__(self, *, box: Sandbox, transport: str, folder: Path) -> None:
        self.box = box
        self.transport = transport
        self._home = folder
        self._conf = folder / f"softlayer-{transport}.conf"
        url = box.rest_url if transport == "rest" else box.xmlrpc_url
        self._conf.write_text(
            f"[softlayer]\nusername = {box.username}\napi_key = {box.api_key}\nendpoint_url = {url}\ntimeout = 20\n"
        )

    def run(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; it must succeed unless ``check`` is false."""
        program = Path(sys.executable).with_name("slcli")
        keep = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        keep = {name: value for name, value in keep.items() if not name.startswith("SL_")}
        done = subprocess.run(
            [str(program), "-C", str(self._conf), "--format", "json", "-y", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**keep, "HOME": str(self._home), "COLUMNS": "200"},
        )
        if check:
            assert done.returncode == 0, f"slcli {' '.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done

    def json(self, *words: object) -> Any:
        """Run a command and decode what it prints."""
        return json.loads(self.run(*words).stdout)

    def client(self, **more: Any) -> Any:
        """The SoftLayer package's own client over the same transport."""
        import SoftLayer

        url = self.box.rest_url if self.transport == "rest" else self.box.xmlrpc_url
        return SoftLayer.Client(
            **{"username": self.box.username, "api_key": self.box.api_key, "endpoint_url": url, "timeout": 20, **more}
        )

    def guest(self, hostname: str) -> int:
        """A guest's id by its host name."""
        return next(number for number, one in self.box.world.guests.items() if one["hostname"] == hostname)

    def finished_template(self, hostname: str = "web-01", *, name: str = "an-image", all_disks: bool = False) -> int:
        """Capture a guest through slcli and wait for the end."""
        words = ["vs", "capture", self.guest(hostname), "-n", name, *(["--all"] if all_disks else [])]
        number = int(self.json(*words)["transaction_id"])  # slcli prints the image's id under that label
        self.box.wait_until(self.idle, timeout=60, what="the capture")
        return number

    def idle(self) -> bool:
        """Whether nothing runs but what lasts."""
        return set(self.box.summary()["running"].values()) <= {"hold"}


@pytest.fixture(params=["rest", "xmlrpc"])
def transport(request: pytest.FixtureRequest) -> str:
    """Both transports, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def quiet_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox that tests only read, or change in a place of their own."""
    with Sandbox(
        root=tmp_path_factory.mktemp("sandbox"), servers=40, speed=1000.0, switches={"requests_per_second": 0}
    ) as box:
        yield box


@pytest.fixture
def slcli(quiet_box: Sandbox, transport: str, tmp_path: Path) -> Slcli:
    """slcli over each transport, against the module's sandbox."""
    return Slcli(box=quiet_box, transport=transport, folder=tmp_path)
