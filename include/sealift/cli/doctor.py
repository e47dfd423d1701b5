"""``sealift doctor``: what carries Sealift's names and belongs to no running or finished export. It changes nothing."""

from __future__ import annotations

import sys
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from sealift.cli.bucket import bucket_options, open_bucket
from sealift.connections import (
    CLASSIC_DEFAULT,
    CLASSIC_TYPE,
    ConnectionProblem,
    classic_client,
    cos_client,
    region_of,
)

if TYPE_CHECKING:
    from sealift.exports.doctor_models import Examination, Finding, Kind

NOTHING_FOUND, FOUND, COULD_NOT_LOOK = 0, 1, 2

_WIDTH_IN_A_PIPE = 100
_LONG_KIND = 15


@click.command(
    epilog="Exit status: 0 if nothing was found, 1 if something was, 2 if it could not look. "
    "The connections come from the environment (AIRFLOW_CONN_IBM_CLASSIC_DEFAULT and AIRFLOW_CONN_IBM_COS_DEFAULT, in "
    "Airflow's JSON or URI form) or from the file that --connections names."
)
@bucket_options
@click.option("--classic-conn-id", default=CLASSIC_DEFAULT, show_default=True, help="Connection of type ibm_classic.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole examination as JSON.")
@click.option("--thorough", is_flag=True, help="Read every manifest and compare every size and ETag.")
@click.option(
    "--settled",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="MINUTES",
    help="What is younger is left alone, as it may be at work.",
)
@click.option(
    "--plan-days",
    type=click.FloatRange(min=0),
    default=14.0,
    show_default=True,
    metavar="DAYS",
    help="An unfinished plan counts as at work for so long after the last object that its run wrote.",
)
@click.option(
    "--over",
    multiple=True,
    metavar="PLAN",
    help="Id of a plan whose run is dead: what is its own is looked at, however young. May be repeated.",
)
@click.option(
    "--slots-bucket",
    envvar="AIRFLOW__SEALIFT__SLOTS_BUCKET",
    help="Bucket of the offline slots, where it is another.",
)
@click.option("--slots-prefix", envvar="AIRFLOW__SEALIFT__SLOTS_PREFIX", default="", help="Prefix of the slots.")
@click.option("--slots-region", envvar="AIRFLOW__SEALIFT__SLOTS_REGION", help="Region of --slots-bucket.")
def doctor(
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    classic_conn_id: str,
    cos_conn_id: str,
    as_json: bool,
    thorough: bool,
    settled: float,
    plan_days: float,
    over: tuple[str, ...],
    slots_bucket: str | None,
    slots_prefix: str,
    slots_region: str | None,
) -> None:
    """List what carries Sealift's names in the account and the bucket and belongs to no running or finished export.

    Half exports, orphan and duplicate image templates, unfinished uploads, manifests whose objects are gone or changed,
    objects that Sealift does not write: each with its age, its size, and what to do. Nothing is deleted or changed.
    """
    from sealift.classic.errors import ClassicError
    from sealift.cli.connections import Connections, read_file
    from sealift.cos.errors import CosError
    from sealift.exports.doctor import Rules, examine
    from sealift.exports.errors import ExportsError
    from sealift.exports.names import slots_root
    from sealift.exports.surveying import SlotsPlace, settle_time

    try:
        connections = read_file(file) if file else Connections()
        classic = classic_client(connections.find(classic_conn_id, CLASSIC_TYPE), classic_conn_id)
        opened = open_bucket(connections, cos_conn_id=cos_conn_id, bucket=bucket, region=region)
        slots_cos = opened.cos
        if slots_bucket:
            slots_region = slots_region or region or region_of(opened.stored)
            slots_cos = cos_client(opened.stored, cos_conn_id, region=slots_region)
        slots = SlotsPlace(
            bucket=slots_bucket or opened.bucket,
            root=slots_root(prefix=slots_prefix.strip("/ "), account_id=classic.account_id()),
            settle=settle_time(timeout=classic.timeout, minutes=None),
        )
        examination = examine(
            classic=classic,
            cos=opened.cos,
            bucket=opened.bucket,
            prefix=prefix,
            now=datetime.now(UTC),
            rules=Rules(settled=timedelta(minutes=settled), plan_at_work=timedelta(days=plan_days), over=over),
            slots=slots,
            slots_cos=slots_cos,
            thorough=thorough,
        )
    except (ConnectionProblem, ClassicError, CosError, ExportsError) as error:
        _give_up(str(error))
    except Exception:  # noqa: BLE001 - shown in full; but for this, its exit status would say that something was found
        traceback.print_exc()
        _give_up("This is a mistake in Sealift: please report it.")
    if as_json:
        click.echo(examination.model_dump_json(indent=2))
    else:
        show(examination)
    sys.exit(FOUND if examination.findings else NOTHING_FOUND)


