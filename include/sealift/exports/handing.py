"""What tasks hand on to each other by XCom: small dictionaries of JSON, each with the version of its shape.

While Sealift is upgraded, tasks of one run may be carried out by two versions of it: by workers and triggerers that
were started anew already and by some that were not. What an earlier one handed on has no number, or a lower one, and is
read. What a newer one handed on is refused in words, and tried again, which may come to a process that is new as well.

This module is light: DAG files import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sealift.exports.errors import NewerSealiftError

FIELD: Final = "schema_version"
"""Name of the key that carries the number."""

HANDED_ON: Final = 1
"""Version of everything that is handed on. It rises when a reader of the version before could not do with it."""


def stamped(value: Mapping[str, Any]) -> dict[str, Any]:
    """Put the version into what a task hands on.

    :param value: made of what JSON knows.
    :returns: the same with its version.
    """
    return {FIELD: HANDED_ON, **value}


def is_newer(value: Any) -> bool:
    """Say whether a newer Sealift handed something on.

    :param value: what was handed on; what is no dictionary carries no version.
    """
    found = value.get(FIELD, 1) if isinstance(value, Mapping) else 1
    return isinstance(found, int) and found > HANDED_ON


def check_handed_on(value: Any, *, by: str) -> None:
    """Refuse what a newer Sealift handed on.

    :param value: what was handed on.
    :param by: which task or step handed it on, for the message.
    :raises NewerSealiftError: its version is newer than this one.
    """
    if is_newer(value):
        raise NewerSealiftError(
            f"What {by} handed on is of a newer Sealift (version {value[FIELD]}; this one reads up to {HANDED_ON}). "
            "Upgrade Sealift on every worker and triggerer, then clear this task."
        )
