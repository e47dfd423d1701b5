"""What the two sensors share: they start and end in the triggerer, so that waiting never takes a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
from airflow.triggers.base import StartTriggerArgs

from sealift.provider.errors import WaitFailed
from sealift.provider.failures import recording_failure
from sealift.provider.log_fields import bind_fields
from sealift.provider.rendering import QuickTemplates
from sealift.provider.waits import ENDED_KEY, NEVER, raise_unless_done

if TYPE_CHECKING:
    from airflow.sdk import Context


class AccountSensor(QuickTemplates, BaseSensorOperator):
    """Waits for a transaction of the account, from the triggerer.

    Airflow does not start *mapped operators* in the triggerer, but does so for plain ones in a mapped task group; for
    ``.partial().expand()`` pass ``start_from_trigger=False``, and the sensor starts in a worker, which defers at once.

    :param terms: the terms of the wait as JSON, templated: what the task before returned. In a mapped group the
        template must name the map index, or the triggerer waits for an answer for ever.
    :param classic_conn_id: connection of the type ``ibm_classic``, templated.
    :param cos_conn_id: connection of the type ``ibm_cos``, templated.
    :param region: the bucket's region, templated.
    :param poll_interval: seconds between two polls of the account; waits with the same interval share one poll.
    :param start_from_trigger: whether the sensor starts in the triggerer.
    """

    template_fields: Sequence[str] = ("terms", "classic_conn_id", "cos_conn_id", "region", "attempt")
    trigger_path: ClassVar[str]
    step_name: ClassVar[str]
    """What the step is called where faults are counted."""
    goes_on: ClassVar[bool] = False
    """Whether a good end of the wait resumes the task in a worker, which then does a step."""
    ui_color = "#eef4fb"

    def __init__(
        self,
        *,
        terms: str,
        classic_conn_id: str = "{{ params.wave.classic_conn_id }}",
        cos_conn_id: str = "{{ params.wave.cos_conn_id }}",
        region: str = "{{ params.wave.region }}",
        poll_interval: float = 15.0,
        start_from_trigger: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.terms = terms
        self.classic_conn_id = classic_conn_id
        self.cos_conn_id = cos_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.attempt = "{{ ti.try_number }}"
        self.start_from_trigger = start_from_trigger
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=self.trigger_path,
            trigger_kwargs={
                "terms": terms,
                "classic_conn_id": classic_conn_id,
                "cos_conn_id": cos_conn_id,
                "region": region,
                "poll_interval": poll_interval,
                "attempt": self.attempt,
                "resumes": self.goes_on,
            },
            next_method="execute_complete",
            next_kwargs=None,
            timeout=NEVER,
        )

    def execute(self, context: Context) -> None:  # noqa: ARG002
        """Defer at once: only where the sensor was told not to start in the triggerer.

        :param context: the task's context.
        """
        from importlib import import_module

        module, _, name = self.trigger_path.rpartition(".")
        trigger_cls = getattr(import_module(module), name)
        self.defer(
            trigger=trigger_cls(
                classic_conn_id=self.classic_conn_id,
                terms=self.terms,
                poll_interval=self.poll_interval,
                attempt=self.attempt,
                cos_conn_id=self.cos_conn_id,
                region=self.region,
                deferred_by_worker=True,
                resumes=self.goes_on,
            ),
            method_name="execute_complete",
            timeout=NEVER,
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume. A trigger that broke off is retried: Airflow's own sensors would fail for good after a timeout.

        :param next_method: what to call.
        :param next_kwargs: with what.
        :param context: the task's context.
        """
        bind_fields(self.terms)
        with recording_failure(context, step=self.step_name):
            try:
                return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
            except (TaskDeferralError, TaskDeferralTimeout) as error:
                raise WaitFailed(
                    "The wait broke off in the triggerer; its log says why. Another try takes the wait up again.",
                    reason="trigger-failed",
                ) from error

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None, **kept: Any) -> Any:
        """Raise what went wrong, or go on; a wait after which nothing comes ends in the triggerer by itself, but where
        Airflow runs the trigger inline.

        :param context: the task's context.
        :param event: the trigger's payload.
        :param kept: what the step before this wait was to keep.
        :returns: what the task hands on.
        :raises WaitFailed: if waiting again may help.
        :raises WaitFailedForGood: if it cannot.
        """
        raise_unless_done(event)
        return self.after_wait(context, {**(event or {}), **kept})

    def after_wait(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Do what comes after a wait that ended well: hand on what it saw.

        :param context: the task's context.
        :param event: the trigger's payload.
        :returns: what the task hands on.
        """
        if ENDED_KEY in event:
            context["ti"].xcom_push(key=ENDED_KEY, value=event[ENDED_KEY])
