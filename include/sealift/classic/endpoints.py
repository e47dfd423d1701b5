"""Where the API is: the service's own addresses, and what people write in a connection's host field."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

TransportName = Literal["xmlrpc", "rest"]
NetworkName = Literal["public", "private"]

_HOSTS: dict[str, str] = {
    "public": "https://api.softlayer.com",
    "private": "https://api.service.softlayer.com",
}
_PATHS: dict[TransportName, str] = {"xmlrpc": "/xmlrpc/v3.1", "rest": "/rest/v3.1"}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An address of the API and the transport that it speaks.

    :param url: without a slash at its end.
    :param transport: ``xmlrpc`` or ``rest``.
    :param host: host and port, for messages and for the limiter.
    :param loopback: whether it is on this machine, where no proxy is of use.
    """

    url: str
    transport: TransportName
    host: str
    loopback: bool


def resolve(endpoint_url: str | None, *, transport: TransportName, network: NetworkName) -> Endpoint:
    """The endpoint to use.

    :param endpoint_url: None for the service's own; an address with ``/rest`` or ``/xmlrpc`` in its path decides the
        transport itself; one without gets the transport's path appended.
    :param transport: used where the address does not say.
    :param network: the service's public or private network; without meaning where an address is given.
    :returns: the endpoint.
    :raises ValueError: where the address cannot be one, naming what is wrong with it.
    """
    if transport not in _PATHS:
        raise ValueError(f"the transport must be 'xmlrpc' or 'rest', not {transport!r}")
    if network not in _HOSTS:
        raise ValueError(f"the network must be 'public' or 'private', not {network!r}")
    text = (endpoint_url or _HOSTS[network]).strip()
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the API's address is no URL: {error}") from None
    if parts.username or parts.password:
        raise ValueError("the API's address must not hold a user name or key: give them as login and password")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ValueError(f"the API's address must be like https://api.softlayer.com, not {text!r}")
    text = text.rstrip("/")
    chosen = next((name for name in _PATHS if f"/{name}" in parts.path), None)
    if chosen is None:
        chosen = transport
        text += _PATHS[transport]
    return Endpoint(url=text, transport=chosen, host=f"{host}:{port}" if port else host, loopback=_is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
