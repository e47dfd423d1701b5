"""The plan: what a run will do, made and written to the bucket before it does anything. Its models are in
:mod:`sealift.exports.plan_models`.

A plan is data. The whole plan is one object; each wave has a slice of its own, so that a task reads at most 100
servers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from sealift.classic.models import BareMetalServer, Guest
from sealift.cos.models import ObjectInfo, PutOutcome
from sealift.exports import deadlines, ledger, names, rules, waves
from sealift.exports.disks import left_out_disks, planned_disks
from sealift.exports.durations import History, read_history
from sealift.exports.errors import PlanError
from sealift.exports.jsontext import compact_json
from sealift.exports.plan_models import BareMetalItem, MissedSlot, Outcome, Plan, PlanItem, Wave, WaveSlice
from sealift.exports.ports import ClassicApi, CosApi
from sealift.exports.redact import redact_text
from sealift.exports.rules import Severity
from sealift.exports.selection import Selection, resolve
from sealift.exports.settings import PlanSettings
from sealift.exports.versions import unreadable

__all__ = [
    "BareMetalItem",
    "Limits",
    "MissedSlot",
    "Outcome",
    "Plan",
    "PlanItem",
    "Wave",
    "WaveSlice",
    "assemble",
    "check_bucket",
    "complete_plan",
    "guests_with_template",
    "keep_plan",
    "kept_plan",
    "make_plan",
    "plan_body",
    "plan_item",
    "plan_summary",
    "read_plan",
    "read_wave",
    "wave_keys",
    "write_plan",
]

_WRITERS: Final = 8
"""So many slices are written at the same time."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the deployment bounds the waves of a plan by.

    :param max_offline: most servers offline at once, whatever a run asks for; None where only the run says.
    :param waves_at_most: how many waves Airflow can start for one plan.
    """

    max_offline: int | None = None
    waves_at_most: int = 1024


Stored = TypeVar("Stored", Plan, WaveSlice)


def make_plan(
    *,
    settings: PlanSettings,
    selection: Selection,
    classic: ClassicApi,
    cos: CosApi,
    plan_id: str,
    period: str,
    now: datetime,
    past_slot: bool = False,
    limits: Limits | None = None,
) -> Plan:
    """Make a plan; captures nothing.

    It costs the account a page for 100 selected servers and one for 100 templates of the period, and the store the
    pages of the manifests, and 64 manifests. Where everything is exported already, neither templates nor manifests
    are read.

    :param settings: how the run exports.
    :param selection: which servers it is about.
    :param classic: the account.
    :param cos: the object store; its bucket is checked, and created where the settings say so.
    :param plan_id: see :func:`names.plan_id_for`.
    :param period: see :func:`names.period_for`.
    :param now: the present time, with a time zone.
    :param past_slot: the run is for a slot that has passed: only templates captured then are exported.
    :param limits: what the deployment bounds waves by.
    :returns: the plan, with a finding for whatever keeps a server out of it.
    :raises InputError: the selection or a setting cannot be used.
    :raises sealift.cos.errors.CosError: the bucket is missing, in another region, or may not be written.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    names.check_period(period)
    check_bucket(cos, settings)
    resolved = resolve(selection, classic)
    listed: list[ObjectInfo] = []
    done = ledger.exported_guests(
        cos,
        bucket=settings.bucket,
        prefix=settings.prefix,
        period=period,
        guest_ids=[guest.id for guest in resolved.guests],
        listed=listed,
    )
    left = [guest.id for guest in resolved.guests if guest.id not in done]
    templates = guests_with_template(classic, left, period)
    history = read_history(cos, bucket=settings.bucket, prefix=settings.prefix, listed=listed) if left else History()
    items = [
        plan_item(
            guest,
            settings=settings,
            period=period,
            done=guest.id in done,
            past_slot=past_slot,
            template_exists=guest.id in templates,
            history=history,
        )
        for guest in resolved.guests
    ]
    return assemble(
        plan_id=plan_id,
        created_at=now,
        period=period,
        settings=settings,
        selection=selection,
        notes=resolved.notes,
        items=items,
        bare_metal=resolved.bare_metal,
        unknown_ids=resolved.unknown_ids,
        history=history,
        limits=limits,
    )


