"""Bodies in every frame, read in pieces of every size, from streams that give what they like."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable

import pytest

from sealift.sandbox.store.bodies import AwsChunkedBody, Body, ChunkedBody, HashedBody, LengthBody
from sealift.sandbox.store.errors import S3Error


class Dribble(io.BytesIO):
    """A stream that gives a few bytes at a time, as a socket may."""

    def __init__(self, data: bytes, choose: random.Random) -> None:
        super().__init__(data)
        self._choose = choose

    def readinto1(self, buffer: memoryview) -> int:
        return self.readinto(buffer[: self._choose.randint(1, 40)])


def chunk(data: bytes, sizes: list[int], extension: bytes = b"") -> bytes:
    pieces, position = [], 0
    for size in sizes:
        part = data[position : position + size]
        position += size
        if part:
            pieces.append(b"%x%s\r\n%s\r\n" % (len(part), extension, part))
    assert position >= len(data)
    return b"".join(pieces)


def read(body: Body, choose: random.Random) -> bytes:
    data = bytearray()
    while True:
        buffer = memoryview(bytearray(choose.randint(1, 60)))
        count = body.readinto(buffer)
        if not count:
            assert body.readinto(buffer) == 0
            return bytes(data)
        data += buffer[:count]


@pytest.mark.parametrize("seed", range(30))
def test_frames_within_frames(seed: int) -> None:
    choose = random.Random(seed)
    data = choose.randbytes(choose.randint(0, 2000))
    sizes = [choose.randint(1, 300) for _ in range(2001)]
    aws = chunk(data, sizes) + b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    http = chunk(aws, [choose.randint(1, 50) for _ in range(5001)], b";ext=1") + b"0\r\nx: y\r\n\r\n"
    frames: list[Callable[[], tuple[Body, bytes]]] = [
        lambda: (LengthBody(Dribble(data + b"rest", choose), len(data)), data),
        lambda: (ChunkedBody(Dribble(chunk(data, sizes) + b"0\r\n\r\nrest", choose)), data),
        lambda: (HashedBody(LengthBody(Dribble(data, choose), len(data)), hashlib.sha256(data).hexdigest()), data),
        lambda: (unsigned(LengthBody(Dribble(aws, choose), len(aws)), len(data)), data),
        lambda: (unsigned(ChunkedBody(Dribble(http, choose)), len(data)), data),
    ]
    for frame in frames:
        body, expected = frame()
        assert read(body, choose) == expected
        if isinstance(body, AwsChunkedBody):
            assert body.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


def unsigned(body: Body, length: int | None) -> AwsChunkedBody:
    return AwsChunkedBody(body, length=length, signer=None, with_trailer=True)


def of(data: bytes) -> LengthBody:
    return LengthBody(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
    "body",
    [
        lambda: LengthBody(io.BytesIO(b"short"), 10),
        lambda: ChunkedBody(io.BytesIO(b"5\r\nab")),
        lambda: ChunkedBody(io.BytesIO(b"2\r\nabc\r\n0\r\n\r\n")),
        lambda: ChunkedBody(io.BytesIO(b"zz\r\n")),
        lambda: ChunkedBody(io.BytesIO(b"-5\r\nabcde\r\n")),
        lambda: ChunkedBody(io.BytesIO(b"2\r\nab\r\n")),
        lambda: unsigned(of(b"5\r\nab"), 5),
        lambda: unsigned(of(b"2\r\nabc\r\n0\r\n\r\n"), 2),
        lambda: unsigned(of(b"2\r\nab\r\n0\r\n\r\n"), 3),
        lambda: unsigned(of(b"2\r\nab\r\n0\r\n\r\nmore"), 2),
        lambda: unsigned(of(b"x\r\n"), 2),
        lambda: unsigned(of(b"1" * 20_000), 2),
        lambda: HashedBody(of(b"data"), "0" * 64),
    ],
)
def test_what_is_cut_or_wrong_is_refused(body: Callable[[], Body]) -> None:
    with pytest.raises(S3Error):
        read(body(), random.Random(1))
