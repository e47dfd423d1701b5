"""Versions of what Sealift writes: the number that each document carries, and what is read of earlier ones.

Every document carries the version of its schema, and the number rises with each change of the schema's shape. A reader
takes every version from 1 to its own, and makes the present shape of it: in memory there is no other. What a newer
Sealift wrote is refused in words: whoever guesses at it may delete what it keeps, or believe what it does not say.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError

FIELD: Final = "schema_version"
"""Name of the field that carries the number."""

NEWER: Final = "newer_schema"
"""Type of the error that a document of a newer version is refused with."""


def reads_up_to(current: int) -> BeforeValidator:
    """Make the check of a document's version, for the annotation of its field.

    :param current: the version that is written now.
    :returns: a validator that takes every version up to the current one for the current one, which the rest of the
        model makes of it, and refuses a later one with an error of the type :data:`NEWER`.
    """

    def check(value: Any) -> Any:
        if type(value) is not int or value < 1:
            return value  # the field's own type refuses it
        if value > current:
            raise PydanticCustomError(
                NEWER,
                "it was written by a newer Sealift, with version {found} of its schema; this one reads up to version "
                "{known}: upgrade Sealift here",
                {"found": value, "known": current},
            )
        return current

    return BeforeValidator(check)


def newer_words(error: ValidationError) -> str | None:
    """Say of a document that could not be read that a newer Sealift wrote it.

    :param error: what reading it raised.
    :returns: a sentence without its subject, as ``was written by a newer Sealift (…). Upgrade Sealift here.``; None
        where the document is just none of ours.
    """
    for one in error.errors(include_url=False, include_input=False):
        if one["type"] == NEWER:
            found, known = one["ctx"]["found"], one["ctx"]["known"]
            return (
                f"was written by a newer Sealift (version {found} of its schema; this one reads up to {known}). "
                "Upgrade Sealift here."
            )
    return None


def unreadable(error: ValidationError, *, where: str, what: str, do: str) -> str:
    """Say why a document cannot be read, and what to do.

    :param error: what reading it raised.
    :param where: bucket and key.
    :param what: what it should be, as ``a manifest``.
    :param do: what to do where it is none of ours, in sentences.
    :returns: the message. What a newer Sealift wrote is not called damaged, and nobody is told to delete it.
    """
    newer = newer_words(error)
    if newer is not None:
        return f"{where} {newer}"
    problem = error.errors(include_url=False, include_input=False)[0]["msg"]
    return f"{where} is not {what} that this version of Sealift can read ({problem}). {do}"
