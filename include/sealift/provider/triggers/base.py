"""What every trigger that watches an account shares: the poll's key, and the pause before a worker may be resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseEventTrigger

from sealift.provider.rendering import QuickTemplates
from sealift.provider.triggers.account import AccountPoll, Snapshot

if TYPE_CHECKING:
    from airflow.sdk import Context

SETTLE_SECONDS: Final = 30.0
"""A task that deferred from a worker is not resumed in one sooner: Airflow 3.3 can read the end of the deferring
process late, and then fails a task that is queued or running again (apache/airflow #67287, #71580, #72716)."""


async def settle(began: datetime) -> None:
    """Wait until Airflow has forgotten the process that deferred.

    :param began: when the trigger began (UTC).
    """
    left = SETTLE_SECONDS - (datetime.now(UTC) - began).total_seconds()
    if left > 0:
        await asyncio.sleep(left)


LINE_SECONDS: Final = 0.002
"""Time between two log lines of one triggerer that could come at the same moment."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def in_turn() -> None:
    """Wait for a moment of one's own before something is logged that others log at the same moment.

    A triggerer is two processes with a pipe each way (Airflow 3.3). Where hundreds of triggers see the same snapshot
    and all log before their loop reads again, the pipe for log lines fills up; if the other process is just sending
    them more triggers than the other pipe holds, each waits for the other for ever.
    """
    # A lock, not a time for each line: times that have all passed, since the loop was held up, would come at once.
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await asyncio.sleep(LINE_SECONDS)


def _poll_key(classic_conn_id: str, poll_interval: float) -> Hashable:
    """The name under which waits find their poll; the loop and its waits have to agree on it."""
    return ("sealift-account", classic_conn_id, poll_interval)


class AccountTrigger(QuickTemplates, BaseEventTrigger):
    """A trigger that is fed by the account's one poll.

    :param classic_conn_id: connection of the type ``ibm_classic``.
    :param poll_interval: seconds between two polls of the account.
    """

    def __init__(self, *, classic_conn_id: str, poll_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.classic_conn_id = classic_conn_id
        self.poll_interval = poll_interval

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Fill in the templates, and let go of what they were filled in from.

        Airflow 3.3 makes a DAG object of its own for each trigger that has templates, and keeps it as long as the
        trigger: hundreds of megabytes for the thousands that wait.

        :param context: what the triggerer made for this one trigger; empty afterwards.
        :param jinja_env: Jinja's environment, if another than Airflow's.
        """
        super().render_template_fields(context, jinja_env)
        cast("dict[str, Any]", context).clear()
        if self.task_instance is not None and self.task is not None:
            self.task_instance.task = None

    def shared_stream_key(self) -> Hashable:
        """One poll for each connection and interval."""
        return _poll_key(self.classic_conn_id, self.poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Snapshot]:
        """Run the poll for all waits that share the key.

        :param kwargs: the arguments of one of them; only those of the key are used.
        :returns: snapshots, for ever.
        """
        conn_id, interval = str(kwargs["classic_conn_id"]), float(kwargs["poll_interval"])
        poll = AccountPoll(key=_poll_key(conn_id, interval), classic_conn_id=conn_id, poll_interval=interval)
        async for snapshot in poll.snapshots():
            yield snapshot
