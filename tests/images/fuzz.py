"""Damages real images and structures at random, and demands of every parser a report or a clear error.

``python -m tests.images.fuzz --minutes 10 --seed 1`` draws cases for all targets (:mod:`tests.images.fuzz_targets`) in
turn, prints how many it made of each and how they ended, and keeps every case that crashed, took longer than
:data:`CPU_SECONDS`, or more memory than :data:`MOST_MEMORY`: its bytes and what it ended with. A case is made again
from its target, seed and number: ``--target ext --seed 1 --number 77``.

The worker is a process of its own, so that one that dies is a finding and not the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import random
import resource
import signal
import struct
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sealift.images.source import ImageFormatError, ShortReadError, check_range
from sealift.images.verdict import ProofFailed

CPU_SECONDS: Final = 20
"""What a case may compute, under the watch on memory, which makes it several times slower."""
MOST_MEMORY: Final = 64 * 1024 * 1024
ADDRESSES: Final = 1024 * 1024 * 1024
"""Bytes of addresses that a worker may have more than when it began: what no watch of Python sees is bounded too."""

INTERESTING: Final = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x1FF, 0x200, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1,
                      2**31, 2**32 - 1, 2**32, 2**40, 2**48, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
KINDS: Final = ("flip", "set", "number", "add", "zero", "ones", "noise", "copy", "cut")
ENDINGS: Final = (ProofFailed, ImageFormatError, ShortReadError)
"""How a parser may refuse what it was given."""


@dataclasses.dataclass(frozen=True)
class Edit:
    """One change of some bytes.

    :param kind: one of :data:`KINDS`.
    :param where: place among those that matter, from 0 to 1.
    :param value: what the kind makes of it.
    :param length: bytes, for the kinds that change many.
    """

    kind: str
    where: float
    value: int
    length: int


class Overlaid:
    """Bytes with changes laid over them, as a source; notes what is read, and makes no copy of the whole.

    :param data: the good bytes.
    :param size: how many of them are there.
    """

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self._data = data
        self._changes: list[tuple[int, bytes]] = []
        self.size = len(data) if size is None else size
        self.reads: list[tuple[int, int]] = []

    def put(self, at: int, data: bytes) -> None:
        """Lay bytes over what is there."""
        data = data[: max(0, self.size - at)]
        if data:
            self._changes.append((at, data))

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``."""
        check_range(name="the data", size=self.size, offset=offset, length=length)
        if len(self.reads) < 10_000:
            self.reads.append((offset, length))
        return self.look(offset, length)

    def look(self, offset: int, length: int) -> bytes:
        """Read without noting it; fewer bytes at the end."""
        length = max(0, min(length, self.size - offset))
        out = self._data[offset : offset + length]
        for at, data in self._changes:
            if at < offset + length and at + len(data) > offset:
                first, last = max(at, offset), min(at + len(data), offset + length)
                out = out[: first - offset] + data[first - at : last - at] + out[last - offset :]
        return out

    def whole(self) -> bytes:
        """Return all bytes."""
        return self.look(0, self.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A parser, or several that belong together.

    :param name: on the command line.
    :param seeds: makes good bytes of several kinds.
    :param run: gives bytes to the parser.
    :param seal: computes checksums again, so that what is behind them is reached.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[Overlaid], object]
    seal: Callable[[Overlaid], None] | None = None


def make(target: Target, number: int, edits: Sequence[Edit]) -> Overlaid:
    """Make a case.

    :param target: for which parser.
    :param number: says which of the good bytes are taken, and whether they are sealed.
    :param edits: changes, in their order.
    """
    seeds = good(target)
    data, places = seeds[number % len(seeds)]
    made = Overlaid(data)
    for edit in edits:
        at = _place(data, places, edit)
        if edit.kind == "cut":
            made.size = min(made.size, at)
        else:
            made.put(at, _changed(made, at, edit))
    if target.seal and number % 3:
        target.seal(made)
    return made


@functools.cache
def good(target: Target) -> list[tuple[bytes, list[tuple[int, int]]]]:
    """Return the good bytes of a target, each with the places in it that are read.

    :param target: which.
    """
    found = []
    for data in target.seeds():
        source = Overlaid(data)
        with refusals():
            target.run(source)
        places = sorted(set(source.reads), key=lambda one: (one[1], one[0]))
        found.append((data, places or [(0, len(data))]))
    return found


