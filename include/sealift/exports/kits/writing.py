"""Writing kits: beside the images in the bucket, or into the folder of a delivery. Nothing is ever overwritten."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sealift.cos.models import PutOutcome
from sealift.exports import beside
from sealift.exports.kits.models import Kit, KitError
from sealift.exports.manifest import Manifest
from sealift.exports.ports import CosApi

FOLDER = "kits"

_TYPES = {".json": "application/json", ".xml": "application/xml", ".ovf": "application/xml"}
_IMAGES = re.compile(r"(?P<images>.+)/[^/]+")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of one file.

    :param place: its key, or its path.
    :param outcome: it was written, or was there with the same bytes, or with others and was left as it is.
    """

    place: str
    outcome: PutOutcome


@dataclass(frozen=True, kw_only=True)
class WrittenKits:
    """What became of all files.

    :param files: in the order in which they were written.
    """

    files: tuple[Written, ...]

    @property
    def different(self) -> tuple[str, ...]:
        """Places at which something else was, and still is."""
        return tuple(one.place for one in self.files if one.outcome is PutOutcome.EXISTS_DIFFERENT)

    @property
    def words(self) -> str:
        """What happened, for people."""
        made = sum(one.outcome is PutOutcome.CREATED for one in self.files)
        same = sum(one.outcome is PutOutcome.EXISTS_SAME for one in self.files)
        words = f"{made} files written, {same} were there already."
        if self.different:
            words += (
                f" {len(self.different)} are there with other contents and were left as they are, the first at "
                f"{self.different[0]}: they are of an earlier state of knowledge, or somebody changed them. Delete the "
                "kit's folder to have it made anew."
            )
        return words


def write_kits(cos: CosApi, *, manifest: Manifest, kits: Sequence[Kit]) -> WrittenKits:
    """Put kits beside the images in the bucket, each file by a put that creates and never overwrites.

    :param cos: the object store.
    :param manifest: the export.
    :param kits: its kits.
    :returns: what became of each file; its key tells where it is.
    :raises KitError: the manifest's keys are none of Sealift's.
    :raises sealift.cos.errors.CosError: the object store refused, or failed for too long.
    """
    images = _images_of(manifest)
    written = []
    for target, name, body in _files(kits):
        key = beside.kit_key(images=images, target=target, name=name)
        kind = _TYPES.get(os.path.splitext(name)[1], "text/plain; charset=utf-8")
        written.append(Written(place=key, outcome=cos.put_if_absent(manifest.bucket, key, body, content_type=kind)))
    return WrittenKits(files=tuple(written))


def write_kits_to_folder(folder: Path, *, kits: Sequence[Kit]) -> WrittenKits:
    """Put kits into the folder of a delivery, below ``kits/``.

    :param folder: the export's folder, with its disks in it.
    :param kits: its kits.
    :returns: what became of each file; its path tells where it is.
    :raises OSError: the folder cannot be written to.
    """
    written = []
    for target, name, body in _files(kits):
        path = folder / FOLDER / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written.append(Written(place=str(path), outcome=_create(path, body)))
    return WrittenKits(files=tuple(written))


def _files(kits: Sequence[Kit]) -> Iterator[tuple[str, str, bytes]]:
    """All files: target, name and bytes."""
    for kit in kits:
        for name, body in kit.files.items():
            yield kit.target.value, name, body


def _images_of(manifest: Manifest) -> str:
    folders = {match["images"] for disk in manifest.disks if (match := _IMAGES.fullmatch(disk.key))}
    if len(folders) != 1:
        raise KitError(
            f"The images of {manifest.export_id} do not lie at one place in the bucket, which Sealift never does. Look "
            "at who wrote the manifest; nothing was written."
        )
    return folders.pop()


def _create(path: Path, body: bytes) -> PutOutcome:
    """Write a file under a name that nobody has, and give it its own when it is whole."""
    mode = 0o755 if path.suffix == ".sh" else 0o644
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with unfinished.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(mode)
        # A link fails where something is there; a rename would replace it.
        os.link(unfinished, path)
    except FileExistsError:
        there = path.read_bytes() if path.is_file() else None
        return PutOutcome.EXISTS_SAME if there == body else PutOutcome.EXISTS_DIFFERENT
    finally:
        unfinished.unlink(missing_ok=True)
    return PutOutcome.CREATED
