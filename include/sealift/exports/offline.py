"""Who is offline for a capture, as the account shows it, without reading all templates of all time again and again.

A look reads the templates of ours that are new since an earlier look, newest first, and asks again for those that were
not over then. A template is over once two looks in a row have seen it with sizes and its server idle: a transaction can
follow another with a gap between (terraform-provider-softlayer #47), and a server in such a gap counts as offline. The
first look reads back as far as the longest capture; what is older and unfinished is then found by the offline slot that
its export holds, if it has one.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from sealift.classic.models import GuestState, Template
from sealift.exports import deadlines, names
from sealift.exports.ports import ClassicApi

UNSETTLED: Final = timedelta(hours=1)
"""A template without children and without transactions counts as a capture in flight for so long, then as broken."""

LOOKS: Final = 2
"""How many looks in a row must see a capture over before it is."""

LOOKS_APART: Final = timedelta(seconds=2)
"""Two looks nearer than this are one: a page that is read twice says nothing new."""


class Account(BaseModel):
    """What a look at the account found; small, of JSON: a triggerer hands it to the worker that it resumes.

    :param taken_at: when the look began (UTC).
    :param offline: guests that are offline for a capture of ours.
    :param exports: exports of which a template shows, as far back as looks went that this one builds on.
    :param watched: templates that are not over, with how many looks in a row saw them idle and whole.
    :param busy: guests asked about that have an active transaction.
    """

    model_config = ConfigDict(frozen=True)

    taken_at: AwareDatetime
    offline: frozenset[int] = frozenset()
    exports: frozenset[str] = frozenset()
    watched: dict[int, int] = {}
    busy: frozenset[int] = frozenset()

    def kept_for(self, holders: Collection[str]) -> Account:
        """Leave out what nobody will ask for.

        :param holders: exports that hold a slot.
        :returns: the same look, of a size that does not grow with the account.
        """
        return self.model_copy(update={"exports": self.exports & frozenset(holders)})


def look_at_account(
    classic: ClassicApi, *, holders: Collection[int], now: datetime, slack: timedelta, earlier: Account | None = None
) -> Account:
    """Look who is offline for a capture of ours.

    A template counts while its server has an active transaction, or while it has no sized copy yet (whether the
    server's transaction spans the whole capture is unconfirmed). A template that is being *exported* has sized copies
    and an idle server, and does not count; nor does one that has stood without copies and transactions for an hour,
    which is broken.

    :param classic: the account.
    :param holders: guests to ask about besides: those of the offline slots.
    :param now: the present time, with a time zone.
    :param slack: how late a template may show, and clocks differ.
    :param earlier: an earlier look, to build on; None reads back as far as the longest capture.
    :returns: what was found.
    """
    back_to = now - deadlines.CAPTURE_MOST if earlier is None else min(earlier.taken_at, now) - slack
    recent = [one for one in classic.newest_templates(names.TEMPLATE_PREFIX, back_to=back_to) if _is_ours(one)]
    watched = {} if earlier is None else earlier.watched
    again = classic.template_states(set(watched) - {one.id for one in recent}) if watched else {}
    known = [*recent, *(one for one in again.values() if _is_ours(one))]
    shown = {_export_of(one): one for one in known}
    over = {} if earlier is None else dict.fromkeys(earlier.exports - shown.keys())
    # A recent template that an earlier look saw over stays over: only what is new or watched is asked about.
    fresh = [one for one in known if one.id in watched or _export_of(one) not in (earlier.exports if earlier else ())]
    asked = {*(_guest_of(one) for one in fresh), *holders}
    states = classic.guest_states(sorted(asked)) if asked else {}
    offline: set[int] = set()
    still: dict[int, int] = {}
    apart = earlier is None or now - earlier.taken_at >= LOOKS_APART
    for template in fresh:
        guest = states.get(_guest_of(template))
        before = watched.get(template.id, 0)
        looks = 0 if _offline(template, guest, now) else before + (1 if apart else 0)
        # Only what was seen under way has to be seen over twice: nothing is known of a gap in what is new.
        if looks >= (LOOKS if template.id in watched else 1):
            continue
        still[template.id] = looks
        offline.add(_guest_of(template))
    return Account(
        taken_at=now,
        offline=frozenset(offline),
        exports=frozenset({*shown, *over}),
        watched=still,
        busy=frozenset(one.id for one in states.values() if one.active_transaction is not None),
    )


def _is_ours(template: Template) -> bool:
    return names.parse_template_name(template.name) is not None


def _export_of(template: Template) -> str:
    export = names.parse_template_name(template.name)
    assert export is not None
    return export


def _guest_of(template: Template) -> int:
    return names.parse_export_id(_export_of(template))[0]


def _offline(template: Template, guest: GuestState | None, now: datetime) -> bool:
    if guest is not None and guest.active_transaction is not None:
        return True
    if _has_sizes(template):
        return False
    if template.transactions_left:
        return True
    return template.create_date is None or now - template.create_date < UNSETTLED


def _has_sizes(template: Template) -> bool:
    return bool(template.children) and all(child.block_devices_disk_space_total for child in template.children)
