"""Keeps Airflow's triggerer from standing still: its two processes can each wait for the other to read, for ever.

A triggerer is a process that talks to the database, and a child in which triggers run. They talk over sockets, whose
buffers hold some hundred kilobytes. The child's event loop writes log lines, and waits while nobody reads them; the
parent answers the child's requests, and waits while nobody reads the answer. An answer that brings new triggers holds a
serialized DAG for each of them, megabytes for a wave of a hundred. So where the parent was busy with the database while
some two hundred lines came, and answers a request before it reads them, both wait: seen in both triggerers of a cluster
with Airflow 3.3.2, among 1,600 servers (``send_msg`` below ``TriggerRunnerSupervisor._handle_request`` in the parent,
a logger's ``write`` in the child's event loop). No heartbeat comes any more, and no wait ends.

Here the parent hands its answers to a thread, which may wait; the parent itself goes on to read the lines.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

log = logging.getLogger(__name__)

_COMMAND: Final = "triggerer"


class Unblocked:
    """A socket whose ``sendall`` returns at once; a thread sends, in the same order.

    Everything else is the socket's own.

    :param sock: the socket.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._failure: OSError | None = None
        self.over = threading.Event()
        """Is set when nothing more will be sent: the other side is gone."""
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._send, name="sealift-unblocked", daemon=True).start()

    def sendall(self, data: bytes) -> None:
        """Have bytes sent.

        :param data: the bytes.
        :raises OSError: what was to be sent before could not be: the other side is gone.
        """
        if self._failure is not None:
            raise self._failure
        self._waiting.put(data)

    def _send(self) -> None:
        while True:
            data = self._waiting.get()
            try:
                self._sock.sendall(data)
            except OSError as error:
                self._failure = error  # raised where the next answer is sent, as the socket itself would
                self.over.set()
                return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def unblock_triggerer(arguments: Sequence[str] | None = None) -> bool:
    """Have a triggerer's parent never wait for its child to read.

    :param arguments: the process's command line; its own if None.
    :returns: whether this is a triggerer, and was changed.
    """
    words = [one for one in (sys.argv if arguments is None else arguments)[1:] if not one.startswith("-")]
    if words[:1] != [_COMMAND]:
        return False
    try:
        # What the triggerer's parent is made of; its own module would want settings that are not there yet.
        from airflow.sdk.execution_time.supervisor import WatchedSubprocess
    except ImportError as error:
        log.warning("Sealift could not keep the triggerer from waiting for itself: %s", error)
        return False
    before = WatchedSubprocess.send_msg

    def send_msg(self: Any, *given: Any, **named: Any) -> None:
        if not isinstance(self.stdin, Unblocked):
            self.stdin = Unblocked(self.stdin)
        before(self, *given, **named)

    WatchedSubprocess.send_msg = send_msg  # type: ignore[method-assign]
    return True
