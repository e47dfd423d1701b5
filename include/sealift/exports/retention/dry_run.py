"""The dry run: what would go by the rules, looked at closely and written down, so that only this can be deleted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from sealift.cos.models import Protection, PutOutcome
from sealift.exports import names
from sealift.exports.errors import ClockError, LedgerError, NoSuchExportError
from sealift.exports.jsontext import compact_json
from sealift.exports.retention import keys
from sealift.exports.retention.costing import monthly_costs, monthly_template_cost
from sealift.exports.retention.deciding import CLOCKS, ExportVerdict, ServerVerdict, TemplateVerdict, Why, decide
from sealift.exports.retention.gathering import Gathered, gather
from sealift.exports.retention.models import (
    DryRun,
    GoingExport,
    GoingObject,
    GoingOrphan,
    GoingTemplate,
    Guards,
    ProtectedExport,
    TakenBack,
)
from sealift.exports.retention.objects import objects_at
from sealift.exports.retention.orphans import find_orphans
from sealift.exports.retention.ports import Account, Store
from sealift.exports.retention.rules import RetentionRules
from sealift.exports.status.prices import Prices, read_prices
from sealift.exports.versions import unreadable

_LOOKERS: Final = 8


def make_dry_run(
    *,
    cos: Store,
    classic: Account,
    bucket: str,
    prefix: str,
    rules: RetentionRules,
    retention_id: str,
    now: datetime,
    gathered: Gathered | None = None,
    prices: Prices | None = None,
) -> DryRun:
    """Say what would go by the rules. Changes nothing.

    :param cos: the object store.
    :param classic: the account.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param rules: the rules.
    :param retention_id: its id, see :func:`sealift.exports.retention.keys.retention_id_for`.
    :param now: the present time, with a time zone.
    :param gathered: the facts, where they were gathered already.
    :param prices: what storing costs; the list prices that come with Sealift if None.
    :returns: the dry run, not written yet.
    :raises sealift.cos.errors.CosError: the bucket cannot be looked at.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    guards = Guards.model_validate(dataclasses.asdict(cos.removing.guards(bucket)))
    facts = gathered or gather(cos=cos, classic=classic, bucket=bucket, prefix=prefix, rules=rules, now=now)
    looker = _Looker(cos, bucket, prefix, now, guarded=guards.object_lock or guards.retention_policy)
    tally = _Tally(rules.at_most, prefix)
    for verdict in decide(facts.servers, rules=rules, now=now):
        tally.take(verdict)
    exports: list[GoingExport] = []
    protected: list[ProtectedExport] = []
    with ThreadPoolExecutor(_LOOKERS) as pool:
        for found in pool.map(lambda pair: looker.look(*pair), tally.going):
            if isinstance(found, GoingExport):
                exports.append(found)
            else:
                protected.append(found)
    tally.keep_protected({one.export_id for one in protected})
    orphans: list[GoingOrphan] = []
    if rules.orphans is not None:
        for one in find_orphans(cos=cos, classic=classic, bucket=bucket, prefix=prefix, rule=rules.orphans, now=now):
            holds_back = looker.holds_back(one)
            if holds_back is None:
                orphans.append(one)
            else:
                protected.append(holds_back)
    made = DryRun(
        retention_id=retention_id,
        made_at=now,
        bucket=bucket,
        prefix=prefix,
        rules=rules,
        guards=guards,
        servers=len(facts.servers),
        exports_seen=tally.seen,
        templates_seen=tally.seen_templates,
        exports=exports,
        templates=tally.templates,
        taken_back=tally.taken_back,
        orphans=orphans,
        protected=protected,
        kept=_in_order(tally.kept),
        kept_templates=_in_order(tally.kept_templates),
        unreadable=facts.unreadable,
    )
    prices = prices or read_prices()
    return made.model_copy(
        update={
            "costs_freed": monthly_costs(made.bytes_freed, prices),
            "template_cost_freed": monthly_template_cost(made.template_bytes_freed, prices),
        }
    )


def _in_order(counts: Counter[str]) -> dict[str, int]:
    return {one.value: counts[one] for one in Why if counts[one]}


