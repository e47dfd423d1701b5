"""Looking at an account and its offline slots (:mod:`sealift.exports.slots`): who is offline, which slots are taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from sealift.cos.models import ObjectInfo
from sealift.exports import caps, deadlines
from sealift.exports.caps import Caps
from sealift.exports.offline import NOTHING, Account, JustRead, look_at_account
from sealift.exports.ports import ClassicApi, CosApi
from sealift.exports.registers import Holding, Register


@dataclass(frozen=True, kw_only=True)
class SlotsPlace:
    """Where an account's slots are.

    :param bucket: the bucket; all runs of an account must name the same one for the cap to hold over them all.
    :param root: what the keys of the slots begin with, see :func:`sealift.exports.names.slots_root`.
    :param settle: how long a request may be on its way, at the most twice.
    """

    bucket: str
    root: str
    settle: timedelta


def settle_time(*, timeout: float, minutes: float | None) -> timedelta:
    """Work out after how long it is certain whether a request was carried out.

    :param timeout: seconds that the Classic API's client waits for a reply.
    :param minutes: the plan's ``grace_minutes``, if it sets them.
    :returns: the grace period, and never less than four of the client's timeouts.
    """
    return max(deadlines.grace(minutes), timedelta(seconds=4 * timeout))


class Survey(BaseModel):
    """Who is offline now, as the account and the slots show it; a later look can build on it.

    :param account: what the account shows.
    :param slots: what each slot says, by its number.
    :param live: the slots whose holders are offline, or may be in a moment.
    :param caps: what the account has taught.
    """

    model_config = ConfigDict(frozen=True)

    account: Account
    slots: dict[int, Holding]
    live: frozenset[int] = frozenset()
    caps: Caps = Caps()

    def guests(self, *, but: int | None = None, datacenter: str = "") -> set[int]:
        """Return the guests that count against a cap.

        :param but: a guest to leave out: the one that wants a slot.
        :param datacenter: count only those of this data center, and those of which nothing tells where they are; empty
            for the whole account.
        :returns: ids of guests.
        """
        found = set(self.account.offline | {self.slots[number].entry.guest_id for number in self.live}) - {but}
        if not datacenter:
            return found
        known = dict(self.account.datacenters)
        known |= {self.slots[one].entry.guest_id: self.slots[one].entry.datacenter for one in self.live}
        return {one for one in found if (known.get(one) or datacenter) == datacenter}

    def brief(self) -> str:
        """Write what a worker can build its own look on: what the account shows. A listing tells it the slots.

        :returns: see :meth:`sealift.exports.offline.Account.packed`; it grows with the slots and not with the account.
        """
        holders = {one.entry.export_id for one in self.slots.values() if one.held}
        return self.account.kept_for(holders).packed()


def survey(
    classic: ClassicApi,
    cos: CosApi,
    place: SlotsPlace,
    *,
    now: datetime,
    earlier: Survey | None = None,
    just_read: JustRead = NOTHING,
) -> Survey:
    """Look at the account and at its slots.

    :param classic: the account.
    :param cos: the object store.
    :param place: where the slots are.
    :param now: the present time, with a time zone.
    :param earlier: an earlier look at the same place, by whomever: what it found is not read again.
    :param just_read: what the caller asked the account for a moment ago.
    :returns: who is offline, and which slots are taken.
    """
    slots, learned = slots_and_caps(cos, place, earlier)
    account = look_at_account(
        classic,
        holders=[one.entry.guest_id for one in slots.values() if one.held],
        now=now,
        slack=2 * place.settle,
        earlier=earlier.account if earlier else None,
        unseen_since=_unseen_since(slots.values(), earlier),
        just_read=just_read,
    )
    return counted(account, slots, learned, now=now, settle=place.settle)


def slots_and_caps(cos: CosApi, place: SlotsPlace, earlier: Survey | None = None) -> tuple[dict[int, Holding], Caps]:
    """Read what the place holds, with one listing.

    :param cos: the object store.
    :param place: where the slots are.
    :param earlier: an earlier look: what it found is not read again.
    :returns: the entry of each slot by its number, and what the account has taught.
    """
    listed = list(cos.list(place.bucket, f"{place.root}/"))
    slots = read_slots(cos, place, known=earlier.slots if earlier else None, listed=listed)
    learned = caps.read_caps(
        cos, bucket=place.bucket, root=place.root, listed=listed, known=earlier.caps if earlier else None
    )
    return slots, learned


def counted(account: Account, slots: dict[int, Holding], learned: Caps, *, now: datetime, settle: timedelta) -> Survey:
    """Tell which slots are taken.

    :param account: what the account shows.
    :param slots: what each slot says, by its number.
    :param learned: what the account has taught.
    :param now: the present time, with a time zone.
    :param settle: see :class:`SlotsPlace`.
    :returns: all of it together.
    """
    live = {number for number, one in slots.items() if _live(one, account, now=now, settle=settle)}
    return Survey(account=account, slots=slots, live=frozenset(live), caps=learned)


def read_slots(
    cos: CosApi,
    place: SlotsPlace,
    *,
    known: Mapping[int, Holding] | None = None,
    listed: Iterable[ObjectInfo] | None = None,
) -> dict[int, Holding]:
    """Read what all slots say: one listing, and one read for each that changed.

    :param cos: the object store.
    :param place: where the slots are.
    :param known: what an earlier look found.
    :param listed: a listing of the place, where the caller has one.
    :returns: the entry of each slot by its number.
    """
    rows: dict[int, list[ObjectInfo]] = {}
    for info in cos.list(place.bucket, f"{place.root}/") if listed is None else listed:
        part = info.key.removeprefix(f"{place.root}/").partition("/")[0]
        if part.isdigit():
            rows.setdefault(int(part), []).append(info)
    found = {}
    for number, infos in sorted(rows.items()):
        holding = slot_register(cos, place, number).look(infos, known=(known or {}).get(number))
        if holding is not None:
            found[number] = holding
    return found


def _unseen_since(slots: Iterable[Holding], earlier: Survey | None) -> datetime | None:
    """Say since when the template of a slot's holder may be there without an earlier look having seen it."""
    known = earlier.account.exports if earlier is not None else frozenset()
    return min((one.since for one in slots if one.held and one.entry.export_id not in known), default=None)


def _live(holding: Holding, account: Account, *, now: datetime, settle: timedelta) -> bool:
    """Say whether a slot's holder is offline for its capture, or may be in a moment."""
    if not holding.held:
        return False
    entry = holding.entry
    if entry.guest_id in account.offline:
        return True
    if entry.export_id in account.exports:
        return False
    if now - holding.since < 2 * max(settle, timedelta(seconds=entry.settle_seconds)):
        return True
    # No template shows, and it should by now: the capture was never submitted, or its template was deleted.
    return entry.guest_id in account.busy


def slot_register(cos: CosApi, place: SlotsPlace, number: int) -> Register:
    """Find the register of one slot.

    :param cos: the object store.
    :param place: where the slots are.
    :param number: the slot's.
    :returns: its register.
    """
    return Register(cos=cos, bucket=place.bucket, root=f"{place.root}/{number:03d}", labelled=True)
