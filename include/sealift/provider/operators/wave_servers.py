"""Reading the servers of a wave, for the mapped group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealift.provider.operators.base import WaveTaskOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReadWaveOperator(WaveTaskOperator):
    """Reads one wave of a plan. The parameters are those of :class:`WaveTaskOperator`."""

    def execute(self, context: Context) -> list[dict[str, Any]]:  # noqa: ARG002
        """Read the wave.

        :param context: the task's context.
        :returns: one small dictionary for each server: ``guest_id``, ``hostname``, ``export_id``.
        :raises InputError: if the run names no wave, or one of a dry run.
        """
        from sealift.exports.errors import InputError

        wave = self.wave
        if wave.settings.dry_run:
            raise InputError(
                f"The plan {wave.plan_id} was made by a dry run: none of it is to be carried out. Trigger plan_exports "
                "without dry_run."
            )
        self.log.info("Wave %d of the plan %s: %d servers.", wave.number, wave.plan_id, len(wave.items))
        return [
            {"guest_id": item.guest_id, "hostname": item.hostname, "export_id": item.export_id} for item in wave.items
        ]
