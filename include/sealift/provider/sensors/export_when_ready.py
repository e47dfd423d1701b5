"""Waiting for an image template, then asking the Classic API to copy its disks into the bucket, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from sealift.provider.links import ObjectLink, TemplateLink, template_url
from sealift.provider.sensors.server import ServerSensor
from sealift.provider.sensors.template import ImageTemplateSensor
from sealift.provider.starting import start_export
from sealift.provider.waits import ENDED_KEY, NEVER, read_xcom, template_id_of
from sealift.provider.wave_access import counted

if TYPE_CHECKING:
    from airflow.sdk import Context


class ExportWhenReadySensor(ServerSensor, ImageTemplateSensor):
    """Waits until a template is whole, then starts its export, unless its objects or its transaction are there already.

    Where the task starts in the triggerer, the export is started there too, and no worker has anything to do unless
    something goes wrong: see :mod:`sealift.provider.triggers.starting`.

    The other parameters are those of :class:`~sealift.provider.sensors.server.ServerSensor` and of
    :class:`~sealift.provider.sensors.template.ImageTemplateSensor`. Returns the terms of the wait for the objects: ids,
    keys and times; with them, when the wait saw the template become whole, if it did.

    :param start_in_triggerer: whether the export is started in the triggerer, or in a worker once the wait is over.
    """

    operator_extra_links = (TemplateLink(), ObjectLink())
    ui_color = "#e6f4ea"

    def __init__(self, *, start_in_triggerer: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        assert self.start_trigger_args is not None
        wave_key = self.wave_key if start_in_triggerer else ""
        told = {**(self.start_trigger_args.trigger_kwargs or {}), "wave_key": wave_key, "bucket": self.bucket}
        self.start_trigger_args = replace(self.start_trigger_args, trigger_kwargs=told)

    def step(  # type: ignore[override]
        self,
        context: Context,  # noqa: ARG002
        *,
        ended: Any = None,
        refusals: int = 0,
        refused: str = "",
    ) -> dict[str, Any]:
        """Look, then adopt or submit, or wait until it is certain whether another try submitted.

        :param context: the task's context.
        :param ended: when the wait saw the template become whole, as JSON, or None.
        :param refusals: how often the account has refused this export for its load.
        :param refused: what it said just now, where the triggerer submitted the export and it was refused.
        :returns: the terms of the wait for the objects.
        """
        from sealift.classic.errors import ClassicLoadError, ClassicRateLimitedError
        from sealift.exports.errors import OutcomeOpen

        template_id = template_id_of(self.terms)
        self.remember_link(TemplateLink, template_url(template_id))
        if refused:
            refusal = ClassicLoadError(refused)
            self._wait_for_turn(refusal, ended, self.one_more(refusals, refusal))
        try:
            started = start_export(
                classic=self.classic.client,
                cos=self.cos,
                wave=self.wave,
                guest_id=self.guest_id,
                template_id=template_id,
                ended=ended,
            )
        except OutcomeOpen as uncertain:
            self.wait_until(uncertain.until, uncertain, ended=ended, **counted(refusals))
        except ClassicLoadError as refusal:
            self._wait_for_turn(refusal, ended, self.one_more(refusals, refusal))
        except ClassicRateLimitedError as refusal:
            self.wait_until(self.later(), refusal, ended=ended, refusals=self.one_more(refusals, refusal))
        self.log.info("%s", started.sentence)
        self.remember_link(ObjectLink, started.link)
        return started.handed_on

    def _wait_for_turn(self, refusal: Exception, ended: Any, refusals: int) -> NoReturn:
        """Wait until fewer exports are in flight, without a worker; where nothing bounds them, for a while."""
        from sealift.exports.terms import WaitTerms
        from sealift.provider.triggers.waits import TemplateWaitTrigger

        terms = WaitTerms.model_validate(read_xcom(self.terms))
        if terms.turn is None:
            self.wait_until(self.later(), refusal, ended=ended, refusals=refusals)
        self.log.info("%s", refusal)
        # The wait looks at the template once more: its time begins anew, and what it saw the first time is kept.
        again = terms.model_copy(update={"started_at": datetime.now(UTC)})
        kept = {"refusals": refusals} | ({} if ended is None else {ENDED_KEY: ended})
        self.defer(
            trigger=TemplateWaitTrigger(
                classic_conn_id=self.classic_conn_id,
                terms=again.model_dump_json(exclude_defaults=True),
                poll_interval=self.poll_interval,
                cos_conn_id=self.cos_conn_id,
                region=self.region,
                deferred_by_worker=True,
                resumes=True,
            ),
            method_name="execute_complete",
            kwargs=kept,
            timeout=NEVER,
        )
        raise AssertionError("a deferral does not return")
