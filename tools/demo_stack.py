"""The demo's two programs: the sandbox as a process of its own, and Airflow with two connections to it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from sealift.cos.client import CosClient
from tools.cluster import Cluster
from tools.local_airflow import LocalAirflow
from tools.processes import Program, StartFailedError, free_ports, port_is_free, running, stop, tail

DAGS = ("plan_exports", "export_servers")
UI_PORT = 8080
# The sandbox's transactions go this many times faster than in earnest: a capture takes seconds instead of minutes.
SPEED = 20.0
# Minutes become seconds.
HASTE = {"AIRFLOW__SEALIFT__POLL_INTERVAL": "2", "AIRFLOW__SEALIFT__RETRY_DELAY": "5"}
# Folders outside of the home that a stack may have made, and nobody else.
_TEMPORARY = re.compile(r"sealift-[\w-]+")


class DemoStack:
    """Sandbox and Airflow of one demo, and the file that lets another process stop them.

    :param home: the folder that holds everything they write.
    :param project_root: the folder with ``dags/``, ``plugins/`` and ``include/``.
    :param speed: how many times faster the sandbox's transactions go.
    """

    def __init__(self, *, home: Path, project_root: Path, speed: float = SPEED) -> None:
        """Remember where things go; nothing is started yet."""
        self.home = home
        self.project_root = project_root
        self.speed = speed
        self.note = home / "running.json"
        self.sandbox_log = home / "sandbox.log"

    def running(self) -> dict[str, Any] | None:
        """Tell what runs from a former start: its addresses, or None if nothing does."""
        note = self._read_note()
        return note if note and running(note["mark"]) else None

    def stop(self) -> bool:
        """End everything that was started from this folder, by whichever process.

        :returns: whether there was anything.
        """
        note = self._read_note()
        if note is None:
            return False
        ran = bool(running(note["mark"]))
        stop(note["mark"])
        for folder in map(Path, note.get("temporary", ())):
            if _TEMPORARY.fullmatch(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
        self.note.unlink(missing_ok=True)
        return ran

    def let_go(self) -> None:
        """Leave everything running when this process ends."""
        self.airflow.let_go()
        self._sandbox.let_go()

    def start(self) -> None:
        """Start both at once, in a folder without a past. :meth:`wait_until_ready` tells when they can be used."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.home.chmod(0o700)
        api_port, cos_port = free_ports(2)
        self.sandbox_url = f"http://127.0.0.1:{api_port}"
        self.airflow = self._make_airflow(port=UI_PORT if port_is_free(UI_PORT) else 0)
        note: dict[str, Any] = {"mark": self.airflow.mark, "airflow": self.airflow.url, "sandbox": self.sandbox_url}
        self.note.write_text(json.dumps(note))
        self.airflow.start()
        if isinstance(self.airflow, Cluster):
            note["temporary"] = [str(folder) for folder in self.airflow.temporary]
            self.note.write_text(json.dumps(note))
        sealift = Path(sys.executable).with_name("sealift")
        command = [str(sealift), "sandbox", "up", "--scenario=demo"]
        options = {"state": self.home / "sandbox", "speed": self.speed, "api-port": api_port, "cos-port": cos_port}
        env = {name: value for name, value in os.environ.items() if not name.startswith(("SEALIFT_", "PYTHON"))}
        self._sandbox = Program(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            env=env,
            mark=self.airflow.mark,
            log=self.sandbox_log,
            cwd=self.home,
        )

    def _make_airflow(self, *, port: int) -> LocalAirflow | Cluster:
        return LocalAirflow(home=self.home / "airflow", project_root=self.project_root, port=port, settings=HASTE)

    def wait_until_ready(self, *, seconds: float = 120.0) -> None:
        """Wait until both answer and the connections are in Airflow's metadata database.

        :param seconds: how long to wait.
        :raises StartFailedError: if that takes longer, or one of them ends, with the end of its log.
        """
        deadline = time.monotonic() + seconds
        self.connections = self._connections(deadline)
        self.airflow.wait_until_ready(dags=DAGS, seconds=deadline - time.monotonic())
        for connection_id, fields in self.connections.items():
            self.airflow.add_connection(connection_id, **fields)

    def _connections(self, deadline: float) -> dict[str, dict[str, Any]]:
        """Ask the sandbox for the connections that lead to it."""
        while time.monotonic() < deadline and not self._sandbox.ended():
            try:
                reply = httpx.get(f"{self.sandbox_url}/sandbox/connections", trust_env=False)
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            found: dict[str, dict[str, Any]] = reply.raise_for_status().json()
            return found
        raise StartFailedError(f"The sandbox did not come up. {self.sandbox_log} ends with:\n{tail(self.sandbox_log)}")

    def guests(self) -> list[dict[str, Any]]:
        """Ask the Classic API for the account's servers, without Sealift's own client in between.

        :returns: for each its ``hostname``, ``tags``, ``disks`` (the devices that hold data) and whether it is
            ``exportable``: the demo's only hindrance is a transaction that does not end.
        """
        connection = self.connections["ibm_classic_default"]
        mask = (
            "mask[id,hostname,activeTransaction[id],tagReferences[tag[name]],"
            "blockDevices[device,mountType,diskImage[name,type[keyName]]]]"
        )
        reply = httpx.get(
            f"{self.sandbox_url}/rest/v3.1/SoftLayer_Account/getVirtualGuests.json",
            params={"objectMask": mask},
            auth=(connection["login"], connection["password"]),
            trust_env=False,
        )
        return [
            {
                "hostname": guest["hostname"],
                "tags": [reference["tag"]["name"] for reference in guest["tagReferences"]],
                "disks": [device["device"] for device in guest["blockDevices"] if _holds_data(device)],
                "exportable": not guest.get("activeTransaction"),
            }
            for guest in reply.raise_for_status().json()
        ]

    def cos(self) -> CosClient:
        """Open a client of the object store."""
        connection = self.connections["ibm_cos_default"]
        extra = connection["extra"]
        return CosClient(
            region=extra["region"],
            endpoint_url=connection["host"],
            api_key=connection["password"],
            service_instance_id=extra["service_instance_id"],
            iam_endpoint=extra["iam_endpoint"],
        )

    def _read_note(self) -> dict[str, Any] | None:
        try:
            note: dict[str, Any] = json.loads(self.note.read_text())
        except (OSError, ValueError):
            return None
        return note


def _holds_data(device: dict[str, Any]) -> bool:
    image = device.get("diskImage")
    if device["mountType"] != "Disk" or image is None:
        return False
    return image["type"]["keyName"] != "SWAP" and not image["name"].endswith("Metadata")
