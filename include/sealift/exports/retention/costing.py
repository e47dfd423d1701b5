"""What is kept costs, a month, server by server; and what each of the rules would change of it.

What a rule changes is the difference between all rules and all but this one: its servers then fall under the next rule
that fits them, and keep everything where none does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sealift.exports.errors import SettingsError
from sealift.exports.retention.deciding import ServerVerdict, decide
from sealift.exports.retention.facts import ServerFacts
from sealift.exports.retention.models import MonthlyCost
from sealift.exports.retention.rules import RetentionRules
from sealift.exports.status.prices import Prices, StoragePrice, costs_of

NO_RULE: Final = "no rule"

TEMPLATES: Final = "templates"
"""What a cost of image templates names as its price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much is kept of something.

    :param exports: how many exports.
    :param bytes: bytes of their objects.
    :param templates: how many image templates, of exports with a manifest.
    :param template_bytes: their size in all data centers, by the account.
    """

    exports: int = 0
    bytes: int = 0
    templates: int = 0
    template_bytes: int = 0

    def plus(self, other: Amount) -> Amount:
        """Add two amounts.

        :param other: the other one.
        :returns: their sum.
        """
        return Amount(
            exports=self.exports + other.exports,
            bytes=self.bytes + other.bytes,
            templates=self.templates + other.templates,
            template_bytes=self.template_bytes + other.template_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCost:
    """What one server's exports amount to, now and by the rules.

    :param guest_id: the server.
    :param hostname: its host name.
    :param rule: the rule that it falls under; None where there are no rules or none fits.
    :param now: what is kept now.
    :param after: what the rules would keep.
    """

    guest_id: int
    hostname: str
    rule: str | None
    now: Amount
    after: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """What one rule changes.

    :param rule: its name.
    :param servers: how many servers fall under it.
    :param now: what these keep now.
    :param with_it: what the rules would keep of it.
    :param without_it: what the rules but this one would keep of it.
    :param instead: the rules that these servers would fall under without it, each with how many; by
        :data:`NO_RULE` they would keep everything.
    """

    rule: str
    servers: int
    now: Amount
    with_it: Amount
    without_it: Amount
    instead: dict[str, int]


def rule_changes(servers: Iterable[ServerFacts], *, rules: RetentionRules, now: datetime) -> list[RuleChange]:
    """Say what each rule changes. A rule that no server falls under changes nothing, and is told all the same.

    :param servers: the servers.
    :param rules: the rules.
    :param now: the present time, with a time zone.
    :returns: by rule, in the order of their weight.
    """
    # By place: nothing keeps two rules from having one name.
    under: list[list[ServerVerdict]] = [[] for _ in rules.rules]
    places = {id(one): place for place, one in enumerate(rules.rules)}
    for verdict in decide(servers, rules=rules, now=now):
        if verdict.rule is not None:
            under[places[id(verdict.rule)]].append(verdict)
    return [_change(rules, place, its, now) for place, its in enumerate(under)]


def _change(rules: RetentionRules, place: int, verdicts: Sequence[ServerVerdict], now: datetime) -> RuleChange:
    others = [one for number, one in enumerate(rules.rules) if number != place]
    facts = [one.facts for one in verdicts]
    # The first rule that fits decides, so that nothing changes for servers that fall under another.
    without = (
        server_costs(facts, rules=rules.model_copy(update={"rules": others}), now=now)
        if others
        else server_costs(facts, rules=None, now=now)
    )
    kept = [_cost(one.facts, one) for one in verdicts]
    return RuleChange(
        rule=rules.rules[place].name,
        servers=len(verdicts),
        now=total(one.now for one in kept),
        with_it=total(one.after for one in kept),
        without_it=total(one.after for one in without),
        instead=dict(sorted(Counter(one.rule or NO_RULE for one in without).items())),
    )


def total(amounts: Iterable[Amount]) -> Amount:
    """Add amounts up.

    :param amounts: the amounts.
    :returns: their sum.
    """
    found = Amount()
    for one in amounts:
        found = found.plus(one)
    return found


def server_costs(servers: Iterable[ServerFacts], *, rules: RetentionRules | None, now: datetime) -> list[ServerCost]:
    """Say what each server's exports amount to.

    :param servers: the servers.
    :param rules: the rules that would change it; None for none.
    :param now: the present time, with a time zone.
    :returns: by server, the largest first.
    """
    if rules is None:
        found = [_cost(facts, None) for facts in servers]
    else:
        found = [_cost(verdict.facts, verdict) for verdict in decide(servers, rules=rules, now=now)]
    return sorted(found, key=lambda one: (-one.now.bytes, one.guest_id))


def storage_price(prices: Prices, name: str | None) -> StoragePrice:
    """Pick a price of storage.

    :param prices: the file of prices.
    :param name: its id; None for the first one.
    :returns: the price.
    :raises SettingsError: there is none of this name.
    """
    if name is None and prices.storage:
        return prices.storage[0]
    for one in prices.storage:
        if one.id == name:
            return one
    known = ", ".join(one.id for one in prices.storage) or "none"
    raise SettingsError(f"There is no price of storage named {name!r}. There are: {known}.")


def monthly_costs(size: int, prices: Prices) -> list[MonthlyCost]:
    """Say what some bytes in the bucket cost a month, by every price of storage.

    :param size: the bytes.
    :param prices: the file of prices.
    :returns: the costs.
    """
    found = costs_of(size, prices)
    return [
        MonthlyCost(
            price=one.id, amount=one.amount, currency=found.currency, dated=found.dated, confirmed=one.confirmed
        )
        for one in found.storage_per_month
    ]


def monthly_template_cost(size: int, prices: Prices) -> MonthlyCost | None:
    """Say what image templates of some size cost a month.

    :param size: bytes in all data centers, by the account.
    :param prices: the file of prices.
    :returns: the cost; None where the prices name none for image templates.
    """
    price = prices.templates
    if price is None or price.per_gb_month is None:
        return None
    return MonthlyCost(
        price=TEMPLATES,
        amount=round(size / 10**9 * price.per_gb_month, 2),
        currency=prices.currency,
        dated=prices.dated,
        confirmed=price.confirmed,
    )


def _cost(facts: ServerFacts, verdict: ServerVerdict | None) -> ServerCost:
    named = {one.export_id for one in facts.exports}
    templates = [one for one in facts.templates if one.export_id in named]
    now = Amount(
        exports=len(facts.exports),
        bytes=sum(one.bytes for one in facts.exports),
        templates=len(templates),
        template_bytes=sum(one.bytes for one in templates),
    )
    after = now
    if verdict is not None:
        kept = [one.export for one in verdict.exports if one.keep]
        stays = [one.template for one in verdict.templates if one.keep and one.template.export_id in named]
        after = Amount(
            exports=len(kept),
            bytes=sum(one.bytes for one in kept),
            templates=len(stays),
            template_bytes=sum(one.bytes for one in stays),
        )
    rule = verdict.rule.name if verdict is not None and verdict.rule is not None else None
    return ServerCost(guest_id=facts.server.id, hostname=facts.server.hostname, rule=rule, now=now, after=after)
