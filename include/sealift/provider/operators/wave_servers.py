"""Reading the servers of a wave, for the mapped group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.links import Linked, PlanLink
from sealift.provider.operators.base import WaveTaskOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

GATE_KEY: Final = "gate"
"""XCom key of what a capture waits for before it starts a worker: the account's offline slots and the window."""


class ReadWaveOperator(WaveTaskOperator, Linked):
    """Reads one wave of a plan. The other parameters are those of :class:`WaveTaskOperator`.

    :param classic_conn_id: connection of the type ``ibm_classic``, templated.
    """

    template_fields = (*WaveTaskOperator.template_fields, "classic_conn_id")
    operator_extra_links = (PlanLink(),)

    def __init__(self, *, classic_conn_id: str = "{{ params.wave.classic_conn_id }}", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classic_conn_id = classic_conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Read the wave, and find the offline slots that its captures go through.

        :param context: the task's context.
        :returns: one small dictionary for each server: ``guest_id``, ``hostname``, ``export_id``, its ``datacenter``
            where that is known, and ``adopts`` where a template is there and nothing is captured.
        :raises InputError: if the run names no wave, or one of a dry run.
        """
        from sealift.exports.errors import InputError
        from sealift.exports.names import plan_key
        from sealift.provider.slots import slots_kept

        wave = self.wave
        key = plan_key(prefix=wave.settings.prefix, plan_id=wave.plan_id)
        self.remember_link(PlanLink, self.cos.url_of(self.bucket, key))
        if wave.settings.dry_run:
            raise InputError(
                f"The plan {wave.plan_id} was made by a dry run: none of it is to be carried out. Trigger plan_exports "
                "without dry_run."
            )
        self.log.info("Wave %d of the plan %s: %d servers.", wave.number, wave.plan_id, len(wave.items))
        settings = wave.settings
        slots = slots_kept(ClassicHook(self.classic_conn_id).client, settings)
        waits_for = settings.window is not None and settings.outside_window == "wait"
        gate = slots.waited_for() | {
            "window": settings.window.text if settings.window is not None and waits_for else None
        }
        context["ti"].xcom_push(key=GATE_KEY, value=gate)
        return [
            {"guest_id": item.guest_id, "hostname": item.hostname, "export_id": item.export_id}
            | ({"datacenter": item.datacenter} if item.datacenter else {})
            | ({"adopts": True} if item.adopt_only else {})
            for item in wave.items
        ]
