"""The ways to bring an object into a file, and the rule by which one is chosen.

The rule: what somebody names is taken, and nothing else. Where nobody names anything, it is HTTPS, which verifies while
it writes and needs no other program. ``auto`` takes Aspera where all of this holds, and HTTPS where any does not:

1. the object has :data:`THRESHOLD` bytes or more: below, setting up a session takes longer than it saves;
2. the object store is reached by its public endpoint: within IBM Cloud the line is short and costs nothing, and Aspera
   goes over the public network, which IBM bills;
3. ascp is on this machine;
4. the bucket offers Aspera to this key.

Where ``auto`` has begun with Aspera and Aspera fails for good, HTTPS takes over. Either way it says why, in one line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from sealift.cos.errors import CosError
from sealift.cos.regions import is_inside
from sealift.cos.retrying import Retries
from sealift.transfer.aspera.download import AsperaDownload, ServesAspera
from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.aspera.finding import Ascp, find_ascp
from sealift.transfer.aspera.session import Patience
from sealift.transfer.download import PART_SIZE, STREAMS, Download, Downloaded, nothing
from sealift.transfer.errors import EngineUnavailableError
from sealift.transfer.pace import Pace
from sealift.transfer.reading import OpensRanges, Remote

GIB: Final = 1024**3
THRESHOLD: Final = 10 * GIB
"""Bytes from which on ``auto`` thinks of Aspera."""

SOON: Final = 3
"""So often in a row a session may bring nothing before ``auto`` goes over to HTTPS."""


class EngineName(StrEnum):
    """What can be asked for."""

    HTTPS = "https"
    ASPERA = "aspera"
    AUTO = "auto"


class Fetch(Protocol):
    """One object on its way into one file."""

    def run(self) -> Downloaded:
        """Bring it, whole; see :meth:`sealift.transfer.download.Download.run`."""
        ...

    def stop(self) -> None:
        """Have ``run`` end; the next try goes on from there."""
        ...

    def discard(self) -> None:
        """Throw away what has arrived."""
        ...


class AsperaStore(ServesAspera, Protocol):
    """An object store that Aspera may reach; :class:`sealift.cos.client.CosClient` is one."""

    @property
    def endpoint_url(self) -> str:
        """Its address."""
        ...


@dataclass(frozen=True, kw_only=True)
class AsperaSettings:
    """How Aspera is used, where it is.

    :param ascp: the program, or its folder; None for wherever it is found.
    :param key: the private key for SSH; None for IBM's own beside ascp.
    :param patience: how long ascp may take for what.
    :param credentials_in_tags: see :class:`sealift.transfer.aspera.download.AsperaDownload`.
    """

    ascp: Path | None = None
    key: Path | None = None
    patience: Patience | None = None
    credentials_in_tags: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which engine brings an object.

    :param engine: ``HTTPS`` or ``ASPERA``.
    :param why: in one line.
    :param ascp: the program, for Aspera.
    """

    engine: EngineName
    why: str
    ascp: Ascp | None = None


def choose_engine(
    wanted: EngineName,
    *,
    remote: Remote,
    store: AsperaStore | None,
    settings: AsperaSettings | None = None,
    threshold: int = THRESHOLD,
) -> Choice:
    """Choose the engine for one object, by the rule at the top of this module.

    :param wanted: what was asked for.
    :param remote: the object.
    :param store: the object store, where Aspera may be thought of at all.
    :param settings: where ascp is.
    :param threshold: bytes from which on ``auto`` thinks of Aspera.
    :returns: the engine, and why.
    :raises EngineUnavailableError: Aspera was asked for, and is not on this machine.
    """
    settings = settings or AsperaSettings()
    if wanted is EngineName.HTTPS:
        return Choice(engine=EngineName.HTTPS, why="HTTPS is the standard, or was asked for.")
    if wanted is EngineName.AUTO:
        return _best(remote, store, settings, threshold)
    if store is None:
        raise EngineUnavailableError("Aspera brings objects out of IBM Cloud Object Storage only. Take HTTPS.")
    ascp = find_ascp(settings.ascp, key=settings.key)
    return Choice(engine=EngineName.ASPERA, why="Aspera was asked for.", ascp=ascp)


