"""``sealift retention``: a dry run of what goes by rules, and by its id what it names; and ``sealift hold``."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sealift.cli.bucket import bucket_options, open_bucket
from sealift.cli.doctor import size_words
from sealift.connections import CLASSIC_DEFAULT, CLASSIC_TYPE, ConnectionProblem, classic_client

if TYPE_CHECKING:
    from sealift.exports.retention.models import DryRun, Outcome, Result

DONE, LEFT, COULD_NOT = 0, 1, 2

_COUNT = click.IntRange(min=1)
_KEEPS = ("last", "daily", "weekly", "monthly", "yearly")


@click.command(
    epilog="Exit status: 0 if all is done, 1 if something that was to go is left, 2 if it could not be done. "
    "The connections come from the environment or from the file that --connections names, as with sealift doctor."
)
@bucket_options
@click.option("--classic-conn-id", default=CLASSIC_DEFAULT, show_default=True, help="Connection of type ibm_classic.")
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The rules, as JSON. Or give the --keep options, which make one rule for all servers.",
)
@click.option("--keep-last", type=_COUNT, metavar="N", help="Keep the newest N exports of each server.")
@click.option("--keep-daily", type=_COUNT, metavar="N", help="Keep the newest export of each of N days.")
@click.option("--keep-weekly", type=_COUNT, metavar="N", help="Keep the newest export of each of N weeks.")
@click.option("--keep-monthly", type=_COUNT, metavar="N", help="Keep the newest export of each of N months.")
@click.option("--keep-yearly", type=_COUNT, metavar="N", help="Keep the newest export of each of N years.")
@click.option(
    "--keep-within-days", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Keep all of the last N days."
)
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Your own prices, by which a dry run says what becomes free; see sealift cost.",
)
@click.option("--timezone", default="UTC", show_default=True, help="Where days begin; with the --keep options.")
@click.option("--apply", "apply_id", metavar="ID", help="Carry out the dry run of this id, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print the dry run, or what came of it, as JSON.")
def retention(
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
    classic_conn_id: str,
    rules_file: Path | None,
    keep_within_days: float | None,
    prices_file: Path | None,
    timezone: str,
    apply_id: str | None,
    as_json: bool,
    **kept: int | None,
) -> None:
    """Say which exports and image templates go by the rules, and delete them when told to.

    The first call is a dry run: it changes nothing, prints what would go and why, and writes it into the bucket. A
    second call with --apply and its id deletes what it names: of this, nothing that changed since, nothing that is
    kept by now, and never the last proven export of a server.
    """
    counts = {f"keep_{name}": kept[f"keep_{name}"] for name in _KEEPS if kept.get(f"keep_{name}")}
    rule: dict[str, Any] = dict(counts)
    if keep_within_days is not None:
        rule["keep_within_days"] = keep_within_days
    if sum((rules_file is not None, bool(rule), apply_id is not None)) != 1:
        raise click.UsageError("Give either --rules, or --keep options, or --apply with the id of a dry run.")

    def work(opened: Any, classic: Any) -> None:
        from sealift.exports.retention.applying import apply_dry_run
        from sealift.exports.retention.dry_run import keep_dry_run, make_dry_run, read_dry_run
        from sealift.exports.retention.keys import retention_id_for
        from sealift.exports.retention.rules import read_rules
        from sealift.exports.status.prices import read_prices

        if apply_id is not None:
            dry_run = read_dry_run(opened.cos, bucket=opened.bucket, prefix=prefix, retention_id=apply_id)
            tell = None if as_json else _tell
            result = apply_dry_run(dry_run, cos=opened.cos, classic=classic, clock=_now, tell=tell)
            click.echo(result.model_dump_json(indent=2) if as_json else _result_words(result))
            sys.exit(LEFT if result.left else DONE)
        document: Any = {"timezone": timezone, "rules": [{"name": "all servers", "servers": {"all": True}, **rule}]}
        if rules_file is not None:
            document = read_json(rules_file)
        now = _now()
        made = make_dry_run(
            cos=opened.cos,
            classic=classic,
            bucket=opened.bucket,
            prefix=prefix,
            rules=read_rules(document),
            retention_id=retention_id_for(f"cli-{now.isoformat(timespec='microseconds')}"),
            now=now,
            prices=read_prices(prices_file),
        )
        made = keep_dry_run(opened.cos, made)
        if as_json:
            click.echo(made.model_dump_json(indent=2))
        else:
            show(made)

    run(work, file=file, cos_conn_id=cos_conn_id, classic_conn_id=classic_conn_id, bucket=bucket, region=region)


@click.command()
@bucket_options
@click.argument("exports", nargs=-1, metavar="[EXPORT]...")
@click.option("--reason", default="held by hand", show_default=True, help="Why it is held.")
@click.option("--release", is_flag=True, help="Release the exports: the rules decide about them again.")
def hold(
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
    exports: tuple[str, ...],
    reason: str,
    release: bool,
) -> None:
    """Hold exports, so that no rule removes them; without EXPORT, list what is held."""

    def work(opened: Any, _classic: Any) -> None:
        from sealift.exports.retention.holds import hold_export, list_holds, release_export

        where = {"bucket": opened.bucket, "prefix": prefix}
        for export in exports:
            if release:
                there = release_export(opened.cos, **where, export=export)
                click.echo(f"{export} is released." if there else f"{export} was not held.")
            else:
                hold_export(opened.cos, **where, export=export, reason=reason, now=_now())
                click.echo(f"{export} is held: {reason}.")
        if not exports:
            for one in list_holds(opened.cos, **where):
                click.echo(f"{one.export_id}  held since {one.held_at:%Y-%m-%d %H:%M} UTC: {one.reason}")

    if release and not exports:
        raise click.UsageError("Name the exports to release.")
    run(work, file=file, cos_conn_id=cos_conn_id, classic_conn_id=None, bucket=bucket, region=region)


def _now() -> datetime:
    return datetime.now(UTC)


def run(
    work: Callable[[Any, Any], None],
    *,
    file: Path | None,
    cos_conn_id: str,
    classic_conn_id: str | None,
    bucket: str | None,
    region: str | None,
) -> None:
    """Open a bucket and an account, and do something with them; end with 2 where that cannot be done.

    :param work: what to do with the open bucket and the client of the account, which is None where none is asked for.
    :param file: the file of connections, or None for the environment.
    :param cos_conn_id: the connection of the object store.
    :param classic_conn_id: that of the account; None where it is not needed.
    :param bucket: the bucket; None for the connection's.
    :param region: its region; None for the connection's.
    """
    from sealift.classic.errors import ClassicError
    from sealift.cli.connections import Connections, read_file
    from sealift.cos.errors import CosError
    from sealift.exports.errors import ExportsError

    try:
        connections = read_file(file) if file else Connections()
        classic = None
        if classic_conn_id is not None:
            classic = classic_client(connections.find(classic_conn_id, CLASSIC_TYPE), classic_conn_id)
        work(open_bucket(connections, cos_conn_id=cos_conn_id, bucket=bucket, region=region), classic)
    except (ConnectionProblem, ClassicError, CosError, ExportsError) as error:
        _give_up(str(error))
    except Exception:  # noqa: BLE001 - shown in full; but for this, its exit status would say that something is left
        traceback.print_exc()
        _give_up("This is a mistake in Sealift: please report it.")


def _give_up(words: str) -> NoReturn:
    click.echo(f"Could not: {words}", err=True)
    sys.exit(COULD_NOT)


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    :param path: the file.
    :returns: what it holds.
    :raises SettingsError: it is no JSON.
    """
    from sealift.exports.errors import SettingsError

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"The rules in {path} are no JSON: {error}.") from error


