"""Kits are written once, and never over anything."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sealift.cos.models import PutOutcome
from sealift.exports import beside, names
from sealift.exports.doctor_bucket import Strange, folders
from sealift.exports.kits import GuestSystem, Kit, KitError, Target, build_kits, write_kits, write_kits_to_folder
from tests.exports.kits.world import IMAGES, READY, disk, manifest, record


def kits(system: GuestSystem | None = None, **changes: Any) -> list[Kit]:
    return build_kits(manifest(**changes), record(), system, (), [Target.AWS, Target.LIBVIRT])


def test_kits_lie_beside_the_images_at_keys_that_the_doctor_knows(cos: Any) -> None:
    written = write_kits(cos, manifest=manifest(), kits=kits())

    keys = [one.place for one in written.files]
    assert sorted(cos.objects) == sorted(keys)
    assert f"{IMAGES}/kits/aws/containers.json" in keys
    assert f"{IMAGES}/kits/libvirt/domain.xml" in keys
    room = names.room_prefix("nightly", "images")
    assert all(beside.is_kit_file(key.removeprefix(room)) for key in keys)
    assert all(names.parse_image_file(key.removeprefix(room)) is None for key in keys)
    assert written.different == ()
    assert written.words == f"{len(keys)} files written, 0 were there already."


def test_writing_again_writes_nothing(cos: Any) -> None:
    write_kits(cos, manifest=manifest(), kits=kits())
    before = list(cos.writes)

    again = write_kits(cos, manifest=manifest(), kits=kits())

    assert cos.writes == before
    assert {one.outcome for one in again.files} == {PutOutcome.EXISTS_SAME}


def test_what_is_different_stays_and_is_named(cos: Any) -> None:
    write_kits(cos, manifest=manifest(), kits=kits())
    key = f"{IMAGES}/kits/aws/import.sh"
    cos.store(key, b"somebody's own")

    again = write_kits(cos, manifest=manifest(), kits=kits())

    assert again.different == (key,)
    assert cos.objects[key][0] == b"somebody's own"
    assert "1 are there with other contents and were left as they are" in again.words
    assert key in again.words
    assert write_kits(cos, manifest=manifest(), kits=kits(READY)).different, "another state of knowledge"


def test_images_at_several_places_are_refused(cos: Any) -> None:
    scattered = manifest([disk(), disk(1, key="elsewhere/disk-1.vhd")])

    with pytest.raises(KitError, match="do not lie at one place"):
        write_kits(cos, manifest=scattered, kits=kits())
    assert cos.objects == {}


def test_a_folder_gets_the_same_files_and_scripts_that_run(tmp_path: Path) -> None:
    made = kits()

    written = write_kits_to_folder(tmp_path, kits=made)

    for kit in made:
        for name, body in kit.files.items():
            path = tmp_path / "kits" / kit.target / name
            assert path.read_bytes() == body
            assert os.access(path, os.X_OK) == name.endswith(".sh")
    assert len(written.files) == sum(len(kit.files) for kit in made)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(everything) == len(written.files), "nothing unfinished is left"


def test_a_folder_keeps_what_it_has(tmp_path: Path) -> None:
    write_kits_to_folder(tmp_path, kits=kits())
    path = tmp_path / "kits" / "aws" / "README.md"
    path.write_text("mine")
    other = tmp_path / "kits" / "aws" / "role.sh"
    other.unlink()
    other.mkdir()

    again = write_kits_to_folder(tmp_path, kits=kits())

    assert set(again.different) == {str(path), str(other)}
    assert path.read_text() == "mine"
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    "rest",
    [
        "web-101/101-20261123T0200Z/kits/aws",
        "web-101/101-20261123T0200Z/kits/aws/.hidden",
        "web-101/101-20261123T0200Z/kits/aws/a/b",
        "web-101/102-20261123T0200Z/kits/aws/import.sh",
        "web-101/101-20261123T0200Z/kits/AWS/import.sh",
    ],
)
def test_what_is_no_file_of_a_kit_is_none(rest: str) -> None:
    assert not beside.is_kit_file(rest)


def test_the_doctor_takes_no_kit_for_a_stranger_and_no_stranger_for_a_kit(cos: Any, now: datetime) -> None:
    write_kits(cos, manifest=manifest(), kits=kits())
    cos.store(f"{IMAGES}/disk-0.vhd", b"x")
    cos.store(f"{IMAGES}/kits/aws/sub/folder", b"x")
    strange = Strange()

    [folder] = folders(cos.list("b", "nightly/images/"), room="nightly/images/", strange=strange)

    assert list(folder.disks) == [0]
    assert [key for found in strange.findings(now) for key in found.keys] == [f"{IMAGES}/kits/aws/sub/folder"]
