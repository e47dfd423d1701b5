"""``sealift prove``: whether image files are whole, by their structure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sealift.cli.amounts import amount

WHOLE, NOT_WHOLE = 0, 1


@click.command(
    epilog="Exit status: 0 if every image is whole as far as level L1 sees, 1 if not. L1 reads the structure, about a "
    "mebibyte of each image: a bit that flipped inside a stored block is for a digest to find (sha256sum --check)."
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--capacity",
    callback=amount,
    metavar="BYTES",
    help="Capacity that the disk must have, as 100G (10^9 and 2^30 are both taken for it).",
)
@click.option("--boot-disk", is_flag=True, help="The server starts from it: a blank first sector is then a failure.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each image.")
def prove(images: tuple[Path, ...], capacity: float | None, boot_disk: bool, as_json: bool) -> None:
    """Prove image files at level L1: VHD (fixed, dynamic), VMDK (monolithicSparse, streamOptimized) and qcow2."""
    from sealift.images.proof import ProofFailed, prove_image
    from sealift.images.source import FileSource
    from sealift.images.verdict import Check

    bad = 0
    for path in images:
        checks: list[Check] = []
        words = ""
        try:
            with FileSource(path) as source:
                proof = prove_image(
                    source, expected_capacity_bytes=None if capacity is None else int(capacity), boot_disk=boot_disk
                )
            checks = proof.checks
            words = f"{proof.format}, a disk of {proof.virtual_size:,} bytes, {proof.partition_table}"
            if as_json:
                click.echo(json.dumps({"file": str(path), **proof.model_dump(mode="json")}))
        except ProofFailed as error:
            bad += 1
            checks, words = error.checks, f"not whole: {error.detail}"
            if as_json:
                found = [one.model_dump() for one in error.checks]
                click.echo(json.dumps({"file": str(path), "failed": error.check_id, "detail": words, "checks": found}))
        except OSError as error:
            bad += 1
            words = f"cannot be read: {error.strerror or error}"
        if not as_json or not checks:
            click.echo(f"{path}: {words}", err=as_json)
        for check in checks if not as_json else ():
            click.echo(f"  {'ok ' if check.passed else 'BAD'} {check.id}: {check.detail}")
    sys.exit(NOT_WHOLE if bad else WHOLE)
