"""A mail server and a webhook's receiver on this machine, which show what they get: for trying notifications.

``python -m tools.receivers --mail 1025 --webhook 8026`` prints each message until interrupted; docs/notify.md says
what to set. Both listen on 127.0.0.1, and deliver nothing.
"""

from __future__ import annotations

import argparse
import base64
import json
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

HOST = "127.0.0.1"
_LONGEST = 4 * 2**20


@dataclass(frozen=True)
class Mail:
    """A mail as it came.

    :param sender: the envelope's.
    :param recipients: the envelope's.
    :param login: user name and password, where the sender gave any.
    """

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    login: tuple[str, str] | None = None

    @property
    def message(self) -> EmailMessage:
        """The mail, taken apart."""
        return message_from_bytes(self.raw, policy=policy.default)

    @property
    def html(self) -> str:
        """Its text."""
        part = self.message.get_body(("html",))
        return "" if part is None else str(part.get_content())


@dataclass(frozen=True)
class Post:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: Any


Got = TypeVar("Got")


@dataclass
class Receiver(Generic[Got]):
    """A server in a thread of its own; a context manager. What it got is in ``got``.

    :param server: the server, bound.
    :param tell: is told of each thing that comes.
    """

    server: socketserver.BaseServer
    tell: Callable[[Got], None] = lambda _: None
    got: list[Got] = field(default_factory=list)
    _came: threading.Condition = field(default_factory=threading.Condition)

    @property
    def port(self) -> int:
        """The port it listens on."""
        address: Any = self.server.server_address
        return int(address[1])

    def take(self, one: Got) -> None:
        """Keep what came."""
        with self._came:
            self.got.append(one)
            self._came.notify_all()
        self.tell(one)

    def wait_for(self, fits: Callable[[Got], bool], *, seconds: float = 30.0) -> Got:
        """Wait until something has come that fits, and return it.

        :param fits: says whether it is what is waited for.
        :param seconds: how long to wait.
        :raises TimeoutError: nothing has come by then.
        """
        deadline = time.monotonic() + seconds
        with self._came:
            while True:
                found = next((one for one in self.got if fits(one)), None)
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"Nothing that fits has come within {seconds:g} s; {len(self.got)} others have.")
                self._came.wait(left)

    def start(self) -> None:
        """Begin to serve."""
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client needs to hand a mail over; AUTH PLAIN (RFC 4616) without looking at it."""

    timeout = 30

    def handle(self) -> None:
        self._say("220 sink ESMTP")
        sender, recipients, login = "", list[str](), None
        while line := self.rfile.readline(2048):
            words = line.decode("utf-8", "replace").strip()
            command = words.upper()
            if command.startswith("EHLO"):
                self._say("250-sink", "250-AUTH PLAIN", "250 8BITMIME")
            elif command.startswith("AUTH PLAIN "):
                _, user, password = base64.b64decode(words.split()[2]).decode().split("\0")
                login = (user, password)
                self._say("235 yes")
            elif command.startswith("MAIL FROM:"):
                sender = _address(words)
                self._say("250 yes")
            elif command.startswith("RCPT TO:"):
                recipients.append(_address(words))
                self._say("250 yes")
            elif command == "DATA":
                self._say("354 go on")
                self.server.receiver.take(Mail(sender, tuple(recipients), self._data(), login))  # type: ignore[attr-defined]
                sender, recipients = "", []
                self._say("250 kept")
            elif command == "QUIT":
                self._say("221 bye")
                return
            elif command.startswith(("HELO", "NOOP", "RSET")):
                self._say("250 yes")
            else:
                self._say("502 not here")

    def _data(self) -> bytes:
        lines: list[bytes] = []
        size = 0
        while (line := self.rfile.readline(2**16)) not in (b".\r\n", b".\n", b""):
            size += len(line)
            if size <= _LONGEST:
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return b"".join(lines)

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


def _address(words: str) -> str:
    return words.partition("<")[2].partition(">")[0]


class _Hook(BaseHTTPRequestHandler):
    timeout = 30

    def do_POST(self) -> None:
        body = self.rfile.read(min(_LONGEST, int(self.headers.get("Content-Length") or 0)))
        self.server.receiver.take(Post(self.path, dict(self.headers), json.loads(body or b"null")))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: whoever looks is told of the message itself."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def mail_sink(port: int = 0) -> Receiver[Mail]:
    """Make a mail server.

    :param port: its port, or 0 for a free one.
    """
    server = _Server((HOST, port), _Smtp)
    server.receiver = made = Receiver[Mail](server)  # type: ignore[attr-defined]
    return made


def webhook_sink(port: int = 0, *, status: int = 204) -> Receiver[Post]:
    """Make a webhook's receiver.

    :param port: its port, or 0 for a free one.
    :param status: what it answers.
    """
    server = ThreadingHTTPServer((HOST, port), _Hook)
    server.status = status  # type: ignore[attr-defined]
    server.receiver = made = Receiver[Post](server)  # type: ignore[attr-defined]
    return made


def main(arguments: Sequence[str]) -> int:
    """Run both until interrupted.

    :param arguments: the command line's, without the program's name.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mail", type=int, default=1025, help="port of the mail server")
    parser.add_argument("--webhook", type=int, default=8026, help="port of the webhook's receiver")
    ports = parser.parse_args(arguments)

    def show_mail(mail: Mail) -> None:
        sys.stdout.write(f"--- mail to {', '.join(mail.recipients)}: {mail.message['Subject']}\n{mail.html}\n")
        sys.stdout.flush()

    def show_post(post: Post) -> None:
        sys.stdout.write(f"--- webhook {post.path}\n{json.dumps(post.body, indent=2, ensure_ascii=False)}\n")
        sys.stdout.flush()

    with mail_sink(ports.mail) as mails, webhook_sink(ports.webhook) as posts:
        mails.tell, posts.tell = show_mail, show_post
        sys.stdout.write(f"Mail on {HOST}:{mails.port}, webhook on http://{HOST}:{posts.port}/. End with Ctrl-C.\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
