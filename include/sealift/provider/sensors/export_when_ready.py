"""Waiting for an image template, then asking the Classic API to copy its disks into the bucket, once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from sealift.provider.links import ObjectLink
from sealift.provider.sensors.server import ServerSensor
from sealift.provider.sensors.template import ImageTemplateSensor
from sealift.provider.waits import ENDED_KEY, NEVER, read_xcom, template_id_of
from sealift.provider.wave_access import counted

if TYPE_CHECKING:
    from airflow.sdk import Context


class ExportWhenReadySensor(ServerSensor, ImageTemplateSensor):
    """Waits until a template is whole, then starts its export, unless its objects or its transaction are there already.

    The other parameters are those of :class:`~sealift.provider.sensors.server.ServerSensor` and of
    :class:`~sealift.provider.sensors.template.ImageTemplateSensor`. Returns the terms of the wait for the objects: ids,
    keys and times; with them, when the wait saw the template become whole, if it did.
    """

    operator_extra_links = (ObjectLink(),)
    ui_color = "#e6f4ea"

    def step(  # type: ignore[override]
        self,
        context: Context,  # noqa: ARG002
        *,
        ended: Any = None,
        refusals: int = 0,
    ) -> dict[str, Any]:
        """Look, then adopt or submit, or wait until it is certain whether another try submitted.

        :param context: the task's context.
        :param ended: when the wait saw the template become whole, as JSON, or None.
        :param refusals: how often the account has refused this export for its load.
        :returns: the terms of the wait for the objects.
        """
        from sealift.classic.errors import ClassicLoadError, ClassicRateLimitedError
        from sealift.exports.errors import OutcomeOpen
        from sealift.exports.steps import ensure_export_started
        from sealift.exports.waiting import export_terms

        template_id = template_id_of(self.terms)
        item, settings = self.item, self.wave.settings
        try:
            started = ensure_export_started(
                classic=self.classic.client,
                cos=self.cos.client,
                item=item,
                settings=settings,
                template_id=template_id,
                ibm_api_key=self.cos.export_api_key,
            )
        except OutcomeOpen as uncertain:
            self.wait_until(uncertain.until, uncertain, ended=ended, **counted(refusals))
        except ClassicLoadError as refusal:
            self._wait_for_turn(refusal, ended, self.one_more(refusals, refusal))
        except ClassicRateLimitedError as refusal:
            self.wait_until(self.later(), refusal, ended=ended, refusals=self.one_more(refusals, refusal))
        self.log.info(
            "%s the export of the template %s of %s to %s/%s.",
            "Found" if started.adopted else "Started",
            template_id,
            item.name,
            settings.bucket,
            item.images,
        )
        self.remember_link(ObjectLink, self.cos.url_of(settings.bucket, item.disk_keys[0]))
        terms = export_terms(item, settings, template_id=template_id, started_at=datetime.now(UTC))
        facts = {"exported": started.exported, "submitted": not started.adopted}
        handed_on = dict(terms.model_copy(update=facts).model_dump(mode="json", exclude_defaults=True))
        return handed_on if ended is None else handed_on | {ENDED_KEY: ended}

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
