"""Which parts of a file have arrived and are safe on disk, so that a download goes on where it stopped.

The journal lies beside the unfinished file: a line that says what is downloaded, then a line for each part. A part is
noted only after its bytes have been flushed to disk, so that what the journal says is true after a loss of power too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a journal is about. Another one begins a download anew.

    :param bucket: the bucket.
    :param key: the object.
    :param etag: the object's ETag, without quotes.
    :param size: the object's size in bytes.
    :param part_size: bytes of each part but the last.
    """

    version: int = 1
    bucket: str
    key: str
    etag: str
    size: int
    part_size: int


class Journal:
    """The parts of one file that are on disk.

    :param path: the journal's file.
    :param subject: what is downloaded.
    :param done: numbers of the parts that are on disk.
    """

    def __init__(self, *, path: Path, subject: Subject, done: Iterable[int] = ()) -> None:
        self.path = path
        self.subject = subject
        self.done = set(done)

    @classmethod
    def open(cls, path: Path, subject: Subject) -> Self:
        """Read the journal of an earlier try, or begin one.

        A journal about something else, or one that cannot be read, counts for nothing. A last line that was cut by a
        crash is left out.

        :param path: the journal's file.
        :param subject: what is to be downloaded.
        :returns: the journal; ``done`` is empty where nothing of an earlier try counts.
        """
        lines = _whole_lines(path)
        same = lines[:1] == [asdict(subject)]
        parts = -(-subject.size // subject.part_size)
        done = {one for one in lines[1:] if type(one) is int and 0 <= one < parts} if same else set()
        journal = cls(path=path, subject=subject, done=done)
        if not done:
            journal._begin()
        return journal

    def note(self, parts: Iterable[int]) -> None:
        """Note parts whose bytes are on disk.

        :param parts: their numbers, from 0.
        """
        new = sorted(set(parts) - self.done)
        if not new:
            return
        with self.path.open("ab") as file:
            file.write("".join(f"{one}\n" for one in new).encode())
            file.flush()
            os.fsync(file.fileno())
        self.done.update(new)

    def remove(self) -> None:
        """Remove the journal: the file is whole."""
        self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        with self.path.open("wb") as file:
            file.write(json.dumps(asdict(self.subject)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[Any]:
    """Read a journal's lines, and take away a last one without its end: a number that was cut is a number still."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(path, whole)
    found: list[Any] = []
    for line in text[:whole].splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append(None)
    return found
