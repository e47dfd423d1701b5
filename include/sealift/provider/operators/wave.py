"""Starting the DAG runs of waves once, however often it is tried, and waiting for them without a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.helpers import build_airflow_dagrun_url

from sealift.exports.handing import check_handed_on
from sealift.provider.failures import says_failures
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, WaveLink
from sealift.provider.naming import NAMES_KEY
from sealift.provider.operators.plan import PLAN_KEY
from sealift.provider.triggers.wave import ENDED, WaveRunTrigger, WavesEndTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class ExportWaveOperator(BaseOperator, Linked):
    """Starts one wave of a plan, or takes up the run that was started before, and ends when the next wave may start.

    Airflow's own operator fails where the run exists already, so that a second try could never succeed.

    :param trigger_dag_id: the DAG that carries out waves.
    :param wave: ``{"run_id": …, "conf": {…}, "label": …}``; the run id follows from the plan and the wave's number.
        With ``servers`` and ``waiting_at_most`` the next wave may start before this one's end: see
        :class:`sealift.provider.triggers.wave.WaveRunTrigger`.
    :param poll_interval: seconds between two looks at the run.
    """

    template_fields: Sequence[str] = ("wave",)
    operator_extra_links = (WaveLink(),)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        wave: dict[str, Any],
        trigger_dag_id: str = "export_servers",
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wave = wave
        self.trigger_dag_id = trigger_dag_id
        self.poll_interval = poll_interval

    @says_failures
    def execute(self, context: Context) -> None:
        """Start the wave's run where there is none, then wait until the next wave may start.

        :param context: the task's context.
        """
        check_handed_on(self.wave, by="the task that made the plan")
        ti = context["ti"]
        run_id = str(self.wave["run_id"])
        self.remember_link(WaveLink, build_airflow_dagrun_url(dag_id=self.trigger_dag_id, run_id=run_id))
        if ti.get_dr_count(dag_id=self.trigger_dag_id, run_ids=[run_id]) == 0:
            self._start(run_id)
        state = ti.get_dagrun_state(dag_id=self.trigger_dag_id, run_id=run_id)
        if state in ENDED:
            # How it ended is the report's business: this task only says when the next wave may start.
            self.log.info("The run %s of %s has ended: %s.", run_id, self.trigger_dag_id, state)
            return
        self.log.info("Waiting for the run %s of %s.", run_id, self.trigger_dag_id)
        self.defer(
            trigger=WaveRunTrigger(
                dag_id=self.trigger_dag_id,
                run_id=run_id,
                servers=int(self.wave.get("servers") or 0),
                waiting_at_most=self.wave.get("waiting_at_most"),
                poll_interval=self.poll_interval,
            ),
            method_name="execute",
        )

    def _conf(self) -> dict[str, Any]:
        """Give the run's conf: what the plan says of the wave, and its servers' names, which are for people."""
        from sealift.exports.plan import read_wave

        told = dict(self.wave["conf"]["wave"])
        cos = CosHook(told["cos_conn_id"], region=told["region"] or None)
        wave = read_wave(cos.client, bucket=told["bucket"], key=told["key"])
        return {**self.wave["conf"], "wave": {**told, NAMES_KEY: [item.hostname for item in wave.items]}}

    def _start(self, run_id: str) -> None:
        """Ask for the run. An answer that it is there already is as good."""
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        answer = SUPERVISOR_COMMS.send(
            TriggerDagRun(
                dag_id=self.trigger_dag_id,
                run_id=run_id,
                conf=self._conf(),
                note=str(self.wave["label"]),
            )
        )
        if not isinstance(answer, ErrorResponse):
            self.log.info("Started the run %s of %s.", run_id, self.trigger_dag_id)
        elif answer.error == ErrorType.DAGRUN_ALREADY_EXISTS:
            self.log.info("The run %s was started in the meantime.", run_id)
        else:
            raise AirflowFailException(
                f"Airflow would not start the run {run_id} of {self.trigger_dag_id} ({answer.error}). Look "
                "whether that DAG is there and takes the wave's parameters, then clear this task."
            )


class WaitForWavesOperator(BaseOperator):
    """Waits until all waves of a plan have ended, without a worker; how they ended is the report's business.

    :param plan_task_id: the task that made the plan.
    :param trigger_dag_id: the DAG that carries out waves.
    :param poll_interval: seconds between two looks.
    """

    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        plan_task_id: str = "make_plan",
        trigger_dag_id: str = "export_servers",
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.trigger_dag_id = trigger_dag_id
        self.poll_interval = poll_interval

    @says_failures
    def execute(self, context: Context) -> None:
        """Wait, if there is anything to wait for.

        :param context: the task's context.
        """
        where = context["ti"].xcom_pull(task_ids=self.plan_task_id, key=PLAN_KEY) or {}
        check_handed_on(where, by=f"the task {self.plan_task_id}")
        if not where.get("waves"):
            self.log.info("There is no wave to wait for.")
            return
        self.defer(
            trigger=WavesEndTrigger(
                dag_id=self.trigger_dag_id,
                plan_id=str(where["plan_id"]),
                waves=int(where["waves"]),
                poll_interval=self.poll_interval,
            ),
            method_name="execute",
        )
