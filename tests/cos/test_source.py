"""An object read by ranges: exact, pinned to one version, counted."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.cos.errors import CosError, CosPreconditionError
from sealift.cos.source import ObjectSource

Store = Any  # tests/cos/conftest.py's Store


def test_reads_are_exact_and_counted(any_store: Store) -> None:
    client = any_store.client("hmac")
    client.put("exports", "disk", bytes(range(256)))
    info = client.head("exports", "disk")
    source = ObjectSource(client=client, bucket="exports", key="disk", info=info)
    assert source.size == 256
    assert source.read(250, 6) == bytes(range(250, 256))
    assert source.read(0, 1) == b"\x00"
    assert source.read(256, 0) == b""
    assert (source.bytes_read, source.requests) == (7, 2)
    for offset, length in ((250, 7), (-1, 2), (0, -1), (257, 0)):
        with pytest.raises(CosError, match="256 bytes"):
            source.read(offset, length)


def test_a_replaced_object_is_noticed(store: Store) -> None:
    client = store.client("hmac")
    client.put("exports", "disk", b"one")
    source = ObjectSource(client=client, bucket="exports", key="disk", info=client.head("exports", "disk"))
    client.put("exports", "disk", b"two")
    with pytest.raises(CosPreconditionError):
        source.read(0, 3)
    assert (source.bytes_read, source.requests) == (0, 0)


def test_it_fits_what_proofs_read_from(store: Store) -> None:
    from sealift.images.source import RangeSource

    client = store.client("hmac")
    client.put("exports", "disk", b"x")
    source: RangeSource = ObjectSource(client=client, bucket="exports", key="disk", info=client.head("exports", "disk"))
    assert source.read(0, source.size) == b"x"
