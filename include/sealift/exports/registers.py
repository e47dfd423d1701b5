"""A register: one place in the bucket that says who holds something, changed by one writer at a time.

The store gives one thing that orders writers on different machines: a put that succeeds only where there is no object
yet. So a register is a row of small objects, ``<root>/00000001.json``, ``<root>/00000002.json``, …, of which the one
with the highest number counts. Who wants to change it writes the next number, and looks once more: only who sees their
own entry on top has it. That second look is what makes it safe to delete the entries below: a writer that was held up
so long that the number it wants has come, been passed and been deleted would succeed, and then find a higher one above.

Object Storage shows every write at once to every reader (IBM's data-io page, "Consistency impacts"), so that a look
after a write sees all writes that were answered before.

Where many look at many registers, as at the offline slots, an entry has a *label* beside it: an empty object whose key
repeats what the entry says, so that a listing tells it and nobody has to read it. A label is believed only where the
entry's ETag is the digest of what it repeats; otherwise (a writer that was slower, an older Sealift, a bucket whose
ETags are no digests) the entry is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from sealift.cos.errors import CosError
from sealift.cos.models import ObjectInfo, PutOutcome
from sealift.exports.errors import LedgerError, OutcomeUnknownError
from sealift.exports.ports import CosApi
from sealift.exports.versions import newer_words, reads_up_to

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

_LOOKS: Final = 5
_NUMBER = re.compile(r"/(\d{8})\.json$")
_LABEL = re.compile(r"/(\d{8})\.([A-Za-z0-9_-]+={0,2})\.label$")
_LABEL_AT_MOST: Final = 1000
"""Bytes of a label's key; S3 allows 1,024."""


class Entry(BaseModel):
    """What a register says.

    :param export_id: the export that holds it, or held it last.
    :param guest_id: that export's virtual server.
    :param token: tells the writers of one export apart: every try of a task has its own.
    :param taken_at: when it was written, by the writer's clock (UTC).
    :param settle_seconds: how long the writer may take, at the most twice; readers go by the longer of theirs and this.
    :param attempt: how often this export has held it in a row without anybody knowing what came of it.
    :param state: held, or given back.
    :param datacenter: the server's data center; empty where an earlier Sealift wrote it.
    :param template_id: the template of an export's claim; 0 where there is none.
    :param lasts_seconds: how long the work of an export's claim may take at the longest; 0 where that is not said.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: SchemaVersion = SCHEMA_VERSION
    export_id: str
    guest_id: int
    token: str
    taken_at: AwareDatetime
    settle_seconds: float = 0.0
    attempt: int = 1
    state: Literal["held", "free"] = "held"
    datacenter: str = ""
    template_id: int = 0
    lasts_seconds: float = 0.0


class Holding(BaseModel):
    """A register's entry as it was found.

    :param number: which of the row it is, from 1.
    :param since: when it was written, by the writer's clock or the store's, whichever is later: nobody is taken for
        older than he is because one of two clocks is ahead.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    entry: Entry
    since: datetime

    def certain_at(self, settle: timedelta) -> datetime:
        """Say when it is certain what came of what its holder may have submitted.

        :param settle: how long a request may be on its way, by the reader.
        :returns: that long after it was written, or as long as its writer said.
        """
        return self.since + max(settle, timedelta(seconds=self.entry.settle_seconds))

    @property
    def held(self) -> bool:
        """Whether somebody holds it, or held it and never gave it back."""
        return self.entry.state == "held"


def new_token() -> str:
    """Make a token that no other process has.

    :returns: 32 hexadecimal digits.
    """
    return uuid.uuid4().hex


