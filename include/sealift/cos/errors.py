"""What can go wrong with a call of the object store, sorted by what the caller may do about it."""

from __future__ import annotations


class CosError(Exception):
    """A call of the object store failed.

    :param message: what happened and what to do, without any secret.
    :param code: the store's own code (``NoSuchBucket``), where it gave one.
    :param bucket: the bucket concerned, if any.
    :param key: the object concerned, if any.
    """

    retryable: bool = False

    def __init__(
        self, message: str, *, code: str | None = None, bucket: str | None = None, key: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.bucket = bucket
        self.key = key

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" if self.code else self.message


class CosTransientError(CosError):
    """The network or the service failed for now; the same call may succeed later."""

    retryable = True


class CosUnreachableError(CosTransientError):
    """The endpoint did not answer at all: refused, no such host, or no TLS."""


class CosAuthError(CosError):
    """The key is not known, or may not be used at all."""


class CosPermissionError(CosError):
    """The key is good, but may not do this to this bucket."""


class CosNotFoundError(CosError):
    """No such bucket, object or upload."""


class CosConflictError(CosError):
    """Something else is in the way: a bucket name that is taken, or another request on the same object."""


class CosRegionError(CosError):
    """The bucket is in another region than the one asked for, or the region is not one that can be used."""


class CosPreconditionError(CosError):
    """The object is not, or no longer, the one that the call was meant for."""


class CosNotOfferedError(CosError):
    """The store does not offer this for this bucket, whatever key asks: in its region, or under its policies."""
