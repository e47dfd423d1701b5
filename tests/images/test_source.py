"""Sources give exactly what was asked for, or raise."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealift.images.source import BytesSource, FileSource, RangeSource, ShortReadError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))
    return path


def test_file_reads_and_counts(file: Path) -> None:
    with FileSource(file) as source:
        checked: RangeSource = source
        assert checked.size == 200
        assert source.read(10, 5) == bytes(range(10, 15))
        assert source.read(200, 0) == b""
        assert source.read(0, 200) == bytes(range(200))
        assert (source.bytes_read, source.requests) == (205, 3)


@pytest.mark.parametrize(("offset", "length"), [(0, 201), (200, 1), (-1, 2), (5, -1)])
def test_ranges_outside_are_refused(file: Path, offset: int, length: int) -> None:
    with FileSource(file) as source, pytest.raises(ShortReadError, match="200 bytes"):
        source.read(offset, length)
    with pytest.raises(ShortReadError, match="200 bytes"):
        BytesSource(bytes(200)).read(offset, length)


def test_a_file_that_shrank_raises(file: Path) -> None:
    with FileSource(file) as source:
        file.write_bytes(b"short")
        with pytest.raises(ShortReadError, match="ended at byte 5"):
            source.read(0, 200)


def test_closed_file(file: Path) -> None:
    source = FileSource(file)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="is closed"):
        source.read(0, 1)


def test_bytes_read_and_count() -> None:
    source = BytesSource(b"0123456789")
    assert source.read(3, 4) == b"3456"
    assert (source.size, source.bytes_read, source.requests) == (10, 4, 1)
