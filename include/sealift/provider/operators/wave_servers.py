"""Reading the servers of a wave, for the mapped group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from sealift.provider.hooks.cos import CosHook

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReadWaveOperator(BaseOperator):
    """Reads one wave of a plan.

    :param wave_key: key of the wave in the bucket, templated.
    :param bucket: bucket of the plan, templated.
    :param cos_conn_id: connection of the type ``ibm_cos``, templated.
    :param region: the bucket's region, templated.
    """

    template_fields: Sequence[str] = ("wave_key", "bucket", "cos_conn_id", "region")
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        wave_key: str = "{{ params.wave_key }}",
        bucket: str = "{{ params.bucket }}",
        cos_conn_id: str = "{{ params.cos_conn_id }}",
        region: str = "{{ params.region }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wave_key = wave_key
        self.bucket = bucket
        self.cos_conn_id = cos_conn_id
        self.region = region

    def execute(self, context: Context) -> list[dict[str, Any]]:  # noqa: ARG002
        """Read the wave.

        :param context: the task's context.
        :returns: one small dictionary for each server: ``guest_id``, ``hostname``, ``export_id``.
        :raises InputError: if the run names no wave.
        """
        from sealift.exports.errors import InputError
        from sealift.exports.plan import read_wave

        if not self.wave_key or not self.bucket:
            raise InputError(
                "This run names no wave. Trigger plan_exports instead: it makes a plan and starts its waves."
            )
        wave = read_wave(CosHook(self.cos_conn_id, region=self.region).client, bucket=self.bucket, key=self.wave_key)
        self.log.info("Wave %d of the plan %s: %d servers.", wave.number, wave.plan_id, len(wave.items))
        return [
            {"guest_id": item.guest_id, "hostname": item.hostname, "export_id": item.export_id} for item in wave.items
        ]
