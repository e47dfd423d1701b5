"""``sealift kits``: what takes a finished export to another platform, and what would fail there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sealift.cli.bucket import bucket_options, open_bucket
from sealift.connections import ConnectionProblem

if TYPE_CHECKING:
    from sealift.cos.client import CosClient
    from sealift.exports.kits import Kit
    from sealift.exports.manifest import Manifest

FAILED = 1

TARGETS = ("ibm-vpc", "aws", "google", "azure", "openstack", "libvirt", "vmware")


@click.command(
    epilog="EXPORT is an export id (12345678-20261123T0200Z), or a virtual server's id or host name for the export of "
    "it that was captured last. Exit status: 0 if the kits are there as they were made, 1 if not; whether an export "
    "fits its targets is in the report. The connection comes from the environment (AIRFLOW_CONN_IBM_COS_DEFAULT, in "
    "Airflow's JSON or URI form) or from the file that --connections names."
)
@click.argument("exports", metavar="EXPORT...", nargs=-1, required=True)
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=click.Choice(TARGETS),
    help="A platform; may be given several times. Not given: all of them.",
)
@click.option(
    "--to",
    "under",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="The folder that the export was downloaded to: the kits go below its disks. Not given: into the bucket.",
)
@click.option("--fit", "only_fit", is_flag=True, help="Print the report of how the export fits, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each export: its report.")
@click.option("--period", help="The slot or manual run, where EXPORT names a server.")
@bucket_options
def kits(
    exports: tuple[str, ...],
    targets: tuple[str, ...],
    under: Path | None,
    only_fit: bool,
    as_json: bool,
    period: str | None,
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
) -> None:
    """Make target kits of finished exports: what other platforms' own tools take, and a report of what would fail."""
    from sealift.cli.connections import Connections, read_file
    from sealift.cos.errors import CosError
    from sealift.exports.delivery import find_manifest, folder_of
    from sealift.exports.errors import ExportsError
    from sealift.exports.kits import write_kits, write_kits_to_folder
    from sealift.exports.names import normal_prefix

    different = False
    try:
        connections = read_file(file) if file else Connections()
        opened = open_bucket(connections, cos_conn_id=cos_conn_id, bucket=bucket, region=region)
        for one in exports:
            manifest, _ = find_manifest(opened.cos, bucket=opened.bucket, prefix=prefix, wanted=one, period=period)
            folder = None if under is None else under / folder_of(manifest)
            made = _made(opened.cos, manifest, prefix=normal_prefix(prefix), targets=targets, folder=folder)
            _tell(manifest, made, as_json=as_json)
            if only_fit:
                continue
            if folder is None:
                written = write_kits(opened.cos, manifest=manifest, kits=made)
            else:
                written = write_kits_to_folder(_delivered(folder), kits=made)
            different = different or bool(written.different)
            click.echo(f"{manifest.export_id}: {written.words}", err=as_json)
    except (ConnectionProblem, CosError, ExportsError, OSError) as error:
        click.echo(f"No kits: {error}", err=True)
        sys.exit(FAILED)
    sys.exit(FAILED if different else 0)


def _made(
    cos: CosClient, manifest: Manifest, *, prefix: str, targets: tuple[str, ...], folder: Path | None
) -> list[Kit]:
    from sealift.exports.kits import Target, converted_in_bucket, kits_of, kits_of_delivery

    wanted = [Target(one) for one in targets or TARGETS]
    converted = converted_in_bucket(cos, manifest)
    if folder is None:
        return kits_of(cos, prefix=prefix, manifest=manifest, converted=converted, targets=wanted)
    there = [one for one in converted if _is_there(folder / one.key.rpartition("/")[2], one.size)]
    return kits_of_delivery(cos, prefix=prefix, manifest=manifest, delivered=there, targets=wanted)


def _is_there(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _delivered(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there: download the export first, with the same --to.")
    return folder


def _tell(manifest: Manifest, made: list[Kit], *, as_json: bool) -> None:
    from sealift.exports.kits import FitReport, Outcome

    if as_json:
        report = FitReport(
            export_id=manifest.export_id,
            guest_id=manifest.guest.id,
            hostname=manifest.guest.hostname,
            proof_level=manifest.proof_level,
            targets=[kit.fit for kit in made],
        )
        click.echo(report.model_dump_json())
        return
    for kit in made:
        counts = ", ".join(
            f"{len(found)} {words}"
            for outcome, words in (
                (Outcome.FAILS, "would fail"),
                (Outcome.UNKNOWN, "not known"),
                (Outcome.REMARK, "to do or to know"),
                (Outcome.FITS, "fit"),
            )
            if (found := kit.fit.having(outcome))
        )
        click.echo(f"{manifest.guest.hostname} on {kit.target.label}: {counts}")
        for line in kit.fit.having(Outcome.FAILS):
            click.echo(f"  would fail: {line.checks}: {line.words}")
