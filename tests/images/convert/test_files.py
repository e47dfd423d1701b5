"""A local file into a local file, by the way that the pair has."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealift.images.convert.files import convert_file
from sealift.images.convert.formats import TargetFormat, Way
from sealift.images.convert.run import prove_result
from sealift.images.source import FileSource, ImageFormatError
from sealift.images.virtual_disk import ImageKind
from tests.images.convert.samples import assert_same_disk, qemu_img


def test_the_stream_takes_what_it_can(mixed: dict[str, Path], tmp_path: Path) -> None:
    told: list[float] = []
    out = tmp_path / "result.vmdk"
    done = convert_file(mixed["sealift"], out, into=TargetFormat.VMDK, progress=told.append)
    assert (done.kind, done.way, done.size) == (ImageKind.VHD, Way.STREAM, out.stat().st_size)
    assert done.converted is not None
    with FileSource(out) as source:
        prove_result(source, done.converted)
    assert told == sorted(told)
    assert 0 < told[-1] <= 1
    assert_same_disk(mixed["raw"], "raw", out, "vmdk")
    again = tmp_path / "again.vmdk"
    convert_file(mixed["sealift"], again, into=TargetFormat.VMDK, threads=1)
    assert again.read_bytes() == out.read_bytes()


def test_qemu_img_takes_the_rest(mixed: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "result.vhdx"
    done = convert_file(mixed["sealift"], out, into=TargetFormat.VHDX)
    assert (done.way, done.converted, done.size) == (Way.QEMU_IMG, None, out.stat().st_size)
    back = convert_file(out, tmp_path / "back.vhd", into=TargetFormat.VHD)
    assert (back.kind, back.way) == (ImageKind.VHDX, Way.QEMU_IMG)
    assert_same_disk(mixed["raw"], "raw", tmp_path / "back.vhd", "vpc")


def test_a_qcow2_that_sealift_does_not_read_goes_to_qemu_img(mixed: dict[str, Path], tmp_path: Path) -> None:
    for name, options in {"zstd": ["-c", "-o", "compression_type=zstd"], "extended": ["-o", "extended_l2=on"]}.items():
        source = tmp_path / name
        qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, mixed["raw"], source)
        done = convert_file(source, tmp_path / "out.raw", into=TargetFormat.RAW)
        assert (done.kind, done.way) == (ImageKind.QCOW2, Way.QEMU_IMG)
        assert (tmp_path / "out.raw").read_bytes() == mixed["raw"].read_bytes()


def test_a_raw_disk_has_to_be_named(mixed: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ImageFormatError, match="say that it is raw"):
        convert_file(mixed["raw"], tmp_path / "out", into=TargetFormat.QCOW2)
    done = convert_file(mixed["raw"], tmp_path / "out", into=TargetFormat.QCOW2, kind=ImageKind.RAW)
    assert done.way is Way.STREAM
    assert_same_disk(mixed["raw"], "raw", tmp_path / "out", "qcow2")
