"""Bytes in blocks that come out of order, beside parts that are on disk: one digest, and memory within its bound."""

from __future__ import annotations

import hashlib
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.transfer.errors import Stopped
from sealift.transfer.hashing import BLOCK, HashInOrder


@settings(deadline=None, max_examples=25)
@given(
    parts=st.integers(1, 9),
    last=st.integers(1, 3 * BLOCK),
    disk=st.sets(st.integers(0, 8)),
    budget=st.integers(1, 4),
    threads=st.integers(1, 5),
    chance=st.randoms(),
)
def test_any_parts_on_disk_and_any_number_of_threads_give_the_digest(
    parts: int, last: int, disk: set[int], budget: int, threads: int, chance: random.Random
) -> None:
    """No order in which threads take parts, in their order, ends in all of them waiting for memory."""
    part_size = 3 * BLOCK
    size = (parts - 1) * part_size + last
    data = random.Random(parts).randbytes(size)
    hashing = HashInOrder(
        size=size,
        part_size=part_size,
        read_back=lambda at, length: data[at : at + length],
        on_disk=disk,
        budget=budget * BLOCK,
    )
    todo = [part for part in range(parts) if part not in disk][::-1]
    lock = threading.Lock()
    blocks: set[int] = set()

    def work() -> None:
        while True:
            with lock:
                if not todo:
                    return
                part = todo.pop()
            for at in range(part * part_size, min((part + 1) * part_size, size), BLOCK):
                block = hashing.block(at)
                length = min(BLOCK, min((part + 1) * part_size, size) - at)
                with lock:
                    blocks.add(id(block.obj))
                block[:length] = data[at : at + length]
                hashing.put_block(at, block, length)

    team = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    chance.shuffle(team)
    hashing.start()
    for one in team:
        one.start()
    for one in team:
        one.join(60)
        assert not one.is_alive()
    assert hashing.digests().sha256 == hashlib.sha256(data).hexdigest()
    assert len(blocks) <= budget + 1


def test_who_waits_for_memory_is_let_go_at_the_end() -> None:
    hashing = HashInOrder(
        size=9 * BLOCK, part_size=3 * BLOCK, read_back=lambda _at, _length: b"", on_disk=(), budget=BLOCK
    )
    hashing.start()
    hashing.block(3 * BLOCK)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            hashing.block(6 * BLOCK)
        except Stopped as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    hashing.stop()
    waiting.join(30)
    assert len(ended) == 1
    with pytest.raises(Stopped):
        hashing.block(0)
