"""The wire below the client: what leaves the machine for a host that is not this one."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3.util.connection
from requests.adapters import BaseAdapter

from sealift import __version__
from sealift.classic.endpoints import TransportName, resolve
from sealift.classic.transport import Wire
from sealift.classic.wire import Call, ProblemKind, WireProblem

WRITE = Call(service="Virtual_Guest", method="createArchiveTemplate", identifier=1, args=("n", []), write=True)


class Recording(BaseAdapter):
    """Notes what would be sent, and answers as told."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body
        self.sent: list[requests.PreparedRequest] = []
        self.settings: list[dict[str, Any]] = []

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:  # type: ignore[override]
        self.sent.append(request)
        self.settings.append(settings)
        response = requests.Response()
        response.status_code = 200
        response.url = request.url or ""
        response._content = self.body
        response.headers["SoftLayer-Total-Items"] = "many"
        return response

    def close(self) -> None:
        pass


def body_of(transport: TransportName) -> bytes:
    if transport == "rest":
        return b"[1, 2]"
    return (
        b"<methodResponse><params><param><value><array><data><value><int>1</int></value><value><int>2</int></value>"
        b"</data></array></value></param></params></methodResponse>"
    )


@pytest.fixture
def recorded(transport: TransportName) -> tuple[Wire, Recording]:
    endpoint = resolve("https://classic.example", transport=transport, network="public")
    wire = Wire(endpoint=endpoint, username="SL1", api_key="PLANTED-key", timeout=12.5, verify="/some/ca.pem")
    adapter = Recording(body_of(transport))
    wire._session.mount("https://", adapter)
    return wire, adapter


def test_netrc_has_no_say(
    recorded: tuple[Wire, Recording], transport: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine classic.example login intruder password INTRUDER\n")
    monkeypatch.setenv("NETRC", str(netrc))
    wire, adapter = recorded
    wire.send(Call(service="Account", method="getObject"))
    (sent,) = adapter.sent
    if transport == "xmlrpc":
        assert "Authorization" not in sent.headers
    else:
        assert sent.headers["Authorization"] == requests.auth._basic_auth_str("SL1", "PLANTED-key")


def test_timeout_and_trust_are_passed_on(recorded: tuple[Wire, Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    wire, adapter = recorded
    wire.send(WRITE)
    (settings,) = adapter.settings
    assert settings["timeout"] == 12.5
    assert settings["verify"] == "/some/ca.pem"


def test_the_other_side_is_told_who_calls(transport: TransportName) -> None:
    endpoint = resolve("https://classic.example", transport=transport, network="public")
    for caller, said in (
        ("poll", f"sealift/{__version__} (poll) softlayer-python/"),
        ("", f"sealift/{__version__} soft"),
    ):
        wire = Wire(endpoint=endpoint, username="SL1", api_key="k", timeout=5, verify=True, caller=caller)
        adapter = Recording(body_of(transport))
        wire._session.mount("https://", adapter)
        wire.send(Call(service="Account", method="getVirtualGuests"))
        (sent,) = adapter.sent
        assert sent.headers["User-Agent"].startswith(said)


def test_a_total_that_is_no_number_counts_as_missing(recorded: tuple[Wire, Recording]) -> None:
    wire, _ = recorded
    reply = wire.send(Call(service="Account", method="getVirtualGuests", limit=100))
    assert (reply.value, reply.total) == ([1, 2], None)


def test_arguments_do_not_show_in_a_call() -> None:
    call = Call(service="Virtual_Guest", method="x", args=({"ibmApiKey": "PLANTED"},))
    assert "PLANTED" not in repr(call)
    assert call.name == "SoftLayer_Virtual_Guest::x"


def test_proxies_of_the_environment_are_used_for_other_hosts_only(
    transport: TransportName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    endpoint = resolve("https://classic.example", transport=transport, network="public")
    wire = Wire(endpoint=endpoint, username="SL1", api_key="PLANTED-key", timeout=5, verify=True)
    with pytest.raises(WireProblem) as caught:
        wire.send(WRITE)
    assert caught.value.kind is ProblemKind.NEVER_SENT
    assert "proxy" in caught.value.text
    wire.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such setting")
@pytest.mark.parametrize("proxied", [False, True])
def test_nothing_is_sent_any_more_once_nobody_waits_for_it(
    transport: TransportName, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would go on for minutes; what a connection is told is all that can be seen on one machine."""
    said: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if proxied:
            monkeypatch.setenv("http_proxy", address)
        endpoint = resolve("http://classic.example" if proxied else address, transport=transport, network="public")
        wire = Wire(endpoint=endpoint, username="SL1", api_key="PLANTED-key", timeout=0.25, verify=True)
        connect = urllib3.util.connection.create_connection

        def connected(*args: Any, **settings: Any) -> socket.socket:
            made = connect(*args, **settings)
            said.append(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
            said.append(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            return made

        monkeypatch.setattr(urllib3.util.connection, "create_connection", connected)
        with pytest.raises(WireProblem) as caught:
            wire.send(WRITE)
        wire.close()
    assert caught.value.kind is ProblemKind.LOST_REPLY
    assert said == [250, 1]
