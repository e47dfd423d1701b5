"""A worker: a process that carries out one try of a task, and what the task sees of Airflow."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from tests.chaos.sim.records import Task

if TYPE_CHECKING:
    from tests.chaos.sim.airflow import LittleAirflow


class ApiServerGone(AirflowException):
    """Airflow's API server did not answer until the client's retries were used up."""


class Worker:
    """One process that carries out one try of a task, or goes on with it after a deferral."""

    def __init__(self, airflow: LittleAirflow, task: Task, attempt: int) -> None:
        self.airflow = airflow
        self.task = task
        self.attempt = attempt
        self.resumes = task.next_method is not None

    @property
    def mine(self) -> bool:
        """Whether Airflow still takes this process for the task's."""
        return self.task.attempt == self.attempt

    def work(self) -> None:
        """Run, and tell the API server how it ended."""
        if not self.airflow.crossing("run", self._begin):
            return
        task, airflow = self.task, self.airflow
        operator = copy.copy(airflow.task_of(task))
        if task.index >= 0:
            operator.server = task.run.servers[task.index]
        context = self.context(operator)
        ExecutorSafeguard.tracker.set(operator)
        try:
            operator.render_template_fields(context)
            airflow.texts.append(str([getattr(operator, one) for one in operator.template_fields]))
            if self.resumes:
                result = operator.resume_execution(task.next_method, task.next_kwargs, context)
            else:
                result = operator.execute(context)
            if result is not None:
                context["ti"].xcom_push(key="return_value", value=result)
        except TaskDeferred as caught:
            deferral = caught
            airflow.texts.append(str(deferral.trigger))
            self._end("deferred", lambda: airflow.deferred(task, deferral))
        except AirflowSkipException:
            self._end("skipped", lambda: airflow._set(task, "skipped"))
        except ApiServerGone:
            raise
        except Exception as error:  # noqa: BLE001 - what a task may raise
            self._fail(operator, error, context)
        else:
            self._end("success", lambda: self._succeed(result))

    def _begin(self) -> bool:
        task = self.task
        if not self.mine or task.state not in {"queued"}:
            return False
        if not self.resumes:
            task.xcoms.clear()
        self.airflow._set(task, "running")
        return True

    def _end(self, state: str, effect: Callable[[], None]) -> None:
        def change() -> None:
            # A task that was cleared, given up or marked meanwhile takes no state from this process (HTTP 409).
            if self.mine and self.task.state == "running":
                effect()
            else:
                self.airflow.sim.say(f"{self.task}: {state} came too late")

        self.airflow.crossing(f"state:{state}", change)

    def _succeed(self, result: Any) -> None:
        if self.task.task_id == "read_wave":
            self.airflow._expand(self.task.run, result)
        self.airflow._set(self.task, "success")

    def _fail(self, operator: Any, error: Exception, context: Any) -> None:
        task, airflow = self.task, self.airflow
        words = f"{type(error).__name__}: {error}"
        airflow.texts.append(words)
        for_good = isinstance(error, (AirflowFailException, AirflowSensorTimeout))
        delay = None
        if not for_good and operator.retry_policy is not None:
            decision = operator.retry_policy.evaluate(error, task.try_number, task.max_tries, context)
            for_good = decision.action is RetryAction.FAIL
            delay = decision.retry_delay

        def change() -> None:
            task.words = words
            airflow._failed(task, words, delay=delay, for_good=for_good)

        self._end("failed", change)

    def context(self, operator: Any) -> dict[str, Any]:
        """Make what the task sees of Airflow."""
        return {
            "ti": TaskView(self.airflow, self.task, operator),
            "task": operator,
            "params": self.task.run.params,
            "run_id": self.task.run.run_id,
            "outlet_events": _OutletEvents(),
        }


class TaskView:
    """``context["ti"]``: talks to the API server, as whoever asks."""

    def __init__(self, airflow: LittleAirflow, task: Task, operator: Any = None) -> None:
        self._airflow = airflow
        self._task = task
        self.task = operator
        self.task_id = task.task_id
        self.dag_id = airflow.dag.dag_id
        self.run_id = task.run.run_id
        self.map_index = task.index
        self.try_number = task.try_number

    def xcom_push(self, *, key: str, value: Any) -> None:
        text = json.dumps(value)
        self._airflow.texts.append(text)
        # Airflow does not ask whether the process is still the task's: a zombie's push counts.
        self._airflow.crossing("xcoms:set", lambda: self._task.xcoms.__setitem__(key, text))

    def xcom_pull(self, *, task_ids: str, key: str = "return_value", map_indexes: int | None = None) -> Any:
        tasks = self._task.run.tasks
        found = tasks.get((task_ids, -1 if map_indexes is None else map_indexes))
        text = found.xcoms.get(key) if found else None
        return None if text is None else json.loads(text)

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, Any]]:
        run = self._task.run
        return {
            run.run_id: {f"{task_id}_{index}": one.state for (task_id, index), one in run.tasks.items() if index >= 0}
        }


class _OutletEvents(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        self[key] = SimpleNamespace(extra=None)
        return self[key]