def check_bucket(cos: CosApi, settings: PlanSettings) -> None:
    """Make sure that the bucket is there and can be written.

    :param cos: the object store.
    :param settings: they name the bucket, and say whether it may be created.
    :raises sealift.cos.errors.CosError: the bucket is missing, in another region, or may not be written.
    """
    cos.preflight(bucket=settings.bucket, region=settings.region, prefix=settings.prefix, create=settings.bucket_create)


def guests_with_template(classic: ClassicApi, guest_ids: Collection[int], period: str) -> set[int]:
    """Return the guests whose export of a period has a template already: of a past slot, or of an earlier try.

    :param classic: the account; asked for the templates of this period only.
    :param guest_ids: the guests to ask about; nothing is asked where there are none.
    :param period: the scheduled slot or manual run.
    :returns: those of them that have one.
    """
    wanted = {names.export_id(guest_id=one, period=period): one for one in guest_ids}
    if not wanted:
        return set()
    found = (names.parse_template_name(one.name) for one in classic.templates_ending(names.template_suffix(period)))
    return {wanted[export] for export in found if export in wanted}


def assemble(
    *,
    plan_id: str,
    created_at: datetime,
    period: str,
    settings: PlanSettings,
    selection: Selection,
    notes: Sequence[str],
    items: Sequence[PlanItem],
    history: History,
    bare_metal: Sequence[BareMetalServer] = (),
    unknown_ids: Sequence[int] = (),
    missed: Sequence[MissedSlot] = (),
    retry_of: str | None = None,
    limits: Limits | None = None,
) -> Plan:
    """Cut the waves and put a plan together.

    :param plan_id: see :class:`Plan`, as for all that is not said here.
    :param created_at: with a time zone.
    :param period: the period of most of its exports.
    :param settings: how the run exports.
    :param selection: what was selected.
    :param notes: sentences for people.
    :param items: the virtual servers; waves follow their order.
    :param history: where the deadlines come from.
    :param bare_metal: selected bare metal servers.
    :param unknown_ids: selected ids that the account does not know.
    :param missed: past slots that cannot be captured any more.
    :param retry_of: the plan whose failed servers these are.
    :param limits: what the deployment bounds waves by.
    :returns: the plan. What only needs a template to be adopted comes before what takes servers offline.
    :raises SettingsError: there would be more waves than Airflow can start.
    """
    limits = limits or Limits()
    exports = [(item.period, item.guest_id) for item in items if item.outcome is Outcome.EXPORT]
    most_offline = min(settings.max_offline, limits.max_offline or settings.max_offline)
    size = waves.wave_size_for(
        asked=settings.wave_size,
        max_offline=most_offline,
        servers=len(exports),
        waves_at_most=limits.waves_at_most,
    )
    slices = waves.cut(exports, size=size)
    waves.check_count(len(slices), servers=len(exports), waves_at_most=limits.waves_at_most)
    return Plan(
        plan_id=plan_id,
        created_at=created_at,
        period=period,
        settings=settings,
        selection=selection,
        findings=rules.settings_findings(settings),
        notes=list(notes),
        retry_of=retry_of,
        items=sorted(items, key=lambda item: item.guest_id),
        bare_metal=[_bare_metal(server) for server in bare_metal],
        unknown_ids=list(unknown_ids),
        missed=list(missed),
        waves=[
            Wave(number=number, guest_ids=guests, period=None if one == period else one)
            for number, (one, guests) in enumerate(slices)
        ],
        history=history,
    )


def write_plan(cos: CosApi, plan: Plan) -> list[str]:
    """Write a plan as :func:`keep_plan` does.

    :param cos: the object store.
    :param plan: the plan; its settings name bucket and prefix.
    :returns: the keys of the waves' slices, in order.
    :raises PlanError: something else lies at one of the keys.
    """
    return wave_keys(keep_plan(cos, plan))


def wave_keys(plan: Plan) -> list[str]:
    """Return the keys of a plan's slices.

    :param plan: the plan.
    :returns: the keys, in order.
    """
    return [
        names.wave_key(prefix=plan.settings.prefix, plan_id=plan.plan_id, number=wave.number) for wave in plan.waves
    ]


