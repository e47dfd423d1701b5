"""A register has one holder, whoever writes at the same moment, is held up, or is deleted below."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.cos.errors import CosPermissionError
from sealift.exports.errors import LedgerError
from sealift.exports.registers import Entry, Register, is_label, new_token

ROOT = "claims/101/p"


@pytest.fixture
def register(cos: Any, time: Any) -> Register:
    return Register(cos=cos, bucket="b", root=ROOT)


def entry(now: Any, **changes: Any) -> Entry:
    return Entry(**{"export_id": "101-p", "guest_id": 101, "token": new_token(), "taken_at": now, **changes})


def test_nobody_holds_a_new_register(register: Register) -> None:
    assert register.look() is None


def test_who_writes_first_has_it_and_the_other_is_told(register: Register, now: Any) -> None:
    seen = register.look()
    mine = register.advance(seen, entry(now))

    assert mine is not None
    assert mine.held
    assert register.advance(seen, entry(now)) is None
    assert register.look() == mine


def test_a_free_entry_is_no_holder_and_the_next_goes_on_top(register: Register, cos: Any, now: Any) -> None:
    first = register.advance(None, entry(now))
    assert first is not None
    given_back = register.advance(first, first.entry.model_copy(update={"state": "free"}))
    assert given_back is not None
    assert not given_back.held

    assert register.advance(given_back, entry(now)) is not None
    assert sorted(cos.objects) == [f"{ROOT}/00000003.json"], "what no longer counts is deleted"


def test_a_writer_held_up_until_its_number_was_passed_and_deleted_does_not_get_it(
    register: Register, cos: Any, now: Any
) -> None:
    seen = register.look()
    second = register.advance(register.advance(seen, entry(now)), entry(now))
    assert sorted(cos.objects) == [f"{ROOT}/00000002.json"]

    assert register.advance(seen, entry(now)) is None
    assert register.look() == second
    assert sorted(cos.objects) == [f"{ROOT}/00000002.json"], "and leaves nothing behind"


def test_the_age_counts_from_the_later_of_the_two_clocks(register: Register, cos: Any, time: Any, now: Any) -> None:
    ahead = register.advance(None, entry(now + timedelta(minutes=3)))
    assert ahead is not None
    assert ahead.since == now + timedelta(minutes=3)
    time.now += timedelta(minutes=9)
    behind = register.advance(ahead, entry(now))
    assert behind is not None
    assert behind.since == now + timedelta(minutes=9)


def test_an_entry_that_did_not_change_is_not_read_again(register: Register, cos: Any, now: Any) -> None:
    known = register.advance(None, entry(now))
    cos.read = lambda *_: pytest.fail("read again")

    assert register.look(known=known) is known


def test_a_bucket_that_forbids_deleting_keeps_old_entries_and_works(register: Register, cos: Any, now: Any) -> None:
    def forbidden(bucket: str, key: str) -> None:
        raise CosPermissionError("no", bucket=bucket, key=key)

    cos.delete = forbidden
    first = register.advance(None, entry(now))
    second = register.advance(first, entry(now))

    assert second is not None
    assert second.number == 2
    assert len(cos.objects) == 2
    assert register.look() == second


def test_what_somebody_else_wrote_there_is_named(register: Register, cos: Any) -> None:
    cos.store(f"{ROOT}/00000001.json", b"{}")

    with pytest.raises(LedgerError, match=r"b/claims/101/p/00000001.json is not what Sealift writes there"):
        register.look()


def test_an_entry_that_is_passed_while_it_is_read_is_looked_for_again(register: Register, cos: Any, now: Any) -> None:
    first = register.advance(None, entry(now))
    read: Callable[..., bytes | None] = cos.read
    passed: list[Any] = []

    def slow(bucket: str, key: str) -> bytes | None:
        if not passed:
            passed.append(None)
            passed[0] = register.advance(first, entry(now))
        return read(bucket, key)

    cos.read = slow
    assert register.look() == passed[0]


class Turns:
    """A store that several writers call, each in a thread that goes on by one call when it is its turn."""

    def __init__(self, cos: Any) -> None:
        self._cos = cos
        self._mine = threading.local()

    def run(self, writers: list[Callable[[], None]], turns: list[int]) -> None:
        """Let each writer go on as often as the turns name it, then all to their ends."""
        steps = [(threading.Semaphore(0), threading.Semaphore(0)) for _ in writers]
        ended = [False] * len(writers)

        def body(number: int) -> None:
            self._mine.step = steps[number]
            steps[number][0].acquire()
            try:
                writers[number]()
            finally:
                ended[number] = True
                steps[number][1].release()

        threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(len(writers))]
        for one in threads:
            one.start()
        order = iter(turns)
        while not all(ended):
            number = next(order, None)
            if number is None:
                number = ended.index(False)
            if not ended[number]:
                steps[number][0].release()
                assert steps[number][1].acquire(timeout=10)
        for one in threads:
            one.join(timeout=10)

    def __getattr__(self, name: str) -> Any:
        """Give a call of the store, that waits for its turn; listings are whole when they are given."""

        def call(*args: Any, **kwargs: Any) -> Any:
            go, done = self._mine.step
            done.release()
            go.acquire()
            found = getattr(self._cos, name)(*args, **kwargs)
            return list(found) if name == "list" else found

        return call


@settings(max_examples=200, deadline=None)
@given(turns=st.lists(st.integers(0, 2), max_size=40), labelled=st.booleans())
def test_in_whatever_order_writers_go_on_one_entry_has_one_holder(
    turns: list[int], labelled: bool, make_cos: Any, now: Any
) -> None:
    cos = make_cos()
    stepped = Turns(cos)
    believed: list[tuple[int, str]] = []

    def write() -> None:
        register = Register(cos=stepped, bucket="b", root=ROOT, labelled=labelled)
        for _ in range(2):
            mine = register.advance(register.look(), entry(now))
            if mine is not None:
                believed.append((mine.number, mine.entry.token))

    stepped.run([write] * 3, turns)

    numbers = [number for number, _ in believed]
    assert numbers, "somebody always gets it"
    assert len(numbers) == len(set(numbers)), "two hold the same entry"
    top = Register(cos=cos, bucket="b", root=ROOT).look()
    assert top is not None
    assert (top.number, top.entry.token) == max(believed)


# Labels


@pytest.fixture
def labelled(cos: Any, time: Any) -> Register:
    return Register(cos=cos, bucket="b", root=ROOT, labelled=True)


def labels_of(cos: Any) -> list[str]:
    return [key for key in sorted(cos.objects) if is_label(key)]


def test_a_listing_tells_what_a_labelled_register_says(
    labelled: Register, register: Register, cos: Any, now: Any
) -> None:
    mine = labelled.advance(None, entry(now))
    assert mine is not None
    cos.reads.clear()

    assert labelled.look() == mine
    assert register.look(cos.list("b", ROOT)) == mine, (
        "whoever looks believes a label, and needs no more than a listing"
    )
    assert cos.reads == []


def test_a_writer_need_not_read_what_it_wrote(register: Register, cos: Any, now: Any) -> None:
    assert register.advance(None, entry(now)) is not None
    assert cos.reads == []


def test_labels_go_with_their_entries(labelled: Register, cos: Any, now: Any) -> None:
    first = labelled.advance(None, entry(now))
    second = labelled.advance(first, entry(now))

    assert second is not None
    assert len(labels_of(cos)) == 1
    assert labelled.look() == second
    assert len(cos.objects) == 2
    labelled.clear()
    assert cos.objects == {}


def test_who_was_slower_takes_its_label_away(labelled: Register, cos: Any, now: Any) -> None:
    mine = labelled.advance(None, entry(now))
    assert labelled.advance(None, entry(now)) is None

    assert len(labels_of(cos)) == 1
    assert labelled.look() == mine


@pytest.mark.parametrize("etag", [None, "no-digest-2"], ids=["another writer's label", "an ETag that is no digest"])
def test_a_label_that_is_not_certain_is_not_believed(
    labelled: Register, register: Register, cos: Any, now: Any, etag: str | None
) -> None:
    """A writer left its label and was killed; an older Sealift, which writes none, has the entry."""
    orphan = labelled.advance(None, entry(now))
    assert orphan is not None
    key = f"{ROOT}/00000001.json"
    theirs = entry(now, export_id="202-p", guest_id=202)
    cos.store(key, theirs.model_dump_json().encode() if etag is None else cos.objects[key][0], etag=etag)
    cos.reads.clear()

    found = labelled.look()

    assert found is not None
    assert found.entry == (theirs if etag is None else orphan.entry)
    assert cos.reads == [key], "it was read"


def test_of_several_labels_the_one_of_the_entry_counts(labelled: Register, cos: Any, now: Any) -> None:
    mine = labelled.advance(None, entry(now))
    other = entry(now, export_id="202-p", guest_id=202)
    label = labels_of(cos)[0]
    cos.store(
        label.replace(label.split(".")[1], base64.urlsafe_b64encode(other.model_dump_json().encode()).decode()), b""
    )
    cos.store(f"{ROOT}/00000001.abcde.label", b"")
    cos.reads.clear()

    assert len(labels_of(cos)) == 3
    assert labelled.look() == mine
    assert cos.reads == []


def test_an_entry_too_long_for_a_label_has_none(labelled: Register, cos: Any, now: Any) -> None:
    mine = labelled.advance(None, entry(now, datacenter="x" * 900))

    assert mine is not None
    assert labels_of(cos) == []
    assert labelled.look() == mine
