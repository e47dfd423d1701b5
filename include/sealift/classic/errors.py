"""What can go wrong with a call of the Classic API, sorted by what the caller may do about it."""

from __future__ import annotations


class ClassicError(Exception):
    """A call of the Classic API failed.

    :param message: what happened and what to do, without any secret.
    :param call: the method called, as ``SoftLayer_Virtual_Guest::createArchiveTemplate``.
    :param fault_code: the API's own code (``SoftLayer_Exception_…``), where the transport keeps it.
    :param status: the HTTP status, where known.
    """

    retryable: bool = False
    #: Seconds that the service asked to be left alone for, where it said so.
    retry_after: float | None = None

    def __init__(
        self, message: str, *, call: str | None = None, fault_code: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.call = call
        self.fault_code = fault_code
        self.status = status

    def __str__(self) -> str:
        where = f"{self.call}: " if self.call else ""
        code = f" [{self.fault_code}]" if self.fault_code else ""
        return f"{where}{self.message}{code}"


class ClassicTransientError(ClassicError):
    """The network or the service failed for now; reads retry it, writes look first."""

    retryable = True


class ClassicRateLimitedError(ClassicTransientError):
    """The account's request rate was exceeded: HTTP 500 with a rate-limit code (softlayer-go #75), or 429."""


class ClassicLoadError(ClassicError):
    """The account, or a data center, takes no more work of this kind now, as its words have it.

    No source confirms what the API says then: the words that count are guesses (:mod:`sealift.classic.verdict`).
    """

    retryable = True


class ClassicUnreachableError(ClassicTransientError):
    """The endpoint did not answer at all: refused, no such host, or no TLS."""


class ClassicAuthError(ClassicError):
    """The user name or key was refused (HTTP 401)."""


class ClassicPermissionError(ClassicError):
    """The key is good, but may not do this."""


class ClassicNotFoundError(ClassicError):
    """No such object, or the user may not see it: the API answers both alike."""


class ClassicActiveTransactionError(ClassicError):
    """The server has an active transaction, so that no other operation can start (recorded by jclouds as HTTP 500)."""


class ClassicBadReplyError(ClassicError):
    """The reply was not what the method promises: a field missing, ids that nobody asked for."""


class ClassicOutcomeUnknownError(ClassicError):
    """A write was sent and its reply lost: it may or may not have happened. Look before doing anything else."""
