"""``sealift status``: what became of every server, slot by slot; the same figures as the page in Airflow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from sealift.cli.bucket import bucket_options, open_bucket
from sealift.connections import ConnectionProblem

if TYPE_CHECKING:
    from sealift.exports.status.coverage import Coverage, ServerLine
    from sealift.exports.status.prices import Costs

ALL_WELL, NOT_ALL_WELL, COULD_NOT_LOOK = 0, 1, 2

_WIDTH_IN_A_PIPE = 120
_ALL_SERVERS = 100_000
_MARKS = {"exported": "ok", "running": "…", "failed": "FAIL", "skipped": "skip", "missing": "MISS", "not selected": "-"}


@click.command(
    epilog="Exit status: 0 if no server that was chosen failed or is missing in the newest slot shown, 1 if one did or "
    "is, 2 if it could not look. The connection comes from the environment (AIRFLOW_CONN_IBM_COS_DEFAULT, in Airflow's "
    "JSON or URI form) or from the file that --connections names."
)
@bucket_options
@click.option("--name", default="", help="Part of a server's name, its id, or a pattern as web*.")
@click.option("--datacenter", multiple=True, help="Only servers in this data center. May be repeated.")
@click.option("--tag", multiple=True, help="Only servers with this tag. May be repeated.")
@click.option(
    "--state",
    multiple=True,
    type=click.Choice(["exported", "running", "failed", "skipped", "missing", "not selected"]),
    help="Only servers in this state in the newest slot shown. May be repeated.",
)
@click.option(
    "--slots", type=click.IntRange(1, 400), default=8, show_default=True, help="How many slots, the newest ones."
)
@click.option("--scheduled", is_flag=True, help="Only slots of the schedule, no manual runs.")
@click.option("--servers", is_flag=True, help="A line for each server, with a word for each slot.")
@click.option(
    "--prices",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of prices, in place of the list prices that come with Sealift.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, as the API's /coverage has it.")
@click.option(
    "--write-index",
    is_flag=True,
    help="Read every manifest that no index covers, and write the slots' indexes, so that the next look is quick.",
)
def status(
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
    name: str,
    datacenter: tuple[str, ...],
    tag: tuple[str, ...],
    state: tuple[str, ...],
    slots: int,
    scheduled: bool,
    servers: bool,
    prices: Path | None,
    as_json: bool,
    write_index: bool,
) -> None:
    """Say which servers are exported, proven, running, failed, skipped or missing, slot by slot.

    It lists the ledger (a call for 1,000 manifests) and reads the manifests of the slots shown, as far as no index
    says what is in them. Nothing is changed, unless --write-index is given.
    """
    from sealift.cli.connections import Connections, read_file
    from sealift.cos.errors import CosError
    from sealift.exports.errors import ExportsError
    from sealift.exports.names import normal_prefix
    from sealift.exports.status.books import Books
    from sealift.exports.status.coverage import Query, chosen_slots, coverage
    from sealift.exports.status.prices import costs_of, read_prices
    from sealift.exports.status.rows import State

    try:
        connections = read_file(file) if file else Connections()
        opened = open_bucket(connections, cos_conn_id=cos_conn_id, bucket=bucket, region=region)
        books = Books(cos=opened.cos, bucket=opened.bucket, prefix=normal_prefix(prefix))
        if write_index:
            written = books.write_index()
            click.echo(f"{len(written)} indexes were written.", err=True)
        snapshot = books.refresh()
        query = Query(
            name=name,
            datacenter=list(datacenter),
            tag=list(tag),
            state=[State(one) for one in state],
            scheduled=True if scheduled else None,
            slots=slots,
        )
        shown = [snapshot.slots[place].period for place in chosen_slots(snapshot, query)[0]]
        books.fill_all(shown, at_most=_ALL_SERVERS)
        found = coverage(snapshot, query.model_copy(update={"limit": _ALL_SERVERS}))
        stored = sum(row.bytes for rows in snapshot.rows.values() for row in rows.values())
        costs = costs_of(stored, read_prices(prices))
    except (ConnectionProblem, CosError, ExportsError) as error:
        _give_up(str(error))
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        show(found, costs, servers=servers)
    counts = found.slots[0].counts if found.slots else {}
    sys.exit(NOT_ALL_WELL if counts.get(State.FAILED) or counts.get(State.MISSING) else ALL_WELL)


def show(found: Coverage, costs: Costs, *, servers: bool) -> None:
    """Print what was found, for people.

    :param found: all servers that were chosen.
    :param costs: what storing the images costs.
    :param servers: whether to print a line for each server.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sealift.exports.status.rows import State

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)
    if not found.slots:
        console.print("There is no export, and no plan, below this prefix.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Slot", overflow="fold")
    for state in State:
        table.add_column(state.value.capitalize(), justify="right")
    table.add_column("Bytes", justify="right")
    for slot in found.slots:
        counts = [str(slot.counts.get(state, "")) for state in State]
        table.add_row(Text(slot.period), *counts, f"{slot.bytes:,}")
    if found.slots:
        console.print(table)
    if servers:
        console.print(_lines(found))
    for line in found.servers:
        if line.cells and line.cells[0] in ("failed", "missing"):
            console.print(Text(f"{line.hostname} ({line.id}) {line.cells[0]}: {line.reasons.get(0, '')}"))
    for problem in found.problems:
        console.print(Text(problem))
    if costs.bytes:
        months = ", ".join(
            f"{one.amount:,.2f} {costs.currency} ({one.title}{'' if one.confirmed else ', unconfirmed'})"
            for one in costs.storage_per_month
        )
        console.print(Text(f"{costs.bytes:,} bytes of images, as far as known. A month: {months}."))


def _lines(found: Coverage) -> object:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Server", overflow="fold")
    table.add_column("Id", justify="right")
    for slot in found.slots:
        table.add_column(Text(slot.period[:8] if slot.scheduled else slot.period))
    for line in found.servers:
        table.add_row(Text(_name(line)), str(line.id), *(_MARKS.get(cell, cell) for cell in line.cells))
    return table


def _name(line: ServerLine) -> str:
    return line.hostname + ("" if line.kind == "virtual" else f" ({line.kind})")


def _give_up(words: str) -> NoReturn:
    click.echo(f"Could not look: {words}", err=True)
    sys.exit(COULD_NOT_LOOK)
