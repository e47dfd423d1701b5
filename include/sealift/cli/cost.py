"""``sealift cost``: what is kept in the bucket costs a month, by server, and what rules would change of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sealift.cli.bucket import bucket_options
from sealift.cli.doctor import size_words
from sealift.cli.retention import read_json, run
from sealift.connections import CLASSIC_DEFAULT


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

    The bytes of images, records, kits and converted images count. Image templates are shown with their size, and
    without a price: none is published.
    """

    def work(opened: Any, classic: Any) -> None:
        from sealift.exports.retention.costing import by_rule, server_costs, storage_price
        from sealift.exports.retention.gathering import gather
        from sealift.exports.retention.rules import read_rules
        from sealift.exports.status.prices import read_prices

        prices = read_prices(prices_file)
        chosen = storage_price(prices, price)
        rules = read_rules(read_json(rules_file)) if rules_file else None
        # Without rules the simplest ones are gathered for: they ask for neither tags nor proofs.
        asked = rules or read_rules([{"name": "all", "servers": {"all": True}, "keep_last": 1}])
        facts = gather(
            cos=opened.cos, classic=classic, bucket=opened.bucket, prefix=prefix, rules=asked, now=datetime.now(UTC)
        )
        costs = server_costs(facts.servers, rules=rules, now=datetime.now(UTC))

        def money(size: int) -> float:
            return round(size / 10**9 * chosen.per_gb_month, 2)

        if as_json:
            servers = [
                {**asdict(one), "cost_now": money(one.now.bytes), "cost_after": money(one.after.bytes)} for one in costs
            ]
            told = {"price": chosen.model_dump(), "currency": prices.currency, "dated": prices.dated.isoformat()}
            click.echo(json.dumps({**told, "servers": servers, "unreadable": facts.unreadable}, indent=2))
            return
        for one in costs:
            line = (
                f"{one.hostname} ({one.guest_id}): {one.now.exports} exports, {size_words(one.now.bytes)}, "
                f"{money(one.now.bytes):.2f} {prices.currency} a month"
            )
            if one.now.templates:
                line += f"; {one.now.templates} image templates, {size_words(one.now.template_bytes)}"
            if rules is not None:
                line += f" -> {one.after.exports} exports, {money(one.after.bytes):.2f} {prices.currency}"
            click.echo(line)
        for name, (before, after) in by_rule(costs).items():
            total = f"{size_words(before.bytes)}, {money(before.bytes):.2f} {prices.currency} a month"
            if rules is None:
                click.echo(f"All: {before.exports} exports, {total}.")
            else:
                click.echo(
                    f"Rule {name}: {before.exports} exports, {total} -> {after.exports} exports, "
                    f"{size_words(after.bytes)}, {money(after.bytes):.2f} {prices.currency} a month."
                )
        doubt = "" if chosen.confirmed else ", which no source of the seller confirms"
        click.echo(
            f"By the price {chosen.id} ({chosen.title}), {chosen.per_gb_month} {prices.currency} for 10^9 bytes and "
            f"month, as of {prices.dated}{doubt}: {chosen.source}. An account's own prices differ: --prices."
        )
        for words in facts.unreadable:
            click.echo(f"Not counted: {words}", err=True)

    run(work, file=file, cos_conn_id=cos_conn_id, classic_conn_id=classic_conn_id, bucket=bucket, region=region)
