"""What Sealift's notifiers share: they send one message, and say in words that may be read what went wrong."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.notifier import BaseNotifier

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.messages.message import Message


class NotSent(Exception):  # noqa: N818 - what happened, in the words that logs show
    """A message could not be sent. The words hold no address of a webhook, which may be a secret by itself."""


class MessageNotifier(BaseNotifier):
    """Sends a message.

    As a callback of a task or DAG of your own (``on_failure_callback=…``) it makes the message from what Airflow tells:
    which task of which run failed, and why. Nothing is a template: what comes from servers and APIs is never rendered.

    :param message: what to send; made from the context where there is none.
    """

    def __init__(self, *, message: Message | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message

    def notify(self, context: Context) -> None:
        """Send the message.

        :param context: what Airflow tells of what happened.
        :raises NotSent: it could not be sent.
        """
        self.send(self.message if self.message is not None else message_of(context))

    async def async_notify(self, context: Context) -> None:
        """Send the message from the triggerer, in a thread. Parameters as for :meth:`notify`."""
        await asyncio.to_thread(self.notify, context)

    def send(self, message: Message) -> None:
        """Send a message.

        :param message: the message.
        :raises NotSent: it could not be sent.
        """
        raise NotImplementedError


def message_of(context: Any) -> Message:
    """Make the message of a task that failed, or of whatever a callback was called for.

    :param context: what Airflow tells. Where the task's process was killed, that is not much.
    :returns: the message.
    """
    from sealift.exports.messages.making import trouble_message
    from sealift.provider.failures import words_of
    from sealift.provider.notifications.links import run_links

    ti: Any = context.get("ti") or context.get("task_instance")
    dag_id, run_id = str(getattr(ti, "dag_id", "unknown")), str(getattr(ti, "run_id", "unknown"))
    task_id = str(getattr(ti, "task_id", "unknown"))
    error = context.get("exception")
    if isinstance(error, BaseException):
        words = str(words_of(error)["words"])
    else:
        words = "Its process may have been killed." if not error else "It said nothing of its own."
    return trouble_message(
        subject=f"{task_id} of {dag_id} failed",
        words=f"The task {task_id} failed. {words}",
        do="Look at the task's log. When the cause is gone, clear the task.",
        now=datetime.now(UTC),
        dag_id=dag_id,
        run_id=run_id,
        links=run_links(dag_id, run_id),
    )
