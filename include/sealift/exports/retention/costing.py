"""What is kept costs, a month, server by server; and what the rules would change of it."""

from __future__ import annotations

from collections.abc import Iterable
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


def by_rule(costs: Iterable[ServerCost]) -> dict[str, tuple[Amount, Amount]]:
    """Add servers up by the rule that they fall under.

    :param costs: the servers.
    :returns: by the rule's name, what is kept now and what it would keep.
    """
    found: dict[str, tuple[Amount, Amount]] = {}
    for one in costs:
        before, after = found.get(one.rule or NO_RULE, (Amount(), Amount()))
        found[one.rule or NO_RULE] = (before.plus(one.now), after.plus(one.after))
    return found


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
