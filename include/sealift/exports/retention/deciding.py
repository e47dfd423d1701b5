"""The decision: for each export and each image template, whether it is kept or goes, and why.

A pure function of what is there, the rules and the time. What is in doubt is kept: an export that is not proven, whose
objects are not those of its manifest, that seems to be captured in the future, that somebody holds. Only proven
exports fill the places that a rule keeps, so that a damaged one never displaces a good one; and the last proven export
of a server is kept by every rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from sealift.exports.retention.facts import ExportFacts, ServerFacts, TemplateFacts
from sealift.exports.retention.rules import KeepRule, RetentionRules

CLOCKS: Final = timedelta(hours=1)
"""So far the account's clock may be ahead of ours; what was captured later than that is from the future, and in doubt.
"""


class Why(StrEnum):
    """Why an export or an image template is kept, or goes."""

    NO_RULE = "no-rule"
    """No rule is for the server."""
    HELD_BY_TAG = "held-by-tag"
    """The server has a tag that holds for ever."""
    TAGS_UNKNOWN = "tags-unknown"
    """The rule holds by tags, and nothing tells the server's."""
    HELD = "held"
    """Somebody holds this export."""
    NOT_PROVEN = "not-proven"
    """It is not proven as the rule demands, or not lately enough."""
    OBJECTS_CHANGED = "objects-changed"
    """Its objects are not those that its manifest names."""
    FROM_THE_FUTURE = "from-the-future"
    """It seems to be captured later than now: a clock is wrong."""
    LAST_PROVEN = "last-proven"
    """It is the last proven export of its server."""
    LAST = "last"
    """It is one of the newest."""
    WITHIN = "within"
    """It was captured within the days that the rule keeps."""
    DAILY = "daily"
    """It is the newest of its day."""
    WEEKLY = "weekly"
    """It is the newest of its week."""
    MONTHLY = "monthly"
    """It is the newest of its month."""
    YEARLY = "yearly"
    """It is the newest of its year."""
    TEMPLATE_KEPT = "template-kept"
    """Its image template is one of the newest, and is not left without a manifest."""
    BUSY = "busy"
    """Something is being done with the image template."""
    NEWEST_TEMPLATE = "newest-template"
    """It is one of the server's newest image templates."""
    UNTOUCHED = "untouched"
    """The rule deletes no image templates."""
    NO_MANIFEST = "no-manifest"
    """The image template's export has no manifest."""
    OTHER_TEMPLATE = "other-template"
    """The manifest names another image template."""
    PROTECTED = "protected"
    """The object store does not let it be deleted yet."""
    LATER = "later"
    """It goes, and the dry run is full: the next one names it."""
    NOT_KEPT = "not-kept"
    """No part of the rule keeps it."""
    BEING_REMOVED = "being-removed"
    """Its removal was begun, and is taken up again."""
    EXPORT_GOES = "export-goes"
    """The image template's export goes."""
    PROVEN_AND_OLDER = "proven-and-older"
    """The image template's export is proven, and there are newer image templates."""


@dataclass(frozen=True, slots=True)
class ExportVerdict:
    """What becomes of an export.

    :param export: the export.
    :param keep: it is kept.
    :param why: all reasons, in the order of :class:`Why`.
    """

    export: ExportFacts
    keep: bool
    why: tuple[Why, ...]


@dataclass(frozen=True, slots=True)
class TemplateVerdict:
    """What becomes of an image template.

    :param template: the image template.
    :param keep: it is kept.
    :param why: the reason.
    """

    template: TemplateFacts
    keep: bool
    why: Why


@dataclass(frozen=True, slots=True)
class ServerVerdict:
    """What becomes of a server's exports and image templates, oldest first.

    :param facts: the server.
    :param rule: the rule that it falls under, or None.
    :param exports: its exports.
    :param templates: its image templates.
    """

    facts: ServerFacts
    rule: KeepRule | None
    exports: Sequence[ExportVerdict]
    templates: Sequence[TemplateVerdict]


