"""What the sensors of one server share that go on in a worker once their wait is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sealift.provider.notifications.waits import tell_of_wait
from sealift.provider.sensors.base import AccountSensor
from sealift.provider.waits import ENDED_KEY, LOOK_KEY, REFUSED_KEY, read_xcom
from sealift.provider.wave_access import ServerAccess, counted

if TYPE_CHECKING:
    from airflow.sdk import Context


class ServerSensor(ServerAccess, AccountSensor):
    """Waits in the triggerer for one server of a wave, then does a step for it in a worker.

    A task of its own for the step would be one more that the scheduler looks at, for each waiting server, whenever it
    looks at the run. For the same reason the server is told by the terms of the wait alone and is no mapped argument:
    each task that a waiting one depends on is another query. The other parameters are those of
    :class:`~sealift.provider.sensors.base.AccountSensor`.

    :param wave_key: key of the wave in the bucket, templated.
    :param bucket: bucket of the plan, templated.
    """

    template_fields: Sequence[str] = (*AccountSensor.template_fields, "wave_key", "bucket")
    goes_on = True

    def __init__(
        self,
        *,
        wave_key: str = "{{ params.wave.key }}",
        bucket: str = "{{ params.wave.bucket }}",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("map_index_template", "{{ task.hostname }}")
        super().__init__(**kwargs)
        self.wave_key = wave_key
        self.bucket = bucket

    @property
    def guest_id(self) -> int:
        """The virtual server, as the task before handed it on."""
        return int(read_xcom(self.terms)["guest_id"])

    @property
    def hostname(self) -> str:
        """The virtual server's name; empty where the task before handed on none."""
        terms = read_xcom(self.terms)
        return str(terms.get("hostname", "")) if isinstance(terms, dict) else ""

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None, **kept: Any) -> Any:
        """Tell of a server that is stuck or slow, where somebody is to be told; then raise what went wrong, or go on.

        :param context: the task's context.
        :param event: the trigger's payload.
        :param kept: what the step before this wait was to keep.
        :returns: what the task hands on.
        """
        tell_of_wait(self, context, event)
        return super().execute_complete(context, event, **kept)

    def after_wait(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Do the step.

        :param context: the task's context.
        :param event: the trigger's payload.
        :returns: what the step hands on.
        """
        seen = {name: event[name] for name in (ENDED_KEY, LOOK_KEY, REFUSED_KEY) if name in event}
        return self.step(context, **seen, **counted(int(event.get("refusals", 0))))
