"""Capturing a server as an image template, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.triggers.base import StartTriggerArgs

from sealift.provider.failures import recording_failure
from sealift.provider.links import TemplateLink, template_url
from sealift.provider.operators.base import WaveTaskOperator
from sealift.provider.settings import settings
from sealift.provider.wave_access import ServerAccess, counted

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.capturing import Captured
    from sealift.exports.terms import ExportTurn
    from sealift.exports.waiting import WaitTerms
    from sealift.provider.slots import SlotsKept

TEMPLATE_ID: Final = "template_id"
"""Key of the task state store: it outlives retries and clearing, unlike XComs."""

RETENTION: Final = timedelta(days=400)

_SLOT_TRIGGER: Final = "sealift.provider.triggers.slots.OfflineSlotTrigger"


class CaptureImageOperator(ServerAccess, WaveTaskOperator):
    """Captures a server: looks for the export's template by its exact name, and creates it where there is none.

    With a ``gate`` the task starts in the triggerer, and waits there until an offline slot is free and the capture
    window open: however long its turn takes to come, it starts one worker process. The task ends when the capture is
    submitted or adopted; what is offline is counted by the account's slots, not by running tasks. Returns the terms of
    the wait for the template. The parameters beside these are those of
    :class:`~sealift.provider.operators.base.WaveTaskOperator`.

    :param server: ``{"guest_id", "hostname", "export_id"}``, usually mapped.
    :param classic_conn_id: connection of the type ``ibm_classic``, templated.
    :param gate: what :class:`~sealift.provider.operators.wave_servers.ReadWaveOperator` handed on under the key
        ``gate``, as JSON, templated; empty to start in a worker.
    :param queued: the same server as ``server``, as JSON, templated: a trigger cannot see mapped arguments.
    :param poll_interval: seconds between two polls of the account.
    """

    # Airflow renders of a trigger's arguments only those that are template fields of its operator too.
    template_fields: Sequence[str] = (*WaveTaskOperator.template_fields, "server", "classic_conn_id", "gate", "attempt")
    operator_extra_links = (TemplateLink(),)
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        server: Mapping[str, Any],
        classic_conn_id: str = "{{ params.wave.classic_conn_id }}",
        gate: str = "",
        queued: str = "",
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("map_index_template", "{{ task.server['hostname'] }}")
        super().__init__(**kwargs)
        self.server = server
        self.classic_conn_id = classic_conn_id
        self.poll_interval = poll_interval
        # Empty here: a worker has no use for what the trigger is told, and need not fetch it.
        self.gate = self.attempt = ""
        self.start_from_trigger = bool(gate)
        if gate:
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=_SLOT_TRIGGER,
                trigger_kwargs={
                    "classic_conn_id": classic_conn_id,
                    "poll_interval": poll_interval,
                    "gate": gate,
                    "server": queued,
                    "attempt": "{{ ti.try_number }}",
                },
                next_method="look_again",
            )

    @property
    def guest_id(self) -> int:
        """The virtual server."""
        return int(self.server["guest_id"])

    def execute(self, context: Context) -> Any:
        """Do the step; a failure's words go to the wave's report.

        :param context: the task's context.
        :returns: what the step hands on.
        """
        with recording_failure(context):
            return self.step(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, with what went wrong in words for the wave's report.

        :param next_method: what to call.
        :param next_kwargs: with what.
        :param context: the task's context.
        """
        with recording_failure(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def step(  # type: ignore[override]
        self, context: Context, *, seen: str = "", root: str = "", refusals: int = 0
    ) -> dict[str, Any]:
        """Look, then adopt, submit, or wait for a slot.

        :param context: the task's context.
        :param seen: what the account showed when a slot was found, packed.
        :param root: where the slots are that were waited for.
        :param refusals: how often the account has refused this capture for its load.
        :returns: the terms of the wait for the template.
        """
        from sealift.classic.errors import ClassicLoadError, ClassicRateLimitedError
        from sealift.exports.errors import OfflineCapReached, OutcomeOpen, OutsideWindow
        from sealift.exports.steps import ensure_captured
        from sealift.provider.slots import slots_kept

        store = context["task_state_store"]
        # The first try has nothing to remember: clearing a task begins another one.
        remembered = store.get(TEMPLATE_ID) if context["ti"].try_number > 1 else None
        try:
            slots = slots_kept(self.classic.client, self.wave.settings, root=root)
            captured = ensure_captured(
                classic=self.classic.client,
                cos=self.cos.client,
                item=self.item,
                settings=self.wave.settings,
                gate=slots.gate(seen, cos=self.cos),
                remembered_template_id=None if remembered is None else int(str(remembered)),
            )
        except OfflineCapReached as full:
            self._wait_for_slot(full, slots, refusals)
        except ClassicLoadError as refusal:
            self._wait_for_slot(refusal, slots, self.one_more(refusals, refusal))
        except ClassicRateLimitedError as refusal:
            self.wait_until(self.later(), refusal, refusals=self.one_more(refusals, refusal))
        except OutsideWindow as closed:
            self.wait_until(closed.opens_at, closed, **counted(refusals))
        except OutcomeOpen as uncertain:
            self.wait_until(uncertain.until, uncertain, **counted(refusals))
        store.set(TEMPLATE_ID, captured.template_id, retention=RETENTION)
        self.log.info(
            "%s the template %s of %s.",
            "Adopted" if captured.adopted else "Created",
            captured.template_id,
            self.item.name,
        )
        self.remember_link(TemplateLink, template_url(captured.template_id))
        return dict(self._terms(captured).model_dump(mode="json", exclude_defaults=True))

    def _terms(self, captured: Captured) -> WaitTerms:
        from sealift.exports.waiting import capture_terms

        terms = capture_terms(
            self.item, self.wave.settings, template_id=captured.template_id, started_at=datetime.now(UTC)
        )
        return terms.model_copy(update={"exported": captured.exported, "turn": self._turn()})

    def _turn(self) -> ExportTurn | None:
        """Say what the export waits for once the template is whole."""
        from sealift.exports.names import claims_root
        from sealift.exports.terms import ExportTurn

        kept = settings()
        if not (kept.max_exports or kept.max_exports_per_datacenter):
            return None
        return ExportTurn(
            root=claims_root(prefix=self.wave.settings.prefix),
            datacenter=self.item.datacenter or "",
            max_exports=kept.max_exports,
            max_in_datacenter=kept.max_exports_per_datacenter,
        )

    def _wait_for_slot(self, why: Exception, slots: SlotsKept, refusals: int) -> NoReturn:
        import json

        from sealift.provider.triggers.slots import OfflineSlotTrigger

        self.log.info("%s", why)
        server: dict[str, Any] = {"guest_id": self.item.guest_id}
        if self.item.datacenter:
            server["datacenter"] = self.item.datacenter
        self.defer(
            trigger=OfflineSlotTrigger(
                classic_conn_id=self.classic_conn_id,
                poll_interval=self.poll_interval,
                gate=json.dumps(slots.waited_for()),
                server=json.dumps(server),
                deferred_by_worker=True,
            ),
            method_name="look_again",
            kwargs=counted(refusals) or None,
        )
