"""The ledger: what the bucket says is exported. An export is done when, and only when, its manifest exists."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sealift.exports import names
from sealift.exports.ports import CosApi

HEADS_AT_MOST = 200
"""Up to this many guests are asked for one by one; for more, the manifests are listed, 1,000 to a page."""


def is_exported(cos: CosApi, *, bucket: str, prefix: str, guest_id: int, period: str) -> bool:
    """Say whether the manifest of (guest, period) exists.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the virtual server.
    :param period: the scheduled slot or manual run.
    :returns: True where there is a manifest, whatever it says.
    """
    return cos.head(bucket, names.manifest_key(prefix=prefix, guest_id=guest_id, period=period)) is not None


def exported_guests(cos: CosApi, *, bucket: str, prefix: str, period: str, guest_ids: Collection[int]) -> set[int]:
    """Return those of some guests that are exported for a period; the other parameters as for :func:`is_exported`.

    :param guest_ids: the guests to ask about.
    :returns: the ids of those that are exported.
    """
    wanted = set(guest_ids)
    if len(wanted) <= HEADS_AT_MOST:
        return {one for one in wanted if is_exported(cos, bucket=bucket, prefix=prefix, guest_id=one, period=period)}
    return {
        guest_id
        for guest_id, exported in manifests(cos, bucket=bucket, prefix=prefix)
        if exported == period and guest_id in wanted
    }


def manifests(cos: CosApi, *, bucket: str, prefix: str, guest_id: int | None = None) -> Iterator[tuple[int, str]]:
    """List what is exported, of all guests or of one.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the one guest, or None for all.
    :returns: pairs of guest id and period.
    """
    for info in cos.list(bucket, names.manifests_prefix(prefix, guest_id)):
        parsed = names.parse_manifest_key(info.key)
        if parsed is not None:
            yield parsed
