"""Messages by mail, through the SMTP provider's own notifier."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import AirflowException

from sealift.provider.notifications.notifier import MessageNotifier, NotSent

if TYPE_CHECKING:
    from sealift.exports.messages.message import Message

# RFC 3834: so that nobody's out-of-office reply answers.
_HEADERS: Final = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}


class MailNotifier(MessageNotifier):
    """Sends a message by mail.

    The sender is the connection's *From email*. The other parameters are those of
    :class:`~sealift.provider.notifications.notifier.MessageNotifier`.

    :param smtp_conn_id: connection of the type ``smtp``.
    :param to: who gets it.
    """

    def __init__(self, *, to: Sequence[str], smtp_conn_id: str = "smtp_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to = [to] if isinstance(to, str) else list(to)
        self.smtp_conn_id = smtp_conn_id

    def send(self, message: Message) -> None:
        """Send a message.

        :param message: the message.
        :raises NotSent: it could not be sent.
        """
        from sealift.exports.messages.message import one_line

        try:
            from airflow.providers.smtp.notifications.smtp import SmtpNotifier
        except ImportError as error:
            raise NotSent("Mail needs the package apache-airflow-providers-smtp. Install it.") from error
        mail = SmtpNotifier(
            to=self.to,
            subject=message.subject,
            html_content=message.html(),
            smtp_conn_id=self.smtp_conn_id,
            custom_headers=dict(_HEADERS),
        )
        try:
            # Not by calling it: that would render subject and contents as templates.
            mail.notify({})
        except (OSError, smtplib.SMTPException, AirflowException, ValueError, RuntimeError) as error:
            raise NotSent(
                f"The mail by the connection {self.smtp_conn_id!r} was not sent: {type(error).__name__}, "
                f"{one_line(str(error), 300)} Check its host, port, TLS and From email."
            ) from error
