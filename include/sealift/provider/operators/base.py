"""What the steps of one server's export share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from sealift.provider.failures import recording_failure
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.plan import PlanItem, WaveSlice


class ServerStepOperator(BaseOperator, Linked):
    """A step for one server of a wave.

    :param server: ``{"guest_id", "hostname", "export_id"}``, usually mapped.
    :param wave_key: key of the wave in the bucket, templated.
    :param bucket: bucket of the plan, templated.
    :param classic_conn_id: connection of the type ``ibm_classic``, templated.
    :param cos_conn_id: connection of the type ``ibm_cos``, templated.
    :param region: the bucket's region, templated.
    """

    template_fields: Sequence[str] = ("server", "wave_key", "bucket", "classic_conn_id", "cos_conn_id", "region")
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        server: Mapping[str, Any],
        wave_key: str = "{{ params.wave_key }}",
        bucket: str = "{{ params.bucket }}",
        classic_conn_id: str = "{{ params.classic_conn_id }}",
        cos_conn_id: str = "{{ params.cos_conn_id }}",
        region: str = "{{ params.region }}",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("map_index_template", "{{ task.server['hostname'] }}")
        super().__init__(**kwargs)
        self.server = server
        self.wave_key = wave_key
        self.bucket = bucket
        self.classic_conn_id = classic_conn_id
        self.cos_conn_id = cos_conn_id
        self.region = region

    @cached_property
    def classic(self) -> ClassicHook:
        """The hook of the Classic API."""
        return ClassicHook(self.classic_conn_id)

    @cached_property
    def cos(self) -> CosHook:
        """The hook of the object store."""
        return CosHook(self.cos_conn_id, region=self.region)

    @cached_property
    def wave(self) -> WaveSlice:
        """The wave, read from the bucket."""
        from sealift.exports.plan import read_wave

        return read_wave(self.cos.client, bucket=self.bucket, key=self.wave_key)

    @property
    def item(self) -> PlanItem:
        """This server's part of the plan."""
        return self.wave.item(int(self.server["guest_id"]))

    def execute(self, context: Context) -> Any:
        """Do the step; a failure's words go to the wave's report.

        :param context: the task's context.
        :returns: what the step hands on: ids, never contents.
        """
        with recording_failure(context):
            return self.step(context)

    def step(self, context: Context) -> Any:
        """Do the step.

        :param context: the task's context.
        :returns: what the step hands on.
        """
        raise NotImplementedError