def decide(servers: Iterable[ServerFacts], *, rules: RetentionRules, now: datetime) -> Iterator[ServerVerdict]:
    """Decide, server by server. The same facts, rules and time always give the same answer.

    :param servers: the servers; each is looked at once.
    :param rules: the rules.
    :param now: the present time, with a time zone.
    :returns: a verdict for each server, in the order of the servers.
    :raises ValueError: the time has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("the present time needs a time zone")
    zone = rules.zone
    for facts in servers:
        yield _decide_server(facts, rules.rule_for(facts.server), zone=zone, now=now)


def is_proven(export: ExportFacts, rule: KeepRule, now: datetime) -> bool:
    """Say whether an export counts as proven.

    :param export: the export.
    :param rule: the rule that its server falls under.
    :param now: the present time.
    :returns: False also where its objects changed, where a drill did not bring it back, or where it is being removed.
    """
    if export.removing or not export.sound or export.failed_drill or export.proof_level < rule.proof_level:
        return False
    return rule.proof_max_age is None or now - export.proven_at <= rule.proof_max_age


def _decide_server(facts: ServerFacts, rule: KeepRule | None, *, zone: ZoneInfo, now: datetime) -> ServerVerdict:
    exports = sorted(facts.exports, key=lambda one: (one.captured_at, one.export_id))
    kept: dict[str, set[Why]] = {one.export_id: set() for one in exports}
    held = _held_as_a_whole(facts, rule)
    proven: list[ExportFacts] = []
    for one in exports:
        reasons = kept[one.export_id]
        if held is not None:
            reasons.add(held)
        if one.held:
            reasons.add(Why.HELD)
        if one.removing or rule is None:
            continue
        if not one.sound:
            reasons.add(Why.OBJECTS_CHANGED)
        elif not is_proven(one, rule, now):
            reasons.add(Why.NOT_PROVEN)
        elif one.captured_at - now > CLOCKS:
            reasons.add(Why.FROM_THE_FUTURE)
        else:
            proven.append(one)
    if rule is not None:
        _keep_by_rule(proven, rule, kept, zone=zone, now=now)
    templates = _decide_templates(facts, rule, held, exports, kept, {one.export_id for one in proven})
    verdicts = [
        ExportVerdict(one, False, (Why.BEING_REMOVED,))
        if one.removing
        else ExportVerdict(one, bool(kept[one.export_id]), _in_order(kept[one.export_id]) or (_goes(one),))
        for one in exports
    ]
    return ServerVerdict(facts, rule, verdicts, templates)


def _goes(one: ExportFacts) -> Why:
    return Why.BEING_REMOVED if one.marked else Why.NOT_KEPT


def _held_as_a_whole(facts: ServerFacts, rule: KeepRule | None) -> Why | None:
    if rule is None:
        return Why.NO_RULE
    if not rule.hold_tags:
        return None
    if {one.casefold() for one in facts.server.tags} & {one.casefold() for one in rule.hold_tags}:
        return Why.HELD_BY_TAG
    return None if facts.tags_known else Why.TAGS_UNKNOWN


def _keep_by_rule(
    proven: Sequence[ExportFacts], rule: KeepRule, kept: dict[str, set[Why]], *, zone: ZoneInfo, now: datetime
) -> None:
    newest_first = proven[::-1]
    if newest_first:
        kept[newest_first[0].export_id].add(Why.LAST_PROVEN)
    for one in newest_first[: rule.keep_last or 0]:
        kept[one.export_id].add(Why.LAST)
    if rule.within is not None:
        for one in newest_first:
            if now - one.captured_at > rule.within:
                break
            kept[one.export_id].add(Why.WITHIN)
    places = (
        (rule.keep_daily, Why.DAILY, _day),
        (rule.keep_weekly, Why.WEEKLY, _week),
        (rule.keep_monthly, Why.MONTHLY, _month),
        (rule.keep_yearly, Why.YEARLY, _year),
    )
    wanted = [one for one in places if one[0]]
    if not wanted:
        return
    local = [one.captured_at.astimezone(zone) for one in newest_first]
    for count, why, place_of in wanted:
        _keep_newest_of_each(newest_first, local, kept, count=count or 0, why=why, place_of=place_of)


def _keep_newest_of_each(
    newest_first: Sequence[ExportFacts],
    local: Sequence[datetime],
    kept: dict[str, set[Why]],
    *,
    count: int,
    why: Why,
    place_of: Callable[[datetime], tuple[int, ...]],
) -> None:
    seen: set[tuple[int, ...]] = set()
    for one, moment in zip(newest_first, local, strict=True):
        place = place_of(moment)
        if place not in seen:
            if len(seen) == count:
                return
            seen.add(place)
            kept[one.export_id].add(why)


def _day(moment: datetime) -> tuple[int, ...]:
    return (moment.year, moment.month, moment.day)


def _week(moment: datetime) -> tuple[int, ...]:
    return moment.isocalendar()[:2]


def _month(moment: datetime) -> tuple[int, ...]:
    return (moment.year, moment.month)


def _year(moment: datetime) -> tuple[int, ...]:
    return (moment.year,)


def _decide_templates(
    facts: ServerFacts,
    rule: KeepRule | None,
    held: Why | None,
    exports: Sequence[ExportFacts],
    kept: dict[str, set[Why]],
    proven: set[str],
) -> list[TemplateVerdict]:
    """Decide about the image templates, and keep the exports whose image templates are kept."""
    by_id = {one.export_id: one for one in exports}
    when = {one.export_id: one.captured_at for one in exports}
    known = [one for one in facts.templates if one.export_id in when]
    known.sort(key=lambda one: (when[one.export_id], one.export_id, one.id))
    verdicts = [TemplateVerdict(one, True, Why.NO_MANIFEST) for one in facts.templates if one.export_id not in when]
    verdicts.sort(key=lambda one: one.template.id)
    newest: set[int] = set()
    if rule is not None and rule.templates == "newest":
        for one in reversed(known):
            if len(newest) < rule.templates_newest and one.export_id in proven and _is_named(one, by_id):
                newest.add(one.id)
                kept[one.export_id].add(Why.TEMPLATE_KEPT)
    for one in known:
        export = by_id[one.export_id]
        # What is being done with an image template ends; until then its export stays as well.
        if one.busy and _is_named(one, by_id) and not export.removing and not kept[one.export_id]:
            kept[one.export_id].add(Why.BUSY)
    for one in known:
        why, keep = _about_template(one, by_id, kept, rule, held, newest, proven)
        verdicts.append(TemplateVerdict(one, keep, why))
    return verdicts


def _about_template(
    one: TemplateFacts,
    by_id: dict[str, ExportFacts],
    kept: dict[str, set[Why]],
    rule: KeepRule | None,
    held: Why | None,
    newest: set[int],
    proven: set[str],
) -> tuple[Why, bool]:
    export = by_id[one.export_id]
    goes = not kept[one.export_id]
    ways: tuple[tuple[bool, Why, bool], ...] = (
        (not _is_named(one, by_id), Why.OTHER_TEMPLATE, True),
        (one.busy, Why.BUSY, True),
        (export.removing and export.removing_template, Why.EXPORT_GOES, False),
        (export.removing, Why.UNTOUCHED, True),
        (rule is None or held is not None, held or Why.NO_RULE, True),
        (rule is not None and rule.templates == "untouched", Why.UNTOUCHED, True),
        (goes, Why.EXPORT_GOES, False),
        (export.held, Why.HELD, True),
        (one.id in newest, Why.NEWEST_TEMPLATE, True),
        (one.export_id not in proven, _first(kept[one.export_id]), True),
    )
    found = next(((why, keep) for holds, why, keep in ways if holds), None)
    return found or (Why.PROVEN_AND_OLDER, False)


def _first(reasons: set[Why]) -> Why:
    return _in_order(reasons)[0] if reasons else Why.NOT_KEPT


def _is_named(one: TemplateFacts, by_id: dict[str, ExportFacts]) -> bool:
    return by_id[one.export_id].template_id == one.id


_ORDER: Final = {one: number for number, one in enumerate(Why)}
_ordered: dict[frozenset[Why], tuple[Why, ...]] = {}


def _in_order(reasons: set[Why]) -> tuple[Why, ...]:
    """Put reasons in order. There are few different sets of them, so that each is kept once."""
    key = frozenset(reasons)
    found = _ordered.get(key)
    if found is None:
        found = _ordered.setdefault(key, tuple(sorted(reasons, key=_ORDER.__getitem__)))
    return found
