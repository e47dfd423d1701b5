"""Why a server's task failed, in words, handed to the wave's report by XCom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from sealift.provider.metrics import counting_faults

if TYPE_CHECKING:
    from airflow.sdk import Context

FAILURE_KEY: Final = "failure"
"""XCom key of a failed task's words. Airflow deletes it at the start of the next try."""

_LONGEST: Final = 2000


@contextmanager
def recording_failure(context: Context, *, step: str) -> Iterator[None]:
    """Push what an error says before the task fails of it, and count it.

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
        context["ti"].xcom_push(key=FAILURE_KEY, value=words_of(error))
        raise


def words_of(error: BaseException) -> dict[str, Any]:
    """Put an error into words.

    :param error: the error. Those of Sealift's own families never hold secrets; of others only the type is told.
    :returns: ``{"error": class, "words": sentence, "rule": rule id or None}``.
    """
    module = type(error).__module__
    ours = module.startswith("sealift.")
    words = str(error) if ours else f"{type(error).__name__}; the task's log says more."
    return {"error": type(error).__name__, "words": words[:_LONGEST], "rule": getattr(error, "rule", None)}
