"""Telling of a run of plan_exports that is late, by Airflow's own deadline alerts.

Airflow fixes a run's deadline as it makes the run, before there is a plan: nothing then tells how long the run should
take, and an average over runs of one server and of thousands says nothing. So the deadline is a setting, counted from
when the run was queued. The scheduler sees that it has passed; what is called then runs in the triggerer, which every
deployment of Sealift has, and not on an executor, of which not all can run callbacks.

Two things of Airflow 3.3 are made up for here. It forgets the deadline of a run that succeeds, and not that of one that
fails: a run that has ended is not late. And a callback is told of the run, but gets no task's context: what the run has
done so far is looked up in the bucket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sealift.provider.notifications.choice import checked_choice
from sealift.provider.notifications.telling import tell

if TYPE_CHECKING:
    from airflow.sdk.definitions.deadline import DeadlineAlert

    from sealift.exports.messages.message import Message
    from sealift.exports.plan_models import Plan
    from sealift.provider.hooks.cos import CosHook

log = logging.getLogger(__name__)

CALLBACK: Final = f"{__name__}.tell_late"

_GOES_ON: Final = ("queued", "running")


def late_alert() -> DeadlineAlert | None:
    """Make the alert of a DAG, as the deployment has chosen.

    :returns: the alert, or None where no run is ever late.
    :raises ValueError: a setting cannot be meant so: see :func:`sealift.provider.notifications.choice.choice`.
    """
    chosen = checked_choice()
    if not chosen.late_after:
        return None
    # Named in airflow.sdk as well, but not in the types of it.
    from airflow.sdk.definitions.callback import AsyncCallback
    from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

    return DeadlineAlert(
        name="late",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=chosen.late_after),
        # The settings are read when it is called: nothing of them is kept in the database.
        callback=AsyncCallback(CALLBACK),
    )


async def tell_late(context: Mapping[str, Any]) -> str:
    """Tell of a run whose deadline has passed, if it still runs. Airflow calls it in the triggerer.

    :param context: ``dag_run`` as the REST API shows it, and ``deadline`` with its ``deadline_time``.
    :returns: what was done; Airflow keeps it with the callback.
    """
    return await asyncio.to_thread(_tell_late, context)


def _tell_late(context: Mapping[str, Any]) -> str:
    run = context["dag_run"]
    run_id, state = str(run["dag_run_id"]), str(run["state"])
    if state not in _GOES_ON:
        log.info("The deadline of %s has passed, but it has ended: %s. Nobody is told that it is late.", run_id, state)
        return f"nobody was told: the run has ended, {state}"
    told = tell("late", lambda: _message(run, _moment(context["deadline"]["deadline_time"])), log=log)
    return "told" if told else "nobody was told; the triggerer's log says why"


def _message(run: Mapping[str, Any], due: datetime | None) -> Message:
    from sealift.classic.errors import ClassicError
    from sealift.cos.errors import CosError
    from sealift.exports.errors import ExportsError
    from sealift.exports.messages.making import late_message
    from sealift.exports.report import read_wave_reports
    from sealift.provider.errors import ConnectionProblem
    from sealift.provider.notifications.links import plan_links, run_links

    dag_id, run_id = str(run["dag_id"]), str(run["dag_run_id"])
    now = datetime.now(UTC)
    plan, waves, done, unseen = None, {}, set[str](), ""
    try:
        hook, plan = _plan_of(dag_id, run_id, run.get("conf") or {})
        if plan is not None:
            waves = read_wave_reports(hook.client, plan)
            done = _exported(hook, plan)
    except (ClassicError, CosError, ExportsError, ConnectionProblem) as error:
        unseen = f"The bucket could not be looked at: {error}"
    return late_message(
        plan=plan,
        waves=waves,
        done=done,
        due=due or now,
        began=_moment(run.get("start_date")),
        now=now,
        dag_id=dag_id,
        run_id=run_id,
        unseen=unseen,
        links=[*(plan_links(plan.plan_id, plan.settings) if plan else []), *run_links(dag_id, run_id)],
    )


def _plan_of(dag_id: str, run_id: str, conf: Mapping[str, Any]) -> tuple[CosHook, Plan | None]:
    """Find the plan of a run, by what the run was started with and the deployment's defaults."""
    from sealift.exports import names
    from sealift.exports.plan import read_plan
    from sealift.provider.hooks.cos import CosHook
    from sealift.provider.params import plan_params
    from sealift.provider.settings import settings

    params = {name: param.value for name, param in plan_params(settings().default_params).items()} | dict(conf)
    hook = CosHook(str(params["cos_conn_id"] or CosHook.default_conn_name), region=params["region"] or None)
    bucket = str(hook.bucket_or_default(params["bucket"]))
    prefix = names.normal_prefix(str(params["prefix"] or ""))
    if params["only"] == "failed":
        # A plan of failed servers lies where the first plan does, and may name that by a key.
        first = names.parse_plan_place(str(params["plan"] or ""))
        prefix = prefix if first is None or first[0] is None else first[0]
    key = names.plan_key(prefix=prefix, plan_id=names.plan_id_for(dag_id=dag_id, run_id=run_id))
    there = hook.client.head(bucket, key) is not None
    return hook, read_plan(hook.client, bucket=bucket, key=key) if there else None


def _exported(hook: CosHook, plan: Plan) -> set[str]:
    """Name the plan's exports that are done: one listing, whatever their number."""
    from sealift.exports.ledger import exported_periods
    from sealift.exports.plan_models import Outcome

    settings, items = plan.settings, plan.items_with(Outcome.EXPORT)
    periods = exported_periods(
        hook.client, bucket=settings.bucket, prefix=settings.prefix, guest_ids=[one.guest_id for one in items]
    )
    return {one.export_id for one in items if one.period in periods.get(one.guest_id, {})}


def _moment(told: Any) -> datetime | None:
    """Read a time that came as text or as it is."""
    if told is None or isinstance(told, datetime):
        return told
    return datetime.fromisoformat(str(told))
