"""Starting captures and exports in the triggerer, as soon as the poll shows that they may: without a worker's process.

Such a step asks a dozen questions and submits once; a process for it would cost several times its work, and start some
seconds later. Airflow may run one trigger in two triggerers at once, and either can die on the way. The steps are made
for that, as they are for two workers: see the slots in :mod:`sealift.exports.slots`, and the claims in
:mod:`sealift.exports.exporting`. Whatever does not go well is left to a worker, which looks again and says in words
what is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sealift.classic.errors import ClassicError, ClassicLoadError
from sealift.cos.errors import CosError
from sealift.exports.errors import ExportsError, OfflineCapReached
from sealift.provider.asking import Asker, CallHangs, words_of
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.log_fields import bind_fields
from sealift.provider.starting import Started, start_capture, start_export

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink

    from sealift.classic.client import ClassicClient
    from sealift.exports.board import Board
    from sealift.exports.plan import WaveSlice
    from sealift.exports.surveying import Survey
    from sealift.provider.triggers.account import SlotsAt

log = logging.getLogger(__name__)

START: Final = "start"
"""How its calls are told apart from those of the poll, see :data:`sealift.provider.triggers.account.POLL`."""

AT_ONCE: Final = 6
"""So many captures, and as many exports, are started at the same time; each has a thread and clients of its own. They
have places apart, so that work that is to be finished never stands behind work that begins."""

LIMIT: Final = 300.0
"""Seconds after which a start counts as hanging, and is left to a worker. A request that is still on its way then is
noted in the capture's slot or the export's claim like any other."""

_WAVES_KEPT: Final = 8


@dataclass(frozen=True, kw_only=True)
class StartsAt:
    """Where and by which connections something is started.

    :param classic_conn_id: connection of the type ``ibm_classic``.
    :param cos_conn_id: connection of the type ``ibm_cos``.
    :param region: the bucket's region; empty for the connection's.
    :param slots: where the offline slots are, where captures are started.
    """

    classic_conn_id: str
    cos_conn_id: str
    region: str
    slots: SlotsAt | None = None


class _Starter:
    """One thread with its clients; what is read once is kept: tokens, connections, waves."""

    def __init__(self, at: StartsAt) -> None:
        self._at = at
        self._ask = Asker(name=f"sealift-start-{at.classic_conn_id}")
        self._classic: ClassicClient | None = None
        self._stores: dict[tuple[str, str], CosHook] = {}
        self._waves: OrderedDict[tuple[str, str], WaveSlice] = OrderedDict()

    async def start(self, step: Callable[..., Started], *, bucket: str, wave_key: str, **told: Any) -> Started:
        try:
            if self._classic is None:
                self._classic = await ClassicHook(self._at.classic_conn_id).aclient(caller=START)
            cos = await self._store(self._at.cos_conn_id, self._at.region)
            if self._at.slots is not None:
                told["slots_cos"] = await self._store(self._at.slots.cos_conn_id, self._at.slots.region)
            return await self._ask(self._started, step, self._classic, cos, bucket, wave_key, told, limit=LIMIT)
        except OfflineCapReached:
            raise
        except BaseException:
            # A key may have been changed in a connection: whoever comes next reads them again.
            self._disconnect()
            raise

    async def _store(self, cos_conn_id: str, region: str) -> CosHook:
        if (cos_conn_id, region) not in self._stores:
            hook = await CosHook(cos_conn_id, region=region or None).aloaded()
            self._stores[cos_conn_id, region] = hook
        return self._stores[cos_conn_id, region]

    def _disconnect(self) -> None:
        classic, self._classic = self._classic, None
        if classic is not None:
            classic.close()
        while self._stores:
            self._stores.popitem()[1].client.close()

    def _started(
        self,
        step: Callable[..., Started],
        classic: ClassicClient,
        cos: CosHook,
        bucket: str,
        wave_key: str,
        told: dict[str, Any],
    ) -> Started:
        from sealift.exports.plan import read_wave

        wave = self._waves.get((bucket, wave_key))
        if wave is None:
            wave = self._waves[bucket, wave_key] = read_wave(cos.client, bucket=bucket, key=wave_key)
            while len(self._waves) > _WAVES_KEPT:
                self._waves.popitem(last=False)
        return step(classic=classic, cos=cos, wave=wave, **told)


class _Pool:
    """The starters of one event loop for one kind of step by the same connections, and what they know together."""

    def __init__(self, at: StartsAt) -> None:
        from sealift.exports.board import Board

        self.board = Board()
        self._at = at
        self._idle: list[_Starter] = []
        self.places = asyncio.Semaphore(AT_ONCE)

    @contextmanager
    def starter(self) -> Iterator[_Starter]:
        one = self._idle.pop() if self._idle else _Starter(self._at)
        try:
            yield one
        finally:
            self._idle.append(one)


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[StartsAt, _Pool]] = WeakKeyDictionary()


def _pool(at: StartsAt) -> _Pool:
    pools = _pools.setdefault(asyncio.get_running_loop(), {})
    if at not in pools:
        pools[at] = _Pool(at)
    return pools[at]


async def try_to_capture(
    at: StartsAt, *, log_to: Any, bucket: str, wave_key: str, guest_id: int, seen: Survey | None
) -> Started | None:
    """Start a capture, if nothing is in the way.

    :param at: the connections, and where the offline slots are.
    :param log_to: where to say how it went.
    :param bucket: where the wave is.
    :param wave_key: its key.
    :param guest_id: the virtual server.
    :param seen: the look that found a slot.
    :returns: what it leaves; None where a worker should look.
    :raises OfflineCapReached: the slot was given to somebody else in the meantime.
    """
    board = _pool(at).board
    if seen is not None:
        board.put(seen)
    told = {"bucket": bucket, "wave_key": wave_key, "guest_id": guest_id}
    return await _try(at, _capture, "capture", log_to=log_to, raises=OfflineCapReached, **told, at=at, board=board)


def _capture(
    *,
    classic: ClassicClient,
    cos: CosHook,
    wave: WaveSlice,
    guest_id: int,
    slots_cos: CosHook,
    at: StartsAt,
    board: Board,
) -> Started:
    from sealift.provider.slots import slots_kept

    assert at.slots is not None
    slots = slots_kept(classic, wave.settings, root=at.slots.root)
    gate = slots.gate(cos=slots_cos, board=board)
    return start_capture(classic=classic, cos=cos, wave=wave, guest_id=guest_id, gate=gate)


async def try_to_export(at: StartsAt, *, log_to: Any, **told: Any) -> Started | None:
    """Start an export, if nothing is in the way.

    :param at: the connections.
    :param log_to: where to say how it went.
    :param told: ``bucket`` and ``wave_key``, where the wave is, and the arguments of
        :func:`sealift.provider.starting.start_export`.
    :returns: what it leaves; None where a worker should look.
    :raises sealift.classic.errors.ClassicLoadError: the account takes no more exports now: this one waits for its turn.
    """
    return await _try(at, start_export, "export", log_to=log_to, raises=ClassicLoadError, **told)


async def _try(
    where: StartsAt,
    step: Callable[..., Started],
    what: str,
    *,
    log_to: Any,
    raises: type[ClassicLoadError | OfflineCapReached],
    **told: Any,
) -> Started | None:
    pool = _pool(where)
    try:
        async with pool.places:
            with pool.starter() as starter:
                started = await starter.start(step, **told)
    except raises:
        raise
    except (ClassicError, CosError, ExportsError, ConnectionProblem, CallHangs) as error:
        log_to.info("The %s was not started here, so that a worker looks again: %s", what, words_of(error))
        return None
    bind_fields(started.handed_on)
    log_to.info("%s", started.sentence)
    return started


async def keep_link(ti: Any, link: BaseOperatorLink, url: str) -> None:
    """Keep a link of a task that ends here, as a worker does after its task.

    Not with the event that ends the task: what that hands on is encoded twice (Airflow 3.3).

    :param ti: the task instance.
    :param link: which button of its task.
    :param url: where it leads.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.comms import SetXCom
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    where = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
    try:
        await SUPERVISOR_COMMS.asend(SetXCom(key=link.xcom_key, value=url, **where))
    except AirflowRuntimeError as error:
        log.info("The button %s stays without an address: %s", link.name, error)
