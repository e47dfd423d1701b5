"""``sealift download``: an export out of the bucket, whole and proven, into a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from sealift.cli.amounts import amount
from sealift.cli.bucket import bucket_options, open_bucket
from sealift.cli.watching import watching
from sealift.connections import ConnectionProblem

if TYPE_CHECKING:
    from sealift.exports.delivery import Delivered

FAILED, INTERRUPTED = 1, 130


@click.command(
    epilog="EXPORT is an export id (12345678-20261123T0200Z), or a virtual server's id or host name for the export of "
    "it that was captured last. A download that was interrupted goes on where it stopped. Exit status: 0 if all files "
    "are there and whole, 1 if not. The connection comes from the environment (AIRFLOW_CONN_IBM_COS_DEFAULT, in "
    "Airflow's JSON or URI form) or from the file that --connections names."
)
@click.argument("exports", metavar="EXPORT...", nargs=-1, required=True)
@click.option(
    "--to",
    "under",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default=True,
    help="The folder. Each export gets one of its own in it: <host name>-<id>/<export id>.",
)
@click.option("--period", help="The slot or manual run, where EXPORT names a server.")
@click.option("--streams", type=click.IntRange(1, 16), default=4, show_default=True, help="Range reads at a time.")
@click.option("--limit-rate", callback=amount, metavar="RATE", help="Bytes a second at most, as 20M; for all streams.")
@click.option(
    "--engine",
    type=click.Choice(["https", "aspera", "auto"]),
    default="https",
    show_default=True,
    help="How bytes come; auto takes Aspera for large objects where ascp is there and the bucket offers it.",
)
@click.option("--ascp", type=click.Path(path_type=Path), help="IBM's ascp, or its folder. Not given: it is looked for.")
@click.option("--aspera-key", type=click.Path(path_type=Path), help="The private key for SSH, where IBM's own is not.")
@click.option(
    "--aspera-credentials-in-tags",
    is_flag=True,
    help="Leave the storage's token in the tags that ascp gets as an argument, should the service want that.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["vmdk", "qcow2", "vhd-fixed", "raw"]),
    help="The images' format. Not given: as they were exported. What was not converted in the bucket before is "
    "converted on its way, by range reads over HTTPS.",
)
@click.option("--kits", is_flag=True, help="Put target kits below the images, in kits/.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each export.")
@bucket_options
def download(
    exports: tuple[str, ...],
    under: Path,
    period: str | None,
    streams: int,
    limit_rate: float | None,
    engine: str,
    ascp: Path | None,
    aspera_key: Path | None,
    aspera_credentials_in_tags: bool,
    format_: str | None,
    kits: bool,
    as_json: bool,
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
) -> None:
    """Download exports: disks, configuration record and manifest, each checked, with a SHA256SUMS file.

    The disks are read in parallel, hashed while they are written, compared with the manifest, and their structure is
    proven once more. What is there already is checked, and only what is missing or damaged is brought.
    """
    from sealift.cli.connections import Connections, read_file
    from sealift.cos.errors import CosError
    from sealift.exports.delivery import Wanted, deliver, delivered_as_json, find_manifest, folder_of
    from sealift.exports.delivery_places import FolderPlace, How
    from sealift.exports.errors import ExportsError
    from sealift.exports.names import normal_prefix
    from sealift.transfer.engines import AsperaSettings, EngineName, Engines
    from sealift.transfer.errors import TransferError
    from sealift.transfer.pace import Pace

    try:
        connections = read_file(file) if file else Connections()
        opened = open_bucket(connections, cos_conn_id=cos_conn_id, bucket=bucket, region=region)
        # All are found before the first one is brought: a wrong name should not show after hours.
        found = [
            find_manifest(opened.cos, bucket=opened.bucket, prefix=prefix, wanted=one, period=period) for one in exports
        ]
        engines = Engines(
            wanted=EngineName(engine),
            store=opened.cos,
            settings=AsperaSettings(ascp=ascp, key=aspera_key, credentials_in_tags=aspera_credentials_in_tags),
            say=lambda line: click.echo(line, err=True),
        )
        how = How(streams=streams, pace=Pace(bytes_per_second=limit_rate))
        for manifest, body in found:
            with watching(quiet=as_json) as watcher:
                delivered, noted = deliver(
                    cos=opened.cos,
                    manifest=manifest,
                    body=body,
                    prefix=normal_prefix(prefix),
                    place=FolderPlace(under / folder_of(manifest), engines=engines),
                    watcher=watcher,
                    how=how,
                    made_by="sealift download",
                    wanted=Wanted.of(format_=format_, kits=kits),
                )
            click.echo(delivered_as_json(delivered) if as_json else _in_words(delivered))
            for one in (*delivered.remarks, noted):
                if one and not as_json:
                    click.echo(one, err=True)
    except (ConnectionProblem, CosError, ExportsError, TransferError) as error:
        _give_up(str(error))
    except KeyboardInterrupt:
        click.echo("Stopped. What has arrived is kept; the same command goes on with it.", err=True)
        sys.exit(INTERRUPTED)


def _give_up(words: str) -> NoReturn:
    click.echo(f"Not downloaded: {words}", err=True)
    sys.exit(FAILED)


def _in_words(delivered: Delivered) -> str:
    from sealift.exports.delivery import SUMS

    there = sum(one.already for one in delivered.files)
    rate = delivered.brought / delivered.seconds if delivered.seconds else 0.0
    return (
        f"{delivered.export_id}: {len(delivered.files)} files in {delivered.place}, "
        f"{sum(one.size for one in delivered.files):,} bytes, {there} there already; "
        f"{delivered.brought:,} bytes brought in {delivered.seconds:.1f} s ({rate / 1e6:,.0f} MB/s). "
        f"Check them at any time: cd {delivered.place} && sha256sum --check {SUMS}"
    )
