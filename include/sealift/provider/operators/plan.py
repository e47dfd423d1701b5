"""Making the plan of a run: everything that is wrong with the input ends here, before anything is captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from airflow.configuration import conf
from airflow.sdk import BaseOperator

from sealift.exports.handing import stamped
from sealift.provider.earlier import Earlier
from sealift.provider.failures import recording_failure
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, PlanLink
from sealift.provider.params import selection_of
from sealift.provider.schedule import Slots
from sealift.provider.settings import settings as deployment

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.plan import Plan
    from sealift.exports.ports import ClassicApi, CosApi
    from sealift.exports.settings import PlanSettings

PLAN_KEY: Final = "plan"
"""XCom key under which the plan's place is handed to the report."""
REFUSAL_KEY: Final = "refusal"
"""XCom key under which the report learns who refused the plan, or that nobody answered."""

_SLOT_RUNS: Final = ("scheduled", "backfill")
"""Kinds of runs that stand for a slot."""


class PlanExportsOperator(BaseOperator, Linked):
    """Selects servers, applies the rules, and writes the plan into the bucket. Captures nothing.

    :param selection: what to select, as ``Selection.from_params`` takes it, templated; the run's parameters if None.
    :param plan_settings: the plan's settings, as ``PlanSettings.from_params`` takes them, templated; the run's
        parameters if None. Connections that it does not name are the default ones.
    """

    template_fields: Sequence[str] = ("selection", "plan_settings")
    operator_extra_links = (PlanLink(),)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        selection: Mapping[str, Any] | None = None,
        plan_settings: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.selection = selection
        self.plan_settings = plan_settings

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Make and write the plan, or take up the one that an earlier try of this run has written.

        :param context: the task's context.
        :returns: one dictionary for each wave: the id of its run, the run's conf, and a label. Empty in a dry run.
        """
        with recording_failure(context, step="plan"):
            return self._plan(context)

    def _plan(self, context: Context) -> list[dict[str, Any]]:
        from sealift.exports import names
        from sealift.exports.plan import keep_plan, kept_plan
        from sealift.exports.retry import find_first, settings_like
        from sealift.provider.slots import slots_kept

        ti = context["ti"]
        params = dict(context["params"])
        self._check_conf(context["dag_run"].conf)
        earlier = Earlier.from_params(params, run_type=_kind(context), now=datetime.now(UTC))
        settings = self._settings(params)
        cos = CosHook(settings.cos_conn_id, region=settings.region)
        _ = cos.export_api_key  # a connection without one is refused before the account is read
        first = None
        if earlier.only == "failed":
            first = find_first(cos.client, earlier.plan, settings)
            settings = settings_like(first, settings)
        plan_id = names.plan_id_for(dag_id=ti.dag_id, run_id=ti.run_id)
        # The plan of an earlier try is the one that holds: its waves may have started.
        plan = kept_plan(cos.client, bucket=settings.bucket, prefix=settings.prefix, plan_id=plan_id)
        if plan is None:
            settings.check_machine()
            classic = ClassicHook(settings.classic_conn_id).client
            made = self._make(context, earlier, first, settings, plan_id, classic=classic, cos=cos.client)
            cos.check_export_key(bucket=settings.bucket, prefix=settings.prefix)
            slots_kept(classic, settings).check_write()
            plan = keep_plan(cos.client, made)
        else:
            self.log.info("An earlier try has written the plan of this run: it holds.")
        settings = plan.settings
        key = names.plan_key(prefix=settings.prefix, plan_id=plan.plan_id)
        self._tell(plan)
        self.remember_link(PlanLink, cos.url_of(settings.bucket, key))
        ti.xcom_push(
            key=PLAN_KEY,
            value=stamped(
                {
                    "plan_id": plan.plan_id,
                    "key": key,
                    "bucket": settings.bucket,
                    "region": settings.region,
                    "cos_conn_id": settings.cos_conn_id,
                    "waves": 0 if settings.dry_run else len(plan.waves),
                }
            ),
        )
        if settings.dry_run:
            self.log.info("This is a dry run: the plan is written, and nothing else happens.")
            return []
        return _waves(plan)

    def _make(
        self,
        context: Context,
        earlier: Earlier,
        first: Plan | None,
        settings: PlanSettings,
        plan_id: str,
        *,
        classic: ClassicApi,
        cos: CosApi,
    ) -> Plan:
        """Make the plan that the run's parameters ask for."""
        from sealift.exports import names, plan, retry
        from sealift.exports.missing import make_missing
        from sealift.exports.selection import Selection

        run, now = context["dag_run"], datetime.now(UTC)
        chosen = self.selection or selection_of(context["params"])
        selection = Selection.from_params(chosen, may_be_empty=first is not None)
        limits = plan.Limits(max_offline=deployment().max_offline, waves_at_most=conf.getint("core", "max_map_length"))
        dag = self.get_dag()
        schedule = Slots(dag.schedule if dag else None)
        if first is not None:
            return retry.make_retry(
                first=first,
                failed=retry.failed_items(cos, first, over=earlier.plan_is_over),
                settings=settings,
                selection=selection,
                classic=classic,
                cos=cos,
                plan_id=plan_id,
                now=now,
                is_past=lambda period: schedule.is_past(names.slot_of_period(period)),
                limits=limits,
            )
        kind = _kind(context)
        slot = run.logical_date if kind in _SLOT_RUNS else None
        period = names.period_for(slot=slot, run_id=context["ti"].run_id)
        if earlier.only == "missing":
            newest = schedule.newest() or slot
            own = [names.period_of_slot(slot)] if slot else []
            return make_missing(
                settings=settings,
                selection=selection,
                classic=classic,
                cos=cos,
                plan_id=plan_id,
                slots=[*earlier.past_periods(schedule), *own],
                present=None if newest is None else names.period_of_slot(newest),
                run_period=period,
                now=now,
                limits=limits,
            )
        return plan.make_plan(
            settings=settings,
            selection=selection,
            classic=classic,
            cos=cos,
            plan_id=plan_id,
            period=period,
            now=now,
            # A scheduled run that is cleared when the next slot has come may capture as little as a backfill.
            past_slot=kind == "backfill" or schedule.is_past(slot),
            limits=limits,
        )

    def _check_conf(self, given: Mapping[str, Any] | None) -> None:
        """Refuse names that no parameter of the DAG has: Airflow lets them through, and a misspelt limit or exclusion
        would take servers offline that were to be spared."""
        from sealift.exports.errors import SettingsError

        dag = self.get_dag()
        known = set(dag.params) if dag else set()
        unknown = sorted(set(given or {}) - known)
        if known and unknown:
            near = get_close_matches(unknown[0], known, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" It has: {', '.join(sorted(known))}."
            raise SettingsError(
                f"The run's conf names {', '.join(unknown)}, and the DAG has no such parameter.{hint} Start a new run "
                "with the right names; nothing was captured."
            )

    def _settings(self, params: Mapping[str, Any]) -> PlanSettings:
        from sealift.exports.settings import PlanSettings

        given = dict(self.plan_settings or settings_of(params))
        given["classic_conn_id"] = given.get("classic_conn_id") or ClassicHook.default_conn_name
        given["cos_conn_id"] = given.get("cos_conn_id") or CosHook.default_conn_name
        cos = CosHook(str(given["cos_conn_id"]))
        given["bucket"] = cos.bucket_or_default(given.get("bucket"))
        given["region"] = given.get("region") or cos.region
        return PlanSettings.from_params(given)

    def _tell(self, plan: Plan) -> None:
        from sealift.exports.plan import plan_summary
        from sealift.exports.rules import Severity

        for item in plan.items:
            slot = "" if item.period == plan.period else f" in {item.period}"
            self.log.info("%s%s: %s", item.name, slot, item.outcome.value)
            for finding in item.findings:
                if finding.severity is not Severity.INFO:
                    self.log.info("    %s (%s): %s", finding.severity.value, finding.rule, finding.sentence)
        for server in plan.bare_metal:
            self.log.info(
                "%s (bare metal server %s): not exportable. %s",
                server.hostname,
                server.hardware_id,
                " ".join(one.sentence for one in server.findings),
            )
        if plan.retry_of:
            self.log.info("This plan tries the failed servers of the plan %s again.", plan.retry_of)
        for note in (*plan.notes, *(one.sentence for one in plan.missed)):
            self.log.warning("%s", note)
        self.log.info("Deadlines: %s", plan.history.says)
        counts = plan_summary(plan).items()
        self.log.info("The plan: %s", ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts))


