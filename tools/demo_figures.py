"""What the demo counts: what was due by the account's own state, and what came out by the bucket.

Neither figure comes from the plan that the run made for itself, so that a plan that forgets a server is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sealift.exports import names
from sealift.exports.manifest import Manifest, parse_manifest
from sealift.exports.ports import CosApi
from sealift.exports.report import OutcomeKind, ServerOutcome

# Proofs from this level on have read the image, not only listed it.
PROVEN = frozenset({"L1", "L2", "L3", "L4"})


@dataclass(frozen=True)
class Figures:
    """How many servers ended how."""

    exported: int = 0
    disks: int = 0
    not_exportable: int = 0
    failed: int = 0

    def sentence(self) -> str:
        """Say it in one line, the demo's last."""
        return (
            f"demo: {self.exported} exported, {self.disks} disks proven, {self.not_exportable} not exportable, "
            f"{self.failed} failed"
        )


def due(guests: Iterable[Mapping[str, Any]]) -> Figures:
    """Work out what a whole export has to give.

    :param guests: the sandbox's own account of its servers: ``exportable`` and ``disks`` (those that hold data).
    :returns: the figures, with no failure.
    """
    guests = list(guests)
    exportable = [guest for guest in guests if guest["exportable"]]
    return Figures(
        exported=len(exportable),
        disks=sum(len(guest["disks"]) for guest in exportable),
        not_exportable=len(guests) - len(exportable),
    )


def read_manifests(cos: CosApi, *, bucket: str, prefix: str, period: str) -> dict[int, tuple[str, Manifest]]:
    """Read the manifests that a run has left.

    :param cos: a client of the object store.
    :param bucket: the bucket.
    :param prefix: the run's prefix.
    :param period: what the run's exports are for; a manual run's own.
    :returns: key and manifest by guest id.
    """
    found = {}
    for info in cos.list(bucket, names.manifests_prefix(prefix)):
        guest_id, exported = names.parse_manifest_key(info.key) or (0, "")
        if exported == period:
            body = cos.read(bucket, info.key)
            assert body is not None, f"{info.key} was listed and is gone"
            found[guest_id] = (info.key, parse_manifest(body, bucket=bucket, key=info.key))
    return found


def counted(manifests: Iterable[Manifest], outcomes: Iterable[ServerOutcome]) -> Figures:
    """Count what came out.

    :param manifests: what is in the bucket.
    :param outcomes: how every server ended, by the run's report; those that have a manifest are not counted again.
    :returns: the figures. Whatever has no manifest and was not refused by a rule counts as failed.
    """
    done = {manifest.guest.id: manifest for manifest in manifests}
    others = [one for one in outcomes if not (one.server == "virtual" and one.id in done)]
    refused = sum(one.kind is OutcomeKind.NOT_EXPORTABLE for one in others)
    return Figures(
        exported=len(done),
        disks=sum(disk.proof_level in PROVEN for manifest in done.values() for disk in manifest.disks),
        not_exportable=refused,
        failed=len(others) - refused,
    )
