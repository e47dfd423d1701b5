"""What the sensors of one server share that go on in a worker once their wait is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sealift.provider.sensors.base import AccountSensor
from sealift.provider.waits import ENDED_KEY
from sealift.provider.wave_access import ServerAccess, counted

if TYPE_CHECKING:
    from airflow.sdk import Context


class ServerSensor(ServerAccess, AccountSensor):
    """Waits in the triggerer for one server of a wave, then does a step for it in a worker.

    A task of its own for the step would be one more that the scheduler looks at, for each waiting server, whenever it
    looks at the run. The other parameters are those of :class:`~sealift.provider.sensors.base.AccountSensor`.

    :param server: ``{"guest_id", "hostname", "export_id"}``, usually mapped.
    :param wave_key: key of the wave in the bucket, templated.
    :param bucket: bucket of the plan, templated.
    """

    template_fields: Sequence[str] = (*AccountSensor.template_fields, "server", "wave_key", "bucket")
    goes_on = True

    def __init__(
        self,
        *,
        server: Mapping[str, Any],
        wave_key: str = "{{ params.wave_key }}",
        bucket: str = "{{ params.bucket }}",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("map_index_template", "{{ task.server['hostname'] }}")
        super().__init__(**kwargs)
        self.server = server
        self.wave_key = wave_key
        self.bucket = bucket

    def after_wait(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Do the step.

        :param context: the task's context.
        :param event: the trigger's payload.
        :returns: what the step hands on.
        """
        return self.step(context, ended=event.get(ENDED_KEY), **counted(int(event.get("refusals", 0))))
