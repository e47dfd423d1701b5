"""Orphans by rule: what the doctor finds and nobody needs, once it is older than a grace period.

The same two steps: the dry run names them, with every object; only what the doctor finds once more, unchanged, is
deleted. Where two image templates carry one export's name, those go that its manifest does not name; without a manifest
nobody can tell, and all stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sealift.classic.errors import ClassicAuthError, ClassicError
from sealift.cos.errors import CosAuthError, CosError, CosPermissionError
from sealift.cos.models import MultipartUpload
from sealift.exports import names
from sealift.exports.doctor import Rules, examine
from sealift.exports.doctor_models import Finding, Kind
from sealift.exports.manifest import read_manifest
from sealift.exports.retention.gathering import template_size
from sealift.exports.retention.models import Done, DryRun, GoingObject, GoingOrphan, Outcome
from sealift.exports.retention.ports import Account, Store
from sealift.exports.retention.removing import Remover, Stop
from sealift.exports.retention.rules import OrphanRule

_TEMPLATES = (Kind.ORPHAN_TEMPLATE, Kind.BROKEN_TEMPLATE)


def find_orphans(
    *, cos: Store, classic: Account, bucket: str, prefix: str, rule: OrphanRule, now: datetime
) -> list[GoingOrphan]:
    """Find what nobody needs. Changes nothing.

    :param cos: the object store.
    :param classic: the account.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param rule: which kinds, and how old they must be.
    :param now: the present time, with a time zone.
    :returns: the orphans, in the doctor's order.
    :raises sealift.cos.errors.CosError: the bucket cannot be looked at.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    grace = timedelta(days=rule.after_days)
    found = examine(
        classic=classic, cos=cos, bucket=bucket, prefix=prefix, now=now, rules=Rules(plan_at_work=grace)
    ).findings
    orphans: list[GoingOrphan] = []
    for one in found:
        if one.kind.value not in rule.kinds or one.since is None or now - one.since < grace:
            continue
        orphans += _orphans_of(one, cos=cos, classic=classic, bucket=bucket, prefix=prefix)
    return orphans


def _orphans_of(one: Finding, *, cos: Store, classic: Account, bucket: str, prefix: str) -> Iterator[GoingOrphan]:
    objects: list[GoingObject] = []
    sizes: dict[int | None, int] = {}
    templates: list[int | None] = [None]
    if one.kind is Kind.HALF_EXPORT:
        root = one.keys[0].rpartition("/")[0]
        objects = [GoingObject(key=info.key, size=info.size, etag=info.etag) for info in cos.list(bucket, f"{root}/")]
    elif one.kind in _TEMPLATES:
        templates = list(one.template_ids)
    elif one.kind is Kind.DUPLICATE_TEMPLATES:
        manifest = None
        if one.export_id is not None:
            guest_id, period = names.parse_export_id(one.export_id)
            key = names.manifest_key(prefix=prefix, guest_id=guest_id, period=period)
            manifest = read_manifest(cos, bucket=bucket, key=key)
        named = manifest.template.id if manifest is not None else None
        templates = [id_ for id_ in one.template_ids if id_ != named] if named in one.template_ids else []
        # The finding tells the size of all of them together.
        states = classic.template_states([id_ for id_ in templates if id_ is not None])
        sizes = {id_: template_size(state) for id_, state in states.items()}
    for template_id in templates:
        yield GoingOrphan(
            kind=one.kind.value,
            what=one.what,
            export_id=one.export_id,
            guest_id=one.guest_id,
            hostname=one.hostname,
            since=one.since,
            template_id=template_id,
            objects=objects,
            upload_key=one.keys[0] if one.upload_id is not None else None,
            upload_id=one.upload_id,
            bytes=sum(info.size for info in objects) if objects else sizes.get(template_id, one.bytes or 0),
        )


def remove_orphans(dry_run: DryRun, remover: Remover, *, cos: Store, classic: Account, now: datetime) -> list[Outcome]:
    """Remove the orphans that a dry run names, as far as the doctor finds them once more, unchanged.

    :param dry_run: the dry run.
    :param remover: removes image templates and objects.
    :param cos: the object store.
    :param classic: the account.
    :param now: the present time, with a time zone.
    :returns: what came of each.
    :raises sealift.cos.errors.CosError: the bucket cannot be looked at, or the key was refused.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    rule = dry_run.rules.orphans
    if rule is None or not dry_run.orphans:
        return []
    found = find_orphans(cos=cos, classic=classic, bucket=dry_run.bucket, prefix=dry_run.prefix, rule=rule, now=now)
    there = {one.identity: one for one in found}
    return [_remove(one, there.get(one.identity), dry_run, remover, cos) for one in dry_run.orphans]


def _remove(one: GoingOrphan, now: GoingOrphan | None, dry_run: DryRun, remover: Remover, cos: Store) -> Outcome:
    done, words, objects, size = Done.REMOVED, "", 0, 0
    try:
        if now is None:
            raise Stop(Done.GONE, "It is gone, or no orphan any more.")
        if now.objects != one.objects:
            raise Stop(Done.CHANGED, "Its objects are not those that the dry run saw.")
        if one.kind != Kind.DUPLICATE_TEMPLATES.value:
            _check_no_manifest(one, dry_run, cos)
        if one.upload_id is not None and one.upload_key is not None:
            cos.multipart.abort(dry_run.bucket, MultipartUpload(key=one.upload_key, upload_id=one.upload_id))
            size = one.bytes
        if one.template_id is not None and one.export_id is not None:
            remover.check_template(one.template_id, one.export_id, begun=False)
            remover.delete_template(one.template_id)
        for info in one.objects:
            size += remover.delete_key(info.key, info.size)
            objects += 1
    except Stop as stop:
        done, words = stop.done, stop.words
    except (CosAuthError, ClassicAuthError):
        raise
    except CosPermissionError as error:
        done, words = Done.PROTECTED, str(error)
    except (CosError, ClassicError) as error:
        done, words = Done.UNFINISHED, str(error)
    return Outcome(
        export_id=one.export_id or one.upload_key or "",
        template_id=one.template_id,
        upload_id=one.upload_id,
        done=done,
        words=words,
        objects=objects,
        bytes=size,
    )


def _check_no_manifest(one: GoingOrphan, dry_run: DryRun, cos: Store) -> None:
    """What was an orphan a moment ago may be an export by now."""
    if one.export_id is None:
        return
    guest_id, period = names.parse_export_id(one.export_id)
    key = names.manifest_key(prefix=dry_run.prefix, guest_id=guest_id, period=period)
    if one.upload_id is None and cos.head(dry_run.bucket, key) is not None:
        raise Stop(Done.KEPT_NOW, "Its export has a manifest by now.")
