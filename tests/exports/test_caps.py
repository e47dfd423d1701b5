"""Learned caps: what holds when, and that a note which cannot be read or written holds nobody up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from sealift.cos.errors import CosTransientError
from sealift.exports.caps import Caps, LearnedCap, is_note, learn, read_caps

ROOT = "offline-slots/307608"


def note(now: datetime, cap: int = 3) -> LearnedCap:
    return LearnedCap(kind="capture", cap=cap, learned_at=now, words="Only 3 may run at once.")


@pytest.mark.parametrize(
    ("minutes", "configured", "expected"),
    [
        (-5, 20, 3),
        (0, 20, 3),
        (59, 20, 3),
        (60, 20, 4),
        (74, 20, 4),
        (75, 20, 5),
        (300, 20, 20),
        (0, 2, 2),
        (300, 2, 2),
        (0, 0, 3),
        (75, 0, 5),
        (24 * 60, 0, 0),
    ],
)
def test_a_learned_cap_holds_for_an_hour_and_then_rises_to_the_configured_one(
    now: datetime, minutes: int, configured: int, expected: int
) -> None:
    assert note(now).in_force(configured, now + timedelta(minutes=minutes)) == expected


def taught(cos: Any, now: datetime, running: int, *, datacenter: str = "", known: Caps | None = None) -> Caps:
    made = learn(
        cos,
        bucket="b",
        root=ROOT,
        kind="capture",
        datacenter=datacenter,
        running=running,
        words="Only so many.",
        now=now,
        known=known or Caps(),
    )
    assert made is not None
    return read_caps(cos, bucket="b", root=ROOT, listed=list(cos.list("b", ROOT)), known=known)


def test_what_was_running_becomes_the_cap_of_that_place_only(cos: Any, now: datetime) -> None:
    caps = taught(cos, now, 3, datacenter="dal13")
    assert caps.in_force("capture", "dal13", 0, now) == 3
    assert caps.in_force("capture", "dal10", 0, now) == 0
    assert caps.in_force("capture", "", 20, now) == 20
    assert caps.in_force("export", "dal13", 20, now) == 20
    assert taught(cos, now, 0).in_force("capture", "", 20, now) == 1, "at least one"


def test_a_second_refusal_lowers_but_never_raises(cos: Any, now: datetime) -> None:
    caps = taught(cos, now, 3)
    assert taught(cos, now, 7, known=caps).in_force("capture", "", 20, now) == 3
    assert taught(cos, now, 2, known=caps).in_force("capture", "", 20, now) == 2


def test_a_look_reads_only_what_changed(cos: Any, now: datetime) -> None:
    caps = taught(cos, now, 3)
    assert len(cos.reads) == 1
    again = read_caps(cos, bucket="b", root=ROOT, listed=list(cos.list("b", ROOT)), known=caps)
    assert again == caps
    assert len(cos.reads) == 1
    assert Caps.model_validate_json(caps.model_dump_json()) == caps


def test_a_note_that_cannot_be_read_counts_for_nothing(
    cos: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    taught(cos, now, 3)
    (key,) = cos.objects
    cos.store(key, b"{}")
    cos.store(f"{ROOT}/caps/notes.txt", b"mine")
    caps = read_caps(cos, bucket="b", root=ROOT, listed=list(cos.list("b", ROOT)))
    assert caps.in_force("capture", "", 20, now) == 20
    assert "counts for nothing" in caplog.text


def test_a_note_that_cannot_be_written_fails_nothing(cos: Any, now: datetime, caplog: pytest.LogCaptureFixture) -> None:
    def fail(key: str) -> None:
        raise CosTransientError("the store failed", bucket="b", key=key)

    cos.before_write = fail
    arguments: dict[str, Any] = {"bucket": "b", "root": ROOT, "kind": "export", "datacenter": "dal13", "running": 3}
    assert learn(cos, **arguments, words="", now=now, known=Caps()) is None
    assert "could not be noted" in caplog.text


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        (f"{ROOT}/caps/capture-account.json", True),
        (f"{ROOT}/caps/export-in-dal13.json", True),
        (f"{ROOT}/caps/notes.txt", False),
        (f"{ROOT}/caps/capture-x/y.json", False),
        (f"{ROOT}/001/00000001.json", False),
        ("elsewhere/caps/capture-account.json", False),
    ],
)
def test_what_a_note_is_called(key: str, ours: bool) -> None:
    assert is_note(key, ROOT) is ours
