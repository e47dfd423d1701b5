"""Keeps what was read last, up to a number of things: what readers of images look up again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Things by number, of which the one that was not used for longest goes first. May be used by many threads.

    :param most: how many are kept.
    """

    def __init__(self, *, most: int) -> None:
        self._most = max(1, most)
        self._kept: OrderedDict[int, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int) -> T | None:
        """Give what is kept under a number, or None.

        :param number: of the thing.
        """
        with self._lock:
            found = self._kept.get(number)
            if found is not None:
                self._kept.move_to_end(number)
            return found

    def put(self, number: int, thing: T) -> None:
        """Keep a thing, for as long as there is room.

        :param number: of the thing.
        :param thing: what is kept; what was kept under the number before goes.
        """
        with self._lock:
            self._kept[number] = thing
            self._kept.move_to_end(number)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
