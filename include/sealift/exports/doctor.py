"""The doctor: what carries Sealift's names in the account and the bucket and belongs to no running or finished export.

It reads and reports; it deletes and changes nothing. An export is *finished* when its manifest exists. It is *at work*
when any of these shows it:

* a transaction runs on its image template, on a copy of it, or on its server;
* a plan in the bucket holds it in a wave that has not reported, is no dry run, and belongs to a run that wrote
  something (its plan, or any wave's report) less than ``plan_at_work`` ago: 14 days, as a capture window can keep a
  wave waiting for a week;
* a slot was taken for it less than two settling times ago (:mod:`sealift.exports.slots`), and no template of it shows
  yet; or its claim on the submission of an export (:mod:`sealift.exports.exporting`) was written less than
  ``settled`` ago: an hour.

What is itself younger than ``settled`` is left alone as well: a task that somebody cleared works on it without any of
these signs. Whoever knows that a run is dead names its plan in ``over``.

The account and the bucket change while they are looked at, so the order matters: first plans, slots and claims, which
say what is at work, then templates, then manifests, then objects, then uploads. What finishes meanwhile was at work
when it began, and what begins meanwhile is young.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sealift.cos.models import MultipartUpload, ObjectInfo
from sealift.exports import names
from sealift.exports.caps import Caps, is_note, read_caps
from sealift.exports.doctor_account import (
    Templates,
    duplicate_templates,
    idle,
    lone_template,
    strange_templates,
    words_of,
)
from sealift.exports.doctor_bucket import Folder, Known, ManifestCheck, Strange, folders, half_export
from sealift.exports.doctor_models import (
    PLAN_AT_WORK,
    SETTLED,
    Account,
    Bucket,
    Examination,
    Finding,
    Kind,
    Looked,
)
from sealift.exports.doctor_notes import (
    GONE,
    Slot,
    caps_in_force,
    export_of_upload,
    ours,
    read_slots,
    sized,
    stale_claim,
    stale_slot,
    unfinished_upload,
)
from sealift.exports.doctor_work import LeanItem, LeanOutcome, Plans
from sealift.exports.drills.keys import is_rehearsal_file
from sealift.exports.errors import SettingsError
from sealift.exports.manifest import Manifest
from sealift.exports.messages.told import is_told_file
from sealift.exports.plan import Outcome, Plan
from sealift.exports.proofs import is_proofs_file
from sealift.exports.report import OutcomeKind, RunReport
from sealift.exports.retention import keys
from sealift.exports.status.index import parse_index_file
from sealift.exports.surveying import SlotsPlace

_READERS: Final = 8
_BATCH: Final = 64
_TOLD: Final = frozenset({OutcomeKind.EXPORTED, OutcomeKind.ALREADY_EXPORTED, OutcomeKind.FAILED})
_WITHOUT_OBJECTS: Final = frozenset({"capture"})
"""The tasks at which a server fails before anything is asked into the bucket."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When something is over.

    :param settled: what is younger is left alone.
    :param plan_at_work: how long an unfinished plan counts as at work after its run's last sign.
    :param over: ids of plans whose runs are known to be over: what is theirs is looked at, however young it is.
    """

    settled: timedelta = SETTLED
    plan_at_work: timedelta = PLAN_AT_WORK
    over: Collection[str] = ()


def examine(
    *,
    classic: Account,
    cos: Bucket,
    bucket: str,
    prefix: str,
    now: datetime,
    rules: Rules | None = None,
    slots: SlotsPlace | None = None,
    slots_cos: Bucket | None = None,
    thorough: bool = False,
) -> Examination:
    """Look at everything that carries Sealift's names. Makes read calls only.

    It costs one call for 1,000 objects and one for 100 templates, one for each run's report, and two for each export
    that these do not settle.

    :param classic: the account.
    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param now: the present time, with a time zone.
    :param rules: when something is over.
    :param slots: where the account's offline slots are; None to leave them out.
    :param slots_cos: the object store of the slots, where it is another.
    :param thorough: read every manifest and compare every size and ETag. Otherwise an object that was replaced by one
        of the same size goes unseen where the store dates it before the manifest (S3 dates an object by the beginning
        of its upload).
    :returns: what was found.
    :raises SettingsError: the prefix can be none.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    :raises sealift.cos.errors.CosError: the bucket cannot be read.
    """
    if now.tzinfo is None:
        raise SettingsError("The present time has no time zone.")
    prefix = names.normal_prefix(prefix)
    return _Doctor(
        classic=classic, cos=cos, bucket=bucket, prefix=prefix, now=now, rules=rules or Rules(), thorough=thorough
    ).examine(slots, slots_cos or cos)


def examine_run(*, classic: Account, cos: Bucket, plan: Plan, report: RunReport, now: datetime) -> list[Finding]:
    """Look at what one run left behind that has ended: at its own exports only, so that it costs little.

    It costs one call for 100 templates, one for each server that failed at its export or later, and one or two for
    the uploads.

    :param classic: the account.
    :param cos: the object store.
    :param plan: the run's plan.
    :param report: the run's report.
    :param now: the present time, with a time zone.
    :returns: the findings. What goes on remotely is none.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    :raises sealift.cos.errors.CosError: the bucket cannot be read.
    """
    doctor = _Doctor(
        classic=classic,
        cos=cos,
        bucket=plan.settings.bucket,
        prefix=plan.settings.prefix,
        now=now,
        rules=Rules(over=[plan.plan_id]),
        thorough=False,
    )
    return doctor.examine_run(plan, report)


class _Doctor:
    def __init__(
        self, *, classic: Account, cos: Bucket, bucket: str, prefix: str, now: datetime, rules: Rules, thorough: bool
    ) -> None:
        self.classic = classic
        self.cos = cos
        self.bucket = bucket
        self.prefix = prefix
        self.now = now
        self.rules = rules
        self.thorough = thorough
        self.strange = Strange()
        self.plans = Plans(
            cos=cos, bucket=bucket, prefix=prefix, now=now, at_work_for=rules.plan_at_work, over=rules.over
        )
        self.checks = ManifestCheck(cos=cos, bucket=bucket, prefix=prefix, now=now, strange=self.strange)
        self.templates = Templates((), bucket=bucket, prefix=prefix)
        self.running: set[str] = set()
        self.ended: set[str] = set()
        self.known: dict[str, Known] = {}
        self.removing: set[str] = set()
        self.outcomes: dict[str, tuple[str, LeanOutcome]] = {}
        self.slots: list[Slot] = []
        self.learned: list[Caps] = []
        self.halves: list[Folder] = []
        self.findings: list[Finding] = []
        self.objects = 0
        self.manifests_read = 0
        self.uploads = 0

    def examine(self, place: SlotsPlace | None, slots_cos: Bucket) -> Examination:
        self._look_at_plans()
        if place is not None:
            self._look_at_slots(slots_cos, place)
        claims = self._look_at_claims()
        found = self.classic.templates_with_prefix(names.TEMPLATE_PREFIX)
        self.templates = Templates(found, bucket=self.bucket, prefix=self.prefix)
        del found
        if place is not None:
            self.running |= self._about_to_capture(place)
        self._look_at_manifests()
        self._look_at_retention()
        self._look_at_reports()
        self._look_at_images()
        self._look_for_strangers(
            "reports",
            lambda rest: names.is_examination_file(rest) or is_told_file(rest) or is_rehearsal_file(rest),
        )
        self._look_for_strangers("captured", names.is_captured_file)
        self._look_for_strangers("proofs", is_proofs_file)
        self._look_for_strangers("index", lambda rest: parse_index_file(rest) is not None)
        uploads = self._listed_uploads()

        self.findings += strange_templates(self.templates, now=self.now)
        self._judge_templates()
        self._judge_halves()
        self._judge_claims(claims)
        self._judge_slots(place)
        self._judge_uploads(uploads)
        self.findings += self.plans.findings
        self.findings += self.strange.findings(self.now)
        return Examination(
            examined_at=self.now,
            bucket=self.bucket,
            prefix=self.prefix,
            thorough=self.thorough,
            looked=Looked(
                templates=self.templates.count,
                plans=len(self.plans.files),
                manifests=len(self.known),
                manifests_read=self.manifests_read,
                objects=self.objects,
                uploads=self.uploads,
            ),
            findings=in_order(self.findings),
            learned_caps=caps_in_force(self.learned, self.now),
            at_work=self.plans.at_work,
            elsewhere=self.templates.elsewhere(),
        )

    def examine_run(self, plan: Plan, report: RunReport) -> list[Finding]:
        items = {item.export_id: item for item in plan.items_with(Outcome.EXPORT)}
        said = {one.export_id: one for one in report.outcomes if one.export_id in items}
        self.ended = set(items)
        for export, outcome in said.items():
            if outcome.manifest_key is not None and export is not None:
                self.known[export] = Known(self.now)
            elif export is not None:
                lean = LeanOutcome.model_validate(outcome.model_dump(mode="json"))
                self.outcomes[export] = (plan.plan_id, lean)
        found = self.classic.templates_with_prefix(names.TEMPLATE_PREFIX)
        self.templates = Templates(found, bucket=self.bucket, prefix=self.prefix, only=set(items))
        del found
        room = names.room_prefix(self.prefix, "images")
        lean_items = {}
        for export, item in items.items():
            if export in self.known or (export in said and said[export].task in _WITHOUT_OBJECTS):
                continue
            lean_items[export] = LeanItem.model_validate(item.model_dump(mode="json"))
            listed = self.cos.list(self.bucket, f"{item.images}/")
            for folder in folders(listed, room=room, strange=self.strange):
                if self._over(export, folder.last) and not self.templates.busy(export):
                    self.halves.append(folder)
        uploads = self._listed_uploads() if len(self.known) < len(items) else []
        self._judge_templates()
        for half in self.halves:
            self._add_half(half, lean_items.get(half.export_id))
        self._judge_uploads([one for one in uploads if self._export_of(one) in self.ended - self.known.keys()])
        return in_order([*self.findings, *self.strange.findings(self.now)])

    # Looking

    def _listed(self, room: str) -> Iterable[ObjectInfo]:
        for info in self.cos.list(self.bucket, names.room_prefix(self.prefix, room)):
            self.objects += 1
            yield info

    def _look_at_plans(self) -> None:
        room = names.room_prefix(self.prefix, "plans")
        for info in self._listed("plans"):
            file = names.parse_plan_file(info.key.removeprefix(room))
            if file is None:
                self.strange.add(info)
            else:
                self.plans.note(info, file)
        self.plans.decide()
        self.running |= self.plans.running
        self.ended |= self.plans.ended

    def _look_at_slots(self, cos: Bucket, place: SlotsPlace) -> None:
        self.slots, findings, learned = read_slots(cos, place, strange=self.strange, now=self.now)
        self.findings += findings
        self.learned.append(learned)

    def _about_to_capture(self, place: SlotsPlace) -> set[str]:
        young = {one.entry.export_id for one in self.slots if self.now - one.since < 2 * place.settle}
        return {export for export in young - self.ended if not self.templates.of(export)}

    def _look_at_manifests(self) -> None:
        for info in self._listed("manifests"):
            parsed = names.parse_manifest_key(info.key)
            if parsed is None or not self._is_manifest(info.key, *parsed):
                self.strange.add(info)
            else:
                self.known[f"{parsed[0]}-{parsed[1]}"] = Known(info.last_modified)

    def _look_at_retention(self) -> None:
        room = names.room_prefix(self.prefix, keys.ROOM)
        for info in self._listed(keys.ROOM):
            noted = keys.parse_export_key(info.key, keys.removing_prefix(self.prefix))
            if noted is not None:
                self.removing.add(f"{noted[0]}-{noted[1]}")
            elif not keys.is_retention_file(info.key.removeprefix(room)):
                self.strange.add(info)

    def _is_manifest(self, key: str, guest_id: int, period: str) -> bool:
        try:
            names.export_id(guest_id=guest_id, period=period)
        except SettingsError:
            return False
        return key == names.manifest_key(prefix=self.prefix, guest_id=guest_id, period=period)

    def _look_at_reports(self) -> None:
        for plan_id, outcome in self.plans.outcomes():
            if outcome.export_id is None:
                continue
            known = self.known.get(outcome.export_id)
            if known is None:
                if outcome.kind in _TOLD or outcome.task is not None:
                    self.outcomes[outcome.export_id] = (plan_id, outcome)
            elif outcome.disks:
                known.disks, known.size = outcome.disks, outcome.bytes

    def _look_at_images(self) -> None:
        room = names.room_prefix(self.prefix, "images")
        closer: list[tuple[str, Folder | None]] = []
        for folder in folders(self._listed("images"), room=room, strange=self.strange):
            known = self.known.get(folder.export_id)
            if known is None:
                if self._over(folder.export_id, folder.last) and not self.templates.busy(folder.export_id):
                    self.halves.append(folder)
                continue
            if known.home is not None and not known.looked_at:
                # Two folders for one export: the manifest names one of them, and the first did not look strange.
                root = f"{room}{known.home}/{folder.export_id}/"
                again = folders(self.cos.list(self.bucket, root), room=room, strange=self.strange)
                closer += [(folder.export_id, one) for one in again]
                known.looked_at = True
            due = self.thorough or folder.export_id in self.removing
            if due or known.home is not None or not folder.fits(known):
                closer.append((folder.export_id, folder))
                known.looked_at = True
            known.home = folder.home
            if len(closer) >= _BATCH:
                self._look_closer(closer)
        without = (export for export, known in self.known.items() if known.home is None)
        for export in without:
            closer.append((export, None))
            if len(closer) >= _BATCH:
                self._look_closer(closer)
        self._look_closer(closer)

    def _look_closer(self, closer: list[tuple[str, Folder | None]]) -> None:
        """Read the manifests of some exports, several at a time."""
        if len(closer) < _READERS:
            read = [self.checks.manifest(export) for export, _ in closer]
        else:
            with ThreadPoolExecutor(_READERS) as pool:
                read = list(pool.map(self.checks.manifest, [export for export, _ in closer]))
        self.manifests_read += len(closer)
        for manifest, (_, folder) in zip(read, closer, strict=True):
            if isinstance(manifest, Finding):
                self.findings.append(manifest)
            elif manifest is not None:
                self.findings += self.checks.judge(manifest, folder)
        closer.clear()

    def _look_at_claims(self) -> dict[str, list[ObjectInfo]]:
        room = names.room_prefix(self.prefix, "claims")
        claims: dict[str, list[ObjectInfo]] = {}
        notes: list[ObjectInfo] = []
        for info in self._listed("claims"):
            export = names.parse_claim_file(info.key.removeprefix(room))
            if is_note(info.key, room.rstrip("/")):
                notes.append(info)
            elif export is None:
                self.strange.add(info)
            else:
                claims.setdefault(export, []).append(info)
                if self.now - info.last_modified < self.rules.settled and export not in self.ended:
                    self.running.add(export)
        self.learned.append(read_caps(self.cos, bucket=self.bucket, root=room.rstrip("/"), listed=notes))
        return claims

    def _look_for_strangers(self, room: str, is_ours: Callable[[str], bool]) -> None:
        root = names.room_prefix(self.prefix, room)
        for info in self._listed(room):
            if not is_ours(info.key.removeprefix(root)):
                self.strange.add(info)

    def _listed_uploads(self) -> list[MultipartUpload]:
        root = f"{self.prefix}/" if self.prefix else ""
        found = ours(self.cos.list_multipart_uploads(self.bucket, root), prefix=self.prefix)
        self.uploads = len(found)
        return found

    # Judging

    def _over(self, export: str, since: datetime | None) -> bool:
        """Say whether nothing goes on with an export, as far as plans, slots and times tell."""
        if export in self.ended:
            return True
        return export not in self.running and since is not None and self.now - since >= self.rules.settled

    def _judge_templates(self) -> None:
        for export in self.templates.duplicates():
            named, done = None, export in self.known
            if done:
                manifest = self.checks.manifest(export)
                self.manifests_read += 1
                named = manifest.template.id if isinstance(manifest, Manifest) else None
            group = self.templates.of(export)
            self.findings.append(duplicate_templates(export, group, named=named, done=done, now=self.now))
        candidates = self.templates.candidates(
            skip=lambda export, made: export in self.known or not self._over(export, made)
        )
        for export, seen in idle(candidates, self.classic):
            self.findings.append(lone_template(export, seen, outcome=self.outcomes.get(export), now=self.now))

    def _judge_halves(self) -> None:
        """Report half exports, with the disks that are missing as far as a plan can be found that names them.

        A plan is read once for all of its exports.
        """
        wanted = {half.export_id for half in self.halves}
        by_plan: dict[str, set[str]] = {}
        for export in wanted & self.outcomes.keys():
            by_plan.setdefault(self.outcomes[export][0], set()).add(export)
        items: dict[str, LeanItem] = {}
        for plan_id, exports in sorted(by_plan.items()):
            items |= self.plans.items(plan_id, exports)
        for plan_id in self.plans.without_report():
            left = wanted - items.keys()
            if not left:
                break
            items |= self.plans.items(plan_id, left)
        for half in self.halves:
            self._add_half(half, items.get(half.export_id))

    def _add_half(self, half: Folder, item: LeanItem | None) -> None:
        outcome = self.outcomes.get(half.export_id)
        self.findings.append(
            half_export(
                half,
                item=item,
                outcome=outcome,
                templates=[one.id for one in self.templates.of(half.export_id)],
                words=words_of(outcome),
                now=self.now,
            )
        )

    def _judge_claims(self, claims: dict[str, list[ObjectInfo]]) -> None:
        """Report claims, but for those of exports that are reported anyway."""
        told = {one.export_id for one in self.findings if one.export_id is not None}
        for export, infos in sorted(claims.items()):
            last = max(one.last_modified for one in infos)
            lone = export not in told and not self.templates.of(export)
            if (lone or export in self.known) and self._over(export, last) and not self.templates.busy(export):
                known = self.known.get(export)
                hostname = known.home.rpartition("-")[0] if known and known.home else None
                self.findings.append(
                    stale_claim(export, infos, done=known is not None, hostname=hostname, now=self.now)
                )

    def _judge_slots(self, place: SlotsPlace | None) -> None:
        """Report slots that show a task killed before its capture; most that are held are simply not taken anew yet."""
        stale = [
            slot
            for slot in self.slots
            if place is not None
            and self.now - slot.since >= 2 * place.settle
            and slot.entry.export_id not in self.known
            and slot.entry.export_id not in self.running
            and not self.templates.of(slot.entry.export_id)
        ]
        states = self.classic.guest_states([one.entry.guest_id for one in stale]) if stale else {}
        for slot in stale:
            state = states.get(slot.entry.guest_id)
            if state is None or state.active_transaction is None:
                self.findings.append(stale_slot(slot, now=self.now))

    def _export_of(self, upload: MultipartUpload) -> str | None:
        file = export_of_upload(upload, prefix=self.prefix)
        return file.export_id if file else None

    def _judge_uploads(self, uploads: Iterable[MultipartUpload]) -> None:
        over = []
        for upload in uploads:
            export = self._export_of(upload)
            if self._over(export or "", upload.initiated) and not (export and self.templates.busy(export)):
                over.append(upload)
        sizes = sized(self.cos, self.bucket, over)
        for upload in over:
            size = sizes.get(upload.upload_id)
            if size != GONE:
                file = export_of_upload(upload, prefix=self.prefix)
                self.findings.append(unfinished_upload(upload, file, size=size, now=self.now))


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Put findings in order: by kind, then by server and export.

    :param findings: the findings; two looks at one export may have found the same thing.
    :returns: each thing once.
    """
    kinds = {kind: number for number, kind in enumerate(Kind)}
    return sorted(
        {(one.kind, one.export_id, one.what): one for one in findings}.values(),
        key=lambda one: (kinds[one.kind], one.guest_id or 0, one.export_id or "", one.template_ids, one.keys, one.what),
    )
