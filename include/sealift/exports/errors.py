"""What can go wrong in planning and exporting, sorted by whether trying again later may help."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


class ExportsError(Exception):
    """An export could not be planned or carried on.

    :param message: what happened, to which server, bucket or setting, and what to do; never with a secret in it.
    """

    retryable: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(ExportsError):
    """The user gave something that cannot work; the message names what to change. Nothing was touched."""


class SelectionError(InputError):
    """The selection is empty, names what the account does not know, or selects nothing."""


class WindowError(InputError):
    """A capture window that cannot be read."""


class SettingsError(InputError):
    """A setting of the plan that is out of range or does not fit another."""


class PlanError(ExportsError):
    """A plan that cannot be written or read, or that no longer fits what is in the account."""


class LedgerError(ExportsError):
    """Something in the bucket at one of Sealift's keys is not what Sealift writes there."""


class ClockError(ExportsError):
    """A machine's clock is wrong, so that what is kept by time cannot be told. Nothing was deleted."""


class NoSuchExportError(InputError):
    """There is no finished export of the server that was named."""


class DeliveryError(ExportsError):
    """What was brought out of the bucket is not what its manifest says."""


class StepError(ExportsError):
    """A step of one server's export could not be done.

    :param rule: the id of the rule that refused, where it was a rule; reports then say "not exportable".
    """

    rule: str | None = None


class RetryableStepError(StepError):
    """A step that may succeed later without anybody changing anything."""

    retryable = True


class OfflineCapReached(RetryableStepError):  # noqa: N818 - a state that callers wait on rather than a mistake
    """As many servers are offline for capture as the plan allows; nothing was submitted.

    :param message: as for :class:`ExportsError`.
    :param in_flight: captures that the account shows to be running.
    :param max_offline: the plan's cap.
    """

    def __init__(self, message: str, *, in_flight: int, max_offline: int) -> None:
        super().__init__(message)
        self.in_flight = in_flight
        self.max_offline = max_offline


class OutsideWindow(RetryableStepError):  # noqa: N818 - a state that callers wait on rather than a mistake
    """The capture window is closed; nothing was submitted.

    :param message: as for :class:`ExportsError`.
    :param opens_at: when the window opens next (UTC).
    """

    def __init__(self, message: str, *, opens_at: datetime) -> None:
        super().__init__(message)
        self.opens_at = opens_at


class WindowClosedError(StepError):
    """The capture window is closed, and the plan refuses captures outside it; nothing was submitted."""

    rule = "window-closed"


class ServerBusyError(RetryableStepError):
    """The server has an active transaction, so that a capture cannot start now; nothing was submitted."""

    rule = "active-transaction"


class OutcomeUnknownError(RetryableStepError):
    """Something that was written a moment ago is not there. A retry looks again first."""


class OutcomeOpen(RetryableStepError):  # noqa: N818 - a state that callers wait on rather than a mistake
    """A request may have been submitted, by this try or another, and what came of it does not show yet.

    :param message: as for :class:`ExportsError`.
    :param until: when it is certain that it was not carried out, if nothing shows by then (UTC).
    """

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class TemplateMissingError(RetryableStepError):
    """The account does not show a template that it gave us an id for. A retry looks again; nothing is captured anew."""


class DuplicateTemplatesError(StepError):
    """Two or more templates carry one export's name: quarantined, never chosen between.

    :param message: as for :class:`ExportsError`.
    :param template_ids: the ids found, in order.
    """

    def __init__(self, message: str, *, template_ids: Sequence[int]) -> None:
        super().__init__(message)
        self.template_ids = list(template_ids)


class ServerGoneError(StepError):
    """The account does not know the server any more."""


class DisksChangedError(StepError):
    """The server's disks are not those that the plan names, so that the image would not be what was planned."""


class PastSlotError(StepError):
    """The run is for a past slot that no template was captured in, and a capture now would not be of that time."""

    rule = "past-slot"


class ProofError(StepError):
    """An exported object is not a whole, sound disk image. No manifest was written.

    :param message: as for :class:`ExportsError`.
    :param check_id: the check that failed.
    :param key: the object's key.
    """

    def __init__(self, message: str, *, check_id: str, key: str) -> None:
        super().__init__(message)
        self.check_id = check_id
        self.key = key


class UnsettledProofError(ProofError):
    """An object changed while it was being proven; what is there when it stands still may be sound.

    The parameters are those of :class:`ProofError`.
    """

    retryable = True


class ConversionFailedError(StepError):
    """An image cannot be converted into the format that was asked for."""


class ManifestConflictError(StepError):
    """A manifest of this export exists and says something else; it was left as it is."""


class NewerSealiftError(RetryableStepError):
    """A task of a newer Sealift handed on what this one cannot read. A retry may come to a process that is upgraded."""


class BeingRemovedError(RetryableStepError):
    """The export is being removed, so that it can be made again only once that is over."""


class RehearsalFailedError(StepError):
    """An export did not come back when it was rehearsed: what arrived is damaged, or the server does not start."""


class RehearsalUnfinishedError(StepError):
    """An export could not be rehearsed here, which says nothing of it: somebody has to change something first."""


class RehearsalBrokenOffError(RetryableStepError):
    """A rehearsal broke off, which says nothing of the export; another try may get further."""
