"""Capturing a server as an image template, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.triggers.base import StartTriggerArgs

from sealift.provider.failures import recording_failure
from sealift.provider.links import TemplateLink
from sealift.provider.log_fields import bind_fields
from sealift.provider.operators.base import WaveTaskOperator
from sealift.provider.starting import start_capture
from sealift.provider.wave_access import ServerAccess, counted

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.provider.slots import SlotsKept

_SLOT_TRIGGER: Final = "sealift.provider.triggers.slots.OfflineSlotTrigger"


class CaptureImageOperator(ServerAccess, WaveTaskOperator):
    """Captures a server: looks for the export's template by its exact name, and creates it where there is none.

    With a ``gate`` the task starts in the triggerer, waits there until an offline slot is free and the capture window
    open, and submits the capture there too: no worker has anything to do unless something goes wrong, see
    :mod:`sealift.provider.triggers.starting`. The task ends when the capture is submitted or adopted; what is offline
    is counted by the account's slots, not by running tasks. Returns the terms of the wait for the template. The
    parameters beside these are those of
    :class:`~sealift.provider.operators.base.WaveTaskOperator`.

    :param server: ``{"guest_id", "hostname", "export_id"}``, usually mapped.
    :param classic_conn_id: connection of the type ``ibm_classic``, templated.
    :param gate: what :class:`~sealift.provider.operators.wave_servers.ReadWaveOperator` handed on under the key
        ``gate``, as JSON, templated; empty to start in a worker.
    :param queued: the same server as ``server``, as JSON, templated: a trigger cannot see mapped arguments.
    :param poll_interval: seconds between two polls of the account.
    :param start_in_triggerer: whether the capture is submitted in the triggerer, or in a worker once a slot is free.
    """

    # Airflow renders of a trigger's arguments only those that are template fields of its operator too.
    template_fields: Sequence[str] = (*WaveTaskOperator.template_fields, "server", "classic_conn_id", "gate", "attempt")
    operator_extra_links = (TemplateLink(),)
    ui_color = "#e6f4ea"
    _captured: Mapping[str, Any] | None = None

    def __init__(
        self,
        *,
        server: Mapping[str, Any],
        classic_conn_id: str = "{{ params.wave.classic_conn_id }}",
        gate: str = "",
        queued: str = "",
        poll_interval: float = 15.0,
        start_in_triggerer: bool = True,
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
                    "wave_key": self.wave_key if start_in_triggerer else "",
                    "bucket": self.bucket,
                    "cos_conn_id": self.cos_conn_id,
                    "region": self.region,
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
        bind_fields(self.server)
        with recording_failure(context, step="capture"):
            return self.step(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, with what went wrong in words for the wave's report.

        :param next_method: what to call.
        :param next_kwargs: with what.
        :param context: the task's context.
        """
        bind_fields(self.server)
        with recording_failure(context, step="capture"):
            return super().resume_execution(next_method, next_kwargs, context)

    def step(  # type: ignore[override]
        self,
        context: Context,  # noqa: ARG002
        *,
        seen: str = "",
        root: str = "",
        refusals: int = 0,
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
        from sealift.provider.slots import slots_kept

        try:
            slots = slots_kept(self.classic.client, self.wave.settings, root=root)
            started = start_capture(
                classic=self.classic.client,
                cos=self.cos,
                wave=self.wave,
                guest_id=self.guest_id,
                gate=slots.gate(seen, cos=self.cos),
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
        bind_fields(started.handed_on)
        self._captured = started.handed_on
        self.log.info("%s", started.sentence)
        self.remember_link(TemplateLink, started.link)
        return started.handed_on

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - OpenLineage's signature
        """Tell OpenLineage of which server the template was made; only where a worker submitted the capture.

        :param task_instance: the task instance.
        :returns: the lineage; None without OpenLineage, or where there is no template yet.
        """
        from sealift.provider.lineage import account_of, capture_lineage

        if self._captured is None:
            return None
        return capture_lineage(self._captured, account=account_of(self.classic, self.log))

    def _wait_for_slot(self, why: Exception, slots: SlotsKept, refusals: int) -> NoReturn:
        import json

        from sealift.provider.triggers.slots import OfflineSlotTrigger

        self.log.info("%s", why)
        server: dict[str, Any] = {
            "guest_id": self.item.guest_id,
            "hostname": self.item.hostname,
            "export_id": self.item.export_id,
        }
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
