"""The ledger: what the bucket says is exported. An export is done when, and only when, its manifest exists.

Listing the manifests costs a call for 1,000 of them, whoever asks about how many servers; a HEAD costs one for each
server. Each question here takes the way that is cheaper, and at most twice what the cheaper one would have cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.ports import CosApi

PAGE: Final = 1000
"""Objects on one page of a listing."""


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


def exported_guests(
    cos: CosApi,
    *,
    bucket: str,
    prefix: str,
    period: str,
    guest_ids: Collection[int],
    listed: list[ObjectInfo] | None = None,
) -> set[int]:
    """Return those of some guests that are exported for a period; the other parameters as for :func:`is_exported`.

    The manifests are listed; where they fill more pages than there are guests to ask about, those of whom the pages
    read so far say nothing are asked for one by one.

    :param guest_ids: the guests to ask about.
    :param listed: what was listed is added here.
    :returns: the ids of those that are exported.
    """
    wanted = {names.manifest_key(prefix=prefix, guest_id=one, period=period): one for one in guest_ids}
    if not wanted:
        return set()
    found = set()
    for number, info in enumerate(cos.list(bucket, names.manifests_prefix(prefix)), start=1):
        if listed is not None:
            listed.append(info)
        if info.key in wanted:
            found.add(wanted[info.key])
        if number >= PAGE * len(wanted):
            # Keys come in the order of their bytes.
            later = {key: one for key, one in wanted.items() if key.encode() > info.key.encode()}
            return found | {one for key, one in later.items() if cos.head(bucket, key) is not None}
    return found


def exported_periods(
    cos: CosApi, *, bucket: str, prefix: str, guest_ids: Collection[int], listed: list[ObjectInfo] | None = None
) -> dict[int, dict[str, datetime]]:
    """Return for which periods some guests are exported; parameters as for :func:`exported_guests`.

    :returns: by guest and period, when the manifest was written. Guests without any are left out.
    """
    wanted = set(guest_ids)
    found: dict[int, dict[str, datetime]] = defaultdict(dict)
    for info in cos.list(bucket, names.manifests_prefix(prefix)):
        if listed is not None:
            listed.append(info)
        parsed = names.parse_manifest_key(info.key)
        if parsed is not None and parsed[0] in wanted:
            found[parsed[0]][parsed[1]] = info.last_modified
    return dict(found)


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
