"""Reading a whole list page by page, although the API's totals may be missing and its lists may move meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sealift.classic.errors import ClassicBadReplyError, ClassicTransientError
from sealift.classic.wire import Reply

# How often a list that changed while it was read is read again.
_PASSES = 3
# A reply that is too large fails with "Internal Error"; a smaller page may go through.
_SMALLEST_PAGE = 10

Row = dict[str, Any]


def chunks(ids: Collection[int], size: int) -> Iterator[list[int]]:
    """The ids without duplicates, in order, in lists of at most ``size``.

    :param ids: in any order.
    :param size: the most ids in one list, at least 1.
    :returns: the lists, one after another.
    """
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def rows_of(value: Any, *, call: str) -> list[Row]:
    """A list's rows, whatever the API made of them.

    A single result may come without its list (softlayer-go wraps it as well), and no result as null or, over XML-RPC,
    as an empty text.

    :param value: the reply.
    :param call: the method called, for the message.
    :returns: the rows.
    :raises ClassicBadReplyError: where it is neither.
    """
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        return [dict(value)]
    if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
        return [dict(row) for row in value]
    raise ClassicBadReplyError(f"the reply is no list of objects but {type(value).__name__}", call=call)


def read_all(page: Callable[[int, int], Reply], *, page_size: int, call: str) -> list[Row]:
    """Read a list to its end.

    The end is an empty page, or a short one where the total (if there is one) has been reached. A list that moves while
    it is read shows a row twice, or fewer rows than the total: then it is read again, and if it never holds still, what
    two passes agree on is not enough: an error is better than a server that was skipped in silence.

    :param page: reads ``(offset, limit)``.
    :param page_size: how many rows to ask for at once.
    :param call: the method called, for messages.
    :returns: the rows, each id once.
    :raises ClassicBadReplyError: where a row has no id.
    :raises ClassicTransientError: where the list kept moving.
    """
    rows: dict[int, Row] = {}
    why = ""
    for _ in range(_PASSES):
        rows, why, page_size = _one_pass(page, page_size=page_size, call=call)
        if not why:
            return [rows[one] for one in sorted(rows)]
    raise ClassicTransientError(f"the list could not be read whole in {_PASSES} passes: {why}", call=call)


def _one_pass(page: Callable[[int, int], Reply], *, page_size: int, call: str) -> tuple[dict[int, Row], str, int]:
    rows: dict[int, Row] = {}
    why, offset = "", 0
    total: int | None = None
    while True:
        try:
            reply = page(offset, page_size)
        except ClassicTransientError as error:
            if page_size <= _SMALLEST_PAGE or not error.message.lower().startswith("internal error"):
                raise
            page_size = max(_SMALLEST_PAGE, page_size // 2)
            continue
        found = rows_of(reply.value, call=call)
        if reply.total is not None:
            if total is not None and reply.total != total:
                why = f"its total changed from {total} to {reply.total}"
            total = reply.total
        fresh = 0
        for row in found:
            if not isinstance(row.get("id"), int):
                raise ClassicBadReplyError("a row of the list lacks the field id", call=call)
            fresh += row["id"] not in rows
            rows[row["id"]] = row
        if fresh < len(found):
            why = "a row came twice"
        offset += len(found)
        if not found or not fresh or (len(found) < page_size and (total is None or offset >= total)):
            break
    if total is not None and len(rows) < total:
        why = f"{len(rows)} of {total} rows came"
    return rows, why, page_size
