"""Capturing a server as an image template, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sealift.provider.links import TemplateLink, template_url
from sealift.provider.operators.base import ServerStepOperator
from sealift.provider.waits import raise_unless_done

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.capturing import Captured
    from sealift.exports.errors import OfflineCapReached
    from sealift.exports.waiting import WaitTerms
    from sealift.provider.triggers.account import SlotsAt

TEMPLATE_ID: Final = "template_id"
"""Key of the task state store: it outlives retries and clearing, unlike XComs."""

RETENTION: Final = timedelta(days=400)


class CaptureImageOperator(ServerStepOperator):
    """Captures a server: looks for the export's template by its exact name, and creates it where there is none.

    The task ends when the server is back online; until then it counts as one server offline. It holds no worker while
    it waits. Returns the template's id, the server's, and the terms of the wait for the template.

    :param poll_interval: seconds between two polls of the account.
    """

    operator_extra_links = (TemplateLink(),)

    def __init__(self, *, poll_interval: float = 15.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_interval = poll_interval

    def step(self, context: Context) -> dict[str, Any]:
        """Look, then adopt, submit, or wait for a slot.

        :param context: the task's context.
        :returns: the terms of the next waits, where nothing is left to wait for; otherwise it defers.
        """
        from sealift.exports.errors import OfflineCapReached, OutcomeOpen, OutsideWindow
        from sealift.exports.steps import ensure_captured
        from sealift.provider.slots import slots_kept

        store = context["task_state_store"]
        remembered = store.get(TEMPLATE_ID)
        slots = slots_kept(self.classic.client, self.wave.settings)
        try:
            captured = ensure_captured(
                classic=self.classic.client,
                cos=self.cos.client,
                item=self.item,
                settings=self.wave.settings,
                gate=slots.gate(),
                remembered_template_id=None if remembered is None else int(str(remembered)),
            )
        except OfflineCapReached as full:
            self._wait_for_slot(full, slots.at)
        except OutsideWindow as closed:
            self.wait_until(closed.opens_at, closed)
        except OutcomeOpen as uncertain:
            self.wait_until(uncertain.until, uncertain)
        store.set(TEMPLATE_ID, captured.template_id, retention=RETENTION)
        self.log.info(
            "%s the template %s of %s.",
            "Adopted" if captured.adopted else "Created",
            captured.template_id,
            self.item.name,
        )
        self.remember_link(TemplateLink, template_url(captured.template_id))
        terms = self._terms(captured)
        if not terms.exported:
            self._wait_until_online(context, terms)
        return dict(terms.model_dump(mode="json"))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Raise what went wrong while the server was offline.

        :param context: the task's context.
        :param event: the trigger's payload.
        """
        raise_unless_done(event)

    def _terms(self, captured: Captured) -> WaitTerms:
        from sealift.exports.waiting import capture_terms

        terms = capture_terms(
            self.item, self.wave.settings, template_id=captured.template_id, started_at=datetime.now(UTC)
        )
        return terms.model_copy(update={"exported": captured.exported})

    def _wait_for_slot(self, full: OfflineCapReached, at: SlotsAt) -> NoReturn:
        from sealift.provider.triggers.slots import OfflineSlotTrigger

        self.log.info("%s", full)
        self.defer(
            trigger=OfflineSlotTrigger(
                classic_conn_id=self.classic_conn_id,
                poll_interval=self.poll_interval,
                guest_id=self.item.guest_id,
                max_offline=full.max_offline,
                slots=asdict(at),
            ),
            method_name="look_again",
        )

    def _wait_until_online(self, context: Context, terms: WaitTerms) -> NoReturn:
        from sealift.provider.triggers.waits import CaptureWaitTrigger

        # The trigger ends this task by itself, so what it hands on is pushed before it waits.
        context["ti"].xcom_push(key="return_value", value=terms.model_dump(mode="json"))
        self.defer(
            trigger=CaptureWaitTrigger(
                classic_conn_id=self.classic_conn_id,
                terms=terms.model_dump_json(),
                poll_interval=self.poll_interval,
                deferred_by_worker=True,
            ),
            method_name="execute_complete",
        )