def _place(data: bytes, places: list[tuple[int, int]], edit: Edit) -> int:
    """Choose a byte that is read, and rather one that is not zero: most of what structures say is not."""
    chance = random.Random(edit.where)
    at = 0
    for _ in range(12):
        start, length = places[int(chance.random() ** 2 * len(places))]  # short reads are of structures
        at = start + int(chance.random() * max(1, length))
        if at < len(data) and data[at]:
            break
    return at


def _changed(made: Overlaid, at: int, edit: Edit) -> bytes:
    old = made.look(at, 8).ljust(8, b"\0")
    kind, value = edit.kind, edit.value
    if kind == "flip":
        return bytes([old[0] ^ 1 << value % 8])
    if kind == "set":
        return bytes([value % 256])
    width = (2, 4, 8)[value % 3]
    order = ">" if value // 3 % 2 else "<"
    form = f"{order}{'HIQ'[value % 3]}"
    if kind == "number":
        number = INTERESTING[value // 6 % len(INTERESTING)]
        return struct.pack(form, number % 2 ** (width * 8))
    if kind == "add":
        (number,) = struct.unpack(form, old[:width])
        return struct.pack(form, (number + value // 6 % 33 - 16) % 2 ** (width * 8))
    if kind == "zero":
        return bytes(edit.length)
    if kind == "ones":
        return b"\xff" * edit.length
    if kind == "copy":
        return made.look(value % max(1, made.size), edit.length)
    return random.Random(value).randbytes(edit.length)


def draw(chance: random.Random) -> tuple[int, list[Edit]]:
    """Draw what makes a case: a number, and changes.

    :param chance: where it comes from.
    """
    edits = []
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        kind = chance.choices(KINDS, weights=(4, 4, 8, 4, 2, 1, 2, 2, 0.3))[0]
        length = chance.choice((1, 2, 4, 8, 16, 64, 512, 4096))
        edits.append(Edit(kind, chance.random(), chance.getrandbits(64), length))
    return chance.getrandbits(16), edits


@contextmanager
def refusals() -> Iterator[None]:
    """Let a parser refuse."""
    try:
        yield
    except ENDINGS as error:
        _says_something(error)


def _says_something(error: Exception) -> None:
    if not str(error).strip():
        raise AssertionError(f"a {type(error).__name__} that says nothing") from error


class TooSlowError(BaseException):
    """A case computed for too long. No parser catches it."""


class TooLargeError(Exception):
    """A case took too much memory."""


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a case ended.

    :param words: ``passed``, or the name of the error.
    :param seconds: of computing.
    :param memory: most bytes that it had at once.
    """

    words: str
    seconds: float
    memory: int


def check(target: Target, made: Overlaid) -> Ending:
    """Give a case to its parser, and say how it ended.

    :param target: whose.
    :param made: the case.
    :returns: what it took.
    :raises TooSlowError: it took too long.
    :raises TooLargeError: it took too much memory.
    :raises Exception: it crashed.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"more than {CPU_SECONDS} s of computing")

    before = signal.signal(signal.SIGPROF, stop)
    watched = tracemalloc.is_tracing()
    if not watched:
        tracemalloc.start(1)
    tracemalloc.reset_peak()
    began = tracemalloc.get_traced_memory()[0]
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    ending = "passed"
    try:
        target.run(made)
    except ENDINGS as error:
        _says_something(error)
        ending = type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        peak = tracemalloc.get_traced_memory()[1] - began
        if not watched:
            tracemalloc.stop()
    if peak > MOST_MEMORY:
        raise TooLargeError(f"{peak:,} bytes of memory, at most {MOST_MEMORY:,} are allowed")
    return Ending(ending, time.process_time() - started, peak)


def say(words: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


# -- long runs ---------------------------------------------------------------------------------------------------------


def case(target: Target, seed: int, number: int) -> Overlaid:
    """Make a case of a long run.

    :param target: for which parser.
    :param seed: of the run.
    :param number: of the case.
    """
    return make(target, *draw(random.Random(f"{target.name} {seed} {number}")))


def _work(names: Sequence[str], seed: int, first: int, until: float, most: int, results: Any) -> None:
    from tests.images.fuzz_targets import TARGETS

    targets = [TARGETS[name] for name in names]
    for target in targets:
        good(target)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, used + ADDRESSES))
    tracemalloc.start(1)
    number = first
    while number < most and time.monotonic() < until:
        for target in targets:
            results.put(("began", target.name, number, ""))
            try:
                ending = check(target, case(target, seed, number))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                results.put(("failed", target.name, number, traceback.format_exc()))
            else:
                results.put(("ended", target.name, number, ending))
        number += 1
    results.put(("done", "", number, ""))


def _seconds(ending: Ending) -> float:
    return ending.seconds


def _memory(ending: Ending) -> int:
    return ending.memory


class Run:
    """A long run: works through cases in a process of its own, and starts another where one dies.

    :param names: of the targets.
    :param seed: says which cases are drawn.
    :param keep: folder for the cases that fail.
    :param work: what a worker does, in the place of giving cases to parsers.
    """

    def __init__(self, names: Sequence[str], *, seed: int, keep: Path, work: Callable[..., None] | None = None) -> None:
        self._work = work or _work
        self._names = names
        self._seed = seed
        self._keep = keep
        self.counts: Counter[tuple[str, str]] = Counter()
        self.failed: list[tuple[str, int]] = []
        self.most: dict[str, tuple[Ending, Ending]] = {}
        """By target: how the slowest case ended, and the one that took most memory."""

    def go(self, *, seconds: float, first: int = 0, most: int = sys.maxsize) -> None:
        """Work until the time is over, or all numbers are done.

        :param seconds: how long.
        :param first: number of the first case of each target.
        :param most: number of the case to end before.
        """
        until = time.monotonic() + seconds
        context = multiprocessing.get_context("spawn")
        while first < most and time.monotonic() < until:
            results = context.SimpleQueue()
            worker = context.Process(
                target=self._work, args=(self._names, self._seed, first, until, most, results), daemon=True
            )
            worker.start()
            first = self._follow(worker, results)
            worker.join()

    def _follow(self, worker: Any, results: Any) -> int:
        """Take what a worker says until it ends; return the number of the case to go on with."""
        last = ("", 0)
        reader = results._reader
        while True:
            if not reader.poll(1.0):
                if worker.is_alive():
                    continue
                if not reader.poll(0):
                    name, number = last
                    if not name:
                        raise RuntimeError("the worker did not get to its first case; what it wrote says why")
                    self._keep_case(name, number, f"the worker died with the exit status {worker.exitcode}")
                    return number + 1
            what, name, number, words = results.get()
            if what == "done":
                return int(number)
            if what == "began":
                last = (name, number)
            elif what == "ended":
                self.counts[name, words.words] += 1
                slow, large = self.most.get(name, (words, words))
                self.most[name] = max(slow, words, key=_seconds), max(large, words, key=_memory)
            else:
                self._keep_case(name, number, words)

    def _keep_case(self, name: str, number: int, words: str) -> None:
        from tests.images.fuzz_targets import TARGETS

        self.counts[name, "FAILED"] += 1
        self.failed.append((name, number))
        self._keep.mkdir(parents=True, exist_ok=True)
        path = self._keep / f"{name}-{self._seed}-{number}"
        path.with_suffix(".txt").write_text(words)
        say(f"FAILED {name} {number}: {words.strip().splitlines()[-1]} ({path}.txt)")
        path.with_suffix(".bin").write_bytes(case(TARGETS[name], self._seed, number).whole())


def main(words: Sequence[str]) -> int:
    """Run for some time, or make one case again.

    :param words: of the command line.
    :returns: 0 if nothing failed.
    """
    from tests.images.fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.images.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to run (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="says which cases are drawn (default: 1)")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    parser.add_argument("--number", type=int, help="make this one case again, in this process")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for what fails")
    options = parser.parse_args(words)
    names = options.target or sorted(TARGETS)
    if options.number is not None:
        for name in names:
            ended = check(TARGETS[name], case(TARGETS[name], options.seed, options.number))
            say(f"{name} {options.number}: {ended.words}, {ended.seconds:.2f} s, {ended.memory:,} bytes of memory")
        return 0
    run = Run(names, seed=options.seed, keep=options.keep)
    began = time.monotonic()
    try:
        run.go(seconds=options.minutes * 60)
    except KeyboardInterrupt:
        say("interrupted")
    for name in names:
        endings = {ending: count for (one, ending), count in sorted(run.counts.items()) if one == name}
        slow, large = run.most.get(name, (Ending("", 0, 0),) * 2)
        at_most = f"at most {slow.seconds:.1f} s and {large.memory / 2**20:.0f} MiB"
        named = ", ".join(f"{count} {ending}" for ending, count in endings.items())
        say(f"{name}: {sum(endings.values())} cases: {named}; {at_most}")
    total = sum(run.counts.values())
    say(f"{total} cases in {time.monotonic() - began:.0f} s with the seed {options.seed}; {len(run.failed)} failed")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
