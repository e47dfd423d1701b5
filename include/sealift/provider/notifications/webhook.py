"""Messages by webhook: a POST of JSON, through Airflow's HTTP connection.

The HTTP provider has a notifier of its own. It waits for ever for a receiver that says nothing, follows redirects with
the connection's headers, and its hook writes the receiver's address and answer into the log; the address of a chat's
webhook is its key. So only the hook's session is used: host, login, headers, proxies and certificates of the connection
mean the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import AirflowException

from sealift.provider.notifications.notifier import MessageNotifier, NotSent

if TYPE_CHECKING:
    from sealift.exports.messages.message import Message

TIMEOUT: Final = 15.0
"""Seconds for the connection to be made and between two reads, where the connection's extra names no timeout."""

PAUSES: Final = (1.0, 4.0)
"""Seconds before the second and the third try, where the receiver cannot be reached or says that it cannot serve."""


class WebhookNotifier(MessageNotifier):
    """Posts a message as JSON. The other parameters are those of
    :class:`~sealift.provider.notifications.notifier.MessageNotifier`.

    :param http_conn_id: connection of the type ``http``: its host is the address, with its path; headers, such as an
        authorization, stand in its extra.
    :param body: ``json`` for all fields, ``text`` for ``{"text": …}``, which chats take.
    """

    def __init__(self, *, http_conn_id: str = "http_default", body: str = "json", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id
        self.body = body

    def send(self, message: Message) -> None:
        """Send a message.

        :param message: the message. Its id tells a receiver that got it twice, after a reply that was lost.
        :raises NotSent: it could not be sent.
        """
        import requests

        from sealift.exports.jsontext import compact_json

        try:
            from airflow.providers.http.hooks.http import HttpHook
        except ImportError as error:
            raise NotSent("Webhooks need the package apache-airflow-providers-http. Install it.") from error
        told = compact_json(message.chat() if self.body == "text" else message.body())
        hook = HttpHook(method="POST", http_conn_id=self.http_conn_id)
        by = f"The message to the webhook of the connection {self.http_conn_id!r} was not sent"
        try:
            with hook.get_conn() as session:
                timeout = float(hook.merged_extra.get("timeout") or TIMEOUT)
                status = self._posted(session, hook.url_from_endpoint(None), told, timeout)
        except AirflowException as error:
            raise NotSent(f"{by}: {error}") from error
        except (requests.RequestException, OSError, ValueError) as error:
            # Their words name the address.
            raise NotSent(f"{by}: {type(error).__name__}. Check its host, port and certificates.") from None
        if not 200 <= status < 300:
            raise NotSent(f"{by}: it was answered with the status {status}. Check its address and headers.")

    @staticmethod
    def _posted(session: Any, url: str, told: bytes, timeout: float) -> int:
        """Post, and give the status: three times at most."""
        import requests

        for pause in (*PAUSES, None):
            try:
                # Not read: an answer may be of any size, and none of it is needed.
                with session.post(
                    url,
                    data=told,
                    headers={"Content-Type": "application/json"},
                    timeout=timeout,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    status = int(answer.status_code)
                if status < 500 or pause is None:
                    return status
            except (requests.ConnectionError, requests.Timeout):
                if pause is None:
                    raise
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")
