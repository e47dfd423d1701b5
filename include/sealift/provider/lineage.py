"""Lineage for OpenLineage: of which server and template an export's objects were made, and where they were brought.

Airflow's OpenLineage provider asks an operator for it after a task has succeeded, in the worker. Without that provider
nobody asks, and what is here imports nothing of it.

Names follow OpenLineage's naming conventions (https://openlineage.io/docs/spec/naming): an object is ``{key}`` of
``s3://{bucket}``, a file ``{path}`` of ``file://{host}``. They have nothing for the Classic API. A virtual server is
``virtual-guests/{id}`` and an image template ``image-templates/{id}`` of ``softlayer://{account id}``, by the same rule
as warehouses that are told apart by their account.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sealift.exports.delivery import Delivered
    from sealift.exports.manifest import Manifest, ManifestDisk
    from sealift.provider.hooks.classic import ClassicHook

EXPORT_FACET: Final = "sealift_export"
"""Name of the run facet that tells which export a task made."""


class _OpenLineage:
    """The classes of the provider and of its client.

    :raises ImportError: they are not installed.
    """

    def __init__(self) -> None:
        events = import_module("openlineage.client.event_v2")
        facets = import_module("openlineage.client.facet_v2")
        self.operator_lineage: Any = import_module("airflow.providers.openlineage.extractors").OperatorLineage
        self.input: Any = events.InputDataset
        self.output: Any = events.OutputDataset
        self.run_facet: Any = facets.RunFacet
        self.documentation: Any = facets.documentation_dataset.DocumentationDatasetFacet
        self.storage: Any = facets.storage_dataset.StorageDatasetFacet
        self.version: Any = facets.dataset_version_dataset.DatasetVersionDatasetFacet
        self.statistics: Any = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet

    def described(self, words: str, **more: Any) -> dict[str, Any]:
        return {"documentation": self.documentation(description=words), **more}

    def export_facet(self, facts: Mapping[str, Any]) -> Any:
        """Make Sealift's own run facet: its fields are those of the manifest."""
        return self.run_facet().with_additional_properties(**facts)


def _openlineage() -> _OpenLineage | None:
    try:
        return _OpenLineage()
    except ImportError:
        return None


def account_of(hook: ClassicHook, log: Any) -> int | None:
    """Ask which account a connection is for.

    :param hook: the connection.
    :param log: where to say that nothing answered.
    :returns: the account's id; None without OpenLineage, or where nothing answered.
    """
    from sealift.classic.errors import ClassicError
    from sealift.provider.errors import ConnectionProblem

    if _openlineage() is None:
        return None
    try:
        return hook.client.account_id()
    except (ClassicError, ConnectionProblem) as error:
        log.warning("The lineage names no server and no template: %s", error)
        return None


def capture_lineage(captured: Mapping[str, Any], *, account: int | None) -> Any:
    """Say that a template was made of a server.

    :param captured: the terms that the capture handed on.
    :param account: the account's id.
    :returns: the provider's ``OperatorLineage``; None without OpenLineage or account.
    """
    ol = _openlineage()
    if ol is None or account is None:
        return None
    hostname, facts = str(captured.get("hostname", "")), _facts(captured)
    return ol.operator_lineage(
        inputs=[_server(ol, account, int(captured["guest_id"]), hostname)],
        outputs=[ol.output(**_template(ol, account, int(captured["template_id"]), hostname))],
        run_facets={EXPORT_FACET: ol.export_facet(facts)},
    )


def export_lineage(manifest: Manifest, *, manifest_key: str, account: int | None) -> Any:
    """Say that objects were made of a server and its template.

    :param manifest: the export's manifest.
    :param manifest_key: its key.
    :param account: the account's id; where it is not known, the objects stand alone.
    :returns: the provider's ``OperatorLineage``; None without OpenLineage.
    """
    ol = _openlineage()
    if ol is None:
        return None
    guest = manifest.guest
    inputs = []
    if account is not None:
        inputs = [
            _server(ol, account, guest.id, guest.hostname),
            ol.input(**_template(ol, account, manifest.template.id, guest.hostname)),
        ]
    notes = {manifest.record.key: "Configuration record", manifest_key: "Manifest"}
    outputs = [_disk(ol, manifest, disk, ol.output) for disk in manifest.disks]
    outputs += [
        ol.output(
            namespace=f"s3://{manifest.bucket}",
            name=key,
            facets=ol.described(f"{what} of {guest.hostname}, export {manifest.export_id}"),
        )
        for key, what in notes.items()
    ]
    facts = _facts(manifest.model_dump(mode="json") | {"guest_id": guest.id, "template_id": manifest.template.id})
    return ol.operator_lineage(inputs=inputs, outputs=outputs, run_facets={EXPORT_FACET: ol.export_facet(facts)})


def delivery_lineage(delivered: Sequence[tuple[Manifest, Delivered]]) -> Any:
    """Say that files at a place were made of objects.

    :param delivered: each export's manifest, and what was delivered of it.
    :returns: the provider's ``OperatorLineage``; None without OpenLineage, or where nothing was delivered.
    """
    ol = _openlineage()
    if ol is None or not delivered:
        return None
    inputs, outputs = [], []
    for manifest, done in delivered:
        inputs += [_disk(ol, manifest, disk, ol.input) for disk in manifest.disks]
        namespace, folder = _place(done.place)
        outputs += [
            ol.output(
                namespace=namespace,
                name=f"{folder}/{one.name}",
                facets=ol.described(
                    f"{one.name} of {manifest.guest.hostname}, export {manifest.export_id}",
                    version=ol.version(datasetVersion=f"sha256:{one.sha256}"),
                ),
                outputFacets={"outputStatistics": ol.statistics(size=one.size, fileCount=1)},
            )
            for one in done.files
        ]
    return ol.operator_lineage(inputs=inputs, outputs=outputs)


def _server(ol: _OpenLineage, account: int, guest_id: int, hostname: str) -> Any:
    return ol.input(
        namespace=f"softlayer://{account}",
        name=f"virtual-guests/{guest_id}",
        facets=ol.described(f"Virtual server {hostname}"),
    )


def _template(ol: _OpenLineage, account: int, template_id: int, hostname: str) -> dict[str, Any]:
    return {
        "namespace": f"softlayer://{account}",
        "name": f"image-templates/{template_id}",
        "facets": ol.described(f"Image template of {hostname}"),
    }


def _disk(ol: _OpenLineage, manifest: Manifest, disk: ManifestDisk, made: Any) -> Any:
    words = (
        f"Disk {disk.device} of {manifest.guest.hostname}, export {manifest.export_id}, proven at {disk.proof_level}"
    )
    facets = ol.described(
        words,
        storage=ol.storage(storageLayer="ibm-cos", fileFormat=disk.format),
        version=ol.version(datasetVersion=disk.etag),
    )
    more = {"outputFacets": {"outputStatistics": ol.statistics(size=disk.size, fileCount=1)}}
    return made(
        namespace=f"s3://{manifest.bucket}", name=disk.key, facets=facets, **(more if made is ol.output else {})
    )


def _place(place: str) -> tuple[str, str]:
    """Name where something was delivered to: the namespace, and what its names begin with."""
    if place.startswith("s3://"):
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        return f"s3://{bucket}", prefix.rstrip("/")
    return f"file://{socket.gethostname()}", place.rstrip("/")


def _facts(known: Mapping[str, Any]) -> dict[str, Any]:
    names = ("export_id", "guest_id", "template_id", "proof_level", "captured_at", "exported_at", "proven_at")
    return {name: known[name] for name in names if known.get(name) is not None}
