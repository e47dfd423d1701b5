"""Turns: how many exports to the bucket are in flight, and which of those that wait may be submitted next.

An export's claim (:mod:`sealift.exports.exporting`) exists from its submission until its manifest. So a listing of the
claims counts the exports in flight over all machines that export to the same place. Nothing is offline for an export,
and the count need not be exact: two triggerers that look at the same moment may let a few more go than the cap says.

A claim whose export never came to a manifest stays. It counts no longer than its export may take.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from sealift.classic.errors import ClassicError
from sealift.cos.errors import CosError
from sealift.cos.models import ObjectInfo
from sealift.exports import caps, deadlines, names
from sealift.exports.caps import Caps
from sealift.exports.ports import ClassicApi, CosApi
from sealift.exports.registers import Entry

log = logging.getLogger(__name__)

GIVEN_COUNTS: Final = timedelta(minutes=2)
"""So long a turn that was given counts as an export in flight although no claim shows yet: a worker has to start."""

READS_AT_MOST: Final = 200
"""So many claims are read in one look; those that are left for the next one count as in flight."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """An export that waits for its turn.

    :param export_id: the export.
    :param datacenter: its server's data center; empty where it is not known.
    :param max_exports: most exports in flight; 0 for any number.
    :param max_in_datacenter: most of them in one data center; 0 for any number.
    """

    export_id: str
    datacenter: str
    max_exports: int
    max_in_datacenter: int


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a look at the claims found, for the next look to build on.

    :param entries: what was read, by key; None where it cannot be read. An entry never changes.
    :param caps: what the account has taught.
    :param given: turns that were given and whose claims do not show yet: the data center, and when.
    """

    entries: Mapping[str, Entry | None] = field(default_factory=dict)
    caps: Caps = field(default_factory=Caps)
    given: Mapping[str, tuple[str, datetime]] = field(default_factory=dict)


def take_turns(
    cos: CosApi, *, bucket: str, root: str, turns: Sequence[Turn], now: datetime, earlier: Claims | None = None
) -> tuple[frozenset[Turn], Claims]:
    """Say who may submit an export now.

    :param cos: the object store.
    :param bucket: the bucket.
    :param root: what the keys of the claims begin with, see :func:`sealift.exports.names.claims_root`.
    :param turns: who waits, the longest waiting first.
    :param now: the present time.
    :param earlier: what an earlier look found.
    :returns: those whose turn it is, and what was found.
    """
    earlier = earlier or Claims()
    listed = list(cos.list(bucket, f"{root}/"))
    learned = caps.read_caps(cos, bucket=bucket, root=root, listed=listed, known=earlier.caps)
    tops = _tops(listed, root, now)
    given = {
        one: (where, at) for one, (where, at) in earlier.given.items() if one not in tops and now - at < GIVEN_COUNTS
    }
    bounds = {
        one: (
            learned.in_force("export", "", one.max_exports, now),
            learned.in_force("export", one.datacenter, one.max_in_datacenter, now) if one.datacenter else 0,
        )
        for one in turns
    }
    most = len(tops) + len(given) + len(turns)
    if any(part or 0 < whole < most for whole, part in bounds.values()):
        entries = _read(cos, bucket, tops.values(), earlier.entries)
    else:
        entries = {info.key: earlier.entries[info.key] for info in tops.values() if info.key in earlier.entries}
    busy = {one: where for one, (where, _) in given.items()}
    busy |= {one: _where(entries.get(info.key)) for one, info in tops.items() if _in_flight(info, entries, now)}
    going = set()
    for one in turns:
        whole, part = bounds[one]
        if one.export_id not in busy:
            if whole and len(busy) >= whole:
                continue
            if part and sum(where in ("", one.datacenter) for where in busy.values()) >= part:
                continue
            busy[one.export_id] = one.datacenter
            given[one.export_id] = (one.datacenter, now)
        going.add(one)
    return frozenset(going), Claims(entries=entries, caps=learned, given=given)


def learn_from_refusal(
    classic: ClassicApi,
    cos: CosApi,
    *,
    bucket: str,
    root: str,
    export_id: str,
    datacenter: str,
    words: str,
    now: datetime,
) -> None:
    """Note how many exports were running when the account refused one more for its load.

    Only exports whose templates have a transaction are counted: who else holds a claim may be refused as well. What
    cannot be asked or written is left: the refused export waits all the same.

    :param classic: the account.
    :param cos: the object store.
    :param bucket: the bucket.
    :param root: what the keys of the claims begin with.
    :param export_id: the export that was refused.
    :param datacenter: its server's data center; empty where it is not known.
    :param words: what the account said.
    :param now: the present time.
    """
    try:
        listed = list(cos.list(bucket, f"{root}/"))
        learned = caps.read_caps(cos, bucket=bucket, root=root, listed=listed)
        tops = {one: info for one, info in _tops(listed, root, now).items() if one != export_id}
        entries = _read(cos, bucket, tops.values(), {})
        claimed = [entries.get(info.key) for info in tops.values() if _in_flight(info, entries, now)]
        ids = {one.template_id for one in claimed if one is not None and one.template_id}
        states = classic.template_states(sorted(ids)) if ids else {}
    except (ClassicError, CosError) as error:
        log.warning("How many exports run could not be counted, so that nothing is learned: %s", error)
        return
    at_work = {one for one, state in states.items() if state.transactions_left}
    running = [_where(one) for one in claimed if one is None or not one.template_id or one.template_id in at_work]
    for place in dict.fromkeys(("", datacenter)):
        count = sum(not place or where in ("", place) for where in running)
        if place and not count:
            continue  # then it was not for this data center's sake
        caps.learn(
            cos,
            bucket=bucket,
            root=root,
            kind="export",
            datacenter=place,
            running=count,
            words=words,
            now=now,
            known=learned,
        )


def _tops(listed: Iterable[ObjectInfo], root: str, now: datetime) -> dict[str, ObjectInfo]:
    """Find the entry of each claim that counts, but for claims that are older than any export may take."""
    tops: dict[str, ObjectInfo] = {}
    for info in sorted(listed, key=lambda one: one.key):
        export = names.parse_claim_file(info.key.removeprefix(f"{root}/"))
        if export is not None:
            tops[export] = info
    return {one: info for one, info in tops.items() if now - info.last_modified < deadlines.MOST_EVER}


def _read(
    cos: CosApi, bucket: str, wanted: Iterable[ObjectInfo], known: Mapping[str, Entry | None]
) -> dict[str, Entry | None]:
    entries: dict[str, Entry | None] = {}
    reads = 0
    for info in wanted:
        if info.key in known:
            entries[info.key] = known[info.key]
        elif reads < READS_AT_MOST:
            reads += 1
            body = cos.read(bucket, info.key)
            if body is not None:  # changed or forgotten since it was listed
                try:
                    entries[info.key] = Entry.model_validate_json(body)
                except ValidationError:
                    entries[info.key] = None
    return entries


def _in_flight(info: ObjectInfo, entries: Mapping[str, Entry | None], now: datetime) -> bool:
    entry = entries.get(info.key)
    if entry is None:
        return True
    if entry.state != "held":
        return False
    lasts = timedelta(seconds=entry.lasts_seconds) if entry.lasts_seconds else deadlines.EXPORT_MOST
    return now - max(entry.taken_at, info.last_modified) < lasts


def _where(entry: Entry | None) -> str:
    return "" if entry is None else entry.datacenter
