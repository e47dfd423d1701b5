"""A sandbox per test, its clock held still where wanted, and small clients for its API."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sealift.sandbox import Sandbox
from sealift.sandbox.clock import ManualClock


class Rest:
    """Calls the sandbox over REST; ``reply`` is the last response."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth = (box.username, box.api_key)
        if box.tls:
            self.session.verify = str(box.tls.ca)
        self.reply: requests.Response

    def get(self, path: str, **params: Any) -> Any:
        """GET a path below the base; returns the decoded body."""
        self.reply = self.session.get(f"{self.box.rest_url}{path}", params=params, timeout=30)
        return self.reply.json()

    def post(self, path: str, *args: Any, **params: Any) -> Any:
        """POST parameters to a path below the base; returns the decoded body."""
        self.reply = self.session.post(
            f"{self.box.rest_url}{path}", params=params, json={"parameters": list(args)}, timeout=30
        )
        return self.reply.json()

    def admin(self, path: str, body: Any = None) -> Any:
        """Ask the admin endpoint: GET, or POST where there is a body."""
        url = f"{self.box.api_url}/sandbox/{path}"
        reply = self.session.get(url, timeout=30) if body is None else self.session.post(url, json=body, timeout=30)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def guest(self, hostname: str) -> dict[str, Any]:
        """A guest by its host name."""
        return next(one for one in self.box.world.guests.values() if one["hostname"] == hostname)

    def disks(self, guest: dict[str, Any]) -> list[dict[str, int]]:
        """The block devices that a capture of everything names."""
        mask = "mask[id,device,mountType,diskImage[metadataFlag,type[keyName]]]"
        devices = self.get(f"SoftLayer_Virtual_Guest/{guest['id']}/getBlockDevices.json", objectMask=mask)
        return [
            {"id": one["id"]}
            for one in devices
            if one["mountType"] == "Disk"
            and not one["diskImage"]["metadataFlag"]
            and one["diskImage"]["type"]["keyName"] != "SWAP"
        ]

    def capture(self, hostname: str, name: str = "image") -> dict[str, Any]:
        """Capture all disks of a guest."""
        guest = self.guest(hostname)
        path = f"SoftLayer_Virtual_Guest/{guest['id']}/createArchiveTemplate.json"
        return self.post(path, name, self.disks(guest), "a note")

    def template(self, number: int) -> dict[str, Any]:
        """A template with its children, as a poll sees it."""
        mask = (
            "mask[id,name,transactionId,children[id,transactionId,transaction,blockDevicesDiskSpaceTotal,"
            "datacenter[name],blockDevices[device,diskSpace,units]]]"
        )
        return self.get(f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{number}/getObject.json", objectMask=mask)

    def export(self, number: int, uri: str, key: str | None = None) -> Any:
        """Export a template."""
        path = f"SoftLayer_Virtual_Guest_Block_Device_Template_Group/{number}/copyToIcos.json"
        return self.post(path, {"uri": uri, "ibmApiKey": key or self.box.cos_api_key})


def xml_call(box: Sandbox, service: str, method: str, *args: Any, login: bool = True, **headers: Any) -> Any:
    """Call the sandbox over XML-RPC with the standard library's encoder."""
    head: dict[str, Any] = dict(headers)
    if login:
        head["authenticate"] = {"username": box.username, "apiKey": box.api_key}
    body = xmlrpc.client.dumps(({"headers": head}, *args), methodname=method, allow_none=True)
    reply = requests.post(f"{box.xmlrpc_url}{service}", data=body.encode(), timeout=30)
    assert reply.status_code == 200
    return xmlrpc.client.loads(reply.content)[0][0]


Maker = Callable[..., Sandbox]


@pytest.fixture
def make_sandbox(tmp_path: Path) -> Iterator[Maker]:
    """Start sandboxes over ``tmp_path/state``; all of them stop at the end."""
    made: list[Sandbox] = []

    def make(**settings: Any) -> Sandbox:
        settings.setdefault("root", tmp_path / "state")
        settings.setdefault("speed", 200.0)
        settings.setdefault("switches", {"requests_per_second": 0})
        box = Sandbox(**settings)
        box.start()
        made.append(box)
        return box

    yield make
    for box in made:
        box.stop()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves when told."""
    return ManualClock()


@pytest.fixture
def still(make_sandbox: Maker, clock: ManualClock) -> Sandbox:
    """A sandbox whose time stands still until the test moves it, at speed 1."""
    return make_sandbox(clock=clock, speed=1.0)


@pytest.fixture
def rest() -> type[Rest]:
    """The REST client's class."""
    return Rest


@pytest.fixture
def xml() -> Callable[..., Any]:
    """The XML-RPC caller."""
    return xml_call
