"""Telling of servers whose capture or export is stuck or slow: once for each, however often the wait is tried."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sealift.provider.notifications.telling import tell, wanted

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.messages.message import Message
    from sealift.provider.sensors.server import ServerSensor

TOLD_OF: Final = frozenset({"stuck", "slow"})
"""Reason codes of waits that people can be told of; the kinds of messages have the same names."""


def tell_of_wait(sensor: ServerSensor, context: Context, event: Mapping[str, Any] | None) -> None:
    """Tell of a wait that ended because its server is stuck or slow, where nobody was told before.

    :param sensor: the task.
    :param context: its context.
    :param event: what the wait's trigger said.
    """
    reason = str((event or {}).get("reason", ""))
    log: Any = sensor.log
    if reason not in TOLD_OF or not wanted(reason, log=log):
        return
    try:
        _tell(sensor, context, reason, str((event or {}).get("sentence", "")))
    except Exception as error:
        log.warning("Nobody is told of this.", exc_info=error)


def _tell(sensor: ServerSensor, context: Context, reason: str, sentence: str) -> None:
    from sealift.exports.messages.making import server_message
    from sealift.exports.messages.message import MessageKind
    from sealift.exports.messages.told import Telling, ToldNote
    from sealift.provider.notifications.links import plan_links, run_links
    from sealift.provider.waits import template_id_of

    item, wave = sensor.item, sensor.wave
    ti: Any = context["ti"]
    step = str(ti.task_id).rpartition(".")[2]
    log: Any = sensor.log
    note = ToldNote(
        cos=sensor.cos.client,
        item=item,
        settings=wave.settings,
        template_id=template_id_of(sensor.terms),
        step=step,
        kind=MessageKind(reason),
    )
    telling = note.take()
    if telling not in (Telling.NOW, Telling.LAST):
        log.info("Nobody is told that %s is %s: %s.", item.name, reason, telling.value)
        return

    def message() -> Message:
        return server_message(
            kind=MessageKind(reason),
            item=item,
            step=step,
            sentence=sentence,
            now=datetime.now(UTC),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            plan_id=wave.plan_id,
            bucket=wave.settings.bucket,
            last=telling is Telling.LAST,
            links=[
                *plan_links(wave.plan_id, wave.settings, wave=wave.number),
                *run_links(ti.dag_id, ti.run_id),
            ],
        )

    if not tell(reason, message, log=log):
        note.drop()
