"""How a poll asks an API that blocks: in a thread of its own, with a limit, page by page, around what cannot be read.

Airflow's triggerer needs the event loop's own few threads itself (its log lines go through them). A poll that hung in
them with others would hold up every trigger of the process; so each poll has one thread, and leaves one that hangs to
its own timeout.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, TypeVar

from sealift.classic.errors import ClassicBadReplyError, ClassicError, ClassicNotFoundError, ClassicTransientError

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL_LIMIT: Final = 120.0
"""Seconds after which a call counts as hanging: two of the clients' own timeouts, so that one retry may succeed."""

PAGE: Final = 100
"""Most ids in one question."""

SPARE_CALLS: Final = 24
"""Most questions more that one look asks to find the items that spoil a page."""

APART_AT_MOST: Final = 32
"""Most items that are asked for one by one because they spoiled a page before."""


class CallHangs(Exception):  # noqa: N818 - a state rather than a mistake
    """A call did not come back in time."""


async def in_thread(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """Run a call in a thread.

    :param threads: where.
    :param call: the call.
    :returns: what it returns.
    """
    return await asyncio.get_running_loop().run_in_executor(threads, call)


class Asker:
    """Makes blocking calls for one poll, one after another.

    :param name: what the thread is called.
    """

    def __init__(self, *, name: str) -> None:
        self.name = name
        self._threads: ThreadPoolExecutor | None = None

    async def __call__(self, function: Callable[..., T], *args: Any, limit: float = CALL_LIMIT) -> T:
        """Make a call.

        :param function: what blocks.
        :param args: its arguments.
        :param limit: seconds after which it counts as hanging.
        :returns: what the function returns.
        :raises CallHangs: it did not come back in time. Its thread is left to the call's own timeout.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self.name)
        call = partial(contextvars.copy_context().run, function, *args)
        task = asyncio.ensure_future(in_thread(self._threads, call))
        try:
            done, _ = await asyncio.wait({task}, timeout=limit)
        except asyncio.CancelledError:
            self._leave(task)
            raise
        if done:
            return task.result()
        self._leave(task)
        raise CallHangs(f"no answer came within {limit:.0f} s, and the call still hangs")

    def close(self) -> None:
        """Have no thread any more; a call that runs ends by itself."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self, task: asyncio.Future[Any]) -> None:
        task.cancel()
        self.close()


@dataclass(kw_only=True)
class Pages(Generic[T]):
    """What was read of many items.

    :param found: what the API knows, by id.
    :param unread: what could not be read, and why; nothing is known of it.
    :param problem: what went wrong beyond single items, if anything did.
    """

    found: dict[int, T] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)
    problem: Exception | None = None


async def read_pages(
    ask: Callable[[list[int]], Awaitable[Mapping[int, T]]], ids: Collection[int], *, apart: set[int]
) -> Pages[T]:
    """Read items in pages. One that spoils its page is found by halving, and blinds the others no longer.

    :param ask: asks for some ids.
    :param ids: all that is wanted.
    :param apart: what spoiled a page before, kept between looks: asked for one by one.
    :returns: what was found, and what could not be read.
    """
    pages: Pages[T] = Pages()
    apart &= set(ids)
    rest = sorted(set(ids) - apart)
    queue = deque(rest[start : start + PAGE] for start in range(0, len(rest), PAGE))
    queue.extend([one] for one in sorted(apart))
    spare = SPARE_CALLS
    last: Exception | None = None
    while queue:
        page = queue.popleft()
        try:
            pages.found.update(await ask(page))
            apart.difference_update(page)
            continue
        except Exception as error:  # noqa: BLE001 - what it was goes into the answer
            last = error
        words = words_of(last)
        if not may_be_one_item(last):
            pages.problem = last
            pages.unread.update(dict.fromkeys([*page, *(one for other in queue for one in other)], words))
            break
        if len(page) > 1 and spare >= 2:
            spare -= 2
            queue.extendleft((page[len(page) // 2 :], page[: len(page) // 2]))
            continue
        pages.unread.update(dict.fromkeys(page, words))
        if len(page) > 1:
            pages.problem = last
        elif page[0] not in apart and len(apart) < APART_AT_MOST:
            apart.update(page)
            log.warning("%d cannot be read, and is asked for by itself: %s", page[0], words, exc_info=last)
    if last is not None and not pages.found:
        # Nothing could be read, or nothing is there: this is no matter of single items.
        apart.clear()
        pages.problem = last
    return pages


def may_be_one_item(error: Exception) -> bool:
    """Say whether an error may come from a single item of a page.

    :param error: what a question for a page raised.
    :returns: True for replies that cannot be read, for what is not found, and for "Internal Error", which is also how
        the API answers where a reply would be too large; False for what every question would meet.
    """
    if isinstance(error, ClassicError):
        internal = isinstance(error, ClassicTransientError) and error.message.lower().startswith("internal error")
        return internal or isinstance(error, ClassicBadReplyError | ClassicNotFoundError)
    return isinstance(error, ValueError | TypeError | LookupError | AttributeError)


def words_of(error: BaseException) -> str:
    """Put an error into words for a task's log.

    :param error: the error. Those of Sealift's own families never hold secrets; of others only the type is told.
    :returns: one sentence or less.
    """
    if type(error).__module__.startswith("sealift."):
        return str(error)
    return f"{type(error).__name__}; the triggerer's log says more"
