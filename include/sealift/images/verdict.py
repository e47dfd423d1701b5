"""What a proof says: its level, each check it made, and how it fails."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class ProofLevel(StrEnum):
    """How deep a proof looks. Each level includes the ones before it.

    - ``L0``: every expected object is in the bucket, with a size, unchanged over two looks.
    - ``L1``: the image's structure, by range reads of less than 1 MiB; see :func:`sealift.images.proof.prove_vhd`.
    - ``L2``: every stored byte was read and compared with a digest.
    - ``L3``: the file systems inside are whole and hold what the server needs to start.
    - ``L4``: the image was started and answered.
    """

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"
    L4 = "L4"


class Check(BaseModel):
    """One thing that was looked at. ``detail`` says what was found, where, and what was expected."""

    model_config = ConfigDict(frozen=True)

    id: str
    passed: bool
    detail: str


class DiskProof(BaseModel):
    """The proof of one disk image. Sizes are bytes."""

    model_config = ConfigDict(frozen=True)

    level: ProofLevel
    format: str
    """``vhd-dynamic`` or ``vhd-fixed``."""
    size: int
    virtual_size: int
    footer_uuid: str
    creator: str
    checks: list[Check]
    partition_table: str
    """``mbr: 2 partitions``, ``gpt: …``, or ``none: `` and the reason."""
    partitions: list[dict[str, Any]]
    """Each with number, type, type_name, name, start, size and bootable."""
    bytes_read: int
    requests: int
    sha256: str | None = None
    """SHA-256 of the whole file in hexadecimal digits, from level L2 on."""
    crc64nvme: str | None = None
    """CRC-64/NVME of the whole file, base64 as S3's headers carry it, from level L2 on."""


class ProofFailed(Exception):  # noqa: N818 - the name is the event: the image is not proven
    """An image is not whole.

    :param check_id: the first check that failed.
    :param detail: every failed check in words.
    :param checks: all checks that were made, failed or not.
    """

    def __init__(self, check_id: str, detail: str, checks: list[Check]) -> None:
        super().__init__(check_id, detail, checks)
        self.check_id = check_id
        self.detail = detail
        self.checks = checks

    def __str__(self) -> str:
        return f"{self.check_id}: {self.detail}"


class Checks:
    """Collects checks, so that a failed proof can say everything that is wrong at once.

    :param made: checks that were made before.
    """

    def __init__(self, made: Iterable[Check] = ()) -> None:
        self.made: list[Check] = list(made)

    def record(self, id_: str, passed: bool, detail: str) -> bool:
        """Note a check and return whether it passed.

        :param id_: name of the check.
        :param passed: whether it passed.
        :param detail: what was found, where, and what was expected.
        :returns: ``passed``.
        """
        self.made.append(Check(id=id_, passed=passed, detail=detail))
        return passed

    def raise_if_failed(self) -> None:
        """Raise if any check so far failed.

        :raises ProofFailed: naming every failed check.
        """
        failed = [check for check in self.made if not check.passed]
        if failed:
            raise ProofFailed(failed[0].id, "; ".join(check.detail for check in failed), list(self.made))

    def fail(self, id_: str, detail: str) -> ProofFailed:
        """Note a failed check after which nothing more can be looked at, and return the exception to raise.

        :param id_: name of the check.
        :param detail: what was found, where, and what was expected.
        :returns: the exception, which names every failed check.
        """
        self.record(id_, False, detail)
        failed = [check for check in self.made if not check.passed]
        return ProofFailed(failed[0].id, "; ".join(check.detail for check in failed), list(self.made))
