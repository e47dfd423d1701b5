"""Waiting for the DAG run of a wave to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

ENDED = ("success", "failed")

FAILURES_AT_MOST: Final = 20
"""So many looks in a row may fail before the wait does: five minutes of an API server that is down, by default."""


class WaveRunTrigger(BaseTrigger):
    """Waits until a DAG run has ended, and ends the waiting task in the same state without a worker.

    Airflow's own trigger resumes the task in a worker, which a run that ends within seconds can turn into a failure
    of the waiting task (a late report of the deferring process meets a task that is already running again).

    :param dag_id: the DAG.
    :param run_id: the run.
    :param poll_interval: seconds between two looks.
    """

    def __init__(self, *, dag_id: str, run_id: str, poll_interval: float = 15.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what it takes to make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"dag_id": self.dag_id, "run_id": self.run_id, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the run has ended."""
        failures = 0
        while True:
            state = None
            try:
                state = await asyncio.to_thread(RuntimeTaskInstance.get_dagrun_state, self.dag_id, self.run_id)
                failures = 0
            except Exception as error:
                failures += 1
                if failures >= FAILURES_AT_MOST:
                    raise
                self.log.warning(
                    "Could not look at the run %s (%d in a row), looking again later: %s",
                    self.run_id,
                    failures,
                    type(error).__name__,
                    exc_info=failures == 1,
                )
            if state == "success":
                yield TaskSuccessEvent()
                return
            if state == "failed":
                self.log.error(
                    "The run %s of %s failed: its report says which servers and why.", self.run_id, self.dag_id
                )
                yield TaskFailedEvent()
                return
            await asyncio.sleep(self.poll_interval)
