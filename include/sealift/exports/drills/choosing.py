"""Choosing a drill's exports by what the bucket lists: the ledger, and the keys of earlier rehearsals.

It costs the pages of both listings, and a read for each export that is chosen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime

from sealift.exports import ledger, names
from sealift.exports.delivery import find_manifest
from sealift.exports.drills.keys import Rehearsed, drills_prefix, parse_rehearsal_file
from sealift.exports.drills.models import Chosen
from sealift.exports.drills.rotation import Candidate, Why, choose, export_for, places_for
from sealift.exports.errors import InputError, LedgerError
from sealift.exports.manifest import read_manifest
from sealift.exports.ports import CosApi


def list_rehearsals(cos: CosApi, *, bucket: str, prefix: str, guest_id: int | None = None) -> list[Rehearsed]:
    """List the rehearsals of all servers, or of one.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param guest_id: the one server, or None for all.
    :returns: what their keys tell, in the order of the keys.
    """
    room = names.room_prefix(prefix, "reports")
    listed = cos.list(bucket, drills_prefix(prefix, guest_id))
    return [one for info in listed if (one := parse_rehearsal_file(info.key.removeprefix(room))) is not None]


def list_candidates(cos: CosApi, *, bucket: str, prefix: str) -> list[Candidate]:
    """List the servers that have an export, each with its exports and its rehearsals.

    What is being removed is no export any more.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :returns: the servers, by their ids.
    """
    exports: dict[int, dict[str, datetime]] = defaultdict(dict)
    for info in cos.list(bucket, names.manifests_prefix(prefix)):
        parsed = names.parse_manifest_key(info.key)
        if parsed is not None and info.key == names.manifest_key(prefix=prefix, guest_id=parsed[0], period=parsed[1]):
            exports[parsed[0]][parsed[1]] = info.last_modified
    for guest_id, period in ledger.being_removed(cos, bucket=bucket, prefix=prefix) if exports else ():
        exports[guest_id].pop(period, None)
    past: dict[int, list[Rehearsed]] = defaultdict(list)
    for one in list_rehearsals(cos, bucket=bucket, prefix=prefix):
        past[one.guest_id].append(one)
    return [
        Candidate(guest_id=guest_id, exports=exports[guest_id], past=past.get(guest_id, ()))
        for guest_id in sorted(exports)
        if exports[guest_id]
    ]


def choose_exports(
    cos: CosApi, *, bucket: str, prefix: str, within: int, at_most: int | None = None, drill_id: str
) -> list[Chosen]:
    """Choose the exports of a drill, so that each server has its turn within so many drills.

    The same drill chooses the same: its own rehearsals do not count.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param within: so many drills, 1 or more.
    :param at_most: most exports, where there is a bound; the rotation then takes longer.
    :param drill_id: the drill.
    :returns: one export of each server whose turn it is; none where there is no finished export.
    :raises InputError: a number is below 1.
    """
    if within < 1 or (at_most is not None and at_most < 1):
        raise InputError("A rotation needs one drill or more, and a bound on its servers must leave one.")
    candidates = {
        one.guest_id: replace(one, past=[each for each in one.past if each.drill_id != drill_id])
        for one in list_candidates(cos, bucket=bucket, prefix=prefix)
    }
    if not candidates:
        return []
    turns = choose(
        candidates.values(),
        places=places_for(len(candidates), within=within),
        at_most=at_most,
        seed=f"{bucket}/{prefix}",
    )
    found = [_chosen(cos, candidates[turn.guest_id], turn.why, bucket=bucket, prefix=prefix) for turn in turns]
    return [one for one in found if one is not None]


def choose_named(cos: CosApi, *, bucket: str, prefix: str, wanted: list[str], period: str | None) -> list[Chosen]:
    """Find the exports that somebody names, whosever turn it is.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param wanted: export ids, ids of servers, or host names.
    :param period: the slot or manual run, where servers are named; None for the export that was captured last.
    :returns: the exports, each once.
    :raises NoSuchExportError: what is named is not there.
    """
    found: dict[str, Chosen] = {}
    for one in wanted:
        manifest, _ = find_manifest(cos, bucket=bucket, prefix=prefix, wanted=one, period=period)
        found[manifest.export_id] = Chosen(
            export_id=manifest.export_id,
            guest_id=manifest.guest.id,
            period=manifest.period,
            hostname=manifest.guest.hostname,
            why=Why.NAMED,
        )
    return list(found.values())


def _chosen(cos: CosApi, candidate: Candidate, why: Why, *, bucket: str, prefix: str) -> Chosen | None:
    """Choose a server's export; None where all of them are deleted by now, or being removed."""
    exports = dict(candidate.exports)
    while exports:
        period = export_for(replace(candidate, exports=exports))
        key = names.manifest_key(prefix=prefix, guest_id=candidate.guest_id, period=period)
        try:
            manifest = read_manifest(cos, bucket=bucket, key=key)
        except LedgerError:
            # Nothing can be restored from it: the rehearsal fails, and says why.
            hostname = str(candidate.guest_id)
        else:
            if manifest is None:
                del exports[period]
                continue
            hostname = manifest.guest.hostname
        export_id = names.export_id(guest_id=candidate.guest_id, period=period)
        return Chosen(export_id=export_id, guest_id=candidate.guest_id, period=period, hostname=hostname, why=why)
    return None
