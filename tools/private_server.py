"""What the private servers of a cluster share: one program, one folder of its own, and an end for both."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.processes import Program


class PrivateServer(ABC):
    """A server that only its starter uses; a context manager that starts it and removes it.

    Its ``folder`` holds what it writes, and is None where there is none yet or none any more.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self.folder: Path | None = None
        self._program: Program | None = None

    @abstractmethod
    def start(self) -> None:
        """Start the server and wait until it answers."""

    def stop(self) -> None:
        """Stop the server; its folder stays."""
        if self._program is not None:
            self._program.stop()
            self._program = None

    def let_go(self) -> None:
        """Leave it running when this process ends."""
        if self._program is not None:
            self._program.let_go()

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        self.stop()
        if self.folder is not None:
            shutil.rmtree(self.folder)
            self.folder = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it, whatever happened."""
        self.remove()