class _Tally:
    """Counts what is kept, and takes down what goes, up to a number."""

    def __init__(self, at_most: int, prefix: str) -> None:
        self._at_most = at_most
        self._prefix = prefix
        self.seen = self.seen_templates = 0
        self.going: list[tuple[ServerVerdict, ExportVerdict]] = []
        self.templates: list[GoingTemplate] = []
        self.kept: Counter[str] = Counter()
        self.kept_templates: Counter[str] = Counter()
        self.taken_back: list[TakenBack] = []
        self._with_exports: set[str] = set()

    def take(self, verdict: ServerVerdict) -> None:
        """Take a server in."""
        self.seen += len(verdict.exports)
        self.seen_templates += len(verdict.templates)
        later: set[str] = set()
        for one in verdict.exports:
            if one.keep:
                self.kept[one.why[0]] += 1
                if one.export.marked:
                    self.taken_back.append(_taken_back(verdict, one, self._prefix))
            elif len(self.going) < self._at_most:
                self.going.append((verdict, one))
            else:
                later.add(one.export.export_id)
                self.kept[Why.LATER] += 1
        for two in verdict.templates:
            if two.keep:
                self.kept_templates[two.why] += 1
            elif two.why is Why.EXPORT_GOES and two.template.export_id not in later:
                self._with_exports.add(two.template.export_id)
            elif two.why is Why.EXPORT_GOES or len(self.templates) >= self._at_most:
                self.kept_templates[Why.LATER] += 1
            else:
                self.templates.append(_going_template(verdict, two))

    def keep_protected(self, exports: set[str]) -> None:
        """Count what goes by the rules and is protected by the object store, with its image templates."""
        if exports:
            self.kept[Why.PROTECTED] += len(exports)
        if with_them := len(exports & self._with_exports):
            self.kept_templates[Why.PROTECTED] += with_them


def _taken_back(verdict: ServerVerdict, one: ExportVerdict, prefix: str) -> TakenBack:
    guest_id, period = names.parse_export_id(one.export.export_id)
    return TakenBack(
        export_id=one.export.export_id,
        guest_id=guest_id,
        hostname=verdict.facts.server.hostname,
        why=[reason.value for reason in one.why],
        manifest_key=names.manifest_key(prefix=prefix, guest_id=guest_id, period=period),
        manifest_etag=one.export.etag,
    )


def _going_template(verdict: ServerVerdict, one: TemplateVerdict) -> GoingTemplate:
    its = next(two.export for two in verdict.exports if two.export.export_id == one.template.export_id)
    return GoingTemplate(
        template_id=one.template.id,
        export_id=its.export_id,
        guest_id=verdict.facts.server.id,
        hostname=verdict.facts.server.hostname,
        rule=verdict.rule.name if verdict.rule else None,
        why=one.why,
        manifest_etag=its.etag,
        bytes=one.template.bytes,
    )


class _Looker:
    """Looks closely at what goes: every object of it, and what protects it."""

    def __init__(self, cos: Store, bucket: str, prefix: str, now: datetime, *, guarded: bool) -> None:
        self._cos = cos
        self._bucket = bucket
        self._prefix = prefix
        self._now = now
        self._guarded = guarded

    def look(self, verdict: ServerVerdict, one: ExportVerdict) -> GoingExport | ProtectedExport:
        export, server = one.export, verdict.facts.server
        guest_id, period = names.parse_export_id(export.export_id)
        manifest_key = names.manifest_key(prefix=self._prefix, guest_id=guest_id, period=period)
        objects = [
            GoingObject(key=info.key, size=info.size, etag=info.etag)
            for info in objects_at(
                self._cos, self._bucket, prefix=self._prefix, images=export.images, export=export.export_id
            )
        ]
        size = sum(info.size for info in objects)
        if self._guarded:
            found = self._protected([*(info.key for info in objects), manifest_key])
            if found is not None:
                key, protection = found
                return ProtectedExport(
                    export_id=export.export_id,
                    guest_id=server.id,
                    hostname=server.hostname,
                    key=key,
                    until=protection.until,
                    legal_hold=protection.legal_hold,
                    bytes=size,
                )
        gone = [two.template for two in verdict.templates if two.why is Why.EXPORT_GOES]
        its = next((two for two in gone if two.export_id == export.export_id), None)
        template_id = its.id if its is not None else None
        if export.removing_template:  # whether or not it shows: its deletion may be on its way
            template_id = export.template_id
        return GoingExport(
            export_id=export.export_id,
            guest_id=server.id,
            hostname=server.hostname,
            rule=verdict.rule.name if verdict.rule else None,
            why=[reason.value for reason in one.why],
            captured_at=export.captured_at,
            proof_level=export.proof_level,
            manifest_key=manifest_key,
            manifest_etag=export.etag,
            images=export.images,
            template_id=template_id,
            template_bytes=its.bytes if its is not None else 0,
            objects=objects,
            bytes=size,
            taken_up=export.removing or export.marked,
        )

    def holds_back(self, orphan: GoingOrphan) -> ProtectedExport | None:
        """Say what protects the objects of an orphan, if something does."""
        found = self._protected([info.key for info in orphan.objects]) if self._guarded else None
        if found is None:
            return None
        key, protection = found
        return ProtectedExport(
            export_id=orphan.export_id or "",
            guest_id=orphan.guest_id or 0,
            hostname=orphan.hostname or "",
            key=key,
            until=protection.until,
            legal_hold=protection.legal_hold,
            bytes=orphan.bytes,
        )

    def _protected(self, its_keys: list[str]) -> tuple[str, Protection] | None:
        """Find the object that is protected longest; what has no end comes last."""
        found: list[tuple[str, Protection]] = []
        for key in its_keys:
            protection = self._cos.removing.protection(self._bucket, key)
            if protection is not None and protection.holds_at(self._now):
                found.append((key, protection))
        return max(found, key=_length, default=None)