def _tell(outcome: Outcome) -> None:
    what = f"image template {outcome.template_id} of {outcome.export_id}" if outcome.template_id else outcome.export_id
    click.echo(f"{outcome.done.value}: {what}" + (f" - {outcome.words}" if outcome.words else ""))


def _result_words(result: Result) -> str:
    return f"{result.summary}. {size_words(result.bytes)} are free."


def show(dry_run: DryRun) -> None:
    """Print a dry run for people.

    :param dry_run: the dry run.
    """
    for one in dry_run.exports:
        also = f", with its image template {one.template_id}" if one.template_id else ""
        click.echo(
            f"goes: {one.export_id}  {one.hostname}, captured {one.captured_at:%Y-%m-%d %H:%M} UTC, "
            f"{len(one.objects)} objects, {size_words(one.bytes)}{also} ({', '.join(one.why)})"
        )
    for back in dry_run.taken_back:
        click.echo(f"taken back: {back.export_id}  {back.hostname}, whose removal was begun ({', '.join(back.why)})")
    for two in dry_run.templates:
        click.echo(
            f"goes: image template {two.template_id} of {two.export_id}  {two.hostname}, {size_words(two.bytes)} "
            f"({two.why})"
        )
    for orphan in dry_run.orphans:
        click.echo(f"goes: {orphan.kind} of {orphan.export_id or orphan.upload_key}, {size_words(orphan.bytes)}")
    for three in dry_run.protected:
        end = f"until {three.until:%Y-%m-%d %H:%M} UTC" if three.until else "without an end"
        held = " by a legal hold" if three.legal_hold else ""
        click.echo(f"protected{held}: {three.export_id}  {three.hostname}, {end} ({three.key})")
    for words in dry_run.unreadable:
        click.echo(f"left alone: {words}")
    for what, counts in (("exports", dry_run.kept), ("image templates", dry_run.kept_templates)):
        if counts:
            click.echo(f"Kept {what}: {', '.join(f'{number} {why}' for why, number in counts.items())}.")
    if dry_run.guards.versions and dry_run.rules.versions == "keep":
        click.echo("The bucket keeps versions: what goes is billed until its lifecycle rules delete the versions.")
    click.echo(
        f"{dry_run.summary}: {size_words(dry_run.bytes_freed)} in the bucket, and "
        f"{size_words(dry_run.template_bytes_freed)} of image templates."
    )
    for freed in dry_run.costs_freed:
        doubt = "" if freed.confirmed else ", which no source of the seller confirms"
        click.echo(
            f"By the price {freed.price} of {freed.dated}{doubt}: {freed.amount:.2f} {freed.currency} a month less."
        )
    cost = dry_run.template_cost_freed
    if cost is not None:
        doubt = "" if cost.confirmed else ", which no source of the seller confirms"
        click.echo(
            f"By the price of image templates of {cost.dated}{doubt}: {cost.amount:.2f} {cost.currency} a month less."
        )
    elif dry_run.template_bytes_freed:
        click.echo("What the image templates cost is not priced: fill in templates.per_gb_month for --prices.")
    click.echo(f"Dry run {dry_run.retention_id}. Nothing was changed. To carry it out: --apply {dry_run.retention_id}")
