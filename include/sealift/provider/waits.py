"""What a task does with the event of a wait that resumed it in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sealift.provider.errors import WaitFailed, WaitFailedForGood

FINAL_REASONS: Final = frozenset(
    {"template-vanished", "guest-vanished", "no-children", "zero-size", "objects-missing", "no-terms"}
)
"""Reason codes after which waiting again cannot end better by itself."""


def raise_unless_done(event: Mapping[str, Any] | None) -> None:
    """Raise what a failed wait says.

    :param event: the trigger's payload: status, reason and sentence.
    :raises WaitFailedForGood: if waiting again cannot help.
    :raises WaitFailed: if it may.
    """
    if event is None:
        raise WaitFailed("The wait ended without a word; see the triggerer's log.", reason="no-event")
    if event.get("status") == "done":
        return
    reason, sentence = str(event.get("reason", "unknown")), str(event.get("sentence", "The wait failed."))
    raise (WaitFailedForGood if reason in FINAL_REASONS else WaitFailed)(sentence, reason=reason)
