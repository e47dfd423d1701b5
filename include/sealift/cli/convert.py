"""``sealift convert`` and ``sealift convert-export``: images in another format, on a disk and in the bucket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sealift.cli.bucket import bucket_options, open_bucket
from sealift.cli.watching import watching
from sealift.connections import ConnectionProblem

FAILED = 1

FILE_FORMATS = ("vhd", "vhd-fixed", "vmdk", "vmdk-sparse", "qcow2", "qcow2-plain", "raw", "vhdx", "vdi")
EXPORT_FORMATS = ("vmdk", "qcow2", "vhd-fixed", "raw")


@click.command(
    epilog="The new file is read again in full, and its disk compared with the one that was read, before it counts. "
    "Most pairs of formats are converted by Sealift; qemu-img is called for the others, and has to be there for them. "
    "Exit status: 0 if the new file is there and the same disk, 1 if not."
)
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--into", required=True, type=click.Choice(FILE_FORMATS), help="The format of the new file.")
@click.option("--raw", "raw", is_flag=True, help="IMAGE is the disk itself, whatever it begins with.")
@click.option(
    "--adapter",
    type=click.Choice(["lsilogic", "buslogic", "ide"]),
    default="lsilogic",
    show_default=True,
    help="The disk controller that a VMDK names.",
)
def convert(image: Path, target: Path, into: str, raw: bool, adapter: Any) -> None:
    """Convert the file IMAGE into TARGET: VHD, VMDK, qcow2 and raw disks."""
    from sealift.images.convert.errors import ConversionError
    from sealift.images.convert.files import convert_file
    from sealift.images.convert.formats import TargetFormat
    from sealift.images.convert.qemu import QemuImg
    from sealift.images.convert.run import prove_result
    from sealift.images.source import FileSource, ImageFormatError
    from sealift.images.verdict import ProofFailed
    from sealift.images.virtual_disk import ImageKind

    kinds = {"vhd-fixed": ImageKind.VHD_FIXED, "vmdk-sparse": ImageKind.VMDK_SPARSE, "qcow2-plain": ImageKind.QCOW2}
    try:
        if target.exists() and target.samefile(image):
            raise ConversionError(f"{target} is the image itself. Name another file.")
        with watching(quiet=not sys.stderr.isatty()) as watcher:
            share = _Share(watcher, target.name, image.stat().st_size)
            done = convert_file(
                image,
                target,
                into=TargetFormat(into),
                kind=ImageKind.RAW if raw else None,
                adapter=adapter,
                progress=share,
            )
        if done.converted is not None:
            with FileSource(target) as source:
                prove_result(source, done.converted)
        elif not QemuImg().same(image, done.kind, target, kinds.get(into) or ImageKind(into)):
            raise ConversionError(f"{target} does not hold the disk of {image}. Delete it, and convert again.")
    except (ConversionError, ImageFormatError, ProofFailed, OSError) as error:
        words = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        click.echo(f"Not converted: {words}", err=True)
        sys.exit(FAILED)
    filled = done.converted.filled_up if done.converted is not None else 0
    more = f", filled up with {filled:,} bytes of zeros" if filled else ""
    click.echo(
        f"{target}: {into}, {done.size:,} bytes, by {done.way}; its disk was compared with that of {image}{more}"
    )


@click.command(
    "convert-export",
    epilog="EXPORT is an export id (12345678-20261123T0200Z), or a virtual server's id or host name for the export of "
    "it that was captured last. Exit status: 0 if the images are there, 1 if not. The connection comes from the "
    "environment (AIRFLOW_CONN_IBM_COS_DEFAULT, in Airflow's JSON or URI form) or from the file that --connections "
    "names.",
)
@click.argument("exports", metavar="EXPORT...", nargs=-1, required=True)
@click.option("--into", required=True, type=click.Choice(EXPORT_FORMATS), help="The format.")
@click.option("--period", help="The slot or manual run, where EXPORT names a server.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each export: the conversion's record.")
@bucket_options
def convert_export(
    exports: tuple[str, ...],
    into: str,
    period: str | None,
    as_json: bool,
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
) -> None:
    """Convert the images of finished exports in the bucket; nothing is written to this machine's disk.

    The images are read by ranges, converted as a stream, uploaded by parts, and read once more and compared where they
    are. They lie beside the exported ones, which stay.
    """
    from sealift.cli.connections import Connections, read_file
    from sealift.cli.prove import Reads
    from sealift.cos.errors import CosError
    from sealift.exports.converting import convert_images
    from sealift.exports.delivery import find_manifest
    from sealift.exports.errors import ExportsError
    from sealift.images.convert.formats import TargetFormat
    from sealift.transfer.errors import TransferError

    bad = 0
    try:
        connections = read_file(file) if file else Connections()
        opened = open_bucket(connections, cos_conn_id=cos_conn_id, bucket=bucket, region=region)
        found = [
            find_manifest(opened.cos, bucket=opened.bucket, prefix=prefix, wanted=one, period=period) for one in exports
        ]
    except (ConnectionProblem, CosError, ExportsError) as error:
        click.echo(f"Not converted: {error}", err=True)
        sys.exit(FAILED)
    for manifest, _ in found:
        try:
            with watching(quiet=as_json) as watcher:
                record, already = convert_images(
                    opened.cos,
                    bucket=manifest.bucket,
                    images=manifest.disks[0].key.rpartition("/")[0],
                    export_id=manifest.export_id,
                    disks=manifest.disks,
                    format_=TargetFormat(into),
                    made_by="sealift convert-export",
                    progress=Reads(watcher),
                )
        except (CosError, ExportsError, TransferError) as error:
            bad += 1
            click.echo(f"{manifest.export_id}: not converted: {error}", err=True)
            continue
        if as_json:
            click.echo(record.model_dump_json())
            continue
        click.echo(f"{manifest.export_id}: {len(record.disks)} images in {into}{', there already' if already else ''}")
        for disk in record.disks:
            more = f", filled up with {disk.filled_up:,} bytes of zeros" if disk.filled_up else ""
            click.echo(f"  {opened.bucket}/{disk.key}: {disk.size:,} bytes, a disk of {disk.virtual_size:,}{more}")
    sys.exit(FAILED if bad else 0)


class _Share:
    """Tells a watcher how much is done, out of shares from 0 to 1."""

    def __init__(self, watcher: Any, name: str, size: int) -> None:
        self._watcher, self._name, self._size, self._done = watcher, name, size, 0
        watcher.begins(name, size)

    def __call__(self, share: float) -> None:
        done = int(min(1.0, share) * self._size)
        self._watcher.arrived(self._name, done - self._done)
        self._done = done
