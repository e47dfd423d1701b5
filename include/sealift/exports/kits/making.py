"""Kits of an export by what lies in the bucket: its record, what was proven of it later, and its converted images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from sealift.exports.kits.build import build_kits
from sealift.exports.kits.models import ConvertedImage, ImageFormat, Kit, Target
from sealift.exports.kits.system import guest_system
from sealift.exports.manifest import Manifest
from sealift.exports.ports import CosApi
from sealift.exports.proofs import known_digests, read_proofs
from sealift.exports.record import parse_record, read_record


def kits_of(
    cos: CosApi,
    *,
    prefix: str,
    manifest: Manifest,
    converted: Sequence[ConvertedImage],
    digests: Mapping[str, str] | None = None,
    targets: Iterable[Target] = tuple(Target),
) -> list[Kit]:
    """Make the kits of an export.

    :param cos: the object store.
    :param prefix: what all keys begin with; may be empty.
    :param manifest: the export.
    :param converted: its images in other formats, that the kits may count on.
    :param digests: SHA-256 of its exported images by key, where they have just been read.
    :param targets: where to; each once.
    :returns: a kit for each target, in the order given.
    :raises LedgerError: the record was changed, or what lies beside the export cannot be read.
    :raises KitError: the manifest, or a converted image, is not what Sealift writes.
    """
    body = read_record(cos, bucket=manifest.bucket, record=manifest.record)
    record = parse_record(body, bucket=manifest.bucket, key=manifest.record.key)
    proofs = read_proofs(cos, bucket=manifest.bucket, prefix=prefix, manifest=manifest)
    known = known_digests(manifest, proofs) | dict(digests or {})
    contents = [one.content for one in proofs if one.content is not None]
    system = guest_system(contents[-1].system) if contents else None
    disks = [disk.model_copy(update={"sha256": known.get(disk.key)}) for disk in manifest.disks]
    return build_kits(manifest.model_copy(update={"disks": disks}), record, system, converted, targets)


def kits_of_delivery(
    cos: CosApi,
    *,
    prefix: str,
    manifest: Manifest,
    delivered: Sequence[ConvertedImage],
    digests: Mapping[str, str] | None = None,
    targets: Iterable[Target] = tuple(Target),
) -> list[Kit]:
    """Make the kits that stand below the images of a delivery; the other parameters are those of :func:`kits_of`.

    :param delivered: the export's images in other formats that were delivered: kits count on no others. Only VPC takes
        its images from the bucket, and so counts on those that lie there.
    :returns: a kit for each target, in the order given.
    """
    wanted = list(dict.fromkeys(targets))
    made: dict[Target, Kit] = {}
    for some, converted in (
        ([one for one in wanted if one is not Target.IBM_VPC], delivered),
        ([one for one in wanted if one is Target.IBM_VPC], None),
    ):
        if some:
            known = converted_in_bucket(cos, manifest) if converted is None else converted
            kits = kits_of(cos, prefix=prefix, manifest=manifest, converted=known, digests=digests, targets=some)
            made |= {kit.target: kit for kit in kits}
    return [made[one] for one in wanted]


def converted_in_bucket(cos: CosApi, manifest: Manifest) -> list[ConvertedImage]:
    """Find the images in other formats that lie in the bucket, and were made of just these exported ones.

    :param cos: the object store.
    :param manifest: the export.
    """
    from sealift.exports.converting import FORMATS, read_conversion

    images = manifest.disks[0].key.rpartition("/")[0]
    found = [read_conversion(cos, bucket=manifest.bucket, images=images, format_=one) for one in FORMATS]
    return [
        ConvertedImage(
            key=disk.key,
            format=cast(ImageFormat, disk.format),  # the model checks it
            size=disk.size,
            virtual_size=disk.virtual_size,
            sha256=disk.sha256,
            of_device=disk.device,
        )
        for record in found
        if record is not None and record.is_of(manifest.disks)
        for disk in record.disks
    ]
