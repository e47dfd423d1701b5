"""Whole servers for the tests of level L3, and short words to prove them with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealift.images.content.content_proof import ContentProof, prove_content
from sealift.images.source import BytesSource, RangeSource
from sealift.images.verdict import ProofFailed
from tests.images.servers import (
    MIB,
    Patched,
    make_ext,
    mbr_disk,
    server_files,
    write_tree,
)

Change = Callable[[dict[str, bytes | str]], object]


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Makes file systems and disks."""

    folder: Path

    def ext(self, files: dict[str, bytes | str], *, size: int = 12 * MIB, **more: Any) -> bytes:
        number = len(list(self.folder.iterdir()))
        tree = write_tree(self.folder / f"tree-{number}", files) if files else None
        return make_ext(self.folder / f"{number}.img", size=size, tree=tree, **more).read_bytes()

    def server(self, change: Change | None = None, **more: Any) -> bytes:
        """Return a boot disk with one partition."""
        files = server_files(**more)
        if change:
            change(files)
        return mbr_disk([(0x83, self.ext(files))], size=14 * MIB)


def prove(*disks: bytes | Patched, **more: Any) -> ContentProof:
    sources: list[RangeSource] = [BytesSource(disk) if isinstance(disk, bytes) else disk for disk in disks]
    return prove_content(sources, **more)


def failure(*disks: bytes | Patched, **more: Any) -> dict[str, str]:
    """Return the failed checks of disks that are not proven, by their ids."""
    with pytest.raises(ProofFailed) as failed:
        prove(*disks, **more)
    found: dict[str, str] = {}
    for check in failed.value.checks:
        if not check.passed:
            found[check.id] = f"{found[check.id]}; {check.detail}" if check.id in found else check.detail
            assert check.detail in str(failed.value)
    return found


def remarks(proof: ContentProof) -> str:
    return "\n".join(remark.detail for remark in proof.remarks)
