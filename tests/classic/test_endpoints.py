"""What people write in the host field becomes the right address, or a message that says what is wrong."""

from __future__ import annotations

import pytest

from sealift.classic.endpoints import resolve


@pytest.mark.parametrize(
    ("given", "transport", "network", "url", "spoken"),
    [
        (None, "xmlrpc", "public", "https://api.softlayer.com/xmlrpc/v3.1", "xmlrpc"),
        (None, "rest", "public", "https://api.softlayer.com/rest/v3.1", "rest"),
        (None, "xmlrpc", "private", "https://api.service.softlayer.com/xmlrpc/v3.1", "xmlrpc"),
        ("http://127.0.0.1:99/", "rest", "public", "http://127.0.0.1:99/rest/v3.1", "rest"),
        ("http://127.0.0.1:99/rest/v3.1/", "xmlrpc", "public", "http://127.0.0.1:99/rest/v3.1", "rest"),
        ("http://127.0.0.1:99/xmlrpc/v3.1/", "rest", "public", "http://127.0.0.1:99/xmlrpc/v3.1", "xmlrpc"),
        ("api.softlayer.com", "rest", "public", "https://api.softlayer.com/rest/v3.1", "rest"),
        ("https://proxy.example/classic", "rest", "public", "https://proxy.example/classic/rest/v3.1", "rest"),
    ],
)
def test_resolve(given: str | None, transport: str, network: str, url: str, spoken: str) -> None:
    endpoint = resolve(given, transport=transport, network=network)  # type: ignore[arg-type]
    assert (endpoint.url, endpoint.transport) == (url, spoken)


def test_loopback_is_known() -> None:
    hosts = {"http://localhost:1": True, "http://[::1]:1": True, "http://127.9.9.9": True, "https://api.example": False}
    assert {host: resolve(host, transport="rest", network="public").loopback for host in hosts} == hosts


@pytest.mark.parametrize("given", ["ftp://x", "https://", "https://user:PLANTED@h", "https://h/?a=b", "http://h:99999"])
def test_what_cannot_be_an_address(given: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        resolve(given, transport="rest", network="public")
    assert "PLANTED" not in str(caught.value)
