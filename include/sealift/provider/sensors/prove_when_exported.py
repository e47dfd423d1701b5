"""Waiting for an export to the bucket, then proving it there, recording the server, and writing the manifest last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealift.provider.assets import exported_asset
from sealift.provider.links import ManifestLink, ObjectLink, TemplateLink, template_url
from sealift.provider.progress import ReadingProgress
from sealift.provider.sensors.export import ImageExportSensor
from sealift.provider.sensors.server import ServerSensor
from sealift.provider.waits import ENDED_KEY, read_xcom, template_id_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.manifest import ManifestConversion, ManifestDisk


class ProveWhenExportedSensor(ServerSensor, ImageExportSensor):
    """Waits until an export is over, then proves each disk, saves the configuration record, and writes the manifest.

    The other parameters are those of :class:`~sealift.provider.sensors.server.ServerSensor` and of
    :class:`~sealift.provider.sensors.export.ImageExportSensor`. Returns the export id, the template's id and the
    manifest's key.
    """

    operator_extra_links = (TemplateLink(), ObjectLink(), ManifestLink())
    ui_color = "#e6f4ea"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("outlets", [exported_asset()])
        super().__init__(**kwargs)

    def step(  # type: ignore[override]
        self, context: Context, *, look: Any = None, refusals: int = 0
    ) -> dict[str, Any]:
        """Prove, record, write the manifest.

        :param context: the task's context.
        :param look: what the wait saw of the objects, as JSON, or None.
        :param refusals: how often the account has refused a call of this step for its rate.
        :returns: the export id, the template's id and the manifest's key.
        """
        from sealift.classic.errors import ClassicRateLimitedError
        from sealift.exports.steps import prove_and_record

        ti = context["ti"]
        template_id = template_id_of(self.terms)
        item, settings = self.item, self.wave.settings
        # Before the proof: whoever looks for what is wrong with an image wants to find it.
        self.remember_link(TemplateLink, template_url(template_id))
        self.remember_link(ObjectLink, self.cos.url_of(settings.bucket, item.disk_keys[0]))
        try:
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
                progress=ReadingProgress(self.log, what="read"),
                convert=self._convert,
                **self._watched(look),
            )
        except ClassicRateLimitedError as refusal:
            self.wait_until(self.later(), refusal, look=look, refusals=self.one_more(refusals, refusal))
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
        self._tell_asset(context, recorded.manifest_key)
        self._forget_notes()
        return {"export_id": item.export_id, "template_id": template_id, "manifest_key": recorded.manifest_key}

    def _convert(self, disks: list[ManifestDisk]) -> ManifestConversion:
        """Convert what was proven into the format that the plan asks for."""
        from sealift.exports.converting import conversion_of, convert_images
        from sealift.images.convert.formats import TargetFormat

        item, settings = self.item, self.wave.settings
        record, already = convert_images(
            self.cos.client,
            bucket=settings.bucket,
            images=item.images,
            export_id=item.export_id,
            disks=disks,
            format_=TargetFormat(settings.format),
            made_by=f"{self.dag_id} {item.export_id}",
            progress=ReadingProgress(self.log, what="converted"),
        )
        self.log.info("%s: the images in %s %s.", item.name, record.format, "were there" if already else "are proven")
        return conversion_of(record, images=item.images)

    def _watched(self, look: Any) -> dict[str, Any]:
        """Take what was seen before; nothing of it is needed, and what is strange is left alone."""
        from pydantic import ValidationError

        from sealift.exports.terms import Ended, Look, WaitTerms

        seen: dict[str, Any] = {}
        told = read_xcom(self.terms)
        try:
            seen["template_ended"] = Ended.model_validate(told.get(ENDED_KEY))
        except ValidationError:
            self.log.info("No wait saw the template become whole: its capture was not timed.")
        if look is not None:
            seen["first_look"] = Look.model_validate(look)
        terms = WaitTerms.model_validate(told)
        if terms.submitted:
            seen["submitted_at"] = terms.started_at
        return seen

    def _forget_notes(self) -> None:
        """The manifest stands: nobody needs to know any more who submitted the export, and what its capture made."""
        from sealift.cos.errors import CosError
        from sealift.exports.steps import CaptureMemory, forget_claim

        cos, item, wave = self.cos.client, self.item, self.wave
        try:
            forget_claim(cos=cos, item=item, settings=wave.settings)
            CaptureMemory(cos=cos, item=item, settings=wave.settings, plan_id=wave.plan_id).forget()
        except CosError as error:
            self.log.info("Notes on this export stay in the bucket; they do no harm: %s", error)

    def _tell_asset(self, context: Context, manifest_key: str) -> None:
        """Put the manifest's place into the asset event, for DAGs that deliver what was exported."""
        events = context["outlet_events"]
        for outlet in self.outlets:
            events[outlet].extra = {"bucket": self.bucket, "manifest_key": manifest_key}