def keep_plan(cos: CosApi, plan: Plan) -> Plan:
    """Write a plan and its waves' slices; writing it again is fine, and the first plan of a run stays.

    A retry of the planning task sees a later state of the account (a server just exported, say). The waves may have
    started from the first plan, so that one holds.

    :param cos: the object store.
    :param plan: the plan; its settings name bucket and prefix.
    :returns: the plan that holds.
    :raises PlanError: something else lies at one of the keys.
    """
    settings = plan.settings
    key = names.plan_key(prefix=settings.prefix, plan_id=plan.plan_id)
    outcome = cos.put_if_absent(settings.bucket, key, plan_body(plan))
    if outcome is PutOutcome.EXISTS_DIFFERENT:
        plan = read_plan(cos, bucket=settings.bucket, key=key)
    if outcome is PutOutcome.CREATED:
        _write_slices(cos, plan, plan.waves)
    else:
        complete_plan(cos, plan)
    return plan


def kept_plan(cos: CosApi, *, bucket: str, prefix: str, plan_id: str) -> Plan | None:
    """Return the plan that an earlier try of a run wrote, with all of its slices in the bucket.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param plan_id: the plan.
    :returns: the plan, or None where none was written yet.
    :raises PlanError: something else lies at one of the keys.
    """
    key = names.plan_key(prefix=prefix, plan_id=plan_id)
    body = cos.read(bucket, key)
    if body is None:
        return None
    plan = _parsed(Plan, body, f"{bucket}/{key}")
    complete_plan(cos, plan)
    return plan


def complete_plan(cos: CosApi, plan: Plan) -> None:
    """Write the slices of a plan that are missing, as an earlier try may have been killed among them.

    :param cos: the object store.
    :param plan: the plan that holds.
    :raises PlanError: something else lies at one of the keys.
    """
    if not plan.waves:
        return
    settings = plan.settings
    there = {info.key for info in cos.list(settings.bucket, names.waves_prefix(settings.prefix, plan.plan_id))}
    _write_slices(cos, plan, [wave for wave, key in zip(plan.waves, wave_keys(plan), strict=True) if key not in there])


def _write_slices(cos: CosApi, plan: Plan, wanted: Sequence[Wave]) -> None:
    def write(wave: WaveSlice) -> None:
        settings = plan.settings
        key = names.wave_key(prefix=settings.prefix, plan_id=plan.plan_id, number=wave.number)
        if cos.put_if_absent(settings.bucket, key, plan_body(wave)) is PutOutcome.EXISTS_DIFFERENT:
            raise PlanError(
                f"{settings.bucket}/{key} exists and does not belong to the plan "
                f"{names.plan_key(prefix=settings.prefix, plan_id=plan.plan_id)}. Something else wrote it; start a new "
                "run, which makes a plan of its own."
            )

    if len(wanted) <= _WRITERS:  # few: not worth the threads
        for wave in plan.slices(wanted):
            write(wave)
        return
    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(write, plan.slices(wanted)):
            pass


def plan_body(model: Plan | WaveSlice) -> bytes:
    """Write a plan, or a slice of it, as it lies in the bucket: items without what is empty, and no indentation.

    A plan of thousands of servers is read by programs, and half of it would be blanks and nulls.

    :param model: the plan or the slice.
    :returns: the bytes; the same for what is read back.
    """
    head = model.model_dump(mode="json", exclude={"items"})
    items = [item.model_dump(mode="json", exclude_defaults=True) for item in model.items]
    return compact_json({**head, "items": items})


def read_plan(cos: CosApi, *, bucket: str, key: str) -> Plan:
    """Read a whole plan.

    :param cos: the object store.
    :param bucket: the bucket.
    :param key: the plan's key, see :func:`sealift.exports.names.plan_key`.
    :returns: the plan.
    :raises PlanError: there is none, or it cannot be read.
    """
    return _read(cos, bucket, key, Plan)


def read_wave(cos: CosApi, *, bucket: str, key: str) -> WaveSlice:
    """Read one wave's slice.

    :param cos: the object store.
    :param bucket: the bucket.
    :param key: the slice's key, see :func:`sealift.exports.names.wave_key`.
    :returns: the slice.
    :raises PlanError: there is none, or it cannot be read.
    """
    return _read(cos, bucket, key, WaveSlice)


def _read(cos: CosApi, bucket: str, key: str, model: type[Stored]) -> Stored:
    body = cos.read(bucket, key)
    if body is None:
        raise PlanError(f"There is no plan at {bucket}/{key}. Start plan_exports, which writes one.")
    return _parsed(model, body, f"{bucket}/{key}")


