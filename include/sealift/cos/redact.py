"""Takes secrets out of what services say, before it goes into a message."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

# Nothing shorter is a key, and taking it out would make a message unreadable.
_SHORTEST = 4


class Redactor:
    """Replaces secrets by ``***``, in all the spellings in which a service could echo them.

    :param secrets: what must not be seen; None and empty ones are passed over.
    """

    def __init__(self, secrets: Iterable[str | None]) -> None:
        spellings: set[str] = set()
        for secret in secrets:
            if secret and len(secret) >= _SHORTEST:
                spellings |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
                spellings |= {escape(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
        # Long ones first: a short spelling may be part of a long one.
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        for spelling in self._spellings:
            text = text.replace(spelling, "***")
        return text

    def __repr__(self) -> str:
        return f"Redactor({len(self._spellings)} spellings)"
