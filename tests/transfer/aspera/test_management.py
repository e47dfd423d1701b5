"""What ascp tells: read in pieces of any length, bounded, and never a reason to hang."""

from __future__ import annotations

import random
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.transfer.aspera.management import LARGEST_FRAME, LONGEST_LINE, MOST_FIELDS, FrameReader, ManagementPort

INIT = (
    b"FASPMGR 2\nType: INIT\nDirection: Receive\nOperation: Transfer\n"
    b"SessionId: f8fdea60-e416-4a17-a488-9abe093290a9\nUserStr: \n\n"
)
STATS = b"FASPMGR 2\nType: STATS\nEncryption: Yes\nTransferBytes: 1048576\nStartByte: 4096\nCookie: a: b\n\n"
ERROR = b"FASPMGR 2\nType: ERROR\nCode: 5\nDescription: Server aborted session: no\nTransferBytes: 7\n\n"
DONE = b"FASPMGR 2\r\nType: DONE\r\nTransferBytes: 9\r\n\r\n"
TALK = INIT + STATS + ERROR + DONE


def types(data: bytes, *, cut: int) -> list[str]:
    reader = FrameReader()
    frames = reader.feed(data[:cut]) + reader.feed(data[cut:])
    return [one.type for one in frames]


def test_frames_are_read_wherever_the_bytes_are_cut() -> None:
    for cut in range(len(TALK) + 1):
        assert types(TALK, cut=cut) == ["INIT", "STATS", "ERROR", "DONE"], cut
    reader = FrameReader()
    one_by_one = [frame for byte in TALK for frame in reader.feed(bytes([byte]))]
    assert [one.type for one in one_by_one] == ["INIT", "STATS", "ERROR", "DONE"]
    assert reader.dropped == 0


def test_fields_are_read_as_they_are_written() -> None:
    _, stats, error, done = FrameReader().feed(TALK)
    assert (stats.number("TransferBytes"), stats.number("StartByte")) == (1048576, 4096)
    assert stats.text("Cookie") == "a: b"
    assert (error.number("Code"), error.text("Description")) == (5, "Server aborted session: no")
    assert done.number("TransferBytes") == 9, "line ends of two characters are line ends"
    assert done.text("nothing") == ""


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.5", "0x1", "\u0661", "9" * 20, "1 2"])
def test_what_is_no_number_is_none(text: str) -> None:
    (frame,) = FrameReader().feed(f"FASPMGR 2\nTransferBytes: {text}\n\n".encode())
    assert frame.number("TransferBytes") is None


def test_a_frame_without_its_end_is_passed_over() -> None:
    reader = FrameReader()
    frames = reader.feed(b"FASPMGR 2\nType: STATS\nTransferBytes: 5\n" + ERROR)
    assert [one.type for one in frames] == ["ERROR"]
    assert reader.dropped == 1


@pytest.mark.parametrize(
    "rubbish",
    [
        b"x" * (LONGEST_LINE * 3),
        b"FASPMGR 2\n" + b"Tags: " + b"y" * LONGEST_LINE,
        b"FASPMGR 2\n" + b"".join(b"F%d: 1\n" % one for one in range(MOST_FIELDS + 1)),
        b"FASPMGR 2\n" + b"".join(b"F%d: %s\n" % (one, b"z" * 60_000) for one in range(LARGEST_FRAME // 60_000 + 1)),
        b"FASPMGR 2\nno colon\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["long line", "long field", "many fields", "large frame", "no field", "another protocol"],
)
def test_what_is_too_much_or_no_frame_is_passed_over(rubbish: bytes) -> None:
    reader = FrameReader()
    assert [one.type for one in reader.feed(rubbish + b"\n\n" + STATS)] == ["STATS"]
    assert reader.dropped >= 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([b"FASPMGR 2\n", b"\n", b"A: b\n", b":\n", STATS]))))
def test_no_bytes_break_the_reader_or_make_it_grow(pieces: list[bytes]) -> None:
    reader = FrameReader()
    for piece in pieces:
        for frame in reader.feed(piece):
            assert len(frame.fields) <= MOST_FIELDS
    assert len(reader._line) <= LONGEST_LINE
    assert [one.type for one in reader.feed(b"\n\n" + ERROR)][-1] == "ERROR", "the next frame is read all the same"


def test_a_flood_of_rubbish_takes_no_memory() -> None:
    reader = FrameReader()
    piece = random.Random(1).randbytes(64 * 1024).replace(b"\n", b".")
    for _ in range(64):
        assert reader.feed(piece) == []
        assert len(reader._line) <= LONGEST_LINE


def test_a_port_reads_one_connection_and_refuses_others() -> None:
    port = ManagementPort()
    try:
        assert port.read(0.01) == []
        assert not port.connected
        first = socket.create_connection(("127.0.0.1", port.port), timeout=5)
        with first:
            assert port.read(5) == []
            assert port.connected
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port.port), timeout=5)
            first.sendall(INIT + STATS[:20])
            assert [one.type for one in port.read(5)] == ["INIT"]
            first.sendall(STATS[20:])
            assert [one.type for one in port.read(5)] == ["STATS"]
            first.sendall(DONE)
        assert [one.type for one in port.rest()] == ["DONE"], "what came before the end is read"
        assert port.read(0.01) == [], "after the end nothing comes, and nobody waits for ever"
        assert port.rest() == []
    finally:
        port.close()


def test_a_port_listens_on_loopback_only() -> None:
    port = ManagementPort()
    try:
        assert port._listener is not None
        assert port._listener.getsockname()[0] == "127.0.0.1"
    finally:
        port.close()
        port.close()