def _best(remote: Remote, store: AsperaStore | None, settings: AsperaSettings, threshold: int) -> Choice:
    if store is None:
        return _https("this object store has none")
    if remote.size < threshold:
        return _https(f"{remote.key} has {remote.size} bytes, and below {threshold} it saves no time")
    if is_inside(store.endpoint_url):
        return _https("the object store is reached within IBM Cloud, where HTTPS costs nothing")
    try:
        ascp = find_ascp(settings.ascp, key=settings.key)
        store.fasp_connection(remote.bucket)
    except (EngineUnavailableError, CosError) as error:
        return _https(str(error))
    return Choice(
        engine=EngineName.ASPERA,
        why=f"Aspera brings {remote.key}: it has {remote.size} bytes, ascp is {ascp.path}, and the bucket offers it.",
        ascp=ascp,
    )


class Engines:
    """Brings objects into files by the engine that was asked for, or that is best. One object at a time.

    :param wanted: what was asked for.
    :param store: the object store as Aspera needs it; None where there is only HTTPS.
    :param settings: how Aspera is used.
    :param threshold: bytes from which on ``auto`` thinks of Aspera.
    :param say: told in one line which engine ``auto`` takes, and why it goes over to another.
    """

    def __init__(
        self,
        *,
        wanted: EngineName = EngineName.HTTPS,
        store: AsperaStore | None = None,
        settings: AsperaSettings | None = None,
        threshold: int = THRESHOLD,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.wanted = wanted
        self._store = store
        self._settings = settings or AsperaSettings()
        self._threshold = threshold
        self._say = say
        self._present: Fetch | None = None

    def bring(
        self,
        *,
        client: OpensRanges,
        remote: Remote,
        target: Path,
        streams: int = STREAMS,
        part_size: int = PART_SIZE,
        pace: Pace | None = None,
        arrived: Callable[[int], None] = nothing,
        retries: Retries | None = None,
    ) -> Downloaded:
        """Bring one object into one file; parameters as for :class:`sealift.transfer.download.Download`.

        :returns: the file, whole.
        :raises EngineUnavailableError: Aspera was asked for, and cannot be used.
        :raises sealift.transfer.errors.TransferError: see the ``run`` of the engines.
        :raises sealift.cos.errors.CosError: the object store refused, or failed for too long.
        """
        choice = choose_engine(
            self.wanted, remote=remote, store=self._store, settings=self._settings, threshold=self._threshold
        )
        told = _Told(arrived)
        auto = self.wanted is EngineName.AUTO
        if auto:
            self._say(choice.why)
        if choice.engine is EngineName.ASPERA and self._store is not None and choice.ascp is not None:
            fetch = AsperaDownload(
                client=self._store,
                remote=remote,
                target=target,
                ascp=choice.ascp,
                pace=pace,
                arrived=told,
                retries=retries or (Retries(max_attempts=SOON) if auto else None),
                patience=self._settings.patience,
                credentials_in_tags=self._settings.credentials_in_tags,
            )
            try:
                return self._run(fetch)
            except (EngineUnavailableError, AsperaError, CosError) as error:
                if not auto:
                    raise
                # HTTPS writes a file of its own, and cannot go on with one that FASP has written out of order.
                fetch.discard()
                self._say(f"HTTPS takes over, from the beginning, as Aspera failed: {error}")
                told.again()
        return self._run(
            Download(
                client=client,
                remote=remote,
                target=target,
                streams=streams,
                part_size=part_size,
                pace=pace,
                arrived=told,
                retries=retries,
            )
        )

    def stop(self) -> None:
        """Have :meth:`bring` end with :class:`~sealift.transfer.errors.Stopped`; the next try goes on from there."""
        present = self._present
        if present is not None:
            present.stop()

    def _run(self, fetch: Fetch) -> Downloaded:
        self._present = fetch
        try:
            return fetch.run()
        finally:
            self._present = None


class _Told:
    """Counts what was told of, so that an engine that begins anew tells of no byte twice."""

    def __init__(self, arrived: Callable[[int], None]) -> None:
        self._arrived = arrived
        self._most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        with self._lock:
            self._now += count
            new = max(0, self._now - self._most)
            self._most += new
        if new:
            self._arrived(new)

    def again(self) -> None:
        """Another engine begins at the first byte."""
        with self._lock:
            self._now = 0


def _https(why: str) -> Choice:
    return Choice(engine=EngineName.HTTPS, why=f"HTTPS is taken and not Aspera: {why.rstrip('.')}.")
