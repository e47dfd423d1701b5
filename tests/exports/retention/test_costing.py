"""What is kept costs, and what each rule changes of it: against adding up by hand, with and without the rule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.classic.models import Guest
from sealift.exports.errors import SettingsError
from sealift.exports.retention.costing import (
    NO_RULE,
    Amount,
    monthly_template_cost,
    rule_changes,
    server_costs,
    storage_price,
    total,
)
from sealift.exports.retention.facts import ExportFacts, ServerFacts, TemplateFacts
from sealift.exports.retention.rules import RetentionRules, read_rules
from sealift.exports.status.prices import Prices, read_prices
from tests.exports.retention.test_deciding import reference
from tests.exports.retention.world import NOW, World

GB = 10**9


def facts(id_: int, *ages: int, size: int = GB, templates: int = 0) -> ServerFacts:
    """A server with an export of each age in days, and the image templates of the newest of them."""
    exports = [
        ExportFacts(
            export_id=f"{id_}-p{number:04d}",
            captured_at=NOW - timedelta(days=age),
            proven_at=NOW - timedelta(days=age),
            proof_level="L1",
            template_id=id_ * 100 + number,
            bytes=size + number,
            objects=2,
        )
        for number, age in enumerate(ages)
    ]
    newest = sorted(exports, key=lambda one: one.captured_at, reverse=True)[:templates]
    return ServerFacts(
        server=Guest.model_validate({"id": id_, "hostname": f"web{id_}", "domain": "example.com"}),
        exports=exports,
        templates=[
            TemplateFacts(id=one.template_id, export_id=one.export_id, created_at=one.captured_at, bytes=3 * GB)
            for one in newest
        ],
    )


def rules(*given: dict[str, Any]) -> RetentionRules:
    return read_rules([{"name": f"rule {number}", **one} for number, one in enumerate(given)])


def by_hand(servers: Sequence[ServerFacts], its: RetentionRules | None) -> Amount:
    """Add up what the slow reference keeps."""
    found = Amount()
    for one in servers:
        exports, templates = {two.export_id for two in one.exports}, {two.id for two in one.templates}
        if its is not None:
            exports, templates = reference(one, its, NOW)
        kept = [two for two in one.exports if two.export_id in exports]
        stay = [two for two in one.templates if two.id in templates]
        found = found.plus(
            Amount(
                exports=len(kept),
                bytes=sum(two.bytes for two in kept),
                templates=len(stay),
                template_bytes=sum(two.bytes for two in stay),
            )
        )
    return found


def test_a_rule_is_shown_with_and_without_it() -> None:
    servers = [facts(101, 1, 2, 3, 40, templates=2), facts(102, 1, 2, 3, templates=1), facts(103, 5)]
    its = rules(
        {"servers": {"ids": [101]}, "keep_last": 1},
        {"servers": {"ids": [101, 102]}, "keep_last": 2},
        {"servers": {"ids": [555]}, "keep_last": 1},
    )

    first, second, nobody = rule_changes(servers, rules=its, now=NOW)

    assert (first.rule, first.servers, first.instead) == ("rule 0", 1, {"rule 1": 1})
    assert (first.now.exports, first.with_it.exports, first.without_it.exports) == (4, 1, 2)
    assert (first.now.templates, first.with_it.templates, first.without_it.templates) == (2, 1, 1)
    assert (second.rule, second.servers, second.instead) == ("rule 1", 1, {NO_RULE: 1})
    assert (second.now.exports, second.with_it.exports, second.without_it.exports) == (3, 2, 3)
    assert second.without_it == second.now, "where no rule fits, everything is kept"
    assert (nobody.servers, nobody.now, nobody.with_it, nobody.without_it) == (0, Amount(), Amount(), Amount())


def test_without_the_only_rule_everything_is_kept() -> None:
    servers = [facts(101, 1, 2, 3)]
    (only,) = rule_changes(servers, rules=rules({"servers": {"all": True}, "keep_last": 1}), now=NOW)
    assert (only.with_it.exports, only.without_it.exports, only.instead) == (1, 3, {NO_RULE: 1})


def test_two_rules_of_one_name_are_told_apart() -> None:
    its = read_rules(
        [
            {"name": "same", "servers": {"ids": [101]}, "keep_last": 1},
            {"name": "same", "servers": {"all": True}, "keep_last": 2},
        ]
    )
    first, second = rule_changes([facts(101, 1, 2, 3), facts(102, 1, 2, 3)], rules=its, now=NOW)
    assert (first.servers, first.with_it.exports) == (1, 1)
    assert (second.servers, second.with_it.exports) == (1, 2)


@st.composite
def some_rules(draw: st.DrawFn) -> RetentionRules:
    ids = st.lists(st.sampled_from([101, 102, 103]), min_size=1, max_size=3, unique=True)
    which = st.one_of(st.just({"all": True}), ids.map(lambda one: {"ids": one}))
    kept = st.one_of(
        st.integers(1, 4).map(lambda count: {"keep_last": count}),
        st.integers(1, 3).map(lambda count: {"keep_monthly": count}),
        st.integers(1, 60).map(lambda days: {"keep_within_days": days}),
    )
    chosen = draw(st.lists(st.tuples(which, kept), min_size=1, max_size=4))
    return rules(*({"servers": servers, **keep} for servers, keep in chosen))


@given(
    its=some_rules(),
    ages=st.lists(st.lists(st.integers(0, 400), max_size=6, unique=True), min_size=3, max_size=3),
    templates=st.integers(0, 3),
)
def test_what_a_rule_changes_is_all_rules_against_all_but_this_one(
    its: RetentionRules, ages: list[list[int]], templates: int
) -> None:
    servers = [facts(101 + number, *days, templates=templates) for number, days in enumerate(ages)]
    whole = by_hand(servers, its)
    changes = rule_changes(servers, rules=its, now=NOW)

    assert [one.rule for one in changes] == [one.name for one in its.rules]
    for number, one in enumerate(changes):
        others = [two for place, two in enumerate(its.rules) if place != number]
        without = by_hand(servers, read_rules([two.model_dump() for two in others]) if others else None)
        assert one.without_it.bytes - one.with_it.bytes == without.bytes - whole.bytes
        assert one.without_it.exports - one.with_it.exports == without.exports - whole.exports
        assert (
            one.without_it.template_bytes - one.with_it.template_bytes == without.template_bytes - whole.template_bytes
        )
    costs = server_costs(servers, rules=its, now=NOW)
    assert total(one.after for one in costs) == whole
    assert total(one.now for one in costs) == by_hand(servers, None)


# Prices


def priced(per_gb: float | None) -> Prices:
    ours = read_prices()
    assert ours.templates is not None
    return ours.model_copy(update={"templates": ours.templates.model_copy(update={"per_gb_month": per_gb})})


def test_image_templates_have_no_price_until_somebody_fills_one_in(tmp_path: Path) -> None:
    ours = read_prices()
    assert ours.template_price is None
    assert ours.templates is not None
    assert "No source names the price" in ours.templates.source
    assert monthly_template_cost(5 * GB, ours) is None, "and not 0"
    made = monthly_template_cost(5 * GB, priced(0.1))
    assert made is not None
    assert (made.amount, made.currency, made.price) == (0.5, "USD", "templates")
    free = monthly_template_cost(5 * GB, priced(0.0))
    assert free is not None
    assert free.amount == 0.0, "what somebody says to cost nothing costs nothing"
    (tmp_path / "prices.json").write_text(priced(-1.0).model_dump_json())
    with pytest.raises(SettingsError, match=r"templates\.per_gb_month"):
        read_prices(tmp_path / "prices.json")


def test_a_price_of_storage_is_found_by_its_name() -> None:
    ours = read_prices()
    assert storage_price(ours, None) == ours.storage[0]
    assert storage_price(ours, "one-rate").id == "one-rate"
    with pytest.raises(SettingsError, match="standard, one-rate"):
        storage_price(ours, "cold")


def test_a_dry_run_tells_what_image_templates_free_where_their_price_is_known() -> None:
    world = World()
    for days in (40, 20, 1):
        world.export(101, days)
    world.template(7, "103-20260101T0000Z", NOW - timedelta(days=300))
    unpriced = world.dry_run(keep_last=1)
    # Two go with their exports, 5 GB each; what has no manifest is none of them.
    assert [one.template_bytes for one in unpriced.exports] == [5 * GB, 5 * GB]
    assert unpriced.template_bytes_freed == 10 * GB
    assert unpriced.template_cost_freed is None
    told = world.dry_run(keep_last=1, name="r-2", prices=priced(0.2))
    assert told.template_cost_freed is not None
    assert told.template_cost_freed.amount == 2.0
