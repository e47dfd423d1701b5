"""Why a transfer stops. Each message says what happened, to which file, and what to do."""

from __future__ import annotations


class TransferError(Exception):
    """A transfer failed, and the same command takes it up again once its cause is gone."""


class NoSpaceError(TransferError):
    """The disk has no room for the file."""


class InUseError(TransferError):
    """Another process writes the same file."""


class ReplacedError(TransferError):
    """The object in the bucket is not the one that was asked for: it was replaced or deleted."""


class DigestError(TransferError):
    """What arrived has another digest than it should have."""


class EngineUnavailableError(TransferError):
    """This way of bringing bytes cannot be used here; another one may."""


class Stopped(Exception):  # noqa: N818 - the name is the event: somebody asked for it
    """The transfer was told to stop. What has arrived is kept."""
