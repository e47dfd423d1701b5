"""Proofs of a whole server: what its disks hold together (level L3), and that it starts (level L4).

Both read the images where they are, in the bucket, by ranges that demand the ETags that were proven.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealift.exports.errors import StepError
from sealift.exports.manifest import ManifestCheck, ManifestDisk
from sealift.exports.ports import CosApi
from sealift.exports.proofs import ProvenBoot, ProvenContent, ProvenTry, screen_key
from sealift.images.boot_proof import BootProof, prove_boot
from sealift.images.content.content_proof import ContentProof, prove_content
from sealift.images.content.handover import take_kernel
from sealift.images.emulator import EmulatorError
from sealift.images.source import RangeSource
from sealift.images.verdict import Check, ProofLevel
from sealift.images.virtual_disk import open_disk

log = logging.getLogger(__name__)

BOOT_SECONDS: Final = 300.0
"""How long a server may take to its login prompt; emulation is ten to twenty times slower than a server."""

_BOOT_DEVICE: Final = "0"


@dataclass(frozen=True, kw_only=True)
class ServerImages:
    """The images of one server, as they lie in the bucket.

    :param hostname: what the account calls the server.
    :param guest_id: its id there.
    :param period: the export's period.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param disks: the disks, as they were proven.
    :param sources: the image of each, for range reads that demand its ETag.
    """

    hostname: str
    guest_id: int
    period: str
    bucket: str
    prefix: str
    disks: Sequence[ManifestDisk]
    sources: Sequence[RangeSource]

    @property
    def boot_index(self) -> int:
        """Place of the disk that the server starts from: device 0, else the first."""
        return next((place for place, disk in enumerate(self.disks) if disk.device == _BOOT_DEVICE), 0)


@dataclass(frozen=True, kw_only=True)
class ProvenServer:
    """What was found of a server.

    :param level: L3, or L4 where it was started and showed a login prompt.
    :param content: what its disks hold.
    :param boot: what starting it showed; None where that was not wanted.
    """

    level: ProofLevel
    content: ProvenContent
    boot: ProvenBoot | None


def prove_server(cos: CosApi, images: ServerImages, *, level: ProofLevel) -> ProvenServer:
    """Prove a server's disks together.

    A server whose system cannot be read, as Windows, is not started: it would show no login prompt that a program can
    see. Its proof stays at L3 and says so.

    :param cos: the object store, for the picture of the screen.
    :param images: the server's images.
    :param level: L3 or L4.
    :returns: what was found.
    :raises ProofFailed: naming every check that failed.
    :raises StepError: it could not be started here at all: QEMU is missing, or failed by itself.
    :raises sealift.cos.errors.CosError: an object was replaced or deleted, or the object store did not answer.
    """
    virtual = [open_disk(source) for source in images.sources]
    boot_index = images.boot_index
    numbers = [int(disk.device) if disk.device.isdigit() else -1 for disk in images.disks]
    proof = prove_content(virtual, boot_index=boot_index, device_numbers=numbers)
    content = ProvenContent(
        checks=_as_manifest_checks(proof.checks),
        remarks=[
            *(ManifestCheck(id=one.id, detail=one.detail) for one in proof.remarks),
            *_other_name(proof.system.hostname, images.hostname),
        ],
        system=proof.system,
    )
    if level < ProofLevel.L4:
        return ProvenServer(level=ProofLevel.L3, content=content, boot=None)
    if not proof.system.root_volume:
        words = "not started: its operating system is not one of those whose login prompt can be seen"
        skipped = ProvenBoot(proves="nothing", checks=[ManifestCheck(id="boot.login", detail=words)], tries=[])
        return ProvenServer(level=ProofLevel.L3, content=content, boot=skipped)
    disks = [virtual[boot_index], *(one for place, one in enumerate(virtual) if place != boot_index)]
    boot = _start(cos, images, disks, proof)
    return ProvenServer(level=ProofLevel.L4, content=content, boot=boot)


def _start(cos: CosApi, images: ServerImages, disks: Sequence[RangeSource], content: ContentProof) -> ProvenBoot:
    """Start a server, the disk that it starts from first."""
    with tempfile.TemporaryDirectory(prefix="sealift-boot-") as folder:
        try:
            proof = prove_boot(
                disks,
                folder=Path(folder),
                firmware="uefi" if content.starts_by_uefi else "bios",
                direct=lambda place: take_kernel(disks, folder=place),
                loader_needed=not content.starts_without_loader,
                seconds=BOOT_SECONDS,
                told=lambda words: log.info("%s: %s", images.hostname, words),
            )
        except EmulatorError as error:
            raise StepError(
                f"{images.hostname} could not be started in an emulated machine, which level L4 needs: {error} Then "
                "clear this task, which does not capture the server again; or choose a lower level for the next plan."
            ) from error
        return ProvenBoot(
            proves=proof.proves,
            checks=_as_manifest_checks(proof.checks),
            tries=[
                ProvenTry(
                    how=one.how, bus=one.bus, login=one.login, kernel=one.kernel, said=one.said, seconds=one.seconds
                )
                for one in proof.tries
            ],
            screenshot=_keep_screen(cos, images, proof),
        )


def _keep_screen(cos: CosApi, images: ServerImages, proof: BootProof) -> str | None:
    picture = proof.tries[-1].screenshot
    if picture is None or not picture.is_file():
        return None
    body = picture.read_bytes()
    key = screen_key(prefix=images.prefix, guest_id=images.guest_id, period=images.period, picture=body)
    cos.put_if_absent(images.bucket, key, body, content_type="image/png")
    return key


def _as_manifest_checks(checks: Sequence[Check]) -> list[ManifestCheck]:
    return [ManifestCheck(id=one.id, detail=one.detail) for one in checks]


def _other_name(named: str, known: str) -> list[ManifestCheck]:
    """Say where the disks call themselves otherwise: people do that, but so would another server's disks look."""
    own = named.partition(".")[0].lower()
    if not own or own == known.lower():
        return []
    words = f"the disks are those of {own!r} by their own word, not of {known.lower()}"
    return [ManifestCheck(id="system.hostname", detail=words)]
