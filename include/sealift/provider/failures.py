"""Why a task failed, in words: a line of its log by itself, and for the reports handed on by XCom."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from sealift.provider.metrics import counting_faults

if TYPE_CHECKING:
    from airflow.sdk import Context

FAILURE_KEY: Final = "failure"
"""XCom key of a failed task's words. Airflow deletes it at the start of the next try."""

_LONGEST: Final = 2000

log = logging.getLogger(__name__)

Execute = TypeVar("Execute", bound=Callable[..., Any])


def says_failures(execute: Execute) -> Execute:
    """Have the words of what a task fails of stand in its log before Airflow's traceback, which comes without them.

    :param execute: an operator's method ``execute``.
    :returns: the method to put in its place.
    """

    @wraps(execute)
    def said(*args: Any, **kwargs: Any) -> Any:
        try:
            return execute(*args, **kwargs)
        except (TaskDeferred, AirflowSkipException):
            raise
        except Exception as error:
            _say(error)
            raise

    said.says_failures = True  # type: ignore[attr-defined]
    return cast("Execute", said)


@contextmanager
def recording_failure(context: Context, *, step: str) -> Iterator[None]:
    """Say in the task's log what an error says, count it, and push it, before the task fails of it.

    :param context: the task's context.
    :param step: one of :data:`sealift.provider.metrics.STEPS`.
    :raises Exception: whatever was raised inside.
    """
    try:
        with counting_faults(step):
            yield
    except (TaskDeferred, AirflowSkipException):
        raise
    except Exception as error:
        _say(error)
        context["ti"].xcom_push(key=FAILURE_KEY, value=words_of(error))
        raise


def words_of(error: BaseException) -> dict[str, Any]:
    """Put an error into words.

    :param error: the error. Those of Sealift's own families never hold secrets; of others only the type is told.
    :returns: ``{"error": class, "words": sentence, "rule": rule id or None}``.
    """
    words = str(error) if _ours(error) else f"{type(error).__name__}; the task's log says more."
    return {"error": type(error).__name__, "words": words[:_LONGEST], "rule": getattr(error, "rule", None)}


def _say(error: Exception) -> None:
    """Of what is not ours Airflow says enough."""
    if _ours(error):
        log.error("%s", error)


def _ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("sealift.")
