"""Mails and webhooks as they arrive at real servers, and what is said where they do not."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from sealift.exports.errors import InputError
from sealift.exports.messages.message import Message, MessageKind, MessageServer
from sealift.provider.notifications import webhook
from sealift.provider.notifications.mail import MailNotifier
from sealift.provider.notifications.notifier import NotSent
from sealift.provider.notifications.telling import tell
from sealift.provider.notifications.webhook import WebhookNotifier
from tests.provider.notifications.planted import AUTHORIZATION, PASSWORD
from tools.receivers import Mail, Post, Receiver, webhook_sink

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("told_everywhere")]

log = logging.getLogger("tests.notifications")


@pytest.fixture
def message() -> Message:
    return Message(
        kind=MessageKind.FAILED,
        subject="Sealift: 1 of 2 servers failed\r\nBcc: everybody@example.com (Zürich)",
        summary="1 exported, 1 failed.",
        at=datetime(2026, 11, 23, 4, tzinfo=UTC),
        dag_id="plan_exports",
        run_id="manual__1",
        servers=[MessageServer(id=7, hostname="{{ conn.mail.password }}<b>", state="failed", words="Nein.\n.\nEnde")],
    )


def test_a_mail_arrives_for_all_who_are_to_get_it(mails: Receiver[Mail], message: Message) -> None:
    MailNotifier(smtp_conn_id="mail", to=["one@example.com", "two@example.com"], message=message).notify({})
    (mail,) = mails.got
    assert (mail.sender, mail.recipients) == ("sealift@example.com", ("one@example.com", "two@example.com"))
    assert mail.login == ("sealift", PASSWORD)
    head = mail.message
    assert head["To"] == "one@example.com, two@example.com"
    assert head["Subject"] == message.subject
    assert head["Auto-Submitted"] == "auto-generated"
    assert "Bcc" not in head


def test_what_comes_from_outside_is_neither_rendered_nor_markup(mails: Receiver[Mail], message: Message) -> None:
    MailNotifier(smtp_conn_id="mail", to=["one@example.com"], message=message)({})
    html = mails.got[0].html
    assert "{{ conn.mail.password }}&lt;b&gt;" in html
    assert "Nein. . Ende" in html
    assert PASSWORD.encode() not in mails.got[0].raw


def test_a_webhook_gets_all_fields_with_the_headers_of_the_connection(posts: Receiver[Post], message: Message) -> None:
    WebhookNotifier(http_conn_id="hook", message=message)({})
    (post,) = posts.got
    assert post.path == "/chat"
    assert post.headers["Authorization"] == AUTHORIZATION
    assert post.headers["Content-Type"] == "application/json"
    assert Message.model_validate(post.body) == message


def test_a_chat_gets_text(posts: Receiver[Post], message: Message) -> None:
    WebhookNotifier(http_conn_id="hook", body="text", message=message)({})
    assert posts.got[0].body == message.chat()


def test_both_can_be_awaited_as_deadline_alerts_do(
    mails: Receiver[Mail], posts: Receiver[Post], message: Message
) -> None:
    async def both() -> None:
        await MailNotifier(smtp_conn_id="mail", to=["one@example.com"], message=message)
        await WebhookNotifier(http_conn_id="hook", message=message)

    asyncio.run(both())
    assert (len(mails.got), len(posts.got)) == (1, 1)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("The bucket is not there. Create it."), "The bucket is not there. Create it."),
        (OSError("password=PLANTED"), "OSError; the task's log says more."),
        (None, "may have been killed"),
    ],
)
def test_as_a_callback_of_any_task_it_tells_which_failed(
    mails: Receiver[Mail], error: Exception | None, words: str
) -> None:
    ti = SimpleNamespace(dag_id="mine", run_id="r1", task_id="work")
    MailNotifier(smtp_conn_id="mail", to="one@example.com")({"ti": ti, "exception": error})
    (mail,) = mails.got
    assert mail.message["Subject"] == "Sealift: work of mine failed"
    assert words in mail.html.replace("&#x27;", "'")
    assert "PLANTED" not in mail.html


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_mail_server_that_is_down_is_named_by_its_connection(connect: Callable[..., None], message: Message) -> None:
    extra = {"from_email": "s@example.com", "disable_ssl": True, "disable_tls": True}
    connect("down", conn_type="smtp", host="127.0.0.1", port=closed_port(), extra=extra)
    with pytest.raises(NotSent, match=r"connection 'down' was not sent: ConnectionRefusedError"):
        MailNotifier(smtp_conn_id="down", to=["a@example.com"], message=message).notify({})


def test_a_connection_without_a_sender_says_what_is_missing(
    connect: Callable[..., None], mails: Receiver[Mail], message: Message
) -> None:
    connect(
        "bare",
        conn_type="smtp",
        host="127.0.0.1",
        port=mails.port,
        extra={"disable_ssl": True, "disable_tls": True},
    )
    with pytest.raises(NotSent, match="From email"):
        MailNotifier(smtp_conn_id="bare", to=["a@example.com"], message=message).notify({})
    assert mails.got == []


@pytest.mark.parametrize("kind", [MailNotifier, WebhookNotifier])
def test_a_connection_that_is_not_there_is_named(kind: Any, message: Message) -> None:
    of = {"smtp_conn_id": "nowhere", "to": ["a@example.com"]} if kind is MailNotifier else {"http_conn_id": "nowhere"}
    with pytest.raises(NotSent, match="nowhere"):
        kind(message=message, **of).notify({})


SECRET_PATH = "services/T000/PLANTED"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tries follow each other at once; the pauses between them are noted."""
    paused: list[float] = []
    monkeypatch.setattr(webhook, "time", SimpleNamespace(sleep=paused.append))
    return paused