class Register:
    """One register.

    :param cos: the object store.
    :param bucket: the bucket.
    :param root: what the keys of its entries begin with, without a slash at the end.
    :param labelled: whether what is written gets a label; see the module's first lines.
    """

    def __init__(self, *, cos: CosApi, bucket: str, root: str, labelled: bool = False) -> None:
        self._cos = cos
        self._bucket = bucket
        self._root = root
        self._labelled = labelled

    def look(
        self, listed: Iterable[ObjectInfo] | None = None, *, known: Holding | None = None, wrote: bytes | None = None
    ) -> Holding | None:
        """Find what the register says now.

        :param listed: a listing of its keys, where the caller has one; it is listed otherwise.
        :param known: what an earlier look found; an entry never changes, so that the same number is not read again.
        :param wrote: what the caller has just written, which need not be read where it is on top.
        :returns: the highest entry, or None where nobody ever wrote one.
        :raises LedgerError: an entry is not what Sealift writes.
        :raises OutcomeUnknownError: it changes faster than it can be read; retryable.
        """
        for _ in range(_LOOKS):
            infos = list(self._cos.list(self._bucket, f"{self._root}/") if listed is None else listed)
            entries = self._entries(infos)
            if not entries:
                return None
            number = max(entries)
            if known is not None and known.number == number:
                return known
            top = entries[number]
            told = [] if wrote is None else [wrote]
            told += [body for of, body in self._labels(infos).values() if of == number]
            body = next((one for one in told if _digest(one) == top.etag), None)
            if body is None:
                body = self._cos.read(self._bucket, self._key(number))
            if body is not None:
                return self._holding(number, body, top.last_modified)
            listed = None  # passed and deleted since it was listed
        raise OutcomeUnknownError(
            f"{self._bucket}/{self._root}/ changes faster than it can be read. A retry looks again."
        )

    def advance(self, seen: Holding | None, entry: Entry) -> Holding | None:
        """Write the next entry, and make sure that it is on top.

        :param seen: what the register said when the caller decided to change it.
        :param entry: the new entry; its token must be the caller's own.
        :returns: the entry as it stands, or None where somebody else was faster.
        """
        number = seen.number + 1 if seen else 1
        body = entry.model_dump_json().encode()
        label = self._label(number, body) if self._labelled else None
        if label is not None:
            self._cos.put(self._bucket, label, b"")
        if self._cos.put_if_absent(self._bucket, self._key(number), body) is PutOutcome.EXISTS_DIFFERENT:
            self._drop([label] if label else [])
            return None
        infos = list(self._cos.list(self._bucket, f"{self._root}/"))
        top = self.look(infos, wrote=body)
        if top is None or top.number != number or top.entry != entry:
            self._drop([self._key(number), *([label] if label else [])])
            return None
        self._drop(info.key for one, info in sorted(self._entries(infos).items()) if one < number)
        self._drop(key for key, (one, _) in sorted(self._labels(infos).items()) if one < number)
        return top

    def clear(self) -> None:
        """Delete all entries: only where nobody can want to write one any more, or would notice."""
        infos = list(self._cos.list(self._bucket, f"{self._root}/"))
        self._drop(info.key for _, info in sorted(self._entries(infos).items()))
        self._drop(sorted(self._labels(infos)))

    def _entries(self, listed: Iterable[ObjectInfo]) -> dict[int, ObjectInfo]:
        found = {}
        for info in listed:
            match = _NUMBER.search(info.key.removeprefix(self._root))
            if match is not None:
                found[int(match[1])] = info
        return found

    def _labels(self, listed: Iterable[ObjectInfo]) -> dict[str, tuple[int, bytes]]:
        """Find the labels, by their keys: of which entry each is, and what that is to say."""
        found = {}
        for info in listed:
            match = _LABEL.search(info.key.removeprefix(self._root))
            if match is not None:
                try:
                    found[info.key] = int(match[1]), base64.urlsafe_b64decode(match[2])
                except binascii.Error:  # none of ours
                    found[info.key] = int(match[1]), b""
        return found

    def _label(self, number: int, body: bytes) -> str | None:
        key = f"{self._root}/{number:08d}.{base64.urlsafe_b64encode(body).decode()}.label"
        return key if len(key.encode()) <= _LABEL_AT_MOST else None

    def _holding(self, number: int, body: bytes, written: datetime) -> Holding:
        try:
            entry = Entry.model_validate_json(body)
        except ValidationError as error:
            newer = newer_words(error)
            raise LedgerError(
                f"{self._bucket}/{self._key(number)} {newer}"
                if newer
                else f"{self._bucket}/{self._key(number)} is not what Sealift writes there "
                f"({error.error_count()} problems). Look at who wrote it, and delete it."
            ) from error
        return Holding(number=number, entry=entry, since=max(entry.taken_at, written))

    def _key(self, number: int) -> str:
        return f"{self._root}/{number:08d}.json"

    def _drop(self, keys: Iterable[str]) -> None:
        """Delete what no longer counts. A bucket that forbids it (Object Lock, a role without delete) keeps them."""
        for key in keys:
            try:
                self._cos.delete(self._bucket, key)
            except CosError as error:
                log.info("%s/%s stays: %s", self._bucket, key, error)
                return


def is_label(key: str) -> bool:
    """Say whether a key is that of an entry's label.

    :param key: the key.
    """
    return _LABEL.search(key) is not None


def _digest(body: bytes) -> str:
    """What the store gives as the ETag of an object that came in one piece and is not encrypted with a key of ours."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