def _length(found: tuple[str, Protection]) -> tuple[bool, bool, float]:
    protection = found[1]
    until = protection.until.timestamp() if protection.until else 0.0
    return protection.endless, protection.legal_hold, until


def keep_dry_run(cos: Store, dry_run: DryRun) -> DryRun:
    """Write a dry run, once: a later try of the same run finds what the first one wrote, and goes by that.

    :param cos: the object store.
    :param dry_run: the dry run.
    :returns: the one that is in the bucket.
    :raises LedgerError: what lies at its key is none.
    :raises ClockError: see :func:`check_clock`.
    """
    key = keys.dry_run_key(prefix=dry_run.prefix, retention_id=dry_run.retention_id)
    body = compact_json(dry_run.model_dump(mode="json"))
    if cos.put_if_absent(dry_run.bucket, key, body) is not PutOutcome.EXISTS_DIFFERENT:
        check_clock(cos, dry_run)
        return dry_run
    return read_dry_run(cos, bucket=dry_run.bucket, prefix=dry_run.prefix, retention_id=dry_run.retention_id)


def check_clock(cos: Store, dry_run: DryRun) -> None:
    """See that the clock that a dry run was made by was not ahead: by it, everything would be older than it is.

    The object store tells when the dry run was written, which was right after it was made. A clock that is behind keeps
    more than the rules say, and does no harm.

    :param cos: the object store.
    :param dry_run: the dry run, which lies in the bucket.
    :raises ClockError: it was ahead by more than :data:`sealift.exports.retention.deciding.CLOCKS`.
    """
    key = keys.dry_run_key(prefix=dry_run.prefix, retention_id=dry_run.retention_id)
    info = cos.head(dry_run.bucket, key)
    if info is not None and dry_run.made_at - info.last_modified > CLOCKS:
        raise ClockError(
            f"The dry run {dry_run.retention_id} was made at {dry_run.made_at:%Y-%m-%d %H:%M} UTC by the clock of its "
            f"machine, and was written at {info.last_modified:%Y-%m-%d %H:%M} UTC by that of the object store. What is "
            "kept by time cannot be told by such a clock: set it right, and make a new dry run. Nothing was deleted."
        )


def read_dry_run(cos: Store, *, bucket: str, prefix: str, retention_id: str) -> DryRun:
    """Read a dry run.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param retention_id: its id.
    :returns: the dry run.
    :raises NoSuchExportError: there is none of this id.
    :raises LedgerError: what lies at its key is none, or speaks of another bucket or prefix.
    """
    key = keys.dry_run_key(prefix=prefix, retention_id=retention_id)
    body = cos.read(bucket, key)
    if body is None:
        raise NoSuchExportError(f"There is no dry run {retention_id} in {bucket}: make one first.")
    try:
        found = DryRun.model_validate_json(body)
    except ValidationError as error:
        do = "Make a new one."
        raise LedgerError(unreadable(error, where=f"{bucket}/{key}", what="a dry run", do=do)) from error
    if (found.bucket, found.prefix, found.retention_id) != (bucket, prefix, retention_id):
        raise LedgerError(f"{bucket}/{key} is the dry run {found.retention_id} of {found.bucket}/{found.prefix}.")
    return found