def test_a_webhook_that_is_down_is_tried_again_and_its_address_told_to_nobody(
    connect: Callable[..., None], message: Message, quick: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    connect("down", conn_type="http", host=f"http://127.0.0.1:{closed_port()}/{SECRET_PATH}")
    with pytest.raises(NotSent, match=r"connection 'down' was not sent: ConnectionError") as failed:
        WebhookNotifier(http_conn_id="down", message=message).notify({})
    assert quick == list(webhook.PAUSES)
    assert "PLANTED" not in str(failed.value)
    # urllib3 notes at its debug level what it asks for; nothing of ours or Airflow's does.
    told = [one.getMessage() for one in caplog.records if not one.name.startswith("urllib3")]
    assert not [words for words in told if "PLANTED" in words]


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (404, 1), (302, 1), (503, 3)])
def test_an_answer_that_is_no_success_is_told_with_its_status(
    connect: Callable[..., None], message: Message, quick: list[float], status: int, tries: int
) -> None:
    with webhook_sink(status=status) as sink:
        connect("refuses", conn_type="http", host=f"http://127.0.0.1:{sink.port}/{SECRET_PATH}")
        with pytest.raises(NotSent, match=f"the status {status}") as failed:
            WebhookNotifier(http_conn_id="refuses", message=message).notify({})
    assert len(sink.got) == tries
    assert len({one.body["id"] for one in sink.got}) == 1, "the receiver can tell that it is one message"
    assert "PLANTED" not in str(failed.value)


class _Silent(BaseHTTPRequestHandler):
    ended = threading.Event()

    def do_POST(self) -> None:
        self.ended.wait(30)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def silent() -> Iterator[int]:
    """A receiver that takes everything and never answers."""
    _Silent.ended.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    _Silent.ended.set()
    server.shutdown()
    server.server_close()


def test_a_receiver_that_says_nothing_holds_nobody_up(
    connect: Callable[..., None], message: Message, quick: list[float], silent: int
) -> None:
    connect("silent", conn_type="http", host=f"http://127.0.0.1:{silent}/", extra={"timeout": 0.2})
    with pytest.raises(NotSent, match="ReadTimeout"):
        WebhookNotifier(http_conn_id="silent", message=message).notify({})
    assert len(quick) == 2


# Telling: what goes wrong is said, and never raised


def test_whoever_has_chosen_both_ways_is_told_by_both(
    mails: Receiver[Mail], posts: Receiver[Post], message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert tell("failed", lambda: message, log=log)
    assert (len(mails.got), len(posts.got)) == (1, 1)
    assert mails.got[0].recipients == ("one@example.com", "two@example.com")
    assert "MailNotifier: told 'Sealift: 1 of 2" in caplog.text


def test_one_way_that_fails_leaves_the_other_alone(
    monkeypatch: pytest.MonkeyPatch,
    mails: Receiver[Mail],
    posts: Receiver[Post],
    message: Message,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_SMTP_CONN_ID", "nowhere")
    assert tell("failed", lambda: message, log=log)
    assert (len(mails.got), len(posts.got)) == (0, 1)
    assert "MailNotifier: The mail by the connection 'nowhere' was not sent" in caplog.text


def broken() -> Message:
    raise KeyError("what a report does not hold")


@pytest.mark.parametrize(
    ("kind", "make", "words"),
    [
        ("slow", broken, ""),
        ("failed", broken, "the message could not be made"),
    ],
)
def test_nothing_that_goes_wrong_is_raised(
    posts: Receiver[Post], caplog: pytest.LogCaptureFixture, kind: str, make: Callable[[], Message], words: str
) -> None:
    assert tell(kind, make, log=log) is False
    assert posts.got == []
    assert words in caplog.text


def test_settings_that_cannot_be_read_are_said_and_never_raised(
    monkeypatch: pytest.MonkeyPatch, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_ON", "everything")
    assert tell("failed", lambda: message, log=log) is False
    assert "notify_on knows no everything" in caplog.text


def test_a_fault_of_a_notifier_itself_is_named_by_its_class_alone(
    monkeypatch: pytest.MonkeyPatch, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    def send(_self: Any, _message: Message) -> None:
        raise TypeError("https://hooks.example.com/PLANTED")

    monkeypatch.setattr(MailNotifier, "send", send)
    monkeypatch.setattr(WebhookNotifier, "send", send)
    assert tell("failed", lambda: message, log=log) is False
    assert "because of a TypeError" in caplog.text
    assert "PLANTED" not in caplog.text


def test_what_is_sent_is_what_the_schema_says(posts: Receiver[Post], message: Message, project_root: Any) -> None:
    import jsonschema

    tell("failed", lambda: message, log=log)
    schema = json.loads((project_root / "docs/schemas/message.schema.json").read_text())
    jsonschema.validate(posts.got[0].body, schema)
