"""The ledger: what the bucket says is exported. An export is done when, and only when, its manifest exists.

Listing the manifests costs a call for 1,000 of them, whoever asks about how many servers; a HEAD costs one for each
server. Each question here takes the way that is cheaper, and at most twice what the cheaper one would have cost.

An export that is being removed has a manifest with a mark, and does not count. A listing does not show marks: notes in
a place of their own tell where to look for them, and are as few as exports are being removed at the moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

from sealift.cos.models import ObjectInfo
from sealift.exports import names
from sealift.exports.manifest import is_marked
from sealift.exports.ports import CosApi
from sealift.exports.retention import keys

PAGE: Final = 1000
"""Objects on one page of a listing."""


def is_exported(cos: CosApi, *, bucket: str, prefix: str, guest_id: int, period: str) -> bool:
    """Say whether the manifest of (guest, period) exists.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the virtual server.
    :param period: the scheduled slot or manual run.
    :returns: True where there is a manifest, whatever it says, but for the mark that its export is being removed.
    """
    body = cos.read(bucket, names.manifest_key(prefix=prefix, guest_id=guest_id, period=period))
    return body is not None and not is_marked(body)


def being_removed(cos: CosApi, *, bucket: str, prefix: str) -> set[tuple[int, str]]:
    """Return the exports that are being removed: it costs a page, and a read for each that a note tells of.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :returns: pairs of guest id and period.
    """
    root = keys.removing_prefix(prefix)
    noted = [parsed for info in cos.list(bucket, root) if (parsed := keys.parse_export_key(info.key, root))]
    return {
        (guest_id, period)
        for guest_id, period in noted
        if is_marked(cos.read(bucket, names.manifest_key(prefix=prefix, guest_id=guest_id, period=period)))
    }


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
            found |= {one for key, one in later.items() if cos.head(bucket, key) is not None}
            break
    if not found:
        return found
    return found - {guest_id for guest_id, one in being_removed(cos, bucket=bucket, prefix=prefix) if one == period}


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
    for guest_id, period in being_removed(cos, bucket=bucket, prefix=prefix) if found else ():
        found[guest_id].pop(period, None)
    return {guest_id: periods for guest_id, periods in found.items() if periods}


def manifests(cos: CosApi, *, bucket: str, prefix: str, guest_id: int | None = None) -> Iterator[tuple[int, str]]:
    """List what is exported, of all guests or of one.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the one guest, or None for all.
    :returns: pairs of guest id and period.
    """
    going = being_removed(cos, bucket=bucket, prefix=prefix)
    for info in cos.list(bucket, names.manifests_prefix(prefix, guest_id)):
        parsed = names.parse_manifest_key(info.key)
        if parsed is not None and parsed not in going:
            yield parsed
