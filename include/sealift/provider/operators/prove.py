"""Proving finished exports again, deeper: every byte is read once more in the bucket, and what is found is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from sealift.provider.links import Linked, ManifestLink
from sealift.provider.operators.deliver import cos_of, in_batches, label_of, prefix_of
from sealift.provider.progress import ReadingProgress

if TYPE_CHECKING:
    from airflow.sdk import Context


class _Proves(BaseOperator):
    """What the two tasks share.

    :param proving: what to prove, by the names of ``prove_exports``'s parameters, templated; the run's if None.
    """

    template_fields: Sequence[str] = ("proving",)
    ui_color = "#e8f0fe"

    def __init__(self, *, proving: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.proving = proving

    def _params(self, context: Context) -> dict[str, Any]:
        return dict(self.proving if self.proving is not None else context["params"])


class ChooseProofsOperator(_Proves):
    """Finds the exports that are to be proven again.

    Returns batches: lists of ``{"export_id", "hostname", "bucket", "manifest_key"}``, of one export each unless there
    are more than a thousand.
    """

    def execute(self, context: Context) -> list[list[dict[str, Any]]]:
        """Find them.

        :param context: the task's context.
        :returns: the batches.
        :raises InputError: nothing is named, or what is named is not there.
        """
        from sealift.exports.delivery import find_manifest
        from sealift.exports.errors import InputError
        from sealift.exports.names import manifest_key, normal_prefix

        params = self._params(context)
        wanted = [str(one).strip() for one in params.get("exports") or [] if str(one).strip()]
        if not wanted:
            raise InputError("Nothing is named to be proven again. Name exports in the field Exports.")
        cos = cos_of(params)
        bucket = str(cos.bucket_or_default(params.get("bucket")))
        prefix = normal_prefix(str(params.get("prefix") or ""))
        found: dict[str, dict[str, Any]] = {}
        for one in wanted:
            manifest, _ = find_manifest(
                cos.client, bucket=bucket, prefix=prefix, wanted=one, period=params.get("period") or None
            )
            found[manifest.export_id] = {
                "export_id": manifest.export_id,
                "hostname": manifest.guest.hostname,
                "bucket": bucket,
                "manifest_key": manifest_key(prefix=prefix, guest_id=manifest.guest.id, period=manifest.period),
            }
        unique = list(found.values())
        self.log.info("%d exports are proven at level %s.", len(unique), params.get("level") or "L2")
        return in_batches(unique)


class ProveExportOperator(_Proves, Linked):
    """Proves exports at level L2, L3 or L4 in the bucket, and adds what was found beside their manifests.

    Where it is mapped, name its instances by ``map_index_template="{{ task.label }}"``.

    :param exports: one of the batches that :class:`ChooseProofsOperator` returned, templated.
    """

    template_fields: Sequence[str] = (*_Proves.template_fields, "exports")
    operator_extra_links = (ManifestLink(),)
    ui_color = "#e6f4ea"

    def __init__(self, *, exports: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exports = exports

    @property
    def label(self) -> str:
        """What the grid calls the task: its server, or how many exports it has."""
        return label_of(self.exports)

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Prove them, one after the other.

        :param context: the task's context.
        :returns: for each, its id, the level, and the key of the proof.
        :raises NoSuchExportError: a manifest is gone since the run began.
        :raises ProofError: an image is not what was proven; the message says which, and what to do.
        """
        from sealift.exports.errors import NoSuchExportError
        from sealift.exports.manifest import read_manifest
        from sealift.exports.proving_later import prove_again
        from sealift.images.verdict import ProofLevel

        params = self._params(context)
        level = ProofLevel(str(params.get("level") or "L2"))
        hook = cos_of(params)
        cos = hook.client
        self.remember_link(ManifestLink, hook.url_of(self.exports[0]["bucket"], self.exports[0]["manifest_key"]))
        added = []
        for export in self.exports:
            manifest = read_manifest(cos, bucket=export["bucket"], key=export["manifest_key"])
            if manifest is None:
                raise NoSuchExportError(
                    f"The manifest {export['bucket']}/{export['manifest_key']} of {export['export_id']} is gone: the "
                    "export was deleted since this run began."
                )
            proof, key = prove_again(
                cos,
                manifest,
                prefix=prefix_of(export["manifest_key"]),
                level=level,
                made_by=f"{context['ti'].dag_id} {context['ti'].run_id}",
                progress=ReadingProgress(self.log, what="read"),
            )
            self.log.info("%s is proven at %s: %s/%s.", proof.export_id, proof.proof_level, manifest.bucket, key)
            added.append({"export_id": proof.export_id, "level": proof.proof_level, "proof": key})
        return added