def _parsed(model: type[Stored], body: bytes, where: str) -> Stored:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise PlanError(unreadable(error, where=where, what="a plan", do="Start a new run.")) from error


def plan_item(
    guest: Guest,
    *,
    settings: PlanSettings,
    period: str,
    done: bool,
    past_slot: bool,
    template_exists: bool,
    history: History,
    first: PlanItem | None = None,
) -> PlanItem:
    """Decide about one virtual server.

    :param guest: the server, as the account shows it.
    :param settings: how the run exports.
    :param period: what the export is for.
    :param done: its manifest exists.
    :param past_slot: the period has passed: only what was captured then is exported.
    :param template_exists: the export has a template, which the run will adopt.
    :param history: what deadlines come from.
    :param first: what an earlier plan decided about the same export. Its keys stay, and its disks where they have been
        captured by now.
    :returns: the item.
    """
    export = names.export_id(guest_id=guest.id, period=period)
    images = names.image_prefix(prefix=settings.prefix, hostname=guest.hostname, guest_id=guest.id, export=export)
    disks = [] if done else planned_disks(guest)
    left_out = [] if done else left_out_disks(guest)
    if first is not None:
        images = first.images
        if template_exists and not done:
            disks, left_out = first.disks, first.left_out
    context = rules.Context(
        settings=settings, images=images, past_slot=past_slot, template_exists=template_exists, disks=disks
    )
    findings = [] if done else rules.evaluate(guest, context)
    refused = any(one.severity is Severity.REFUSE for one in findings)
    outcome = Outcome.ALREADY_EXPORTED if done else Outcome.NOT_EXPORTABLE if refused else Outcome.EXPORT
    size = sum(disk.capacity_bytes for disk in disks)
    return PlanItem(
        guest_id=guest.id,
        hostname=guest.hostname,
        domain=guest.domain,
        datacenter=guest.datacenter,
        dedicated_host_id=guest.dedicated_host_id,
        dedicated_host_name=guest.dedicated_host_name,
        power_state=guest.power_state,
        tags=guest.tags,
        export_id=export,
        images=images,
        outcome=outcome,
        findings=findings,
        disks=disks,
        left_out=left_out,
        capacity_bytes=size,
        conversion=None if settings.format == "vhd" else settings.format,
        adopt_only=past_slot and not settings.capture_now,
        **(_waits(size, settings, history) if outcome is Outcome.EXPORT else {}),
    )


def _waits(size: int, settings: PlanSettings, history: History) -> dict[str, float]:
    """Work out a server's waits once, so that every wave and every try judges by the same figures."""
    capture = deadlines.capture_deadline(size, settings.capture_deadline_minutes, pace=history.capture)
    export = deadlines.export_deadline(size, settings.export_deadline_minutes, pace=history.export)
    found = {"capture_deadline_seconds": capture, "export_deadline_seconds": export}
    if history.capture is not None:
        found["capture_expected_seconds"] = history.capture.usual(size)
    if history.export is not None:
        found["export_expected_seconds"] = history.export.usual(size)
    return {name: round(time.total_seconds()) or 1 for name, time in found.items()}


def _bare_metal(server: BareMetalServer) -> BareMetalItem:
    return BareMetalItem(
        hardware_id=server.id,
        hostname=server.hostname,
        domain=server.domain,
        datacenter=server.datacenter,
        findings=[rules.bare_metal_finding(server)],
        inventory=_without_secrets(server.inventory),
    )


def _without_secrets(inventory: dict[str, Any]) -> dict[str, Any]:
    """Look at the words of the one free text that the inventory mask asks for."""
    notes = inventory.get("notes")
    return {**inventory, "notes": redact_text(notes)} if isinstance(notes, str) else inventory


def plan_summary(plan: Plan) -> Mapping[str, int]:
    """Count a plan's outcomes, for logs and XCom.

    :param plan: the plan.
    :returns: how many servers to export, already exported and not exportable, how many disks to export, and how many
        waves.
    """
    return {
        "export": len(plan.items_with(Outcome.EXPORT)),
        "already_exported": len(plan.items_with(Outcome.ALREADY_EXPORTED)),
        "not_exportable": len(plan.items_with(Outcome.NOT_EXPORTABLE)) + len(plan.bare_metal) + len(plan.unknown_ids),
        "disks": sum(len(item.disks) for item in plan.items_with(Outcome.EXPORT)),
        "waves": len(plan.waves),
    }
