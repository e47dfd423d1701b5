"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sealift.images.convert import pieces
from sealift.images.convert.errors import ConversionError
from sealift.images.convert.pieces import FileSink, Output


def test_a_file_is_written_with_its_beginning_last(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"older")
    sink = FileSink(path)
    sink.begin(head=4, largest=100)
    out = Output(sink, at=4)
    out.write(b"body")
    out.write(memoryview(b"-more"))
    out.zeros(3)
    out.align(8)
    out.write(b"")
    assert out.position == 16
    assert path.read_bytes() == b"older"
    sink.finish(b"HEAD")
    assert path.read_bytes() == b"HEADbody-more" + bytes(3)
    assert [one.name for one in tmp_path.iterdir()] == ["image"]
    assert sink.abort() == ""
    assert path.exists()


def test_zeros_are_holes(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "image")
    sink.begin(head=0, largest=0)
    sink.write(b"x")
    sink.zeros(64 * 2**20)
    sink.finish(b"")
    assert (tmp_path / "image").stat().st_size == 64 * 2**20 + 1
    assert (tmp_path / "image").stat().st_blocks * 512 < 2**20


def test_what_is_aborted_leaves_nothing(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "image")
    sink.begin(head=0, largest=0)
    sink.write(b"x" * 1000)
    assert sink.abort() == ""
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="has not been begun"):
        sink.write(b"x")


def test_what_an_earlier_try_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "image.part").write_bytes(b"y" * 5000)
    sink = FileSink(tmp_path / "image")
    sink.begin(head=0, largest=0)
    sink.zeros(2000)
    sink.finish(b"")
    assert (tmp_path / "image").read_bytes() == bytes(2000)


def test_two_writers_of_a_file_do_not_meet(tmp_path: Path) -> None:
    first, second = FileSink(tmp_path / "image"), FileSink(tmp_path / "image")
    first.begin(head=0, largest=0)
    first.write(b"first")
    with pytest.raises(ConversionError, match="Another process writes"):
        second.begin(head=0, largest=0)
    assert second.abort() == ""
    first.finish(b"")
    assert (tmp_path / "image").read_bytes() == b"first"


def test_a_full_disk_and_a_missing_folder_are_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConversionError, match=r"image\.part cannot be written: No such file"):
        FileSink(tmp_path / "nowhere" / "image").begin(head=0, largest=0)
    sink = FileSink(tmp_path / "image")
    sink.begin(head=0, largest=0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pieces.os, "pwrite", full)
    with pytest.raises(ConversionError, match="is full"):
        sink.write(b"x")
    assert sink.abort() == ""
    assert list(tmp_path.iterdir()) == []
