"""Telling people: whoever has something to tell calls :func:`tell`, which never fails what it tells of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sealift.provider.notifications.choice import Choice, choice

if TYPE_CHECKING:
    from sealift.exports.messages.message import Message
    from sealift.provider.notifications.notifier import MessageNotifier


def notifiers(chosen: Choice, message: Message) -> list[MessageNotifier]:
    """Make the notifiers that a deployment has chosen.

    :param chosen: the choice.
    :param message: what they send.
    :returns: one for each way.
    """
    from sealift.provider.notifications.mail import MailNotifier
    from sealift.provider.notifications.webhook import WebhookNotifier

    made: list[MessageNotifier] = []
    if chosen.smtp_conn_id:
        made.append(MailNotifier(message=message, smtp_conn_id=chosen.smtp_conn_id, to=chosen.to))
    if chosen.http_conn_id:
        made.append(WebhookNotifier(message=message, http_conn_id=chosen.http_conn_id, body=chosen.webhook_body))
    return made


def wanted(kind: str, *, log: Any) -> bool:
    """Say whether anybody is to be told, where finding out what to tell costs something.

    :param kind: one of :data:`sealift.provider.notifications.choice.KINDS`.
    :param log: told of settings that cannot be read.
    """
    try:
        return choice().wants(kind)
    except ValueError as error:
        log.warning("Nobody is told of this: %s", error)
        return False


def tell(kind: str, make: Callable[[], Message], *, log: Any) -> bool:
    """Tell people, by every way that the deployment has chosen. What goes wrong is said in the log, and nowhere else.

    :param kind: one of :data:`sealift.provider.notifications.choice.KINDS`.
    :param make: makes the message; not called where nobody is to be told.
    :param log: a task's logger.
    :returns: whether anybody was told.
    """
    from sealift.provider.notifications.notifier import NotSent

    if not wanted(kind, log=log):
        return False
    told = False
    try:
        message = make()
        ways = notifiers(choice(), message)
    except Exception as error:
        log.warning("Nobody is told of this: the message could not be made.", exc_info=error)
        return False
    for way in ways:
        name = type(way).__name__
        try:
            way.notify({})
        except NotSent as error:
            log.warning("%s: %s", name, error)
        except Exception as error:  # noqa: BLE001 - as above; the words of what is not ours may hold an address
            log.warning("%s: the message was not sent, because of a %s.", name, type(error).__name__)
        else:
            log.info("%s: told %r.", name, message.subject)
            told = True
    return told
