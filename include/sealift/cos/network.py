"""What connections that are made without the SDK trust, and when none may be made: as the SDK has it."""

from __future__ import annotations

import ssl
from typing import Any


def trusting(verify: bool | str) -> ssl.SSLContext:
    """Make a TLS context that trusts what the SDK trusts.

    :param verify: False for anything; True for the certificates of ``certifi``; or the path of a CA bundle.
    :returns: the context.
    :raises OSError: the bundle cannot be read.
    """
    # Neither the SDK nor urllib3 reads SSL_CERT_FILE, as ssl.create_default_context would without a bundle.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    bundle: Any = verify
    if verify is True:
        import certifi

        bundle = certifi.where()
    context.load_verify_locations(bundle)
    return context


def proxy_demanded() -> bool:
    """Whether this machine's settings name any proxy, whatever for: then the SDK decides which requests take it."""
    from urllib.request import getproxies

    return any(name != "no" for name in getproxies())
