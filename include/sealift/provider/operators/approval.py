"""Waiting for a person before servers go offline: Airflow's own approval, with the plan for a question."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from sealift.exports.handing import check_handed_on
from sealift.provider.failures import says_failures
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, PlanLink
from sealift.provider.notifications.telling import tell
from sealift.provider.operators.plan import PLAN_KEY, REFUSAL_KEY
from sealift.provider.settings import settings as deployment

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.messages.message import Message
    from sealift.exports.plan_models import Plan


class ApproveCapturesOperator(ApprovalOperator, Linked):
    """Shows a plan and waits until somebody approves it; passes at once where nobody has to.

    Without an answer in time it counts as refused. Then no wave starts, and the report says so of each server.

    :param plan_task_id: the task that made the plan.
    """

    operator_extra_links = (PlanLink(),)
    ui_color = "#fff4e5"

    def __init__(self, *, plan_task_id: str = "make_plan", **kwargs: Any) -> None:
        kwargs.setdefault("subject", "Take virtual servers offline to export them?")
        super().__init__(defaults=self.REJECT, **kwargs)
        self.plan_task_id = plan_task_id

    @says_failures
    def execute(self, context: Context) -> Any:
        """Ask, if the plan has to be approved.

        :param context: the task's context.
        :returns: nothing; where somebody is asked the task goes on with their answer.
        """
        from sealift.exports.approval import asks_for_approval, body_of, subject_of
        from sealift.exports.plan import read_plan

        where = context["ti"].xcom_pull(task_ids=self.plan_task_id, key=PLAN_KEY)
        if not where:
            self.log.info("There is no plan to approve.")
            return None
        check_handed_on(where, by=f"the task {self.plan_task_id}")
        hook = CosHook(where["cos_conn_id"], region=where["region"])
        plan = read_plan(hook.client, bucket=where["bucket"], key=where["key"])
        self.remember_link(PlanLink, hook.url_of(where["bucket"], where["key"]))
        params = context["params"]
        why = asks_for_approval(plan, approval=params["approval"], tags=deployment().approve_tags)
        if not why:
            self.log.info("Nobody has to approve this plan.")
            return None
        self.subject = subject_of(plan)
        self.body = body_of(plan, why=why, key=where["key"])
        self.response_timeout = timedelta(hours=_hours(context))
        self.log.info("%s It waits under Required Actions for %g hours.", why, _hours(context))
        tell("approval", lambda: _message(context, plan, why), log=self.log)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer.

        :param context: the task's context.
        :param event: what somebody chose, or what the end of the time chose.
        :returns: who answered, and what.
        """
        if event.get("chosen_options") == [self.REJECT]:
            user = event.get("responded_by_user")
            refusal = {
                "by": user["name"] if user else None,
                "at": (event.get("responded_at") or datetime.now(UTC)).isoformat(),
                "waited_hours": _hours(context),
            }
            context["ti"].xcom_push(key=REFUSAL_KEY, value=refusal)
        return super().execute_complete(context, event)


def _message(context: Context, plan: Plan, why: str) -> Message:
    from sealift.exports.messages.making import approval_message
    from sealift.provider.notifications.links import plan_links, run_links

    ti = context["ti"]
    return approval_message(
        plan=plan,
        why=why,
        hours=_hours(context),
        now=datetime.now(UTC),
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        links=[*run_links(ti.dag_id, ti.run_id), *plan_links(plan.plan_id, plan.settings)],
    )


def _hours(context: Context) -> float:
    return float(context["params"]["approval_hours"])
