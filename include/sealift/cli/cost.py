"""``sealift cost``: what is kept in the bucket costs a month, by server, and what rules would change of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sealift.cli.bucket import bucket_options
from sealift.cli.doctor import size_words
from sealift.cli.retention import read_json, run
from sealift.connections import CLASSIC_DEFAULT

if TYPE_CHECKING:
    from sealift.exports.retention.costing import Amount, RuleChange, ServerCost
    from sealift.exports.status.prices import Prices, StoragePrice

NOT_PRICED: Final = "not priced"

_GB: Final = 10**9


@click.command(epilog="Exit status: 0, or 2 if it could not look.")
@bucket_options
@click.option("--classic-conn-id", default=CLASSIC_DEFAULT, show_default=True, help="Connection of type ibm_classic.")
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Rules of retention, as JSON: shows what each of them would change.",
)
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Your own prices, in the form of the file that comes with Sealift.",
)
@click.option("--price", metavar="NAME", help="Which price of storage counts. Not given: the first of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def cost(
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
    classic_conn_id: str,
    rules_file: Path | None,
    prices_file: Path | None,
    price: str | None,
    as_json: bool,
) -> None:
    """Show what the exports in a bucket cost a month, by server, and what rules of retention would change.

    The bytes of images, records, kits and converted images count, and image templates by their size in the account,
    where the prices name one for them: no source does, so that they are "not priced" until you fill in your own.
    """

    def work(opened: Any, classic: Any) -> None:
        from sealift.exports.retention.costing import rule_changes, server_costs, storage_price
        from sealift.exports.retention.gathering import gather
        from sealift.exports.retention.rules import read_rules
        from sealift.exports.status.prices import read_prices

        prices = read_prices(prices_file)
        till = _Till(prices, storage_price(prices, price))
        rules = read_rules(read_json(rules_file)) if rules_file else None
        # Without rules the simplest ones are gathered for: they ask for neither tags nor proofs.
        asked = rules or read_rules([{"name": "all", "servers": {"all": True}, "keep_last": 1}])
        now = datetime.now(UTC)
        facts = gather(cos=opened.cos, classic=classic, bucket=opened.bucket, prefix=prefix, rules=asked, now=now)
        costs = server_costs(facts.servers, rules=rules, now=now)
        changes = rule_changes(facts.servers, rules=rules, now=now) if rules is not None else []
        if as_json:
            click.echo(json.dumps({**till.told(costs, changes), "unreadable": facts.unreadable}, indent=2))
            return
        for line in till.lines(costs, changes, with_rules=rules is not None):
            click.echo(line)
        for words in facts.unreadable:
            click.echo(f"Not counted: {words}", err=True)

    run(work, file=file, cos_conn_id=cos_conn_id, classic_conn_id=classic_conn_id, bucket=bucket, region=region)


class _Till:
    """Says what amounts cost, by one price of storage and that of image templates.

    :param prices: the file of prices.
    :param storage: the price of storage that counts.
    """

    def __init__(self, prices: Prices, storage: StoragePrice) -> None:
        self._prices = prices
        self._storage = storage

    def money(self, amount: Amount) -> float:
        """Say what the objects of an amount cost a month."""
        return round(amount.bytes / _GB * self._storage.per_gb_month, 2)

    def template_money(self, amount: Amount) -> float | None:
        """Say what the image templates of an amount cost a month; None where nobody named their price."""
        price = self._prices.template_price
        return None if price is None else round(amount.template_bytes / _GB * price, 2)

    def told(self, costs: list[ServerCost], changes: list[RuleChange]) -> dict[str, Any]:
        """Say everything, for programs."""
        now, after = (total_of(costs, which) for which in ("now", "after"))
        return {
            "price": self._storage.model_dump(),
            "templates_price": self._prices.templates.model_dump() if self._prices.templates else None,
            "currency": self._prices.currency,
            "dated": self._prices.dated.isoformat(),
            "total": {**self._costs("now", now), **self._costs("after", after)},
            "servers": [
                {**asdict(one), **self._costs("now", one.now), **self._costs("after", one.after)} for one in costs
            ],
            "rules": [
                {
                    **asdict(one),
                    **self._costs("now", one.now),
                    **self._costs("with_it", one.with_it),
                    **self._costs("without_it", one.without_it),
                }
                for one in changes
            ],
        }

    def _costs(self, when: str, amount: Amount) -> dict[str, float | None]:
        return {f"cost_{when}": self.money(amount), f"template_cost_{when}": self.template_money(amount)}

    def lines(self, costs: list[ServerCost], changes: list[RuleChange], *, with_rules: bool) -> Iterator[str]:
        """Say everything, for people."""
        for one in costs:
            line = f"{one.hostname} ({one.guest_id}): {self._words(one.now)}"
            yield f"{line} -> {self._words(one.after)} by the rules" if with_rules else line
        now, after = (total_of(costs, which) for which in ("now", "after"))
        yield f"All: {self._words(now)}" + (f" -> {self._words(after)} by the rules." if with_rules else ".")
        for two in changes:
            yield self._change(two)
        yield from self._sources(now)

    def _change(self, one: RuleChange) -> str:
        from sealift.exports.retention.costing import NO_RULE

        if not one.servers:
            return f"Rule {one.rule}: no server falls under it, so that it changes nothing."
        others = {name: count for name, count in one.instead.items() if name != NO_RULE}
        falls = [f"{count} under {name}" for name, count in others.items()]
        falls += ["everything kept"] if NO_RULE in one.instead else []
        saved = self.money(one.without_it) - self.money(one.with_it)
        less = f"{abs(saved):.2f} {self._prices.currency} a month {'less' if saved >= 0 else 'more'} with it"
        by_templates, but = self.template_money(one.without_it), self.template_money(one.with_it)
        if by_templates is not None and but is not None:
            less += f", and {by_templates - but:.2f} {self._prices.currency} less for image templates"
        return (
            f"Rule {one.rule}: {one.servers} servers keep {self._words(one.with_it)} with it, and "
            f"{self._words(one.without_it)} without it ({', '.join(falls)}): {less}."
        )

    def _words(self, amount: Amount) -> str:
        words = f"{amount.exports} exports, {size_words(amount.bytes)}, {self.money(amount):.2f} "
        words += f"{self._prices.currency} a month"
        if not amount.templates:
            return words
        price = self.template_money(amount)
        cost = NOT_PRICED if price is None else f"{price:.2f} {self._prices.currency} a month"
        return f"{words}; {amount.templates} image templates, {size_words(amount.template_bytes)}, {cost}"

    def _sources(self, now: Amount) -> Iterator[str]:
        one, prices = self._storage, self._prices
        doubt = "" if one.confirmed else ", which no source of the seller confirms"
        yield (
            f"By the price {one.id} ({one.title}), {one.per_gb_month} {prices.currency} for 10^9 bytes and "
            f"month, as of {prices.dated}{doubt}: {one.source}. An account's own prices differ: --prices."
        )
        if not now.templates:
            return
        if prices.templates is None or prices.templates.per_gb_month is None:
            known = f" ({prices.templates.source})" if prices.templates is not None else ""
            yield f"Image templates are not priced: fill in templates.per_gb_month in a file for --prices.{known}"
        else:
            doubt = "" if prices.templates.confirmed else ", which no source of the seller confirms"
            yield (
                f"Image templates by {prices.templates.per_gb_month} {prices.currency} for 10^9 bytes and "
                f"month{doubt}: {prices.templates.source}."
            )


def total_of(costs: list[ServerCost], which: str) -> Amount:
    """Add servers up.

    :param costs: the servers.
    :param which: ``now`` or ``after``.
    :returns: what they amount to.
    """
    from sealift.exports.retention.costing import total

    return total(getattr(one, which) for one in costs)
