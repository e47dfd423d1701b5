"""Servers by slots as columns of bytes and numbers: so counting a quarter of a million of them takes milliseconds."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Final, NamedTuple

from sealift.exports.status.rows import Row, Rows, State

if TYPE_CHECKING:
    from sealift.exports.status.snapshot import Identity, Slot

_NOT_KNOWN: Final = 0
_CODES: Final = {state: code for code, state in enumerate(State, start=1)}
_UNREAD: Final = len(_CODES) + 1
"""An export whose manifest was not read yet."""


class Chosen(NamedTuple):
    """Some of a grid's servers.

    :param flags: a byte for each server, 1 where it is one of them.
    :param mask: the same with all bits set, as one number.
    """

    flags: bytes
    mask: int


class Grid:
    """The servers in the order of their names, and for each slot a byte and a size for each server.

    :param servers: who they are.
    :param slots: newest first.
    :param rows: by period.
    """

    def __init__(self, servers: Mapping[int, Identity], slots: Sequence[Slot], rows: Mapping[str, Rows]) -> None:
        self.servers = sorted(servers.values(), key=lambda one: (one.name, one.number))
        self.place_of = {one.number: place for place, one in enumerate(self.servers)}
        self._codes: list[bytearray] = []
        self._sizes: list[array[int]] = []
        self._latest = array("i", [-1]) * len(self.servers)
        blank = bytes(len(self.servers))
        sizes = array("q", bytes(8 * len(self.servers)))
        first = [one.first for one in self.servers]
        for slot_place, slot in enumerate(slots):
            codes, its = bytearray(blank), array("q", sizes)
            if slot.scheduled:
                unknown = _CODES[State.NOT_SELECTED]
                codes = bytearray(unknown if slot_place < one else _NOT_KNOWN for one in first)
            for number, row in rows[slot.period].items():
                place = self.place_of[number]
                codes[place] = _code(row)
                if row.state is State.EXPORTED:
                    its[place] = row.bytes
                    if self._latest[place] < 0:
                        self._latest[place] = slot_place
            self._codes.append(codes)
            self._sizes.append(its)

    def learn(self, slot_place: int, row: Row) -> None:
        """Take in what a manifest said.

        :param slot_place: the slot's place.
        :param row: the server's row in it.
        """
        place = self.place_of[row.number]
        self._codes[slot_place][place] = _code(row)
        self._sizes[slot_place][place] = row.bytes

    def chosen(self, places: Collection[int]) -> Chosen | None:
        """Mark some servers, to count them in slot after slot.

        :param places: places of servers.
        :returns: the mark; None where it is all of them.
        """
        if len(places) == len(self.servers):
            return None
        flags = bytearray(len(self.servers))
        for place in places:
            flags[place] = 1
        return Chosen(bytes(flags), int.from_bytes(flags, "big") * 0xFF)

    def counts(self, slot_place: int, chosen: Chosen | None) -> tuple[dict[State, int], int, int]:
        """Count the servers of a slot.

        :param slot_place: the slot's place.
        :param chosen: which servers; all if None.
        :returns: how many there are in each state, the bytes of their images, and how many were not read yet.
        """
        codes: bytes | bytearray = self._codes[slot_place]
        sizes: Iterable[int] = self._sizes[slot_place]
        if chosen is not None:
            # All bytes at once: what is not chosen becomes a code that is not counted.
            codes = (int.from_bytes(codes, "big") & chosen.mask).to_bytes(len(codes), "big")
            sizes = compress(sizes, chosen.flags)
        unread = codes.count(_UNREAD)
        counts = {state: codes.count(code) for state, code in _CODES.items()}
        counts[State.EXPORTED] += unread
        return {state: count for state, count in counts.items() if count}, sum(sizes), unread

    def unread(self, slot_place: int) -> int:
        """Count a slot's exports whose manifests were not read yet.

        :param slot_place: the slot's place.
        """
        return self._codes[slot_place].count(_UNREAD)

    def in_states(self, slot_places: Iterable[int], states: Collection[State]) -> bytes:
        """Say which servers are in one of some states in one of some slots.

        :param slot_places: the slots' places.
        :param states: the states.
        :returns: a byte for each server, 1 where it is.
        """
        wanted = {_CODES[one] for one in states}
        if State.EXPORTED in states:
            wanted.add(_UNREAD)
        table = bytes(code in wanted for code in range(256))
        found = 0
        for place in slot_places:
            found |= int.from_bytes(self._codes[place].translate(table), "big")
        return found.to_bytes(len(self.servers), "big")

    def code(self, slot_place: int, place: int) -> int:
        """Give what orders a server by its state in a slot, and nothing else.

        :param slot_place: the slot's place.
        :param place: the server's place.
        """
        code = self._codes[slot_place][place]
        return _CODES[State.EXPORTED] if code == _UNREAD else code

    def latest(self, place: int) -> int:
        """Give the place of the slot of a server's newest export; -1 where there is none.

        :param place: the server's place.
        """
        return self._latest[place]


def state_of(code: int) -> State | None:
    """Give the state that a code stands for.

    :param code: see :meth:`Grid.code`.
    :returns: the state; None where the server was not known yet.
    """
    return _STATES.get(code)


_STATES: Final = {code: state for state, code in _CODES.items()}


def _code(row: Row) -> int:
    return _UNREAD if row.state is State.EXPORTED and not row.read else _CODES[row.state]
