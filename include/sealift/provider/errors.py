"""What stops a task for a reason of its own, beside the errors of the two APIs."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException

from sealift.connections import ConnectionProblem

__all__ = ["ConnectionProblem", "RetentionUnfinished", "ServersFailed", "WaitEnded", "WaitFailed", "WaitFailedForGood"]


class WaitEnded(AirflowException):
    """A wait ended badly.

    :param sentence: what happened, to which server, and what to do.
    :param reason: the reason code.
    """

    def __init__(self, sentence: str, *, reason: str) -> None:
        super().__init__(f"{sentence} [{reason}]")
        self.sentence = sentence
        self.reason = reason


class WaitFailed(WaitEnded):
    """A wait ended badly, for a reason that another try may outlive."""


class WaitFailedForGood(WaitEnded):
    """A wait ended badly, and no other try can end better."""


class RetentionUnfinished(AirflowException):
    """A removal was begun and could not be finished; another try takes it up."""


class ServersFailed(AirflowException):
    """At least one server of a wave or of a plan was not exported; the message says which and why."""
