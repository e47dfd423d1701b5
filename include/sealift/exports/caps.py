"""Caps that the account taught: how many captures or exports may be in flight after it refused one for its load.

Nobody documents how many an account, or a data center, takes at once. So a refusal that sounds like it
(:class:`sealift.classic.errors.ClassicLoadError`) leaves a note in the bucket: as many as were running beside the one
that was refused. The note lowers the configured cap for everybody who counts against it; it holds for an hour, then
gives one place more each quarter of an hour. A note is one small object for each kind of work and place, written over
at will: the last writer wins, and who counts a little wrong is refused once more.

Captures keep their notes beside the offline slots, exports beside the claims: where each is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Protocol
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sealift.cos.errors import CosError
from sealift.cos.models import ObjectInfo
from sealift.exports.ports import CosApi
from sealift.exports.versions import newer_words, reads_up_to

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

Kind = Literal["capture", "export"]

HOLDS: Final = timedelta(hours=1)
"""So long a learned cap stays as it is; …"""

RISES_EVERY: Final = timedelta(minutes=15)
"""… then it rises by one, and by one more each time this has passed, …"""

FORGOTTEN: Final = timedelta(days=1)
"""… and where no cap is configured to which it could rise, it is forgotten after this."""

ROOM: Final = "caps"
"""The part of their keys behind the root."""


class Reader(Protocol):
    """What it takes to read notes."""

    def read(self, bucket: str, key: str) -> bytes | None: ...


class LearnedCap(BaseModel):
    """What a refusal left.

    :param kind: of work.
    :param datacenter: the data center it holds for; empty for the whole account.
    :param cap: how many may be in flight.
    :param learned_at: when the refusal came (UTC).
    :param words: what the account said.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Kind
    datacenter: str = ""
    cap: int = Field(ge=1)
    learned_at: AwareDatetime
    words: str

    def in_force(self, configured: int, now: datetime) -> int:
        """Say what holds now.

        :param configured: the cap that it lowers; 0 for none.
        :param now: the present time.
        :returns: a cap; 0 for none.
        """
        age = now - self.learned_at
        learned = self.cap + (0 if age < HOLDS else 1 + (age - HOLDS) // RISES_EVERY)
        if configured:
            return min(configured, learned)
        return learned if age < FORGOTTEN else 0


class Note(BaseModel):
    """A learned cap as it was found.

    :param etag: of the object, by which a later look knows it again.
    :param cap: what it says; None where it cannot be read.
    """

    model_config = ConfigDict(frozen=True)

    etag: str
    cap: LearnedCap | None


class Caps(BaseModel):
    """All learned caps of one place in the bucket; of JSON.

    :param notes: by the last part of their keys.
    """

    model_config = ConfigDict(frozen=True)

    notes: dict[str, Note] = Field(default_factory=dict)

    def in_force(self, kind: Kind, datacenter: str, configured: int, now: datetime) -> int:
        """Say which cap holds now.

        :param kind: of work.
        :param datacenter: a data center, or empty for the whole account.
        :param configured: what the deployment says; 0 for none.
        :param now: the present time.
        :returns: a cap; 0 for none.
        """
        note = self.notes.get(_name(kind, datacenter))
        return configured if note is None or note.cap is None else note.cap.in_force(configured, now)


def is_note(key: str, root: str) -> bool:
    """Say whether a key is a learned cap's.

    :param key: the key.
    :param root: what the keys of the caps' place begin with, without a slash at the end.
    :returns: False where nothing of ours would be written there.
    """
    name = key.removeprefix(f"{root}/{ROOM}/")
    return name != key and "/" not in name and name.endswith(".json") and name.startswith(("capture-", "export-"))


def read_caps(cos: Reader, *, bucket: str, root: str, listed: Iterable[ObjectInfo], known: Caps | None = None) -> Caps:
    """Read the learned caps of a place: those that changed, one read each.

    :param cos: the object store.
    :param bucket: the bucket.
    :param root: what the keys of the place begin with.
    :param listed: a listing of the place; what else lies there is passed over.
    :param known: what an earlier look found.
    :returns: the caps.
    """
    notes = {}
    for info in listed:
        if not is_note(info.key, root):
            continue
        name = info.key.rpartition("/")[2]
        earlier = known.notes.get(name) if known else None
        if earlier is not None and earlier.etag == info.etag:
            notes[name] = earlier
            continue
        body = cos.read(bucket, info.key)
        if body is not None:
            notes[name] = Note(etag=info.etag, cap=_parsed(bucket, info.key, body))
    return Caps(notes=notes)


def learn(
    cos: CosApi,
    *,
    bucket: str,
    root: str,
    kind: Kind,
    datacenter: str,
    running: int,
    words: str,
    now: datetime,
    known: Caps,
) -> LearnedCap | None:
    """Note how many were running when one more was refused.

    :param cos: the object store.
    :param bucket: the bucket.
    :param root: what the keys of the place begin with.
    :param kind: of work.
    :param datacenter: a data center, or empty for the whole account.
    :param running: how many were in flight beside the one that was refused.
    :param words: what the account said.
    :param now: the present time.
    :param known: the caps in force: one that is lower than what was running stays as low.
    :returns: the cap; None where it could not be written, which leaves things as they are.
    """
    cap = max(1, running)
    made = LearnedCap(
        kind=kind,
        datacenter=datacenter,
        cap=known.in_force(kind, datacenter, cap, now),
        learned_at=now,
        words=words,
    )
    where = f"the data center {datacenter}" if datacenter else "the account"
    try:
        cos.put(bucket, f"{root}/{ROOM}/{_name(kind, datacenter)}", made.model_dump_json().encode())
    except CosError as error:
        log.warning("That %s takes no more than %d %ss now could not be noted: %s", where, made.cap, kind, error)
        return None
    log.warning(
        "%s was refused for the load: from now on at most %d %ss of %s are in flight at once, and one more each %d "
        "minutes after an hour. (%s)",
        f"A{'n' if kind == 'export' else ''} {kind}",
        made.cap,
        kind,
        where,
        RISES_EVERY.total_seconds() // 60,
        words,
    )
    return made


def _name(kind: Kind, datacenter: str) -> str:
    return f"{kind}-in-{quote(datacenter, safe='')}.json" if datacenter else f"{kind}-account.json"


def _parsed(bucket: str, key: str, body: bytes) -> LearnedCap | None:
    try:
        return LearnedCap.model_validate_json(body)
    except ValidationError as error:
        newer = newer_words(error)
        words = newer or f"is not what Sealift writes there ({error.error_count()} problems). Delete it."
        log.warning("%s/%s counts for nothing: it %s", bucket, key, words)
        return None
