"""What the tasks of a wave share, operators and sensors alike: the wave in the bucket, and one server's part of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.plan import PlanItem, WaveSlice

WAVE_FIELDS = ("wave_key", "bucket", "cos_conn_id", "region")
"""The templated fields by which a task finds its wave."""


REFUSALS_AT_MOST: Final = 20
"""So often a task looks again after the account refused it for load or rate, before that uses up a try."""

REFUSED_PAUSE: Final = timedelta(minutes=1)
"""How long a task leaves the account alone that was refused for its rate although each call had been tried again."""


def counted(refusals: int) -> dict[str, Any]:
    """Keep a count over a wait.

    :param refusals: how often a task was refused.
    :returns: what the step is to be told again; nothing where it was never refused.
    """
    return {"refusals": refusals} if refusals else {}


class WaveAccess:
    """Mixed into the tasks of a run that carries out a wave, which have the fields of :data:`WAVE_FIELDS`."""

    wave_key: str
    bucket: str
    cos_conn_id: str
    region: str

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


class ServerAccess(WaveAccess, Linked):
    """Mixed into the tasks of one server, which have the field ``classic_conn_id`` besides."""

    classic_conn_id: str

    @cached_property
    def classic(self) -> ClassicHook:
        """The hook of the Classic API."""
        return ClassicHook(self.classic_conn_id)

    @property
    def guest_id(self) -> int:
        """The virtual server."""
        raise NotImplementedError

    @property
    def item(self) -> PlanItem:
        """This server's part of the plan."""
        return self.wave.item(self.guest_id)

    def look_again(self, context: Context, event: Mapping[str, Any] | None = None, **kept: Any) -> Any:
        """Do the step after a wait without a worker.

        :param context: the task's context.
        :param event: the trigger's payload; all but its status is for the step.
        :param kept: what :meth:`wait_until` was to keep.
        :returns: what the step hands on.
        """
        return self.step(context, **kept, **{name: value for name, value in (event or {}).items() if name != "status"})

    @staticmethod
    def one_more(refusals: int, refusal: Exception) -> int:
        """Count a refusal after which the task looks again without using up a try.

        :param refusals: how many there were before.
        :param refusal: what the account said.
        :returns: one more.
        :raises Exception: the refusal, where there were too many: from then on tries are used up.
        """
        if refusals >= REFUSALS_AT_MOST:
            raise refusal
        return refusals + 1

    @staticmethod
    def later() -> datetime:
        """Say when to look again after a refusal for the rate.

        :returns: a moment (UTC).
        """
        return datetime.now(UTC) + REFUSED_PAUSE

    def wait_until(self, moment: datetime, why: Exception, **kept: Any) -> NoReturn:
        """Look again at a given time, without a worker until then and without using up a try.

        :param moment: when (UTC).
        :param why: what the log says.
        :param kept: what the step is to be told again; of JSON.
        """
        from sealift.provider.triggers.slots import MomentTrigger

        task: Any = self
        task.log.info("%s", why)
        task.defer(trigger=MomentTrigger(until=moment.isoformat()), method_name="look_again", kwargs=kept or None)
        raise AssertionError("a deferral does not return")

    def step(self, context: Context, **told: Any) -> Any:
        """Do the step.

        :param context: the task's context.
        :param told: what the wait before it saw.
        :returns: what the step hands on: ids, never contents.
        """
        raise NotImplementedError
