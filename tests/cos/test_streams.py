"""Range reads that come piece by piece, against the sandbox's store and against stores that break off."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sealift.cos.errors import CosError, CosNotFoundError, CosPreconditionError, CosTransientError

Store, Fake = Any, Any


def test_ranges_come_piece_by_piece(any_store: Store, key_kind: str) -> None:
    client = any_store.client(key_kind)
    body = random.Random(3).randbytes(700_000)
    client.put("exports", "k", body)
    info = client.head("exports", "k")
    assert info is not None
    for start, length, most in ((0, len(body), 65_536), (5, 1, 10), (99_999, 500_001, 300_000)):
        with client.open_range("exports", "k", start=start, length=length, if_match=info.etag) as stream:
            pieces = []
            while piece := stream.read(most):
                assert 0 < len(piece) <= most
                pieces.append(piece)
            assert stream.left == 0
        assert b"".join(pieces) == body[start : start + length]


def test_a_stream_is_pinned_and_whole(store: Store) -> None:
    client = store.client("hmac")
    client.put("exports", "k", b"0123456789")
    info = client.head("exports", "k")
    assert info is not None
    with pytest.raises(CosError, match="gave 2 bytes at 8 where 5"):
        client.open_range("exports", "k", start=8, length=5, if_match=info.etag)
    client.put("exports", "k", b"abcdefghij")
    with pytest.raises(CosPreconditionError):
        client.open_range("exports", "k", start=2, length=3, if_match=info.etag)
    with pytest.raises(CosNotFoundError):
        client.open_range("exports", "nope", start=0, length=1, if_match="e")
    for start, length in ((-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="a byte or more"):
            client.open_range("exports", "k", start=start, length=length, if_match=info.etag)


def test_a_stream_that_ends_early_says_so_once(fake: Fake) -> None:
    headers = {"ETag": '"e"', "Content-Range": "bytes 0-9/10"}
    fake.respond = lambda request: fake.Reply(status=206, body=b"0123456789", headers=headers, truncate=True)
    stream = fake.client().open_range("exports", "k", start=0, length=10, if_match="e")
    assert stream.read(4) == b"0123"
    with pytest.raises(CosTransientError, match="broke before the whole reply") as caught:
        list(iter(lambda: stream.read(4), b""))
    assert caught.value.__cause__ is caught.value.__context__ is None, "it could hold a request"
    stream.close()
    assert len(fake.seen) == 1, "it is for the caller to go on where it broke"


def test_a_store_that_ignores_the_range_is_found_out(fake: Fake) -> None:
    fake.respond = lambda request: fake.Reply(status=200, body=b"0123456789", headers={"ETag": '"e"'})
    with pytest.raises(CosError, match="ignored the range"):
        fake.client().open_range("exports", "k", start=0, length=4, if_match="e")
