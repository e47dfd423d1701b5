"""What a deployment wants people to be told of, and how: the ``notify_…`` settings of ``[sealift]``, typed.

They stand apart from the other settings. Those are read wherever a DAG file is parsed; a mistake in these shows in
``plan_exports`` alone, so that waves that run are not harmed by it. DAG files read this while they are parsed: no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from airflow.configuration import conf

from sealift.provider.settings import SECTION

KINDS: Final = ("approval", "finished", "failed", "wave", "stuck", "slow", "late")
"""What can be told of; :class:`sealift.exports.messages.message.MessageKind` says what each means."""

BODIES: Final = ("json", "text")
"""What a webhook can be sent: all fields for programs, or ``{"text": …}`` for chats."""

_LATEST: Final = 60.0 * 24 * 366
"""Minutes of a year."""

_ADDRESS = re.compile(r"[^\s@,;<>\x00-\x1f\x7f]+@[^\s@,;<>\x00-\x1f\x7f]+")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What people are told of, and how.

    :param on: the kinds of messages that are sent.
    :param smtp_conn_id: the connection that mails are sent by; empty for no mail.
    :param to: who gets the mails.
    :param http_conn_id: the connection that names the webhook; empty for none.
    :param webhook_body: one of :data:`BODIES`.
    :param late_after: minutes after which a run of plan_exports is late; 0 for never.
    """

    on: frozenset[str]
    smtp_conn_id: str
    to: tuple[str, ...]
    http_conn_id: str
    webhook_body: str
    late_after: float

    def wants(self, kind: str) -> bool:
        """Say whether anybody is to be told.

        :param kind: one of :data:`KINDS`.
        """
        return bool(self.smtp_conn_id or self.http_conn_id) and kind in self.on


def choice() -> Choice:
    """Read the settings.

    :returns: what is in force.
    :raises ValueError: a setting cannot be meant so; the message names it and says what it may be.
    """
    made = Choice(
        on=frozenset(_listed("notify_on", "approval, finished, failed, stuck, late")),
        smtp_conn_id=_text("notify_smtp_conn_id"),
        to=_listed("notify_to"),
        http_conn_id=_text("notify_http_conn_id"),
        webhook_body=_text("notify_webhook_body") or BODIES[0],
        late_after=conf.getfloat(SECTION, "late_after", fallback=0.0),
    )
    unknown = sorted(made.on - set(KINDS))
    if unknown:
        raise ValueError(f"[{SECTION}] notify_on knows no {', '.join(unknown)}: it may hold {', '.join(KINDS)}")
    wrong = [one for one in made.to if not _ADDRESS.fullmatch(one)]
    if wrong:
        raise ValueError(f"[{SECTION}] notify_to holds {wrong[0]!r}: it must be addresses as name@example.com")
    if made.smtp_conn_id and not made.to:
        raise ValueError(f"[{SECTION}] notify_smtp_conn_id is set, and notify_to is not: name who gets the mails")
    if made.to and not made.smtp_conn_id:
        raise ValueError(
            f"[{SECTION}] notify_to is set, and notify_smtp_conn_id is not: name the connection of the type smtp"
        )
    if made.webhook_body not in BODIES:
        raise ValueError(f"[{SECTION}] notify_webhook_body is {made.webhook_body!r}: it may be {' or '.join(BODIES)}")
    if not 0 <= made.late_after <= _LATEST:
        raise ValueError(f"[{SECTION}] late_after is {made.late_after:g}: it must be minutes, 0 to {_LATEST:g}")
    if made.late_after and not made.wants("late"):
        raise ValueError(
            f"[{SECTION}] late_after is set, and nobody would be told: set notify_smtp_conn_id or notify_http_conn_id, "
            "with late among notify_on"
        )
    return made


def checked_choice() -> Choice:
    """Read the settings where a DAG file is parsed: what they need must be installed as well.

    :returns: what is in force.
    :raises ValueError: as for :func:`choice`, or a package is missing.
    """
    made = choice()
    for setting, conn_id, provider in (
        ("notify_smtp_conn_id", made.smtp_conn_id, "smtp"),
        ("notify_http_conn_id", made.http_conn_id, "http"),
    ):
        if conn_id and find_spec(f"airflow.providers.{provider}") is None:
            raise ValueError(
                f"[{SECTION}] {setting} needs the package apache-airflow-providers-{provider}: install it, or leave "
                "the setting empty"
            )
    return made


def _text(name: str) -> str:
    return (conf.get(SECTION, name, fallback="") or "").strip()


def _listed(name: str, fallback: str = "") -> tuple[str, ...]:
    text = conf.get(SECTION, name, fallback=fallback) or ""
    return tuple(dict.fromkeys(one.strip() for one in re.split(r"[,;\n]", text) if one.strip()))
