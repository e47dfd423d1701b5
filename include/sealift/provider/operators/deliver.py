"""Delivering finished exports out of the bucket: to a folder that the worker sees, or into a bucket of S3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator

from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, ManifestLink
from sealift.provider.progress import ReadingProgress
from sealift.provider.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.delivery_places import Place
    from sealift.exports.manifest import Manifest
    from sealift.transfer.engines import Engines

TASKS_AT_MOST: Final = 1000
"""Airflow maps a task no further than ``[core] max_map_length``, 1,024; many exports share a task then."""


def cos_of(params: Mapping[str, Any]) -> CosHook:
    """Return the hook of the object store that a run's parameters name.

    :param params: the run's parameters.
    """
    return CosHook(str(params.get("cos_conn_id") or CosHook.default_conn_name), region=params.get("region") or None)


def in_batches(exports: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Share exports out over tasks: one each, and more only where there are too many of them.

    :param exports: the exports, at least one.
    :returns: the batches.
    """
    size = -(-len(exports) // TASKS_AT_MOST)
    return [exports[at : at + size] for at in range(0, len(exports), size)]


def label_of(exports: Sequence[Mapping[str, Any]]) -> str:
    """Name a task of the grid: by its server, or by how many exports it has.

    :param exports: its batch.
    """
    one, *more = exports
    return f"{len(exports)} exports" if more else str(one["hostname"])


class _Delivers(BaseOperator):
    """What the two tasks of a delivery share.

    :param delivery: what to deliver where, by the names of ``deliver_images``'s parameters, templated; the run's
        parameters if None.
    """

    template_fields: Sequence[str] = ("delivery",)
    ui_color = "#e8f0fe"

    def __init__(self, *, delivery: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delivery = delivery

    def _params(self, context: Context) -> dict[str, Any]:
        return dict(self.delivery if self.delivery is not None else context["params"])


class ChooseExportsOperator(_Delivers):
    """Finds the exports that a run is to deliver: those that are named, or those whose end started the run.

    Returns batches: lists of ``{"export_id", "hostname", "bucket", "manifest_key"}``, of one export each unless there
    are more than a thousand.
    """

    def execute(self, context: Context) -> list[list[dict[str, Any]]]:
        """Find them.

        :param context: the task's context.
        :returns: the batches.
        :raises InputError: nothing is named, what is named is not there, or there is no place to deliver to.
        """
        from sealift.exports.delivery import Wanted
        from sealift.exports.errors import InputError

        params = self._params(context)
        to = str(params.get("to") or "")
        check_target(to)
        check_engine(to, str(params.get("engine") or "https"))
        Wanted.of(format_=params.get("format"), kits=bool(params.get("kits")))
        wanted = [str(one) for one in params.get("exports") or []]
        found = self._named(params, wanted) if wanted else self._finished(params, context)
        if not found:
            raise InputError(
                "Nothing is named to be delivered, and no finished export started this run. Name exports in the field "
                "Exports."
            )
        unique = list({one["export_id"]: one for one in found}.values())
        self.log.info("%d exports go to %s.", len(unique), to)
        return in_batches(unique)

    def _named(self, params: Mapping[str, Any], wanted: Iterable[str]) -> list[dict[str, Any]]:
        from sealift.exports.delivery import find_manifest
        from sealift.exports.names import manifest_key, normal_prefix

        cos = cos_of(params)
        bucket = str(cos.bucket_or_default(params.get("bucket")))
        prefix = normal_prefix(str(params.get("prefix") or ""))
        found = []
        for one in wanted:
            manifest, _ = find_manifest(
                cos.client, bucket=bucket, prefix=prefix, wanted=one, period=params.get("period") or None
            )
            key = manifest_key(prefix=prefix, guest_id=manifest.guest.id, period=manifest.period)
            found.append(_told(manifest, bucket, key))
        return found

    def _finished(self, params: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
        """Read the manifests that the events name which started the run."""
        from sealift.exports.errors import InputError
        from sealift.exports.manifest import read_manifest

        cos = cos_of(params).client
        found = []
        for events in dict(context["triggering_asset_events"]).values():
            for event in events:
                bucket, key = (event.extra.get(name) for name in ("bucket", "manifest_key"))
                if not bucket or not key:
                    raise InputError(
                        "An event of the asset sealift_exported names no manifest: it was made by hand. Trigger this "
                        "DAG with the exports' ids instead."
                    )
                manifest = read_manifest(cos, bucket=str(bucket), key=str(key))
                if manifest is None:
                    self.log.warning("%s/%s is gone: that export was deleted since, and is not delivered.", bucket, key)
                else:
                    found.append(_told(manifest, str(bucket), str(key)))
        return found


class DeliverExportOperator(_Delivers, Linked):
    """Brings exports out of the bucket, each with its record and manifest; goes on where it stopped.

    Returns, for each, its id, its place and its bytes.

    Where it is mapped, name its instances by ``map_index_template="{{ task.label }}"``. The events of its outlets say
    in ``extra`` what was delivered where.

    :param exports: one of the batches that :class:`ChooseExportsOperator` returned, templated.
    """

    template_fields: Sequence[str] = (*_Delivers.template_fields, "exports")
    operator_extra_links = (ManifestLink(),)
    ui_color = "#e6f4ea"

    def __init__(self, *, exports: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exports = exports

    @property
    def label(self) -> str:
        """What the grid calls the task: its server, or how many exports it has."""
        return label_of(self.exports)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Bring them, one after the other.

        :param context: the task's context.
        :returns: for each, its id, its place, its bytes and how many of them were brought.
        """
        from sealift.exports.delivery import Wanted, deliver, folder_of
        from sealift.exports.delivery_places import How
        from sealift.exports.errors import NoSuchExportError
        from sealift.exports.manifest import parse_manifest
        from sealift.transfer.engines import AsperaSettings, EngineName, Engines
        from sealift.transfer.pace import Pace

        params = self._params(context)
        check_engine(str(params["to"]), str(params.get("engine") or "https"))
        wanted = Wanted.of(format_=params.get("format"), kits=bool(params.get("kits")))
        hook = cos_of(params)
        cos = hook.client
        self.remember_link(ManifestLink, hook.url_of(self.exports[0]["bucket"], self.exports[0]["manifest_key"]))
        megabytes = params.get("limit_megabytes")
        how = How(
            streams=int(params.get("streams") or 4),
            pace=Pace(bytes_per_second=float(megabytes) * 1e6 if megabytes else None),
        )
        delivered: list[dict[str, Any]] = []
        for export in self.exports:
            body = cos.read(export["bucket"], export["manifest_key"])
            if body is None:
                raise NoSuchExportError(
                    f"The manifest {export['bucket']}/{export['manifest_key']} of {export['export_id']} is gone: the "
                    "export was deleted since this run began."
                )
            manifest = parse_manifest(body, bucket=export["bucket"], key=export["manifest_key"])
            if manifest.removal is not None:
                raise NoSuchExportError(
                    f"The export {export['export_id']} in {export['bucket']} is being removed since this run began."
                )
            place = place_of(
                str(params["to"]),
                folder_of(manifest),
                aws_conn_id=str(params.get("aws_conn_id") or "aws_default"),
                engines=Engines(
                    wanted=EngineName(str(params.get("engine") or "https")),
                    store=cos,
                    settings=AsperaSettings(ascp=Path(ascp) if (ascp := settings().ascp) else None),
                    say=lambda line: self.log.info("%s", line),
                ),
            )
            watcher = _Told(self.log)
            done, noted = deliver(
                cos=cos,
                manifest=manifest,
                body=body,
                prefix=prefix_of(export["manifest_key"]),
                place=place,
                watcher=watcher,
                how=how,
                made_by=f"{context['ti'].dag_id} {context['ti'].run_id}",
                wanted=wanted,
            )
            size = sum(one.size for one in done.files)
            self.log.info(
                "%s is in %s: %d files, %d bytes, %d of them brought in %.1f s; every one checked.",
                done.export_id,
                done.place,
                len(done.files),
                size,
                done.brought,
                done.seconds,
            )
            for one in (*done.remarks, noted):
                if one:
                    self.log.info("%s", one)
            delivered.append({"export_id": done.export_id, "place": done.place, "bytes": size, "brought": done.brought})
        events = context["outlet_events"]
        for outlet in self.outlets:
            events[outlet].extra = {
                "exports": [{"export_id": str(one["export_id"]), "place": str(one["place"])} for one in delivered]
            }
        return delivered


class _Told:
    """Tells the task's log how a delivery goes on."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._sizes: dict[str, int] = {}
        self._progress = ReadingProgress(log, what="there")

    def begins(self, name: str, size: int) -> None:
        self._sizes[name] = size
        self._log.info("%s: %d bytes.", name, size)

    def arrived(self, name: str, count: int) -> None:
        self._progress(name, self._sizes[name], count)

    checked = arrived

    def done(self, name: str, sha256: str, *, already: bool) -> None:
        self._log.info("%s: %s, SHA-256 %s.", name, "there already" if already else "whole", sha256)


def check_target(to: str) -> None:
    """Refuse what is no place to deliver to, before anything is brought.

    :param to: an absolute folder, or ``s3://bucket/prefix``.
    :raises InputError: it is neither.
    """
    from sealift.exports.errors import InputError

    bucket = to.removeprefix("s3://").partition("/")[0]
    if to.startswith("s3://") and bucket:
        return
    if not to.startswith("/"):
        raise InputError(
            f"{to!r} is no place to deliver to: name a folder by its whole path, as /srv/images, or a place in a "
            "bucket, as s3://bucket/prefix (field Where to, or [sealift] deliver_to)."
        )


def check_engine(to: str, engine: str) -> None:
    """Refuse an engine that the place does not have.

    :param to: where exports go.
    :param engine: what was asked for.
    :raises InputError: it brings nothing there.
    """
    from sealift.exports.errors import InputError

    if to.startswith("s3://") and engine == "aspera":
        raise InputError(
            f"Aspera brings exports to a folder, not to {to}: choose https, or auto, which takes Aspera where it can."
        )


def place_of(to: str, folder: PurePosixPath, *, aws_conn_id: str, engines: Engines | None = None) -> Place:
    """Open the place of one export.

    :param to: where all exports go: an absolute folder, or ``s3://bucket/prefix``.
    :param folder: the export's own folder below it.
    :param aws_conn_id: connection of the type ``aws``, for a bucket.
    :param engines: how objects are brought to a folder; over HTTPS if not given.
    :returns: the place. Nothing is asked yet.
    """
    from sealift.exports.delivery_places import FolderPlace, S3Place
    from sealift.transfer.s3_bucket import S3Bucket

    if not to.startswith("s3://"):
        return FolderPlace(Path(to) / folder, engines=engines)
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    bucket, _, prefix = to.removeprefix("s3://").partition("/")
    client = S3Hook(aws_conn_id=aws_conn_id).get_conn()
    return S3Place(bucket=S3Bucket(client=client, bucket=bucket), prefix=str(PurePosixPath(prefix) / folder))


def prefix_of(manifest_key: str) -> str:
    """Say what all keys begin with where a manifest has this one.

    :param manifest_key: as ``weekly/manifests/12345678/20261123T0200Z.json``.
    :returns: as ``weekly``; empty where nothing stands before.
    """
    return f"/{manifest_key}".rpartition("/manifests/")[0].strip("/")


def _told(manifest: Manifest, bucket: str, key: str) -> dict[str, Any]:
    return {
        "export_id": manifest.export_id,
        "hostname": manifest.guest.hostname,
        "bucket": bucket,
        "manifest_key": key,
    }
