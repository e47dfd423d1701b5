"""Target kits in a delivery: made for the images that are there, with the digests that were just read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from sealift.exports.delivery_images import DeliveredDisk, DeliversFrom
from sealift.exports.kits import ConvertedImage, Kit, kits_of_delivery
from sealift.exports.kits.models import ImageFormat, Target
from sealift.exports.kits.writing import FOLDER
from sealift.exports.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class KitFiles:
    """The files of all kits.

    :param files: bytes by name, below the folder of the images.
    :param remarks: what is good to know of them, in sentences.
    """

    files: Mapping[str, bytes]
    remarks: tuple[str, ...]


def kits_below(
    cos: DeliversFrom,
    *,
    prefix: str,
    manifest: Manifest,
    sums: Mapping[str, str],
    converted: Sequence[DeliveredDisk],
    delivered: Collection[str],
) -> KitFiles:
    """Make the kits of a delivery, for all targets.

    :param cos: the object store.
    :param prefix: what all keys in the bucket begin with; may be empty.
    :param manifest: the export.
    :param sums: SHA-256 by name of the images that are there.
    :param converted: those that are in another format than the exported ones.
    :param delivered: names of all images that are there.
    :returns: the files.
    :raises LedgerError: what lies beside the export cannot be read.
    :raises KitError: the manifest is not what Sealift writes.
    """
    exported = {disk.key.rpartition("/")[2]: disk.key for disk in manifest.disks}
    others = {one.name for one in converted}
    root = manifest.disks[0].key.rpartition("/")[0]
    kits = kits_of_delivery(
        cos,
        prefix=prefix,
        manifest=manifest,
        digests={key: sums[name] for name, key in exported.items() if name in sums and name not in others},
        delivered=[
            ConvertedImage(
                key=one.converted_key or f"{root}/converted/{one.name}",
                format=cast(ImageFormat, one.format),  # the model checks it
                size=one.size,
                virtual_size=one.virtual_size,
                sha256=one.sha256,
                of_device=one.device,
            )
            for one in converted
        ],
    )
    missing = sorted(set(exported) - set(delivered))  # a fixed VHD is called as the dynamic one is, and serves as well
    return KitFiles(
        files={f"{FOLDER}/{kit.target}/{name}": body for kit in kits for name, body in kit.files.items()},
        remarks=_remarks(kits, missing),
    )


def _remarks(kits: Sequence[Kit], missing: Sequence[str]) -> tuple[str, ...]:
    """Say which kits count on exported images that are not there."""
    marks = [name.encode() for name in missing]
    wanting = [
        kit.target.label
        for kit in kits
        if kit.target is not Target.IBM_VPC
        and any(mark in body for name, body in kit.files.items() if name.endswith(".sh") for mark in marks)
    ]
    if not wanting:
        return ()
    return (
        f"The kits for {', '.join(wanting)} begin with the exported images ({', '.join(missing)}), which this delivery "
        "does not bring: deliver without a format as well, to another folder, or in a format that they take.",
    )
