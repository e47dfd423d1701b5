"""Notes in the bucket that somebody was told of one server: once for each capture and step, however often it is tried.

A wait that ended badly is tried again, and each try may end the same way; a plan of failed servers waits for the same
template in another run. The note is a conditional put, so that of two that look at once one tells. And where a whole
account stands still, thousands of servers are stuck: after so many messages of one slot no more are sent one by one.
"""

from __future__ import annotations

import itertools
import re
import uuid
from enum import StrEnum
from typing import Final

from sealift.cos.models import PutOutcome
from sealift.exports import names
from sealift.exports.jsontext import canonical_json
from sealift.exports.messages.message import MessageKind
from sealift.exports.plan_models import PlanItem
from sealift.exports.ports import CosApi
from sealift.exports.settings import PlanSettings

TOLD_AT_MOST: Final = 20
"""So many servers of one slot are told of one by one."""

_TOLD_FILE = re.compile(rf"told/{names.PERIOD_PATTERN}/[1-9]\d*-\d+-[a-z_]+-[a-z]+\.json")


class Telling(StrEnum):
    """Whether somebody is to be told."""

    NOW = "now"
    LAST = "now, and of no other server of the slot"
    TOLD = "told before"
    TOO_MANY = "too many servers of the slot were told of"


class ToldNote:
    """The note of one server's capture and step.

    :param cos: the object store.
    :param item: the server's part of the plan.
    :param settings: the plan's settings: bucket, prefix.
    :param template_id: the capture's template.
    :param step: the task that waits.
    :param kind: what is told.
    """

    def __init__(
        self, *, cos: CosApi, item: PlanItem, settings: PlanSettings, template_id: int, step: str, kind: MessageKind
    ) -> None:
        self._cos = cos
        self._bucket = settings.bucket
        self._root = f"{names.room_prefix(settings.prefix, 'reports')}told/{item.period}/"
        self._key = f"{self._root}{item.guest_id}-{template_id}-{step}-{kind.value}.json"

    def take(self) -> Telling:
        """Write the note, if it may be written.

        :returns: whether the caller is the one to tell.
        :raises sealift.cos.errors.CosError: the object store did not answer.
        """
        there = [one.key for one in itertools.islice(self._cos.list(self._bucket, self._root), TOLD_AT_MOST)]
        if self._key in there:
            return Telling.TOLD
        if len(there) >= TOLD_AT_MOST:
            return Telling.TOO_MANY
        # Of its own, so that the same note of somebody else is told apart from a put that was tried twice.
        body = canonical_json({"token": uuid.uuid4().hex})
        if self._cos.put_if_absent(self._bucket, self._key, body) is PutOutcome.EXISTS_DIFFERENT:
            return Telling.TOLD
        return Telling.LAST if len(there) == TOLD_AT_MOST - 1 else Telling.NOW

    def drop(self) -> None:
        """Take the note back, where telling failed: the next try may tell.

        :raises sealift.cos.errors.CosError: the object store did not answer; then nobody is told any more.
        """
        self._cos.delete(self._bucket, self._key)


def is_told_file(rest: str) -> bool:
    """Say whether such a note lies at a key below ``reports/``.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    :returns: False where nothing of ours would be written there.
    """
    return _TOLD_FILE.fullmatch(rest) is not None
