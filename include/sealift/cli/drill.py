"""``sealift drill``: exports whose turn it is are brought back, proven and timed; and how well that is rehearsed."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sealift.cli.amounts import amount
from sealift.cli.bucket import bucket_options
from sealift.cli.prove import Reads
from sealift.cli.retention import run
from sealift.cli.watching import watching

ALL_BACK, NOT_ALL_BACK = 0, 1

_ALL_SERVERS = 100_000


@click.command(
    epilog="EXPORT is an export id (12345678-20261123T0200Z), or a virtual server's id or host name for the export of "
    "it that was captured last; without one, those come whose turn it is. Exit status: 0 if all came back, 1 if one "
    "did not or could not be rehearsed here (with --report: if any server's last rehearsal did not pass), 2 if it "
    "could not begin. The connection comes from the environment (AIRFLOW_CONN_IBM_COS_DEFAULT, in Airflow's JSON or "
    "URI form) or from the file that --connections names."
)
@click.argument("exports", metavar="[EXPORT]...", nargs=-1)
@click.option(
    "--within",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="DRILLS",
    help="Each server has its turn within so many drills: a tenth of them in each, for 10.",
)
@click.option(
    "--at-most", type=click.IntRange(min=1), metavar="N", help="Most servers, though the rotation then takes longer."
)
@click.option("--period", help="The slot or manual run, where EXPORT names a server.")
@click.option(
    "--level",
    type=click.Choice(["L2", "L3", "L4"]),
    default="L4",
    show_default=True,
    help="How deep what comes back is proven; without QEMU on this machine, L4 ends at L3 and says so.",
)
@click.option(
    "--scratch",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where files are kept meanwhile, with room for the largest server. Not given: the temporary folder.",
)
@click.option("--streams", type=click.IntRange(1, 16), default=4, show_default=True, help="Range reads at a time.")
@click.option("--limit-rate", callback=amount, metavar="RATE", help="Bytes a second at most, as 20M; for all streams.")
@click.option("--dry-run", is_flag=True, help="Say whose turn it is, and bring nothing.")
@click.option("--report", is_flag=True, help="Bring nothing: say how well the restore of all servers is rehearsed.")
@click.option(
    "--days", type=click.IntRange(min=1), default=90, show_default=True, help="The report counts so many days."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a line for each export, or the report.")
@bucket_options
def drill(
    exports: tuple[str, ...],
    within: int,
    at_most: int | None,
    period: str | None,
    level: str,
    scratch: Path | None,
    streams: int,
    limit_rate: float | None,
    dry_run: bool,
    report: bool,
    days: int,
    as_json: bool,
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
) -> None:
    """Rehearse restores: bring exports back into a scratch folder, prove them, and measure how long it takes.

    Every server has its turn: those that did not come back last time first, then those that were never rehearsed, then
    those whose last rehearsal is longest ago. Proof and time to recover are added beside the manifest; the files are
    deleted.
    """
    if report and (exports or dry_run):
        raise click.UsageError("--report brings nothing: it takes neither exports nor --dry-run.")

    def work(opened: Any, _classic: Any) -> None:
        from sealift.exports.drills.choosing import choose_exports, choose_named
        from sealift.exports.drills.keys import drill_id_for
        from sealift.exports.names import normal_prefix

        where = {"bucket": opened.bucket, "prefix": normal_prefix(prefix)}
        if report:
            _report(opened.cos, days=days, as_json=as_json, **where)
        now = datetime.now(UTC)
        drill_id = drill_id_for(f"cli-{now.isoformat(timespec='microseconds')}")
        if exports:
            chosen = choose_named(opened.cos, **where, wanted=list(exports), period=period)
        else:
            chosen = choose_exports(opened.cos, **where, within=within, at_most=at_most, drill_id=drill_id)
        if not chosen:
            click.echo("There is no finished export, and so nothing to rehearse.", err=True)
        if dry_run:
            for one in chosen:
                click.echo(one.model_dump_json() if as_json else f"{one.hostname}: export {one.export_id} ({one.why})")
            sys.exit(ALL_BACK)
        status = _rehearse(
            opened.cos,
            chosen,
            **where,
            drill_id=drill_id,
            level=level,
            scratch=scratch,
            how=(streams, limit_rate),
            as_json=as_json,
        )
        sys.exit(status)

    run(work, file=file, cos_conn_id=cos_conn_id, classic_conn_id=None, bucket=bucket, region=region)


def _rehearse(
    cos: Any,
    chosen: list[Any],
    *,
    bucket: str,
    prefix: str,
    drill_id: str,
    level: str,
    scratch: Path | None,
    how: tuple[int, float | None],
    as_json: bool,
) -> int:
    """Rehearse exports, one after the other; return the exit status."""
    from sealift.exports.delivery_places import How
    from sealift.exports.drills.rehearsing import Rehearser, Terms
    from sealift.exports.drills.reporting import line_of
    from sealift.exports.drills.scratch import scratch_root
    from sealift.exports.errors import StepError
    from sealift.images.verdict import ProofLevel
    from sealift.transfer.pace import Pace

    streams, rate = how
    terms = Terms(
        bucket=bucket,
        prefix=prefix,
        drill_id=drill_id,
        made_by="sealift drill",
        scratch=scratch_root(scratch),
        level=ProofLevel(level),
        how=How(streams=streams, pace=Pace(bytes_per_second=rate)),
    )
    bad = 0
    for one in chosen:
        try:
            with watching(quiet=as_json) as watcher:
                made = Rehearser(cos=cos, terms=terms, watcher=watcher, progress=Reads(watcher)).rehearse(one)
        except StepError as error:
            bad += 1
            click.echo(str(error), err=True)
            if as_json:
                told = {"export_id": one.export_id, "error": type(error).__name__, "words": str(error)}
                click.echo(json.dumps(told))
            continue
        click.echo(made.model_dump_json() if as_json else line_of(made))
    return NOT_ALL_BACK if bad else ALL_BACK


def _report(cos: Any, *, bucket: str, prefix: str, days: int, as_json: bool) -> None:
    from sealift.exports.drills.models import in_time
    from sealift.exports.drills.reporting import drill_report, table_of

    made = drill_report(cos, bucket=bucket, prefix=prefix, days=days, now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps({**made.model_dump(mode="json"), "share": made.share, "summary": made.summary}))
    else:
        for line in table_of(made, at_most=_ALL_SERVERS):
            click.echo(line)
        for name, spread in (
            ("Time to recover", made.time_to_recover),
            ("  of it download", made.download),
            ("  of it proof", made.proof),
            ("  boot to login prompt", made.boot),
        ):
            if spread is not None:
                click.echo(
                    f"{name}: p50 {in_time(spread.p50)}, p95 {in_time(spread.p95)}, longest {in_time(spread.longest)} "
                    f"({spread.count} measured)"
                )
        click.echo(made.summary)
    sys.exit(NOT_ALL_BACK if made.failing else ALL_BACK)
