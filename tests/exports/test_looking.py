"""Looking again ends as soon as something is found, or when patience does."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.exports.looking import LOOK_AGAIN, look_again, utc_now


@pytest.mark.parametrize("found_at", [0, 1, 3])
def test_looking_ends_when_something_is_found(time: Any, found_at: int) -> None:
    answers: list[str | None] = [*[None] * found_at, "it", "other"]

    assert look_again(lambda: answers.pop(0), sleep=time.sleep) == "it"
    assert time.slept == list(LOOK_AGAIN[:found_at])


def test_looking_ends_when_patience_does(time: Any) -> None:
    looks: list[None] = []

    assert look_again(lambda: looks.append(None), sleep=time.sleep, waits=(1, 2)) is None
    assert time.slept == [1, 2]
    assert len(looks) == 3


def test_what_looking_raises_ends_it(time: Any) -> None:
    def fail() -> str:
        raise OSError("the network is gone")

    with pytest.raises(OSError, match="gone"):
        look_again(fail, sleep=time.sleep)
    assert time.slept == []


def test_the_clock_tells_utc() -> None:
    assert str(utc_now().tzinfo) == "UTC"
