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

# The lines between those two hold the key and speak of nothing. A block that was cut off ends with the text.
_BLOCK = re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL)


def speaks_of_secrets(text: str) -> bool:
    """Say whether a text names passwords, keys, tokens or the like.

    :param text: a field's value or name.
    :returns: True as well for texts that only mention such words: better too careful.
    """
    return _TELLTALE.search(text) is not None


def redact_text(text: str) -> str:
    """Replace each line of a free text that names a password, key, token or the like, and key blocks as a whole.

    :param text: of any number of lines.
    :returns: the text with :data:`REMOVED` in the place of what was taken out.
    """
    text = _BLOCK.sub(REMOVED, text)
    return "\n".join(REMOVED if speaks_of_secrets(line) else line for line in text.splitlines())


def redact_url(text: str) -> str:
    """Take user, password, query and fragment out of a URL.

    :param text: a URL.
    :returns: scheme, host, port and path; :data:`REMOVED` where it cannot be read.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return REMOVED
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
