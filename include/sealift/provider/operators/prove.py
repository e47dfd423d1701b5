"""Proving an export inside the bucket, recording the server's configuration, and writing the manifest last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sealift.provider.assets import exported_asset
from sealift.provider.links import ManifestLink, ObjectLink
from sealift.provider.operators.base import ServerStepOperator
from sealift.provider.operators.export import template_id_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class ProveExportOperator(ServerStepOperator):
    """Proves each disk of an export, saves the configuration record, and writes the manifest that makes it done.

    :param captured: what :class:`~sealift.provider.operators.capture.CaptureImageOperator` returned, as
        JSON, templated.
    """

    template_fields: Sequence[str] = (*ServerStepOperator.template_fields, "captured")
    operator_extra_links = (ManifestLink(), ObjectLink())

    def __init__(self, *, captured: str, **kwargs: Any) -> None:
        kwargs.setdefault("outlets", [exported_asset()])
        super().__init__(**kwargs)
        self.captured = captured

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
