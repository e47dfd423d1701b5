"""``sealift prove`` and ``sealift prove-export``: whether images are whole, on a disk and in the bucket."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sealift.cli.amounts import amount
from sealift.cli.bucket import bucket_options, open_bucket
from sealift.cli.watching import watching
from sealift.connections import ConnectionProblem

if TYPE_CHECKING:
    from sealift.images.content.content_proof import ContentProof
    from sealift.images.verdict import DiskProof, ProofFailed, ProofLevel
    from sealift.images.virtual_disk import VirtualDisk

WHOLE, NOT_WHOLE = 0, 1


@click.command(
    epilog="Exit status: 0 if every image is whole as far as the level sees, 1 if not. L1 reads the structure, about a "
    "mebibyte of each image. L2 reads every byte, and compares its SHA-256 with the one in a SHA256SUMS file "
    "beside the image, where there is one. L3 takes the images for the disks of one server, the one that it "
    "starts from first, and reads their file systems: whether these are whole and hold what the server needs to "
    "start. L4 starts them in an emulated machine (qemu-system-x86_64) until a login prompt shows: by their own "
    "boot loader, and if that shows none, with the kernel that it would take handed over, which proves all but the "
    "boot loader; it says which. Each level "
    "includes the ones before it."
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--capacity",
    callback=amount,
    metavar="BYTES",
    help="Capacity that the disk must have, as 100G (10^9 and 2^30 are both taken for it).",
)
@click.option("--boot-disk", is_flag=True, help="The server starts from it: a blank first sector is then a failure.")
@click.option(
    "--level",
    type=click.Choice(["L1", "L2", "L3", "L4"]),
    default="L1",
    show_default=True,
    help="How deep to look.",
)
@click.option("--skip-bytes", is_flag=True, help="Leave L2 out of L3 and L4: not every byte is read then.")
@click.option("--screenshots", type=click.Path(path_type=Path), help="A new folder for what L4 saw.")
@click.option(
    "--boot-time",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each try of L4 may take. Emulation is ten to twenty times slower than a server.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each image, and for the server.")
def prove(
    images: tuple[Path, ...],
    capacity: float | None,
    boot_disk: bool,
    level: str,
    skip_bytes: bool,
    screenshots: Path | None,
    boot_time: float,
    as_json: bool,
) -> None:
    """Prove image files: VHD (fixed, dynamic), VMDK (monolithicSparse, streamOptimized) and qcow2."""
    from sealift.images.proof import ProofFailed
    from sealift.images.verdict import Check, ProofLevel

    wanted = ProofLevel(level)
    each = ProofLevel.L1 if skip_bytes or wanted is ProofLevel.L1 else ProofLevel.L2
    bad = 0
    for number, path in enumerate(images):
        checks: list[Check] = []
        try:
            proof = _prove_file(
                path,
                level=each,
                capacity=None if capacity is None else int(capacity),
                boot_disk=boot_disk or (wanted > ProofLevel.L2 and number == 0),
                quiet=as_json,
            )
            checks = proof.checks
            words = f"{proof.format}, a disk of {proof.virtual_size:,} bytes, {proof.partition_table}"
            if as_json:
                click.echo(json.dumps({"file": str(path), **proof.model_dump(mode="json")}))
        except ProofFailed as error:
            bad += 1
            checks, words = error.checks, f"not whole: {error.detail}"
            if as_json:
                _tell_failure(str(path), error)
        except OSError as error:
            bad += 1
            words = f"cannot be read: {error.strerror or error}"
        if not as_json or not checks:
            click.echo(f"{path}: {words}", err=as_json)
        if not as_json:
            _tell((check.passed, check.id, check.detail) for check in checks)
    if not bad and wanted > ProofLevel.L2:
        bad = not _prove_server(images, wanted, screenshots=screenshots, seconds=boot_time, as_json=as_json)
    sys.exit(NOT_WHOLE if bad else WHOLE)


def _prove_server(
    images: Sequence[Path], level: ProofLevel, *, screenshots: Path | None, seconds: float, as_json: bool
) -> bool:
    """Prove the images as the disks of one server; say what was found, and whether it is good."""
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from sealift.images.boot_proof import prove_boot
    from sealift.images.content.handover import take_kernel
    from sealift.images.emulator import EmulatorError
    from sealift.images.proof import ProofFailed
    from sealift.images.source import FileSource, ImageFormatError
    from sealift.images.verdict import ProofLevel
    from sealift.images.virtual_disk import open_disk

    with ExitStack() as stack:
        try:
            disks = [open_disk(stack.enter_context(FileSource(path))) for path in images]
            content, failure = _prove_content(disks, level, as_json=as_json)
            if level is not ProofLevel.L4:
                return True
            folder = screenshots or Path(stack.enter_context(TemporaryDirectory(prefix="sealift-boot-")))
            folder.mkdir(parents=True, exist_ok=True)
            firmware: Any = "uefi" if content and content.starts_by_uefi else "bios"
            boot = prove_boot(
                disks,
                folder=folder,
                firmware=firmware,
                direct=lambda place: take_kernel(disks, folder=place),
                loader_needed=failure is None and not (content and content.starts_without_loader),
                seconds=seconds,
                told=lambda words: click.echo(f"  ..  {words}", err=True),
            )
            if as_json:
                click.echo(boot.model_dump_json())
            else:
                click.echo(f"it starts: this proves {boot.proves}")
                _tell((True, one.id, one.detail) for one in boot.checks)
            return failure is None
        except ProofFailed as error:
            if as_json:
                _tell_failure("the server", error)
            else:
                click.echo(f"the server: not whole: {error.detail}")
                _tell((check.passed, check.id, check.detail) for check in error.checks)
            return False
        except (EmulatorError, ImageFormatError, OSError) as error:
            click.echo(f"the server: cannot be proven: {error}", err=True)
            return False


def _prove_content(
    disks: Sequence[VirtualDisk], level: ProofLevel, *, as_json: bool
) -> tuple[ContentProof | None, ProofFailed | None]:
    """Prove what is on the disks, and say it. At L4 a server of which only the boot loader is damaged is started
    nonetheless, to say whether the rest of it is good."""
    from sealift.images.content.content_proof import prove_content
    from sealift.images.proof import ProofFailed
    from sealift.images.verdict import ProofLevel

    try:
        content = prove_content(disks)
    except ProofFailed as error:
        failed = {check.id for check in error.checks if not check.passed}
        if level is not ProofLevel.L4 or not failed <= {"boot.loader", "boot.configuration"}:
            raise
        if as_json:
            _tell_failure("the server", error)
        else:
            click.echo(f"the server: not whole: {error.detail}")
            _tell((check.passed, check.id, check.detail) for check in error.checks)
        return None, error
    if as_json:
        click.echo(content.model_dump_json())
    else:
        click.echo(f"the server: {content.system.os_name or 'no known system'}, {content.bytes_read:,} bytes read")
        _tell((True, one.id, one.detail) for one in content.checks)
        for remark in content.remarks:
            click.echo(f"  --  {remark.id}: {remark.detail}")
    return content, None


def _tell_failure(what: str, error: ProofFailed) -> None:
    found = [one.model_dump() for one in error.checks]
    told = {"file": what, "failed": error.check_id, "detail": f"not whole: {error.detail}", "checks": found}
    click.echo(json.dumps(told))


def _prove_file(path: Path, *, level: ProofLevel, capacity: int | None, boot_disk: bool, quiet: bool) -> DiskProof:
    from sealift.exports.delivery import SUMS, parse_sums
    from sealift.images.proof import KnownDigests, ProofLevel, prove_image
    from sealift.images.source import FileSource

    with FileSource(path) as source:
        if level is ProofLevel.L1:
            return prove_image(source, expected_capacity_bytes=capacity, boot_disk=boot_disk)
        sums = path.parent / SUMS
        known = parse_sums(sums.read_bytes()).get(path.name) if sums.is_file() else None
        with watching(quiet=quiet or not sys.stderr.isatty()) as watcher:
            watcher.begins(path.name, source.size)
            return prove_image(
                source,
                expected_capacity_bytes=capacity,
                boot_disk=boot_disk,
                level=level,
                known=KnownDigests(sha256=known),
                passed=lambda count: watcher.checked(path.name, count),
            )


@click.command(
    "prove-export",
    epilog="EXPORT is an export id (12345678-20261123T0200Z), or a virtual server's id or host name for the export of "
    "it that was captured last. Exit status: 0 if every disk is whole, 1 if not. The connection comes from the "
    "environment (AIRFLOW_CONN_IBM_COS_DEFAULT, in Airflow's JSON or URI form) or from the file that --connections "
    "names.",
)
@click.argument("exports", metavar="EXPORT...", nargs=-1, required=True)
@click.option(
    "--level", type=click.Choice(["L2", "L3", "L4"]), default="L2", show_default=True, help="How deep to look."
)
@click.option("--period", help="The slot or manual run, where EXPORT names a server.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each export.")
@bucket_options
def prove_export(
    exports: tuple[str, ...],
    level: str,
    period: str | None,
    as_json: bool,
    bucket: str | None,
    prefix: str,
    region: str | None,
    file: Path | None,
    cos_conn_id: str,
) -> None:
    """Prove finished exports in the bucket once more, deeper, and add what was found beside their manifests.

    Every byte is read, nothing is written to this machine's disk. The digests are compared with the object store's own
    and with those that were noted before. L3 reads the file systems of all of a server's disks as well, L4 also starts
    the server in an emulated machine (QEMU), which reads its disks from the bucket.
    """
    from sealift.cli.connections import Connections, read_file
    from sealift.cos.errors import CosError
    from sealift.exports.delivery import find_manifest
    from sealift.exports.errors import ExportsError
    from sealift.exports.names import normal_prefix
    from sealift.exports.proving_later import prove_again
    from sealift.images.verdict import ProofLevel

    bad = 0
    try:
        connections = read_file(file) if file else Connections()
        opened = open_bucket(connections, cos_conn_id=cos_conn_id, bucket=bucket, region=region)
        found = [
            find_manifest(opened.cos, bucket=opened.bucket, prefix=prefix, wanted=one, period=period) for one in exports
        ]
    except (ConnectionProblem, CosError, ExportsError) as error:
        click.echo(f"Not proven: {error}", err=True)
        sys.exit(NOT_WHOLE)
    for manifest, _ in found:
        try:
            with watching(quiet=as_json) as watcher:
                proof, key = prove_again(
                    opened.cos,
                    manifest,
                    prefix=normal_prefix(prefix),
                    level=ProofLevel(level),
                    made_by="sealift prove-export",
                    progress=Reads(watcher),
                )
        except (CosError, ExportsError) as error:
            bad += 1
            click.echo(f"{manifest.export_id}: not proven: {error}", err=True)
            continue
        if as_json:
            click.echo(proof.model_dump_json())
            continue
        click.echo(f"{manifest.export_id}: proven at {proof.proof_level}, noted in {opened.bucket}/{key}")
        for disk in proof.disks:
            click.echo(f" {disk.key}: SHA-256 {disk.sha256}")
            _tell((True, check.id, check.detail) for check in disk.checks)
        if proof.content is not None:
            click.echo(f" the server: {proof.content.system.os_name or 'no known system'}")
            _tell((True, check.id, check.detail) for check in proof.content.checks)
            for remark in proof.content.remarks:
                click.echo(f"  --  {remark.id}: {remark.detail}")
        if proof.boot is not None:
            _tell((bool(proof.boot.tries), check.id, check.detail) for check in proof.boot.checks)
            if proof.boot.screenshot:
                click.echo(f" its screen: {opened.bucket}/{proof.boot.screenshot}")
    sys.exit(NOT_WHOLE if bad else WHOLE)


class Reads:
    """Tells a watcher of objects that are read, each from its first byte on.

    :param watcher: what :func:`sealift.cli.watching.watching` gives.
    """

    def __init__(self, watcher: Any) -> None:
        self._watcher = watcher
        self._begun: set[str] = set()

    def __call__(self, key: str, size: int, count: int) -> None:
        name = key.rpartition("/")[2]
        if key not in self._begun:
            self._begun.add(key)
            self._watcher.begins(name, size)
        self._watcher.checked(name, count)


def _tell(checks: Iterable[tuple[bool, str, str]]) -> None:
    for passed, id_, detail in checks:
        click.echo(f"  {'ok ' if passed else 'BAD'} {id_}: {detail}")