def _give_up(words: str) -> NoReturn:
    click.echo(f"Could not look: {words}", err=True)
    sys.exit(COULD_NOT_LOOK)


def show(examination: Examination) -> None:
    """Print an examination for people.

    :param examination: the examination.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sealift.exports.doctor_models import Kind

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)
    place = "/".join(filter(None, (examination.bucket, examination.prefix)))
    looked = examination.looked
    counts = (
        (looked.manifests, "manifest"),
        (looked.objects, "object"),
        (looked.plans, "plan"),
        (looked.templates, "image template"),
    )
    console.print(f"Looked at {place}: {', '.join(_many(*one) for one in counts)}.")
    if examination.findings:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 1, 0))
        table.add_column("Finding", width=max(len(part) for one in Kind for part in _halves(one)))
        table.add_column("Server", max_width=20, overflow="fold")
        for name in ("Age", "Size"):
            table.add_column(name, no_wrap=True, justify="right")
        table.add_column("What it is, and what to do", ratio=1, overflow="fold")
        for one in examination.findings:
            table.add_row(
                Text("\n".join(_halves(one.kind)), style="bold"),
                _server(one),
                age_words(one.age_seconds),
                size_words(one.bytes),
                Text.assemble(one.what, "\n", ("→ ", "bold green"), (one.do, "green")),
            )
        console.print(table)
    for plan in examination.at_work:
        ago = age_words(max(0, int((examination.examined_at - plan.last_sign).total_seconds())))
        words = (
            f"At work, and left alone: {_many(plan.exports, 'export')} of the plan {plan.plan_id}, whose run wrote "
            f"last {ago} ago. If that run is dead: --over {plan.plan_id}"
        )
        console.print(Text(words))
    for cap in examination.learned_caps:
        console.print(Text(cap.sentence))
    for other in examination.elsewhere:
        went = _many(other.templates, "image template")
        console.print(f"Elsewhere: {went} went to {other.place}; examine that as well.")
    console.print(Text(f"{examination.summary}.", style="bold"))


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _halves(kind: Kind) -> list[str]:
    """Break a long kind in two, where it has a hyphen."""
    first, hyphen, rest = kind.value.partition("-")
    return [first + hyphen, rest] if len(kind.value) > _LONG_KIND else [kind.value]


def _server(finding: Finding) -> str:
    return "\n".join(str(one) for one in (finding.hostname, finding.guest_id) if one is not None)


def age_words(seconds: int | None) -> str:
    """Put an age into a word.

    :param seconds: the age; None where nobody knows.
    :returns: as ``20 d``, ``3 h``, ``12 min`` or ``40 s``; empty where nobody knows.
    """
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def size_words(size: int | None) -> str:
    """Put a size into a word.

    :param size: bytes; None where nobody knows.
    :returns: as ``5.0 GB``, in powers of 1,000 as bills are; empty where nobody knows.
    """
    if size is None:
        return ""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"
