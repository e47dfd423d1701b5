"""Who is offline for a capture, as the account shows it, without reading all templates of all time again and again.

A look reads the templates of ours that are new since an earlier look, newest first, and asks again for those that were
not over then. Where an offline slot was taken before that and no template of its export has shown yet, it reads back to
that moment. The first look reads back as far as the longest capture; what is older and unfinished is then found by
the offline slot that its export holds, if it has one. A server counts as back once its last transaction has been over
for a while: a transaction can follow another with a gap between (terraform-provider-softlayer #47), in which all looks
done.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sealift.classic.models import GuestState, Template
from sealift.exports import deadlines, names
from sealift.exports.ports import ClassicApi

UNSETTLED: Final = timedelta(hours=1)
"""A template without children and without transactions counts as a capture in flight for so long, then as broken."""

CLOCKS: Final = timedelta(minutes=2)
"""So far the account's clock may be from ours."""

QUIET_PART: Final = 60
"""A server counts as back when its last transaction has been over for this part of the slack (half a minute) …"""

QUIET_SHARE: Final = 0.05
"""… or for this share of the capture's age, where that is less: a short capture has no long gaps."""


@dataclass(frozen=True, kw_only=True)
class JustRead:
    """What was read of the account a moment before a look.

    :param templates: by id.
    :param guests: by id.
    """

    templates: Mapping[int, Template] = field(default_factory=dict)
    guests: Mapping[int, GuestState] = field(default_factory=dict)


NOTHING: Final = JustRead()


class Account(BaseModel):
    """What a look at the account found; small, of JSON: a triggerer hands it to the worker that it resumes.

    :param taken_at: when the look began (UTC).
    :param offline: guests that are offline for a capture of ours.
    :param exports: exports of which a template shows, as far back as looks went that this one builds on.
    :param watched: templates that are not over.
    :param busy: guests asked about that have an active transaction.
    :param datacenters: the data centers of those that are offline, where their templates tell.
    """

    model_config = ConfigDict(frozen=True)

    taken_at: AwareDatetime
    offline: frozenset[int] = frozenset()
    exports: frozenset[str] = frozenset()
    watched: frozenset[int] = frozenset()
    busy: frozenset[int] = frozenset()
    datacenters: dict[int, str] = Field(default_factory=dict)

    def kept_for(self, holders: Collection[str]) -> Account:
        """Leave out what nobody will ask for.

        :param holders: exports that hold a slot.
        :returns: the same look, of a size that does not grow with the account.
        """
        return self.model_copy(update={"exports": self.exports & frozenset(holders)})

    def packed(self) -> str:
        """Write the look in few bytes: Airflow logs the events that carry it, through a pipe of 200 KB for all.

        :returns: text without spaces.
        """
        return base64.b85encode(zlib.compress(self.model_dump_json(exclude_defaults=True).encode())).decode()

    @classmethod
    def unpacked(cls, text: str) -> Account:
        """Read a look.

        :param text: from :meth:`packed`.
        :returns: the look.
        """
        return cls.model_validate_json(zlib.decompress(base64.b85decode(text)))


def look_at_account(
    classic: ClassicApi,
    *,
    holders: Collection[int],
    now: datetime,
    slack: timedelta,
    earlier: Account | None = None,
    unseen_since: datetime | None = None,
    just_read: JustRead = NOTHING,
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
    :param unseen_since: since when a template may be there that no earlier look saw, where that is longer than since
        the earlier look; at the most the slack.
    :param just_read: what the caller asked the account for a moment ago; it is not asked for again.
    :returns: what was found.
    """
    back_to = now - deadlines.CAPTURE_MOST
    if earlier is not None:
        back_to = min(earlier.taken_at, now, max(unseen_since or now, now - slack)) - min(CLOCKS, slack)
    recent = [one for one in classic.newest_templates(names.TEMPLATE_PREFIX, back_to=back_to) if _is_ours(one)]
    before, watched = (frozenset[str](), frozenset[int]()) if earlier is None else (earlier.exports, earlier.watched)
    older = watched - {one.id for one in recent}
    again = {one: just_read.templates[one] for one in older & just_read.templates.keys()}
    if unknown := older - again.keys():
        again |= classic.template_states(unknown)
    known = [*recent, *(one for one in again.values() if _is_ours(one))]
    # A recent template that an earlier look saw over stays over: only what is new or watched is asked about.
    fresh = [one for one in known if one.id in watched or _export_of(one) not in before]
    asked = {*(_guest_of(one) for one in fresh), *holders}
    states = {one: just_read.guests[one] for one in asked & just_read.guests.keys()}
    if strangers := asked - states.keys():
        states |= classic.guest_states(sorted(strangers))
    quiet = slack / QUIET_PART
    still = [one for one in fresh if _offline(one, states.get(_guest_of(one)), now=now, quiet=quiet)]
    return Account(
        taken_at=now,
        offline=frozenset(_guest_of(one) for one in still),
        exports=before | {_export_of(one) for one in known},
        watched=frozenset(one.id for one in still),
        busy=frozenset(one.id for one in states.values() if one.active_transaction is not None),
        # A capture's first copy is made where its server is.
        datacenters={_guest_of(one): one.children[0].datacenter for one in still if _tells_datacenter(one)},
    )


def _is_ours(template: Template) -> bool:
    return names.parse_template_name(template.name) is not None


def _export_of(template: Template) -> str:
    export = names.parse_template_name(template.name)
    assert export is not None
    return export


def _guest_of(template: Template) -> int:
    return names.parse_export_id(_export_of(template))[0]


def _offline(template: Template, guest: GuestState | None, *, now: datetime, quiet: timedelta) -> bool:
    if guest is not None and guest.active_transaction is not None:
        return True
    if _has_sizes(template):
        if template.create_date is not None:
            quiet = min(quiet, (now - template.create_date) * QUIET_SHARE)
        return _just_ended(guest, quiet)
    if template.transactions_left:
        return True
    return template.create_date is None or now - template.create_date < UNSETTLED


def _just_ended(guest: GuestState | None, quiet: timedelta) -> bool:
    """Say whether a server's last transaction ended a moment ago, by the account's own clock.

    Source: a transaction's ``elapsedSeconds`` counts since it was last modified, and goes on after its end (recorded).
    """
    last = None if guest is None else guest.last_transaction
    return last is not None and last.elapsed_seconds is not None and last.elapsed_seconds < quiet.total_seconds()


def _tells_datacenter(template: Template) -> bool:
    return len(template.children) == 1 and bool(template.children[0].datacenter)


def _has_sizes(template: Template) -> bool:
    return bool(template.children) and all(child.block_devices_disk_space_total for child in template.children)
