"""What the sandbox was asked and what came of it: one line of JSON per event, in the order in which things happened.

Whoever writes an effect holds the lock under which it became visible (the world's, or that of the store's index), so
nobody can act on an effect before its line stands in the file. A line is handed to the kernel before anything goes on:
a killed sandbox loses none. What a kill separated from its line is caught up with at the next start
(:mod:`sealift.sandbox.catching_up`). Nothing is forced to the disk.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from sealift.sandbox.clock import Clock, SystemClock

Event = dict[str, Any]
Outcome = Literal["ok", "refused", "dropped", "empty", "broken"]
By = Literal["client", "service", "fault"]

LIMIT = 256 * 2**20
"""Bytes from which on requests that read and go well are not recorded any more; all others are."""

_SECRETS = frozenset({"ibmApiKey", "ibmSecretKey", "ibmAccessKey", "wrappedDek", "password", "apikey"})
_HIDDEN = "***"
_DUMP = json.JSONEncoder(separators=(",", ":"), default=str, ensure_ascii=False).encode
_LONGEST_TEXT = 1000
_LONGEST_LIST = 20
_STRIDE = 512
_SHORTEST_SECRET = 8


def without_secrets(value: Any) -> Any:
    """Copy plain data without what names in it say to be secret.

    :returns: the copy; what JSON does not know is text in it.
    """
    if isinstance(value, dict):
        return {name: _HIDDEN if name in _SECRETS and sub else without_secrets(sub) for name, sub in value.items()}
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)  # XML-RPC knows more types


class History:
    """The history of one sandbox, continued over its restarts.

    :param path: the file; None records nothing.
    :param clock: the sandbox's time.
    :param secrets: gives the words that must not be in the file, wherever they turn up.
    :param limit: see :data:`LIMIT`.
    :raises ValueError: the file is there and is no history.
    """

    def __init__(
        self,
        *,
        path: Path | None,
        clock: Clock | None = None,
        secrets: Callable[[], Iterable[str]] = tuple,
        limit: int = LIMIT,
    ) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._secrets = secrets
        self._limit = limit
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._seq = 0
        self._size = 0
        self._thinned = False
        self._starts: list[int] = []  # where every _STRIDE-th line begins
        self._fd = -1
        if path is not None:
            self._take_up(path)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._path is not None

    def close(self) -> None:
        """Close the file; what comes later is not recorded."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    # Writing

    def effect(self, what: str, *, recovered: bool = False, **facts: Any) -> None:
        """Record that something became so; see :meth:`effects`."""
        if self.on:
            self.effects([{"what": what, **facts}], recovered=recovered)

    def effects(self, effects: Iterable[Event], *, recovered: bool = False) -> None:
        """Record things that became so at once; the caller holds the lock under which they did.

        :param effects: each with ``what`` and its facts.
        :param recovered: they became so earlier, and a kill kept them from being recorded.
        """
        if self.on:
            more = {"recovered": True} if recovered else {}
            self._write([{"kind": "effect", **one, **more} for one in effects])

    def begin(self) -> None:
        """Gather the faults that hit this thread's request from here on."""
        self._thread.faults = []

    def hear(self, fault: str) -> None:
        """Note that a fault hit what this thread is doing."""
        faults = getattr(self._thread, "faults", None)
        if faults is not None:
            faults.append(fault)

    def request(
        self,
        *,
        service: Literal["classic", "cos", "iam", "ats"],
        method: str,
        status: int | None,
        outcome: Outcome,
        id: Any = None,  # noqa: A002 - the field's name
        bucket: str | None = None,
        key: str | None = None,
        args: Event | None = None,
        error: str | None = None,
        reads: bool = False,
        fault: str | None = None,
        delivery: int | None = None,
    ) -> None:
        """Record a request that was answered, or not.

        :param status: the HTTP status; None where the connection was closed in its place.
        :param error: what a refusal says.
        :param reads: it changes nothing, and is not worth its line in a file that has grown long.
        :param fault: the fault, where it is not one that :meth:`hear` heard.
        :param delivery: which one this is of a request that arrived more than once, beside the one that is answered.
        """
        if not self.on:
            return
        faults = [fault] if fault else getattr(self._thread, "faults", None) or []
        if fault is None:
            self._thread.faults = None
        if reads and self._size > self._limit and outcome == "ok" and not faults:
            self._thin()
            return
        event: Event = {
            "kind": "request",
            "service": service,
            "method": method,
            "id": id,
            "bucket": bucket,
            "key": key,
            "status": status,
            "outcome": outcome,
            "fault": faults[0] if faults else None,
            "args": _brief(args or {}),
        }
        if len(faults) > 1:
            event["faults"] = faults
        if delivery is not None:
            event["delivery"] = delivery
        if error is not None:
            event["error"] = error
        self._write([event])

    def _thin(self) -> None:
        with self._lock:
            first, self._thinned = not self._thinned, True
        if first:
            self._write([{"kind": "note", "what": "history-thinned", "limit": self._limit}])

    def _write(self, events: list[Event]) -> None:
        texts = [self._text(event) for event in events]
        with self._lock:
            if self._fd < 0:
                return
            start = f'"at":{round(self._clock.now(), 6)!r},'
            lines = [
                f'{{"seq":{number},{start}{text[1:]}\n'.encode("utf-8", "backslashreplace")
                for number, text in enumerate(texts, self._seq + 1)
            ]
            data = memoryview(b"".join(lines))
            while data:
                data = data[os.write(self._fd, data) :]
            for line in lines:
                self._count(len(line))

    def _text(self, event: Event) -> str:
        text = _DUMP(event)
        for secret in self._secrets():
            word = _escaped(secret)
            if word in text and len(word) >= _SHORTEST_SECRET:
                text = text.replace(word, _HIDDEN)
        return text

    def _count(self, length: int) -> None:
        if self._seq % _STRIDE == 0:
            self._starts.append(self._size)
        self._seq += 1
        self._size += length

    # Reading

    def read(self, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """Read events in their order.

        :param after: the number of the event before the first one wanted.
        :param limit: how many at most.
        """
        with self._lock:
            last, starts = self._seq, self._starts
        after = max(0, after)
        stop = last if limit is None else min(last, after + limit)
        if self._path is None or after >= stop:
            return []
        with self._path.open("rb") as file:
            file.seek(starts[after // _STRIDE])
            for _ in range(after % _STRIDE):
                file.readline()
            return [json.loads(file.readline()) for _ in range(stop - after)]

    def told(self) -> Iterator[Event]:
        """Read all effects in their order, one at a time: a long file is not held in memory."""
        if self._path is not None:
            with self._path.open("rb") as file:
                for line in file:
                    if b'"kind":"effect"' in line:
                        event = json.loads(line)
                        if event["kind"] == "effect":
                            yield event

    def _take_up(self, path: Path) -> None:
        """Go on behind the last whole line; one that a kill cut short goes."""
        if not path.exists():
            return
        last, torn = b"", False
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    torn = True
                    break
                self._count(len(line))
                last = line
        if torn:
            os.truncate(path, self._size)
        try:
            known = json.loads(last)["seq"] if last else 0
        except (ValueError, KeyError, TypeError):
            known = None
        if known != self._seq:
            raise ValueError(f"{path} is no history: its line {self._seq} is not event {self._seq}")


def events_of(path: Path) -> Iterator[Event]:
    """Read a history's file without taking it up: another process may be writing it.

    :param path: the file.
    :returns: the events in their order, without a last one that is not whole.
    """
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def summarize(events: Iterable[Event]) -> dict[str, Any]:
    """Count what a history tells.

    :param events: its events, in their order.
    :returns: ``events``; ``requests`` by method and outcome; ``faults`` by name; ``effects`` by what;
        ``offline_at_most``, the most servers that were offline for capture at once; ``captured_more_than_once``, names
        of templates.
    """
    requests: dict[str, Counter[str]] = {}
    faults: Counter[str] = Counter()
    effects: Counter[str] = Counter()
    names: Counter[str] = Counter()
    offline: set[int] = set()
    total = most = 0
    for event in events:
        total += 1
        if event["kind"] == "request":
            requests.setdefault(event["method"], Counter())[event["outcome"]] += 1
            faults.update(event.get("faults") or ([event["fault"]] if event["fault"] else []))
        elif event["kind"] == "effect":
            effects[event["what"]] += 1
            if event["what"] == "capture-started":
                names[event["name"]] += 1
            elif event["what"] == "guest-offline":
                offline.add(event["transaction"])
            elif event["what"] == "guest-online":
                offline.discard(event["transaction"])
            most = max(most, len(offline))
    return {
        "events": total,
        "requests": {method: dict(outcomes) for method, outcomes in sorted(requests.items())},
        "faults": dict(faults.most_common()),
        "effects": dict(effects.most_common()),
        "offline_at_most": most,
        "captured_more_than_once": sorted(name for name, count in names.items() if count > 1),
    }


@functools.lru_cache(maxsize=256)
def _escaped(word: str) -> str:
    """A word as it stands within a text of JSON."""
    return _DUMP(word)[1:-1]


def _brief(value: Any) -> Any:
    """Copy parameters without secrets, and cut what is long: a poll's filter names hundreds of ids, every time."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}…"
    if isinstance(value, dict):
        return {name: _HIDDEN if name in _SECRETS and sub else _brief(sub) for name, sub in value.items()}
    if isinstance(value, list):
        more = len(value) - _LONGEST_LIST
        return [_brief(one) for one in value] if more <= 0 else [*map(_brief, value[:_LONGEST_LIST]), f"… {more} more"]
    return value if value is None or isinstance(value, int | float) else str(value)


OFF = History(path=None)
"""Records nothing."""
