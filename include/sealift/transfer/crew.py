"""Threads that share out the parts of one transfer, in their order; the first that fails ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

LOOK_EVERY: Final = 0.5
"""Seconds between two looks of the thread that waits."""


class Crew:
    """Works on parts with several threads.

    :param name: of its threads.
    """

    def __init__(self, *, name: str) -> None:
        self.stopped = threading.Event()
        """Is set when the work is to end early."""
        self._name = name
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._todo: list[int] = []
        self._done: set[int] = set()
        self._at_work = 0
        self._error: BaseException | None = None

    @property
    def done(self) -> set[int]:
        """The parts that are finished."""
        with self._lock:
            return set(self._done)

    @property
    def failed(self) -> bool:
        """Whether the work ended early."""
        return self._error is not None

    def fail(self, error: BaseException) -> None:
        """End the work early.

        :param error: what :meth:`run` is to raise; the first one counts.
        """
        with self._changed:
            if self._error is None:
                self._error = error
            self.stopped.set()
            self._changed.notify_all()

    def run(
        self,
        parts: Iterable[int],
        work: Callable[[int], None],
        *,
        threads: int,
        meanwhile: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        """Work on parts, and wait until all are finished.

        :param parts: their numbers, in the order in which they are begun.
        :param work: finishes one part; in any thread.
        :param threads: how many.
        :param meanwhile: called now and then by the thread that waits.
        :param release: called where the work ends early: no thread may wait for anything from then on.
        :raises BaseException: what :meth:`fail` was told, or the first error of a thread or of ``meanwhile``.
        """
        self._todo = list(parts)[::-1]
        team = [
            threading.Thread(target=self._work, args=(work,), name=f"{self._name}-{number}", daemon=True)
            for number in range(min(threads, len(self._todo)))
        ]
        self._at_work = len(team)
        try:
            for thread in team:
                thread.start()
            while not self._over():
                meanwhile()
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            if self.failed:
                release()
            for thread in team:
                if thread.ident is not None:
                    thread.join()
        if self._error is not None:
            raise self._error

    def _over(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._at_work or self._error is not None, timeout=LOOK_EVERY)

    def _work(self, work: Callable[[int], None]) -> None:
        try:
            while not self.stopped.is_set():
                with self._lock:
                    if not self._todo:
                        break
                    part = self._todo.pop()
                work(part)
                with self._lock:
                    self._done.add(part)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits for the end
            self.fail(error)
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()
