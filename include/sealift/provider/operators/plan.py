"""Making the plan of a run: everything that is wrong with the input ends here, before anything is captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from airflow.configuration import conf
from airflow.sdk import BaseOperator

from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, PlanLink
from sealift.provider.params import selection_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.plan import Plan
    from sealift.exports.settings import PlanSettings

PLAN_KEY: Final = "plan"
"""XCom key under which the plan's place is handed to the report."""

_SLOT_RUNS: Final = ("scheduled", "backfill")
"""Kinds of runs that stand for a slot. Compared with ``==``: in a worker the kind is an enumeration whose ``str()`` is
``DagRunType.SCHEDULED``."""


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
        """Make and write the plan.

        :param context: the task's context.
        :returns: one dictionary for each wave: the id of its run, the run's conf, and a label. Empty in a dry run.
        """
        from sealift.exports import names
        from sealift.exports.plan import make_plan, read_plan, write_plan
        from sealift.exports.selection import Selection
        from sealift.provider.slots import slots_kept

        run = context["dag_run"]
        ti = context["ti"]
        params = dict(context["params"])
        self._check_conf(run.conf)
        now = datetime.now(UTC)
        slot = run.logical_date if run.run_type in _SLOT_RUNS else None
        settings = self._settings(params)
        cos, classic = (
            CosHook(settings.cos_conn_id, region=settings.region),
            ClassicHook(settings.classic_conn_id).client,
        )
        _ = cos.export_api_key  # a connection without one is refused before the account is read
        plan = make_plan(
            settings=settings,
            selection=Selection.from_params(self.selection or selection_of(params)),
            classic=classic,
            cos=cos.client,
            plan_id=names.plan_id_for(dag_id=ti.dag_id, run_id=ti.run_id),
            period=names.period_for(slot=slot, run_id=ti.run_id),
            now=now,
            past_slot=run.run_type == "backfill",
        )
        _check_waves(plan)
        cos.check_export_key(bucket=settings.bucket, prefix=settings.prefix)
        slots_kept(classic, settings).check_write()
        keys = write_plan(cos.client, plan)
        key = names.plan_key(prefix=settings.prefix, plan_id=plan.plan_id)
        # A second try finds the plan of the first, which is the one that holds.
        plan = read_plan(cos.client, bucket=settings.bucket, key=key)
        self._tell(plan)
        self.remember_link(PlanLink, cos.url_of(settings.bucket, key))
        ti.xcom_push(
            key=PLAN_KEY,
            value={
                "plan_id": plan.plan_id,
                "key": key,
                "bucket": settings.bucket,
                "region": settings.region,
                "cos_conn_id": settings.cos_conn_id,
            },
        )
        if settings.dry_run:
            self.log.info("This is a dry run: the plan is written, and nothing else happens.")
            return []
        return [
            {
                "run_id": names.wave_run_id(plan_id=plan.plan_id, number=wave.number),
                "label": f"wave {wave.number + 1} of {len(plan.waves)}",
                "conf": {
                    "wave_key": wave_key,
                    "bucket": settings.bucket,
                    "region": settings.region,
                    "classic_conn_id": settings.classic_conn_id,
                    "cos_conn_id": settings.cos_conn_id,
                },
            }
            for wave, wave_key in zip(plan.waves, keys, strict=True)
        ]

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
        from sealift.exports.errors import SettingsError
        from sealift.exports.settings import PlanSettings

        given = dict(self.plan_settings or _settings_of(params))
        given["classic_conn_id"] = given.get("classic_conn_id") or ClassicHook.default_conn_name
        given["cos_conn_id"] = given.get("cos_conn_id") or CosHook.default_conn_name
        cos = CosHook(str(given["cos_conn_id"]))
        given["bucket"] = given.get("bucket") or cos.default_bucket
        given["region"] = given.get("region") or cos.region
        if not given["bucket"]:
            raise SettingsError(
                f"No bucket is named. Give one when you trigger the run, or put one into the connection "
                f"{cos.cos_conn_id!r} (field bucket)."
            )
        return PlanSettings.from_params(given)

    def _tell(self, plan: Plan) -> None:
        from sealift.exports.plan import plan_summary
        from sealift.exports.rules import Severity

        for item in plan.items:
            self.log.info("%s: %s", item.name, item.outcome.value)
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
        for note in plan.notes:
            self.log.warning("%s", note)
        self.log.info("Deadlines: %s", plan.history.says)
        counts = plan_summary(plan).items()
        self.log.info("The plan: %s", ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts))


def _check_waves(plan: Plan) -> None:
    """Airflow refuses a longer list to map over, and would fail the task after the plan is written."""
    from sealift.exports.errors import SettingsError

    most = conf.getint("core", "max_map_length")
    if len(plan.waves) > most:
        servers = sum(len(wave.guest_ids) for wave in plan.waves)
        raise SettingsError(
            f"The plan would have {len(plan.waves)} waves, and Airflow takes {most} ([core] max_map_length). Set "
            f"wave_size to {-(-servers // most)} or more (at most 100), or select fewer servers."
        )


def _settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
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
        "capture_deadline_minutes",
        "export_deadline_minutes",
        "stuck_minutes",
        "grace_minutes",
    )
    given = {name: params.get(name) for name in same}
    given["bucket_create"] = bool(params.get("create_bucket"))
    given["waive"] = params.get("waive") or []
    return given
