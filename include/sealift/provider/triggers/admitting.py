"""Who of those that wait may go on: captures by the free offline slots, exports by those in flight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealift.cos.client import CosClient
    from sealift.exports.surveying import Survey
    from sealift.exports.turns import Claims, Turn
    from sealift.provider.triggers.account import Interest, SlotsAt


@dataclass(frozen=True, kw_only=True)
class ClaimsAt:
    """Where the claims on exports are.

    :param cos_conn_id: connection of the type ``ibm_cos``.
    :param region: the bucket's region; empty for the connection's.
    :param bucket: the bucket.
    :param root: what the keys of the claims begin with.
    """

    cos_conn_id: str
    region: str
    bucket: str
    root: str


def admitted_captures(
    wanted: Iterable[Interest], surveys: Mapping[SlotsAt, Survey], now: datetime
) -> frozenset[Interest]:
    """Give the free slots to those who have waited longest. The capture itself takes one, and looks once more.

    :param wanted: what is waited for, the longest waiting first.
    :param surveys: who is offline, by where the slots are.
    :param now: the present time.
    :returns: those for whom there is room in the account and in their data center.
    """
    admitted: set[Interest] = set()
    given: Counter[tuple[SlotsAt, str]] = Counter()
    for one in wanted:
        if one.slots is None or one.max_offline is None or one.slots not in surveys:
            continue
        seen, at, place = surveys[one.slots], one.slots, one.datacenter
        # The waiting server itself does not count: it may be busy with its export of another period.
        whole = seen.caps.in_force("capture", "", one.max_offline, now)
        if len(seen.guests(but=one.guest_id)) + given[at, ""] >= whole:
            continue
        part = seen.caps.in_force("capture", place, one.max_in_datacenter, now) if place else 0
        if part and len(seen.guests(but=one.guest_id, datacenter=place)) + given[at, place] >= part:
            continue
        admitted.add(one)
        given.update([(at, "")] if not place else [(at, ""), (at, place)])
    return frozenset(admitted)


def next_exports(
    store: CosClient, at: ClaimsAt, turns: list[Turn], now: datetime, earlier: Claims | None
) -> tuple[frozenset[Turn], Claims]:
    """Say whose turn it is to be exported; see :func:`sealift.exports.turns.take_turns`.

    :param store: the object store.
    :param at: where the claims are.
    :param turns: who waits, the longest waiting first.
    :param now: the present time.
    :param earlier: what an earlier look found.
    :returns: those whose turn it is, and what was found.
    """
    from sealift.exports.turns import take_turns

    return take_turns(store, bucket=at.bucket, root=at.root, turns=turns, now=now, earlier=earlier)
