"""What a look at content finds: checks, which may fail, and remarks, which say what a person should know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from sealift.images.source import ImageFormatError, ShortReadError
from sealift.images.verdict import Checks

MOST_NAMED = 5
"""Things of one kind that a message names; of more it says how many."""


class Remark(BaseModel):
    """Something that does not make an image bad, but that whoever restores it should know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    detail: str


class Findings(Checks):
    """Collects checks and remarks."""

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[Remark] = []

    def remark(self, id_: str, detail: str) -> None:
        """Note a remark.

        :param id_: name of what was looked at.
        :param detail: what was found, and what follows from it.
        """
        self.remarks.append(Remark(id=id_, detail=detail))

    def damaged(self, id_: str, error: ImageFormatError | ShortReadError, *, doing: str = "") -> None:
        """Note that something cannot be read as a failed check.

        :param id_: name of the check.
        :param error: why.
        :param doing: what was being read, where the error does not say.
        """
        self.record(id_, False, f"{doing}: {error}" if doing else str(error))


def some(things: list[str]) -> str:
    """Name the first of many.

    :param things: in order.
    """
    named = ", ".join(things[:MOST_NAMED])
    return named if len(things) <= MOST_NAMED else f"{named} and {len(things) - MOST_NAMED} more"
