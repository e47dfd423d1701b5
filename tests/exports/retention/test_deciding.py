"""What is kept and what goes, against a slow reference that is read off the rules word by word."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.classic.models import Guest
from sealift.exports.errors import SettingsError
from sealift.exports.retention.deciding import CLOCKS, ServerVerdict, Why, decide, is_proven
from sealift.exports.retention.facts import ExportFacts, ServerFacts, TemplateFacts
from sealift.exports.retention.rules import RetentionRules, read_rules

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def server(id_: int = 101, *, tags: Sequence[str] = (), **more: Any) -> Guest:
    references = [{"tag": {"name": one}} for one in tags]
    raw = {"id": id_, "hostname": f"web{id_}", "domain": "example.com", "tagReferences": references, **more}
    return Guest.model_validate(raw)


def export(number: int, at: datetime, **changes: Any) -> ExportFacts:
    given: dict[str, Any] = {
        "export_id": f"101-p{number:04d}",
        "captured_at": at,
        "proven_at": at + timedelta(hours=1),
        "proof_level": "L1",
        "template_id": 1000 + number,
        "bytes": 1000,
        "objects": 2,
    }
    return ExportFacts(**(given | changes))


def template_of(one: ExportFacts, **changes: Any) -> TemplateFacts:
    given: dict[str, Any] = {"id": one.template_id, "export_id": one.export_id, "created_at": one.captured_at}
    return TemplateFacts(**(given | changes))


def rules(zone: str = "UTC", **rule: Any) -> RetentionRules:
    return read_rules({"timezone": zone, "rules": [{"name": "all", "servers": {"all": True}, **rule}]})


def verdict(
    exports: Sequence[ExportFacts],
    its_rules: RetentionRules,
    *,
    templates: Sequence[TemplateFacts] = (),
    now: datetime = NOW,
    guest: Guest | None = None,
    **more: Any,
) -> ServerVerdict:
    facts = ServerFacts(server=guest or server(), exports=exports, templates=templates, **more)
    (found,) = decide([facts], rules=its_rules, now=now)
    return found


def kept(found: ServerVerdict) -> list[str]:
    return [one.export.export_id[-4:] for one in found.exports if one.keep]


def daily(count: int, *, last: datetime = NOW - timedelta(hours=10)) -> list[ExportFacts]:
    return [export(number, last - timedelta(days=count - 1 - number)) for number in range(count)]


# The reference


def reference(facts: ServerFacts, its_rules: RetentionRules, now: datetime) -> tuple[set[str], set[int]]:
    """Say what is kept, slowly: every question is asked of every export anew."""
    rule = next((one for one in its_rules.rules if one.servers.fit(facts.server)), None)
    everything = {one.export_id for one in facts.exports}
    if rule is None or {tag.lower() for tag in facts.server.tags} & {tag.lower() for tag in rule.hold_tags}:
        return everything - {one.export_id for one in facts.exports if one.removing}, {
            one.id for one in facts.templates if not _goes_with_a_mark(one, facts)
        }
    zone = ZoneInfo(its_rules.timezone)
    good = [one for one in facts.exports if is_proven(one, rule, now) and one.captured_at <= now + CLOCKS]

    def newer(one: ExportFacts) -> list[ExportFacts]:
        return [two for two in good if (two.captured_at, two.export_id) > (one.captured_at, one.export_id)]

    def local(one: ExportFacts) -> date:
        return one.captured_at.astimezone(zone).date()

    names: dict[str, Callable[[date], Hashable]] = {
        "daily": lambda day: day.toordinal(),
        "weekly": lambda day: (day - timedelta(days=day.weekday())).toordinal(),
        "monthly": lambda day: day.strftime("%Y-%m"),
        "yearly": lambda day: day.year,
    }

    def keeps(one: ExportFacts) -> bool:
        if one.removing:
            return False
        if one.held or one not in good:
            return True
        if not newer(one):
            return True
        if rule.keep_last and len(newer(one)) < rule.keep_last:
            return True
        if rule.keep_within_days and now - one.captured_at <= timedelta(days=rule.keep_within_days):
            return True
        for name, place in names.items():
            count = getattr(rule, f"keep_{name}")
            its, others = place(local(one)), {place(local(two)) for two in newer(one)}
            if count and its not in others and len(others) < count:
                return True
        return False

    named = {one.export_id: one.template_id for one in facts.exports}
    marked = {one.export_id for one in facts.exports if one.removing}
    held = {one.export_id for one in facts.exports if one.held}
    its = [one for one in facts.templates if named.get(one.export_id) == one.id and one.export_id not in marked]
    good_ids = {one.export_id: one for one in good}

    def rank(one: TemplateFacts) -> int:
        its_export = good_ids[one.export_id]
        return sum(two.export_id in {three.export_id for three in newer(its_export)} for two in its)

    newest: set[int] = set()
    if rule.templates == "newest":
        newest = {one.id for one in its if one.export_id in good_ids and rank(one) < rule.templates_newest}
    exports = {one.export_id for one in facts.exports if keeps(one)}
    exports |= {one.export_id for one in its if one.busy or one.id in newest}
    templates = set()
    for one in facts.templates:
        if one.export_id in marked:
            stays = not _goes_with_a_mark(one, facts)
        elif one not in its or one.busy or rule.templates == "untouched" or one.id in newest:
            stays = True
        elif one.export_id not in exports:
            stays = False
        else:
            stays = one.export_id not in good_ids or one.export_id in held
        if stays:
            templates.add(one.id)
    return exports, templates


def _goes_with_a_mark(one: TemplateFacts, facts: ServerFacts) -> bool:
    return (
        any(
            two.removing_template and two.removing and two.export_id == one.export_id and two.template_id == one.id
            for two in facts.exports
        )
        and not one.busy
    )


# What hypothesis makes

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Pacific/Auckland", "Asia/Kolkata")
COUNTS = st.none() | st.integers(1, 6)


@st.composite
def some_rules(draw: st.DrawFn) -> RetentionRules:
    counts = {f"keep_{name}": draw(COUNTS) for name in ("last", "daily", "weekly", "monthly", "yearly")}
    within = draw(st.none() | st.sampled_from([0.5, 3, 40, 400]))
    if not any(counts.values()) and within is None:
        counts["keep_last"] = 1
    return rules(
        draw(st.sampled_from(ZONES)),
        **counts,
        keep_within_days=within,
        hold_tags=draw(st.sampled_from([[], [], ["Keep"], ["legal"]])),
        proof_level=draw(st.sampled_from(["L1", "L1", "L2"])),
        proof_max_age_days=draw(st.none() | st.sampled_from([10, 200])),
        templates=draw(st.sampled_from(["newest", "newest", "untouched"])),
        templates_newest=draw(st.integers(1, 3)),
    )


@st.composite
def some_server(draw: st.DrawFn) -> ServerFacts:
    minutes = draw(
        st.lists(
            st.integers(-180, 60 * 24 * 900)
            | st.integers(-120, 60 * 24 * 20)
            # Around the nights in which clocks are changed: 26 October 2025 and 29 March 2026.
            | st.integers(60 * 24 * 392, 60 * 24 * 396)
            | st.integers(60 * 24 * 238, 60 * 24 * 241),
            max_size=14,
        )
    )
    exports, templates = [], []
    for number, ago in enumerate(minutes):
        at = NOW - timedelta(minutes=ago)
        removing = draw(st.sampled_from([False] * 7 + [True]))
        one = export(
            number,
            at,
            proven_at=at + timedelta(days=draw(st.sampled_from([0, 0, 5, 100]))),
            proof_level=draw(st.sampled_from(["L1", "L1", "L2", "L3"])),
            sound=draw(st.sampled_from([True] * 6 + [False])),
            failed_drill=draw(st.sampled_from([False] * 6 + [True])),
            held=draw(st.sampled_from([False] * 6 + [True])),
            removing=removing,
            marked=not removing and draw(st.sampled_from([False] * 7 + [True])),
            removing_template=removing and draw(st.booleans()),
        )
        exports.append(one)
        if draw(st.booleans()):
            templates.append(template_of(one, busy=draw(st.sampled_from([False] * 6 + [True]))))
        if draw(st.sampled_from([False] * 9 + [True])):
            templates.append(template_of(one, id=5000 + number))
    if draw(st.booleans()):
        templates.append(TemplateFacts(id=9000, export_id="101-other", created_at=NOW))
    return ServerFacts(
        server=server(tags=draw(st.sampled_from([[], [], ["keep"]]))),
        exports=draw(st.permutations(exports)),
        templates=draw(st.permutations(templates)),
    )


@settings(max_examples=400, deadline=None)
@given(facts=some_server(), its_rules=some_rules())
def test_the_decision_is_that_of_the_reference_and_the_same_twice(
    facts: ServerFacts, its_rules: RetentionRules
) -> None:
    (found,) = decide([facts], rules=its_rules, now=NOW)
    exports, templates = reference(facts, its_rules, NOW)

    assert {one.export.export_id for one in found.exports if one.keep} == exports
    assert {one.template.id for one in found.templates if one.keep} == templates
    assert len(found.exports) == len(facts.exports)
    assert len(found.templates) == len(facts.templates)
    (again,) = decide([facts], rules=its_rules, now=NOW)
    assert again == found
    backwards = ServerFacts(server=facts.server, exports=facts.exports[::-1], templates=facts.templates[::-1])
    (other,) = decide([backwards], rules=its_rules, now=NOW)
    assert (other.exports, other.templates) == (found.exports, found.templates)


@settings(max_examples=400, deadline=None)
@given(facts=some_server(), its_rules=some_rules(), hours=st.integers(-48, 24 * 400))
def test_the_last_proven_export_stays_and_no_template_outlives_its_manifest(
    facts: ServerFacts, its_rules: RetentionRules, hours: int
) -> None:
    now = NOW + timedelta(hours=hours)
    (found,) = decide([facts], rules=its_rules, now=now)
    goes = {one.export.export_id for one in found.exports if not one.keep}
    (rule,) = its_rules.rules

    def whole(one: ExportFacts) -> bool:
        return one.sound and not one.removing and one.proof_level >= rule.proof_level

    before = [one for one in facts.exports if whole(one)]
    assert not before or [one for one in before if one.export_id not in goes], "one that is proven is left"
    for one in found.exports:
        if not one.keep:
            assert one.export.removing or is_proven(one.export, rule, now), "what is in doubt stays"
            assert one.export.removing or not one.export.held
    names = {one.export_id for one in facts.exports}
    for two in found.templates:
        if not two.keep:
            assert two.template.export_id in names
            assert not two.template.busy
        elif its_rules.rules[0].templates == "newest" and two.why is not Why.OTHER_TEMPLATE:
            its = [one for one in facts.exports if one.export_id == two.template.export_id]
            assert two.template.export_id not in goes or its[0].removing


@settings(max_examples=100, deadline=None)
@given(facts=some_server(), its_rules=some_rules())
def test_what_is_left_after_a_deletion_is_kept_by_the_same_rules(facts: ServerFacts, its_rules: RetentionRules) -> None:
    (found,) = decide([facts], rules=its_rules, now=NOW)
    left = ServerFacts(
        server=facts.server,
        exports=[one.export for one in found.exports if one.keep],
        templates=[one.template for one in found.templates if one.keep],
    )
    (again,) = decide([left], rules=its_rules, now=NOW)
    assert [one.export for one in again.exports if not one.keep] == []


# Single cases


def test_a_rule_for_days_weeks_and_months_keeps_the_newest_of_each() -> None:
    found = verdict(daily(60), rules(keep_daily=3, keep_weekly=3, keep_monthly=2))

    whys = {one.export.captured_at.date(): one.why for one in found.exports if one.keep}
    assert whys == {
        date(2026, 11, 23): (Why.LAST_PROVEN, Why.DAILY, Why.WEEKLY, Why.MONTHLY),
        date(2026, 11, 22): (Why.DAILY, Why.WEEKLY),
        date(2026, 11, 21): (Why.DAILY,),
        date(2026, 11, 15): (Why.WEEKLY,),
        date(2026, 10, 31): (Why.MONTHLY,),
    }


def test_days_begin_where_the_rules_say() -> None:
    late, early = datetime(2026, 11, 20, 22, 30, tzinfo=UTC), datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    exports = [export(1, late), export(2, early)]

    assert kept(verdict(exports, rules(keep_daily=5))) == ["0002"]
    assert kept(verdict(exports, rules("Europe/Berlin", keep_daily=5))) == ["0001", "0002"]


def test_a_day_of_25_hours_is_one_day() -> None:
    night = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, and an hour later 02:30 again
    exports = [export(1, night), export(2, night + timedelta(hours=1)), export(3, night + timedelta(hours=22))]

    assert kept(verdict(exports, rules("Europe/Berlin", keep_daily=9))) == ["0003"]


def test_the_week_of_new_year_is_one_week() -> None:
    exports = [export(1, datetime(2025, 12, 31, tzinfo=UTC)), export(2, datetime(2026, 1, 2, tzinfo=UTC))]

    assert kept(verdict(exports, rules(keep_weekly=9))) == ["0002"]
    assert kept(verdict(exports, rules(keep_yearly=9))) == ["0001", "0002"]


def test_a_damaged_export_takes_no_place_of_a_good_one() -> None:
    exports = [export(1, NOW - timedelta(days=3)), export(2, NOW - timedelta(days=2), sound=False)]
    found = verdict(exports, rules(keep_last=1))

    assert [one.why for one in found.exports] == [(Why.LAST_PROVEN, Why.LAST), (Why.OBJECTS_CHANGED,)]


def test_a_clock_that_is_ahead_displaces_nothing() -> None:
    good, future = export(1, NOW - timedelta(days=3)), export(2, NOW + timedelta(days=900))
    near = export(3, NOW + timedelta(minutes=30))

    found = verdict([good, future], rules(keep_last=1))
    assert [one.why for one in found.exports] == [(Why.LAST_PROVEN, Why.LAST), (Why.FROM_THE_FUTURE,)]
    assert kept(verdict([good, near], rules(keep_last=1))) == ["0003"], "half an hour is no more than a clock's error"


def test_what_was_proven_too_long_ago_stays_with_its_template() -> None:
    exports = daily(40)
    proven = [export(number, one.captured_at, proven_at=NOW) for number, one in enumerate(exports) if number % 2]
    found = verdict(
        [*proven, *exports[::2]],
        rules(keep_last=1, proof_max_age_days=5),
        templates=[template_of(one) for one in exports[:2]],
    )

    assert [one.export.export_id for one in found.exports if Why.NOT_PROVEN in one.why] == [
        one.export_id for one in exports[:36:2]
    ]
    assert [(one.keep, one.why) for one in found.templates] == [(True, Why.NOT_PROVEN), (True, Why.NEWEST_TEMPLATE)]


def test_templates_go_once_their_exports_are_proven_but_for_the_newest() -> None:
    exports = daily(4)
    found = verdict(exports, rules(keep_last=3), templates=[template_of(one) for one in exports])

    assert kept(found) == ["0001", "0002", "0003"]
    assert [one.why for one in found.templates] == [
        Why.EXPORT_GOES,
        Why.PROVEN_AND_OLDER,
        Why.PROVEN_AND_OLDER,
        Why.NEWEST_TEMPLATE,
    ]


def test_a_template_of_an_unproven_export_stays_and_so_does_the_newest_proven_one() -> None:
    exports = [*daily(2, last=NOW - timedelta(days=2)), export(7, NOW - timedelta(hours=1), sound=False)]
    found = verdict(exports, rules(keep_last=1), templates=[template_of(one) for one in exports])

    assert [one.why for one in found.templates] == [Why.EXPORT_GOES, Why.NEWEST_TEMPLATE, Why.OBJECTS_CHANGED]


def test_an_export_whose_template_stays_stays_too() -> None:
    old, new = daily(2)
    found = verdict([old, new], rules(keep_last=1), templates=[template_of(old)])

    assert [one.why for one in found.exports] == [(Why.TEMPLATE_KEPT,), (Why.LAST_PROVEN, Why.LAST)]
    assert kept(verdict([old, new], rules(keep_last=1, templates="untouched"), templates=[template_of(old)])) == [
        "0001"
    ]


def test_a_template_that_is_busy_waits_and_its_export_with_it() -> None:
    exports = daily(3)
    found = verdict(
        exports, rules(keep_last=1), templates=[template_of(exports[0], busy=True), template_of(exports[2])]
    )

    assert kept(found) == ["0000", "0002"]
    assert found.exports[0].why == (Why.BUSY,)


def test_the_first_rule_that_fits_a_server_counts_and_without_one_everything_stays() -> None:
    its_rules = read_rules(
        [
            {"name": "databases", "servers": {"hostnames": ["db*"]}, "keep_last": 3},
            {"name": "web", "servers": {"tags": ["web"]}, "keep_last": 1},
        ]
    )
    exports = daily(5)
    database = server(hostname="db1", tags=["web"])

    assert kept(verdict(exports, its_rules, guest=database)) == ["0002", "0003", "0004"]
    assert kept(verdict(exports, its_rules, guest=server(tags=["Web"]))) == ["0004"]
    assert {one.why for one in verdict(exports, its_rules, guest=server()).exports} == {(Why.NO_RULE,)}


def test_a_tag_holds_everything_for_ever_and_a_tag_that_nobody_knows_too() -> None:
    its_rules = rules(keep_last=1, hold_tags=["legal-hold"])

    held = verdict(daily(3), its_rules, guest=server(tags=["Legal-Hold"]), now=NOW + timedelta(days=20_000))
    assert [Why.HELD_BY_TAG in one.why for one in held.exports] == [True] * 3
    unknown = verdict(daily(3), its_rules, tags_known=False)
    assert [Why.TAGS_UNKNOWN in one.why for one in unknown.exports] == [True] * 3
    assert kept(verdict(daily(3), its_rules)) == ["0002"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "rules"),
        ([{"name": "x", "servers": {"all": True}}], "says nothing of what to keep"),
        ([{"name": "x", "servers": {}, "keep_last": 1}], "names no servers"),
        ([{"name": "x", "servers": {"all": True, "tags": ["a"]}, "keep_last": 1}], "no other criterion"),
        ([{"name": "x", "servers": {"all": True}, "keep_last": 0}], r"rules\[0\].keep_last"),
        ([{"name": "x", "servers": {"all": True}, "keep_lasst": 1}], r"rules\[0\].keep_lasst"),
        ({"rules": [{"name": "x", "servers": {"all": True}, "keep_last": 1}], "timezone": "Mars/Base"}, "Mars/Base"),
        ("daily", "dictionary"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused_with_their_place(document: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_rules(document)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        list(decide([], rules=rules(keep_last=1), now=datetime(2026, 1, 1)))


# Many


def many(servers: int, exports: int) -> Iterator[ServerFacts]:
    for guest_id in range(1, servers + 1):
        made = [
            ExportFacts(
                export_id=f"{guest_id}-{number:05d}",
                captured_at=NOW - timedelta(days=exports - number, minutes=guest_id % 600),
                proven_at=NOW - timedelta(days=exports - number),
                proof_level="L1",
                template_id=guest_id * 1000 + number,
                bytes=10**10,
                objects=3,
                etag=f"{guest_id:016x}{number:016x}",
            )
            for number in range(exports)
        ]
        templates = [template_of(one) for one in made[-3:]]
        yield ServerFacts(server=server(guest_id), exports=made, templates=templates)


RULE: dict[str, Any] = {"keep_last": 7, "keep_daily": 14, "keep_weekly": 8, "keep_monthly": 12, "keep_yearly": 3}


def test_a_decision_looks_at_each_server_once_and_holds_none_but_its_own() -> None:
    """What 5,000 servers of 60 exports cost is measured by ``benchmarks/retention.py``; here it is counted."""
    fed = 0

    def feed() -> Iterator[ServerFacts]:
        nonlocal fed
        for facts in many(10, 60):
            fed += 1
            yield facts

    taken = 0
    its_rules = rules(**RULE)
    for found in decide(feed(), rules=its_rules, now=NOW):
        taken += 1
        assert fed == taken, "no server is read ahead"
        stays, _ = reference(found.facts, its_rules, NOW)
        assert {one.export.export_id for one in found.exports if one.keep} == stays
    assert taken == 10


def test_5000_servers_of_60_exports_are_decided_in_10_seconds_and_500_megabytes() -> None:
    all_rules = rules(**RULE)
    everything = list(many(5000, 60))
    began = time.process_time()
    verdicts = list(decide(everything, rules=all_rules, now=NOW))
    took = time.process_time() - began

    assert sum(len(one.exports) for one in verdicts) == 300_000
    assert took < 10
    del verdicts, everything
    tracemalloc.start()
    some = list(decide(many(500, 60), rules=all_rules, now=NOW))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(some) == 500
    assert held * 10 < 500e6, "a tenth of them holds less than a tenth of that"
