"""All objects of an export, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator

from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.ports import CosApi


def objects_at(cos: CosApi, bucket: str, *, prefix: str, images: str, export: str) -> Iterator[ObjectInfo]:
    """List every object of an export but its manifest: images, record, kits, converted images, later proofs.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param images: what the keys of its images begin with.
    :param export: the export id.
    :returns: the objects.
    """
    guest_id, period = names.parse_export_id(export)
    yield from cos.list(bucket, f"{images}/")
    yield from cos.list(bucket, names.proofs_prefix(prefix=prefix, guest_id=guest_id, period=period))