def _kind(context: Context) -> str:
    """Say what kind of run it is, as text: in a worker it is an enumeration."""
    kind: Any = context["dag_run"].run_type
    return str(getattr(kind, "value", kind))


def _waves(plan: Plan) -> list[dict[str, Any]]:
    """Say what is started for each wave, and when the next may follow."""
    from sealift.exports import names
    from sealift.exports.plan import wave_keys

    settings = plan.settings
    most_waiting = min(settings.max_offline, deployment().max_offline)
    return [
        stamped(
            {
                "run_id": names.wave_run_id(plan_id=plan.plan_id, number=wave.number),
                "label": f"wave {wave.number + 1} of {len(plan.waves)}",
                "servers": len(wave.guest_ids),
                "waiting_at_most": most_waiting,
                "conf": {
                    "wave": {
                        "key": wave_key,
                        "bucket": settings.bucket,
                        "region": settings.region,
                        "classic_conn_id": settings.classic_conn_id,
                        "cos_conn_id": settings.cos_conn_id,
                    },
                },
            }
        )
        for wave, wave_key in zip(plan.waves, wave_keys(plan), strict=True)
    ]


def settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the settings out of a run's parameters.

    :param params: the parameters of ``plan_exports``.
    :returns: what ``PlanSettings.from_params`` takes.
    """
    same = (
        "classic_conn_id",
        "cos_conn_id",
        "bucket",
        "region",
        "prefix",
        "format",
        "wave_size",
        "max_offline",
        "window",
        "outside_window",
        "dry_run",
        "capture_now",
        "proof_level",
        "proof_share",
        "capture_deadline_minutes",
        "export_deadline_minutes",
        "stuck_minutes",
        "grace_minutes",
    )
    given = {name: params.get(name) for name in same}
    given["bucket_create"] = bool(params.get("create_bucket"))
    given["waive"] = params.get("waive") or []
    return given
