"""Deflate that any reader takes, within the window that it was told, and never much longer than the data."""

from __future__ import annotations

import base64
import importlib.util
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.images.convert import deflate
from sealift.images.convert.deflate import Deflate, Library, stored_size
from tests.images.convert.samples import text

LIBRARIES = [
    pytest.param(name, marks=pytest.mark.skipif(not importlib.util.find_spec(module.split(".")[0]), reason=module))
    for name, (module, *_) in deflate.LIBRARIES.items()
]
RANDOM = random.Random(4).randbytes(65536)


def strictly_inflated(data: bytes, window_bits: int) -> bytes:
    """Inflate byte by byte, so that only the window remembers what came before."""
    stream = zlib.decompressobj(-window_bits)
    out = [stream.decompress(data, 64)]
    while stream.unconsumed_tail:
        out.append(stream.decompress(stream.unconsumed_tail, 64))
    return b"".join(out) + stream.flush()


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    return request.param


@pytest.mark.parametrize("data", [b"x", b"x" * 65536, text(65536), RANDOM, RANDOM[:9000], text(30_000) + RANDOM])
def test_what_is_compressed_can_be_read(library: Library, data: bytes) -> None:
    packed = Deflate(library=library)
    stream = packed.stream(data)
    assert zlib.decompress(stream) == data
    assert len(stream) <= stored_size(len(data)) + 6
    raw = packed.raw(data, window_bits=12)
    assert strictly_inflated(raw, 12) == data
    assert len(raw) <= stored_size(len(data))


def test_the_strict_reader_finds_matches_that_reach_too_far() -> None:
    data = RANDOM[:6000] * 2
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    far = packer.compress(data) + packer.flush()
    assert zlib.decompress(far, -15) == data
    with pytest.raises(zlib.error, match="too far back"):
        strictly_inflated(far, 12)


def test_matches_stay_within_the_window(library: Library) -> None:
    data = (RANDOM[:6000] + text(4000)) * 6
    assert strictly_inflated(Deflate(library=library).raw(data[:40_000], window_bits=12), 12) == data[:40_000]
    assert len(Deflate(library=library).stream(data)) < len(data) / 3


@settings(max_examples=40, deadline=None)
@given(data=st.binary(min_size=1, max_size=5000), times=st.integers(1, 20))
def test_any_data_can_be_read(data: bytes, times: int) -> None:
    whole = data * times
    assert zlib.decompress(Deflate().stream(whole)) == whole
    assert strictly_inflated(Deflate().raw(whole, window_bits=12), 12) == whole


def test_random_data_are_stored_and_text_is_not(library: Library) -> None:
    packed = Deflate(library=library)
    assert len(packed.stream(RANDOM)) == stored_size(65536) + 6
    assert len(packed.raw(RANDOM, window_bits=12)) == stored_size(65536)
    words = text(65536)
    assert len(packed.stream(words)) < 1.05 * len(zlib.compress(words))
    narrow = zlib.compressobj(6, zlib.DEFLATED, -12)
    assert len(packed.raw(words, window_bits=12)) < 1.05 * len(narrow.compress(words) + narrow.flush())


def test_data_without_repetitions_are_compressed_by_their_letters(library: Library) -> None:
    letters = base64.b64encode(random.Random(4).randbytes(49152))
    assert len(letters) == 65536
    assert len(Deflate(library=library).stream(letters)) < 0.77 * 65536
    assert len(Deflate(library=library).raw(letters, window_bits=12)) < 0.77 * 65536


def test_a_little_that_compresses_among_much_that_does_not_may_be_missed_and_nothing_else() -> None:
    # Half of a unit is found wherever it is.
    for at in (0, 16_384, 32_768):
        unit = RANDOM[:at] + bytes(range(256)) * 128 + RANDOM[at:32_768]
        assert len(unit) == 65536
        assert len(Deflate().stream(unit)) < 40_000


def test_the_fastest_library_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        deflate.LIBRARIES,  # type: ignore[arg-type]  # a plain dict behind its annotation
        "zlib-ng",
        ("no_such_module.zlib_ng", 5, 2),
    )
    assert Deflate().library == "zlib"
    with pytest.raises(ModuleNotFoundError):
        Deflate(library="zlib-ng")
    assert Deflate(level=1).level == 1
