"""Carrying out a dry run: only what it names, and only as far as it still goes and is as it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from pydantic import ValidationError

from sealift.cos.errors import CosPermissionError
from sealift.exports import names
from sealift.exports.errors import LedgerError
from sealift.exports.jsontext import compact_json
from sealift.exports.manifest import is_marked
from sealift.exports.ports import Clock
from sealift.exports.retention import keys
from sealift.exports.retention.deciding import decide
from sealift.exports.retention.dry_run import check_clock
from sealift.exports.retention.gathering import gather
from sealift.exports.retention.models import Done, DryRun, Outcome, Result
from sealift.exports.retention.orphans import remove_orphans
from sealift.exports.retention.ports import Account, Store
from sealift.exports.retention.removing import Remover
from sealift.exports.versions import unreadable

Tell = Callable[[Outcome], None]

STALE_NOTE: Final = timedelta(days=1)
"""A note of a removal whose manifest is not marked is left over, once it is so old."""


def apply_dry_run(dry_run: DryRun, *, cos: Store, classic: Account, clock: Clock, tell: Tell | None = None) -> Result:
    """Delete what a dry run names, as far as it still goes by its rules and is as it was.

    It can be carried out again and again: what is gone is gone, and what was begun is finished.

    :param dry_run: the dry run, as it lies in the bucket.
    :param cos: the object store.
    :param classic: the account.
    :param clock: tells the time, in UTC.
    :param tell: told of each outcome as it is known.
    :returns: what came of each; it is written to the bucket as well.
    :raises ClockError: the clock that the dry run was made by was wrong.
    :raises sealift.cos.errors.CosError: the bucket cannot be looked at, or the key was refused.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    check_clock(cos, dry_run)
    remover = Remover(dry_run, cos=cos, classic=classic, clock=clock)
    wanted = {one.guest_id for one in dry_run.taken_back} | {one.guest_id for one in dry_run.exports}
    wanted |= {one.guest_id for one in dry_run.templates}
    outcomes: list[Outcome] = []
    if wanted:
        facts = gather(
            cos=cos,
            classic=classic,
            bucket=dry_run.bucket,
            prefix=dry_run.prefix,
            rules=dry_run.rules,
            now=clock(),
            guest_ids=wanted,
        )
        verdicts = {one.facts.server.id: one for one in decide(facts.servers, rules=dry_run.rules, now=clock())}
        for kept in dry_run.taken_back:
            outcomes.append(remover.take_back(kept, verdicts.get(kept.guest_id)))
            if tell is not None:
                tell(outcomes[-1])
        for going in dry_run.exports:
            outcomes.append(remover.export(going, verdicts.get(going.guest_id)))
            if tell is not None:
                tell(outcomes[-1])
        for lone in dry_run.templates:
            outcomes.append(remover.template(lone, verdicts.get(lone.guest_id)))
            if tell is not None:
                tell(outcomes[-1])
    for outcome in remove_orphans(dry_run, remover, cos=cos, classic=classic, now=clock()):
        outcomes.append(outcome)
        if tell is not None:
            tell(outcome)
    _sweep_notes(cos, dry_run, clock)
    result = Result(retention_id=dry_run.retention_id, applied_at=clock(), outcomes=outcomes)
    return _keep_result(cos, dry_run, result)


def read_result(cos: Store, *, bucket: str, prefix: str, retention_id: str) -> Result | None:
    """Read what came of a dry run.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param retention_id: the dry run's id.
    :returns: the result, or None where it was never carried out to its end.
    :raises LedgerError: what lies at its key is none.
    """
    key = keys.result_key(prefix=prefix, retention_id=retention_id)
    body = cos.read(bucket, key)
    if body is None:
        return None
    try:
        return Result.model_validate_json(body)
    except ValidationError as error:
        do = "Look at who wrote it, and delete it."
        raise LedgerError(unreadable(error, where=f"{bucket}/{key}", what="a result", do=do)) from error


def _keep_result(cos: Store, dry_run: DryRun, result: Result) -> Result:
    """Write the result; what an earlier try removed is said to be removed, not to be gone."""
    earlier = read_result(cos, bucket=dry_run.bucket, prefix=dry_run.prefix, retention_id=dry_run.retention_id)
    before = {one.identity: one for one in earlier.outcomes} if earlier else {}
    merged = [_merged(one, before.get(one.identity)) for one in result.outcomes]
    result = result.model_copy(update={"outcomes": merged})
    key = keys.result_key(prefix=dry_run.prefix, retention_id=dry_run.retention_id)
    cos.put(dry_run.bucket, key, compact_json(result.model_dump(mode="json")))
    return result


def _merged(now: Outcome, before: Outcome | None) -> Outcome:
    if before is None or before.done not in (Done.REMOVED, Done.UNFINISHED):
        return now
    if now.done is Done.GONE and before.done is Done.REMOVED:
        return before
    return now.model_copy(update={"objects": now.objects + before.objects, "bytes": now.bytes + before.bytes})


def _sweep_notes(cos: Store, dry_run: DryRun, clock: Clock) -> None:
    """Delete notes of removals that are over, or that were given up before the manifest was marked."""
    root = keys.removing_prefix(dry_run.prefix)
    for info in list(cos.list(dry_run.bucket, root)):
        parsed = keys.parse_export_key(info.key, root)
        if parsed is None:
            continue
        key = names.manifest_key(prefix=dry_run.prefix, guest_id=parsed[0], period=parsed[1])
        body = cos.read(dry_run.bucket, key)
        stale = clock() - info.last_modified > STALE_NOTE
        if body is None or (stale and not is_marked(body)):
            try:
                cos.delete(dry_run.bucket, info.key)
            except CosPermissionError:  # a note alone does no harm
                continue
