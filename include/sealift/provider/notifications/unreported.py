"""Telling of a run whose report could not be made: the one failure of a run that no report tells of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sealift.provider.errors import ServersFailed
from sealift.provider.notifications.choice import checked_choice
from sealift.provider.notifications.telling import tell

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def on_unreported() -> list[Callable[[Context], Any]]:
    """Give the callbacks of the task that reports, as the deployment has chosen.

    :returns: for ``on_failure_callback``; none where nobody is to be told.
    :raises ValueError: a setting cannot be meant so: see :func:`sealift.provider.notifications.choice.choice`.
    """
    return [tell_unreported] if checked_choice().wants("failed") else []


def tell_unreported(context: Context) -> None:
    """Tell that the report failed. Where it failed because servers did, they were told of with the report.

    Airflow calls it once no try is left: in the worker, or in the DAG processor where the worker's process was killed.

    :param context: what Airflow tells.
    """
    from sealift.provider.notifications.notifier import message_of

    if isinstance(context.get("exception"), ServersFailed):
        return
    tell("failed", lambda: message_of(context), log=log)
