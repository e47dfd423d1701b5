"""qemu-img as the other way: run on local files, watched, quoted, and kept from files that an image names."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealift.images.convert.errors import QemuImgError
from sealift.images.convert.formats import TargetFormat
from sealift.images.convert.qemu import QemuImg, refuse_other_files
from sealift.images.virtual_disk import ImageKind
from tests.images.convert.samples import MIB, assert_same_disk, qemu_img, write_disk


@pytest.mark.parametrize(
    ("target", "name"), [(TargetFormat.VMDK_SPARSE, "vmdk"), (TargetFormat.VHDX, "vhdx"), (TargetFormat.VDI, "vdi")]
)
def test_formats_that_sealift_does_not_write(
    mixed: dict[str, Path], tmp_path: Path, target: TargetFormat, name: str
) -> None:
    told: list[float] = []
    out = tmp_path / "result"
    qemu = QemuImg()
    done = qemu.convert(source=mixed["sealift"], kind=ImageKind.VHD, target=out, into=target, progress=told.append)
    assert (done.path, done.size) == (out, out.stat().st_size)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert_same_disk(mixed["raw"], "raw", out, name)
    kind = {"vmdk": ImageKind.VMDK_SPARSE, "vhdx": ImageKind.VHDX, "vdi": ImageKind.VDI}[name]
    assert qemu.same(mixed["sealift"], ImageKind.VHD, out, kind)
    assert not qemu.same(write_disk(tmp_path / "other", {0: b"y"}, size=MIB), ImageKind.RAW, out, kind)
    assert {one.name for one in tmp_path.iterdir()} == {"result", "other"}


def test_qemus_own_words_are_passed_on_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "bad.vhdx").write_bytes(b"vhdxfile" + bytes(70_000))
    with pytest.raises(QemuImgError, match=r"qemu-img convert failed with status 1: .*Could not open"):
        QemuImg().convert(
            source=tmp_path / "bad.vhdx", kind=ImageKind.VHDX, target=tmp_path / "out", into=TargetFormat.RAW
        )
    assert [one.name for one in tmp_path.iterdir()] == ["bad.vhdx"]


def test_a_program_that_is_missing_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(QemuImgError, match="apt-get install --no-install-recommends qemu-utils"):
        QemuImg("no-such-qemu-img")


def test_whoever_is_told_of_progress_can_end_it(mixed: dict[str, Path], tmp_path: Path) -> None:
    def stop(_done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        QemuImg().convert(
            source=mixed["raw"],
            kind=ImageKind.RAW,
            target=tmp_path / "out",
            into=TargetFormat.VHDX,
            progress=stop,
        )
    assert list(tmp_path.iterdir()) == []


def test_images_that_name_other_files_are_not_given_to_qemu(tmp_path: Path) -> None:
    secret = write_disk(tmp_path / "secret.raw", {0: b"secret"}, size=MIB)
    qemu_img("create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", tmp_path / "child.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data.raw'}", tmp_path / "apart.qcow2", "1M")
    for name in ("child.qcow2", "apart.qcow2"):
        with pytest.raises(QemuImgError, match="names another file"):
            refuse_other_files(tmp_path / name, ImageKind.QCOW2)
    text = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID={parent}\ncreateType="monolithicFlat"\n\n{extent}\n'
    for name, extent in {"absolute": secret, "above": "../secret.raw", "below": "a/b"}.items():
        path = tmp_path / f"{name}.vmdk"
        path.write_text(text.format(parent="ffffffff", extent=f'RW 2048 FLAT "{extent}" 0'))
        with pytest.raises(QemuImgError, match="does not lie beside it"):
            QemuImg().convert(
                source=path, kind=ImageKind.VMDK_DESCRIPTOR, target=tmp_path / "out", into=TargetFormat.RAW
            )
    orphan = tmp_path / "orphan.vmdk"
    orphan.write_text(text.format(parent="12345678", extent='RW 2048 FLAT "secret.raw" 0'))
    with pytest.raises(QemuImgError, match="names a parent"):
        refuse_other_files(orphan, ImageKind.VMDK_DESCRIPTOR)
    beside = tmp_path / "beside.vmdk"
    options = ("-O", "vmdk", "-o", "subformat=monolithicFlat")
    qemu_img("convert", "-f", "raw", *options, secret, beside)
    QemuImg().convert(source=beside, kind=ImageKind.VMDK_DESCRIPTOR, target=tmp_path / "out", into=TargetFormat.RAW)
    assert (tmp_path / "out").read_bytes() == secret.read_bytes()


def test_a_name_is_nothing_but_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_disk(Path("nbd:disk"), {0: b"x"}, size=MIB)
    QemuImg().convert(source=Path("nbd:disk"), kind=ImageKind.RAW, target=Path("json:{}"), into=TargetFormat.VDI)
    assert_same_disk(tmp_path / "nbd:disk", "raw", tmp_path / "json:{}", "vdi")
