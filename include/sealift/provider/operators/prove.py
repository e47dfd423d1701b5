"""Proving an export inside the bucket, recording the server's configuration, and writing the manifest last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sealift.provider.assets import exported_asset
from sealift.provider.links import ManifestLink, ObjectLink
from sealift.provider.operators.base import ServerStepOperator
from sealift.provider.operators.export import template_id_of
from sealift.provider.waits import read_xcom

if TYPE_CHECKING:
    from airflow.sdk import Context


class ProveExportOperator(ServerStepOperator):
    """Proves each disk of an export, saves the configuration record, and writes the manifest that makes it done.

    :param captured: what :class:`~sealift.provider.operators.capture.CaptureImageOperator` returned, as
        JSON, templated.
    :param started: what :class:`~sealift.provider.operators.export.ExportImageOperator` returned, as JSON,
        templated; for the history of durations only.
    :param whole: what the wait that saw the template become whole handed on under the key ``ended``, as JSON,
        templated; for the same.
    """

    template_fields: Sequence[str] = (*ServerStepOperator.template_fields, "captured", "started", "whole")
    operator_extra_links = (ManifestLink(), ObjectLink())

    def __init__(self, *, captured: str, started: str = "", whole: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("outlets", [exported_asset()])
        super().__init__(**kwargs)
        self.captured = captured
        self.started = started
        self.whole = whole

    def step(self, context: Context) -> dict[str, Any]:
        """Prove, record, write the manifest.

        :param context: the task's context.
        :returns: the export id, the template's id and the manifest's key.
        """
        from sealift.exports.steps import prove_and_record

        ti = context["ti"]
        template_id = template_id_of(self.captured)
        item, settings = self.item, self.wave.settings
        recorded = prove_and_record(
            classic=self.classic.client,
            cos=self.cos.client,
            item=item,
            settings=settings,
            template_id=template_id,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            try_number=ti.try_number,
            plan_id=self.wave.plan_id,
            **self._watched(template_id),
        )
        self.log.info(
            "%s is exported: %d disks, %d bytes, proven at %s; manifest %s/%s.",
            item.name,
            recorded.disks,
            recorded.bytes,
            recorded.proof_level,
            settings.bucket,
            recorded.manifest_key,
        )
        self.remember_link(ManifestLink, self.cos.url_of(settings.bucket, recorded.manifest_key))
        self.remember_link(ObjectLink, self.cos.url_of(settings.bucket, item.disk_keys[0]))
        self._tell_asset(context, recorded.manifest_key)
        self._forget_claim()
        return {"export_id": item.export_id, "template_id": template_id, "manifest_key": recorded.manifest_key}

    def _watched(self, template_id: int) -> dict[str, Any]:
        """Take what the tasks before this one saw; nothing of it is needed, and what is strange is left alone."""
        from pydantic import ValidationError

        from sealift.exports.terms import Ended, WaitTerms

        seen: dict[str, Any] = {}
        try:
            seen["template_ended"] = Ended.model_validate(read_xcom(self.whole))
        except ValidationError:
            self.log.info("No wait saw the template become whole: its capture was not timed.")
        try:
            terms = WaitTerms.model_validate(read_xcom(self.started))
        except ValidationError:
            self.log.info("It is not known when the export was submitted: it was not timed.")
        else:
            if terms.submitted and terms.template_id == template_id:
                seen["submitted_at"] = terms.started_at
        return seen

    def _forget_claim(self) -> None:
        """The manifest stands: nobody needs to know any more who submitted the export."""
        from sealift.cos.errors import CosError
        from sealift.exports.steps import forget_claim

        try:
            forget_claim(cos=self.cos.client, item=self.item, settings=self.wave.settings)
        except CosError as error:
            self.log.info("The claim of this export stays; it does no harm: %s", error)

    def _tell_asset(self, context: Context, manifest_key: str) -> None:
        """Put the manifest's place into the asset event, for DAGs that deliver what was exported."""
        events = context["outlet_events"]
        for outlet in self.outlets:
            events[outlet].extra = {"bucket": self.bucket, "manifest_key": manifest_key}
