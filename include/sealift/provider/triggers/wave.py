"""Waiting for the DAG runs of waves: until the next one may start, and until all have ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from sealift.exports import names

ENDED = ("success", "failed")

FAILURES_AT_MOST: Final = 20
"""So many looks in a row may fail before the wait does: five minutes of an API server that is down, by default."""

CAPTURE: Final = "export.capture"
"""The task that waits for an offline slot."""

EARLIER_AT_MOST: Final = 12
"""The captures of so many earlier waves are counted as well."""

RUNS_AT_ONCE: Final = 50
"""So many runs are asked about in one call."""

LATE_AT_MOST: Final = 0.01
"""The end of a plan's waves is seen this late, as a share of the time that they took, …"""

SHORTEST_PAUSE: Final = 1.0
"""… but no sooner than so many seconds after the look before, and no later than the interval says."""

_OVER = ["success", "failed", "upstream_failed", "skipped", "removed"]
_NOT_OVER = ["null", "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule"]

Answer = TypeVar("Answer")


class _LookingTrigger(BaseTrigger):
    """A trigger that asks Airflow's API server now and then.

    :param dag_id: the DAG of the waves.
    :param poll_interval: seconds between two looks.
    """

    def __init__(self, *, dag_id: str, poll_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.poll_interval = poll_interval

    def _kwargs(self) -> dict[str, Any]:
        return {"dag_id": self.dag_id, "poll_interval": self.poll_interval}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what it takes to make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self._kwargs()

    async def _until(self, look: Callable[[], Answer | None]) -> Answer:
        """Look until there is an answer; some failures in a row are tolerated."""
        failures = 0
        while True:
            try:
                answer = await asyncio.to_thread(look)
                failures = 0
            except Exception as error:
                failures += 1
                if failures >= FAILURES_AT_MOST:
                    raise
                self.log.warning(
                    "Could not look at %s (%d in a row), looking again later: %s",
                    self.what,
                    failures,
                    type(error).__name__,
                    exc_info=failures == 1,
                )
                answer = None
            if answer is not None:
                return answer
            await asyncio.sleep(self.poll_interval if failures else self._pause())

    def _pause(self) -> float:
        """Say how many seconds pass before the next look, after one that did not fail."""
        return self.poll_interval

    @property
    def what(self) -> str:
        """What is looked at."""
        raise NotImplementedError


class WaveRunTrigger(_LookingTrigger):
    """Waits until the next wave may start, and ends the waiting task without a worker.

    That is when this wave's run has ended, or when few of the plan's servers still wait for their captures. So the
    captures are kept busy, and a server that takes days, or is tried again and again, holds up nobody.

    Airflow's own trigger resumes the task in a worker, which a run that ends within seconds can turn into a failure
    of the waiting task (a late report of the deferring process meets a task that is already running again).

    :param dag_id: the DAG.
    :param run_id: the run.
    :param servers: how many servers the wave holds.
    :param waiting_at_most: the next wave may start when no more than so many servers wait; None: when the run has
        ended.
    :param poll_interval: seconds between two looks.
    """

    def __init__(
        self,
        *,
        dag_id: str,
        run_id: str,
        servers: int = 0,
        waiting_at_most: int | None = None,
        poll_interval: float = 15.0,
    ) -> None:
        super().__init__(dag_id=dag_id, poll_interval=poll_interval)
        self.run_id = run_id
        self.servers = servers
        self.waiting_at_most = waiting_at_most

    def _kwargs(self) -> dict[str, Any]:
        own = {"run_id": self.run_id, "servers": self.servers, "waiting_at_most": self.waiting_at_most}
        return {**super()._kwargs(), **own}

    @property
    def what(self) -> str:
        """What is looked at."""
        return f"the run {self.run_id}"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the next wave may start."""
        said = await self._until(self._look)
        self.log.info("%s", said)
        yield TaskSuccessEvent()

    def _look(self) -> str | None:
        state = RuntimeTaskInstance.get_dagrun_state(self.dag_id, self.run_id)
        if state in ENDED:
            report = "" if state == "success" else " Its report says which servers failed, and why."
            return f"The run {self.run_id} of {self.dag_id} has ended: {state}.{report}"
        if self.waiting_at_most is None:
            return None
        waiting = self.servers - self._captures([self.run_id], _OVER)
        if waiting > self.waiting_at_most:
            return None
        earlier = names.wave_runs_before(self.run_id, most=EARLIER_AT_MOST)
        if earlier:
            waiting += self._captures(earlier, _NOT_OVER)
        if waiting > self.waiting_at_most:
            return None
        return f"The next wave may start: {max(0, waiting)} servers still wait for a capture or are being captured."

    def _captures(self, run_ids: list[str], states: list[str]) -> int:
        return RuntimeTaskInstance.get_ti_count(dag_id=self.dag_id, task_ids=[CAPTURE], run_ids=run_ids, states=states)


class WavesEndTrigger(_LookingTrigger):
    """Waits until all waves of a plan have ended, however they ended. A run that is deleted is not waited for.

    :param dag_id: the DAG.
    :param plan_id: the plan.
    :param waves: how many waves it has.
    :param poll_interval: most seconds between two looks; while the plan is young, it looks more often.
    """

    def __init__(self, *, dag_id: str, plan_id: str, waves: int, poll_interval: float = 15.0) -> None:
        super().__init__(dag_id=dag_id, poll_interval=poll_interval)
        self.plan_id = plan_id
        self.waves = waves
        self._began = time.monotonic()

    def _pause(self) -> float:
        return min(self.poll_interval, max(SHORTEST_PAUSE, LATE_AT_MOST * (time.monotonic() - self._began)))

    def _kwargs(self) -> dict[str, Any]:
        return {**super()._kwargs(), "plan_id": self.plan_id, "waves": self.waves}

    @property
    def what(self) -> str:
        """What is looked at."""
        return f"the waves of the plan {self.plan_id}"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until they have ended: one part of them after the other, so that each look is a call or two."""
        run_ids = [names.wave_run_id(plan_id=self.plan_id, number=number) for number in range(self.waves)]
        for start in range(0, len(run_ids), RUNS_AT_ONCE):
            part = run_ids[start : start + RUNS_AT_ONCE]
            await self._until(lambda part=part: self._ended(part))  # type: ignore[misc]
        self.log.info("All waves of the plan %s have ended.", self.plan_id)
        yield TaskSuccessEvent()

    def _ended(self, run_ids: list[str]) -> bool | None:
        ended = RuntimeTaskInstance.get_dr_count(dag_id=self.dag_id, run_ids=run_ids, states=list(ENDED))
        if ended < len(run_ids) and ended < RuntimeTaskInstance.get_dr_count(dag_id=self.dag_id, run_ids=run_ids):
            return None
        return True
