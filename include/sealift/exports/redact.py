"""Keeping secrets out of free text: a second guard behind the allow-list, which admits fields but not their words."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

REMOVED: Final = "[left out: looks like a secret]"

_TELLTALE = re.compile(
    r"pass(?:word|wd|phrase|code|wort)?\b|\bpwd\b|\bpw\b|secret|credential|token|api[\s_-]?key|access[\s_-]?key"
    r"|private[\s_-]?key|\bcredentials?\b|-----BEGIN|\bkey\s*[:=]",
    re.IGNORECASE,
)


def speaks_of_secrets(text: str) -> bool:
    """Say whether a text names passwords, keys, tokens or the like."""
    return _TELLTALE.search(text) is not None


def redact_text(text: str) -> str:
    """Replace each line of a free text that names a password, key, token or the like."""
    return "\n".join(REMOVED if speaks_of_secrets(line) else line for line in text.splitlines())


def redact_url(text: str) -> str:
    """Take user, password, query and fragment out of a URL."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return REMOVED
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
