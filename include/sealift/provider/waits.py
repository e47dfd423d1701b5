"""What the tasks that wait, and those that come after them, know of a wait's trigger. Light: DAG files import it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sealift.exports.handing import check_handed_on
from sealift.provider.errors import WaitFailed, WaitFailedForGood

FINAL_REASONS: Final = frozenset(
    {"template-vanished", "guest-vanished", "no-children", "zero-size", "objects-missing", "no-terms"}
)
"""Reason codes after which waiting again cannot end better by itself."""


NEVER: Final = timedelta(days=3650)
"""The timeout that Airflow is given for a wait. It never comes, but Airflow keeps the moment to which it counts; a
trigger that is made again can tell from it when its try began."""

ENDED_KEY: Final = "ended"
"""XCom key of when a wait saw its template become whole, if it did: see :class:`sealift.exports.terms.Ended`."""


LOOK_KEY: Final = "look"
"""Of a wait's payload: what it saw of the objects, see :class:`sealift.exports.terms.Look`."""


REFUSED_KEY: Final = "refused"
"""Of a wait's payload: what the account said when the triggerer submitted an export that it takes no more of now."""


def read_xcom(text: str) -> Any:
    """Read what a task handed on, out of a template with ``tojson``.

    :param text: JSON. What a triggerer handed on is encoded twice (Airflow 3.3).
    :returns: the value; None where there is none.
    """
    value: Any = text
    while isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return None
    return value


def template_id_of(terms: str) -> int:
    """Read the template's id out of the terms that the task before a wait handed on.

    :param terms: an XCom as JSON.
    :returns: id of the parent template group.
    :raises WaitFailedForGood: if there is none, because the task before was skipped or marked done by hand.
    :raises NewerSealiftError: the task before was done by a newer Sealift.
    """
    value = read_xcom(terms)
    check_handed_on(value, by="the task before this one")
    if not isinstance(value, dict) or "template_id" not in value:
        raise WaitFailedForGood(
            "The task before this one left no template id. Clear this server's task capture: it finds the template or "
            "makes one, and those after it go on from there.",
            reason="no-template",
        )
    return int(value["template_id"])


def raise_unless_done(event: Mapping[str, Any] | None) -> None:
    """Raise what a failed wait says.

    :param event: the trigger's payload: status, reason and sentence.
    :raises WaitFailedForGood: if waiting again cannot help.
    :raises WaitFailed: if it may.
    """
    if event is None:
        raise WaitFailed(
            "The wait ended without a word; see the triggerer's log. Clear this task to wait on.", reason="no-event"
        )
    if event.get("status") == "done":
        return
    reason, sentence = str(event.get("reason", "unknown")), str(event.get("sentence", "The wait failed."))
    raise (WaitFailedForGood if reason in FINAL_REASONS else WaitFailed)(sentence, reason=reason)
