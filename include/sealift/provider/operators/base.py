"""What the tasks of a wave share, and what the steps of one server's export share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator

from sealift.provider.failures import recording_failure
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.plan import PlanItem, WaveSlice


class WaveTaskOperator(BaseOperator):
    """A task of a run that carries out a wave.

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

    @cached_property
    def cos(self) -> CosHook:
        """The hook of the object store."""
        return CosHook(self.cos_conn_id, region=self.region)

    @cached_property
    def wave(self) -> WaveSlice:
        """The wave, read from the bucket.

        :raises InputError: if the run names no wave.
        """
        from sealift.exports.errors import InputError
        from sealift.exports.plan import read_wave

        if not self.wave_key or not self.bucket:
            raise InputError(
                "This run names no wave. Trigger plan_exports instead: it makes a plan and starts its waves."
            )
        return read_wave(self.cos.client, bucket=self.bucket, key=self.wave_key)


class ServerStepOperator(WaveTaskOperator, Linked):
    """A step for one server of a wave. The other parameters are those of :class:`WaveTaskOperator`.

    :param server: ``{"guest_id", "hostname", "export_id"}``, usually mapped.
    :param classic_conn_id: connection of the type ``ibm_classic``, templated.
    """

    template_fields: Sequence[str] = (*WaveTaskOperator.template_fields, "server", "classic_conn_id")
    ui_color = "#e6f4ea"

    def __init__(
        self, *, server: Mapping[str, Any], classic_conn_id: str = "{{ params.classic_conn_id }}", **kwargs: Any
    ) -> None:
        kwargs.setdefault("map_index_template", "{{ task.server['hostname'] }}")
        super().__init__(**kwargs)
        self.server = server
        self.classic_conn_id = classic_conn_id

    @cached_property
    def classic(self) -> ClassicHook:
        """The hook of the Classic API."""
        return ClassicHook(self.classic_conn_id)

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

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, with what went wrong in words for the wave's report.

        :param next_method: what to call.
        :param next_kwargs: with what.
        :param context: the task's context.
        """
        with recording_failure(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def look_again(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Start over after a wait without a worker.

        :param context: the task's context.
        :param event: the trigger's payload; there is nothing in it.
        :returns: what the step hands on.
        """
        return self.step(context)

    def wait_until(self, moment: datetime, why: Exception) -> NoReturn:
        """Look again at a given time, without a worker until then and without using up a try.

        :param moment: when (UTC).
        :param why: what the log says.
        """
        from sealift.provider.triggers.slots import MomentTrigger

        self.log.info("%s", why)
        self.defer(trigger=MomentTrigger(until=moment.isoformat()), method_name="look_again")

    def step(self, context: Context) -> Any:
        """Do the step.

        :param context: the task's context.
        :returns: what the step hands on.
        """
        raise NotImplementedError
