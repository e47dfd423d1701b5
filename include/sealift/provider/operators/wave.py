"""Starting the DAG run of a wave once, however often it is tried, and waiting for it without a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.helpers import build_airflow_dagrun_url

from sealift.provider.links import Linked, WaveLink
from sealift.provider.triggers.wave import ENDED, WaveRunTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class ExportWaveOperator(BaseOperator, Linked):
    """Runs one wave of a plan: starts its DAG run, or takes up the one that was started before.

    Airflow's own operator fails where the run exists already, so that a second try could never succeed.

    :param trigger_dag_id: the DAG that carries out waves.
    :param wave: ``{"run_id": …, "conf": {…}, "label": …}``; the run id follows from the plan and the wave's number.
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

    def execute(self, context: Context) -> None:
        """Start the wave's run where there is none, then wait for its end.

        :param context: the task's context.
        :raises AirflowFailException: if the run has failed already, for example when this task is cleared alone.
        """
        ti = context["ti"]
        run_id = str(self.wave["run_id"])
        self.remember_link(WaveLink, build_airflow_dagrun_url(dag_id=self.trigger_dag_id, run_id=run_id))
        if ti.get_dr_count(dag_id=self.trigger_dag_id, run_ids=[run_id]) == 0:
            self._start(run_id)
        state = ti.get_dagrun_state(dag_id=self.trigger_dag_id, run_id=run_id)
        if state == "success":
            return
        if state in ENDED:
            raise AirflowFailException(
                f"The run {run_id} of {self.trigger_dag_id} has failed. Its report says which servers and why; to try "
                "those again, clear their failed tasks in that run, then clear this task."
            )
        self.log.info("Waiting for the run %s of %s.", run_id, self.trigger_dag_id)
        self.defer(
            trigger=WaveRunTrigger(dag_id=self.trigger_dag_id, run_id=run_id, poll_interval=self.poll_interval),
            method_name="execute",
        )

    def _start(self, run_id: str) -> None:
        """Ask for the run. An answer that it is there already is as good."""
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        answer = SUPERVISOR_COMMS.send(
            TriggerDagRun(
                dag_id=self.trigger_dag_id,
                run_id=run_id,
                conf=dict(self.wave["conf"]),
                note=str(self.wave["label"]),
            )
        )
        if not isinstance(answer, ErrorResponse):
            self.log.info("Started the run %s of %s.", run_id, self.trigger_dag_id)
        elif answer.error == ErrorType.DAGRUN_ALREADY_EXISTS:
            self.log.info("The run %s was started in the meantime.", run_id)
        else:
            raise AirflowFailException(
                f"Airflow would not start the run {run_id} of {self.trigger_dag_id} ({answer.error}). Is that DAG "
                "there, and does it take the wave's parameters?"
            )
