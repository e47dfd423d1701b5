"""Orders the captures of one machine, so that checking the offline cap and submitting are one step."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sealift.exports.steps import AskTheAccount

if TYPE_CHECKING:
    from sealift.exports.plan import PlanItem
    from sealift.exports.ports import ClassicApi


class OneAtATime(AskTheAccount):
    """Asks the account, and lets nobody else on this machine ask until the capture is submitted.

    The kernel frees the lock of a process that is killed. Workers on other machines are not ordered by it.

    :param max_offline: most servers offline for capture at once.
    :param lock: the file to lock; made where it is not.
    """

    def __init__(self, *, max_offline: int, lock: Path) -> None:
        super().__init__(max_offline=max_offline)
        self._lock = lock

    def admit(self, classic: ClassicApi, item: PlanItem, *, now: datetime) -> AbstractContextManager[None]:
        """Admit a capture if the account shows fewer than ``max_offline`` running, holding the lock meanwhile.

        :param classic: the Classic API.
        :param item: the server.
        :param now: the present time, with a time zone.
        :returns: a context to submit in.
        :raises OfflineCapReached: on entering it, if no slot is free.
        """
        return self._held(classic, item, now)

    @contextmanager
    def _held(self, classic: ClassicApi, item: PlanItem, now: datetime) -> Iterator[None]:
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with super().admit(classic, item, now=now):
                yield
        finally:
            os.close(handle)


def gate_of_machine(*, account: int, max_offline: int) -> AskTheAccount:
    """Make the gate that all captures of an account on this machine go through.

    :param account: the account's id.
    :param max_offline: most servers offline for capture at once.
    :returns: the gate; without a usable folder for its lock, one that only asks the account.
    """
    from sealift.classic.limiter import machine_folder

    try:
        return OneAtATime(max_offline=max_offline, lock=machine_folder() / f"offline-{account}")
    except OSError:
        return AskTheAccount(max_offline=max_offline)
