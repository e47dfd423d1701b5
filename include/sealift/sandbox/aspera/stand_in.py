"""A stand-in for IBM's program ascp: takes its arguments, reports as it does, and moves real bytes. It knows no FASP.

It downloads from the sandbox's ATS over HTTP, by pieces, with the token of the transfer spec, resumes a file that is
there in part (``-k``), keeps to a rate (``-l``), ends on SIGTERM, and fails as the sandbox's faults say. Arguments,
environment and reports are those of IBM/aspera-cli's ``transfer/spec.schema.yaml`` and ``ascp/management.rb``. Invented
are its exit status, the order of its last reports, and the inside of the file that it resumes by (``<name>.aspx``). It
needs nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

VERSION = "Sealift's stand-in for ascp, version 4.4.0 (moves bytes over HTTP, not by FASP)"
PIECE = 256 * 1024
REPORT_EVERY = 0.1
_MODES = {"recv": "Receive"}
_CHARGED = "the transfer token was refused: bearer token expired"


class Failure(Exception):  # noqa: N818 - what is reported, with ascp's number
    """The transfer ends without success.

    :param code: ascp's number.
    :param words: what is reported.
    """

    def __init__(self, code: int, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(words)


class Died(Exception):  # noqa: N818 - nothing is reported
    """The program ends without a word."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the sandbox says of the transfer.

    :param source: the object.
    :param size: its size in bytes.
    :param etag: its ETag.
    :param modified: its time.
    :param script: names of faults that happen.
    :param fault_at: the byte where they do.
    :param fault_code: the number of the error.
    """

    source: str
    size: int
    etag: str
    modified: int
    script: frozenset[str]
    fault_at: int
    fault_code: int


class Management:
    """The connection to whoever started this program.

    :param port: its port on loopback; 0 for none.
    """

    def __init__(self, port: int) -> None:
        self._session = str(uuid.uuid4())
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30) if port else None
        self.moved: dict[str, int] = {}
        """How far the transfer is, as reports have it."""

    def send(self, kind: str, **fields: Any) -> None:
        """Send a frame; nobody listening is no reason to stop."""
        if self._socket is None:
            return
        lines = ["FASPMGR 2", f"Type: {kind}", *(f"{name}: {one}" for name, one in fields.items())]
        text = "\n".join([*lines, f"SessionId: {self._session}", "", ""])
        try:
            self._socket.sendall(text.encode())
        except OSError:
            self._socket = None


class Server:
    """The sandbox's ATS.

    :param options: the command line.
    :param token: the transfer's.
    """

    def __init__(self, options: argparse.Namespace, token: str) -> None:
        host, port = options.host.strip("[]"), options.P
        self._headers = {"Authorization": f"Bearer {token}", "X-Sandbox-Tags": options.tags64 or ""}
        self._connection: http.client.HTTPConnection
        if token.startswith("SANDBOX_https_"):
            # With WebSockets, -i names the authorities; with SSH, where it names a key, nobody is checked.
            bundle = options.i[0] if options.ws_connect and options.i else None
            context = ssl.create_default_context(cafile=bundle)
            if not options.ws_connect:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=30)

    def job(self) -> Job:
        """Ask for the transfer."""
        known = json.loads(self._get("session"))
        return Job(
            source=known["source"],
            size=known["size"],
            etag=known["etag"],
            modified=known["modified"],
            script=frozenset(known["script"]),
            fault_at=known["fault_at"],
            fault_code=known["fault_code"],
        )

    def piece(self, first: int, last: int) -> bytes:
        """Ask for some bytes, the last one included."""
        data = self._get("bytes", Range=f"bytes={first}-{last}")
        if len(data) != last - first + 1:
            raise Failure(16, "Connection lost")
        return data

    def _get(self, what: str, **headers: str) -> bytes:
        try:
            self._connection.request("GET", f"/sandbox-ats/{what}", headers=self._headers | headers)
            reply = self._connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(12, f"Error establishing control connection: {type(error).__name__}") from error
        if reply.status == 401:
            raise Failure(37, f"Server aborted session: {_CHARGED}")
        if reply.status == 403:
            words = "Docroot check failed: Failed to authenticate: no delegated refresh token"
            raise Failure(19, f"Server aborted session: {words}")
        if reply.status == 404:
            raise Failure(4, "Server aborted session: No such file or directory")
        if reply.status not in (200, 206):
            raise Failure(39, f"Server aborted session: HTTP {reply.status}")
        return body


class Receiver:
    """Receives one object into one file.

    :param server: the sandbox.
    :param job: the transfer.
    :param target: the file.
    :param options: the command line.
    :param management: who is told.
    """

    def __init__(
        self, *, server: Server, job: Job, target: Path, options: argparse.Namespace, management: Management
    ) -> None:
        self._server = server
        self._job = job
        self._target = target
        self._meta = target.with_name(f"{target.name}.aspx")
        self._options = options
        self._management = management
        self._rate = options.l * 1000 / 8 if options.l else None
        self._start = self._at = 0
        self._told = 0.0

    def run(self) -> None:
        """Receive."""
        if self._options.d:
            self._target.parent.mkdir(parents=True, exist_ok=True)
        self._start = self._at = self._resumable()
        self._moved()
        self._management.send("SESSION", Direction="Receive", **self._encryption())
        began = time.monotonic()
        fd = os.open(self._target, os.O_WRONLY | os.O_CREAT | (0 if self._start else os.O_TRUNC), 0o644)
        try:
            self._note()
            end = self._job.size - int("ascp_short" in self._job.script)
            while self._at < end:
                self._script()
                data = self._server.piece(self._at, min(self._at + self._piece(end), end) - 1)
                self._write(fd, data)
                self._report()
                self._keep_to_the_rate(began)
            self._script()
            self._report(now=True)
            os.fsync(fd)
        finally:
            os.close(fd)
        self._meta.unlink(missing_ok=True)
        self._management.send("STOP", File=self._target, Size=self._job.size, **self._management.moved)

    def _moved(self) -> None:
        done = self._at - self._start
        self._management.moved = {"TransferBytes": done, "StartByte": self._start, "Bytescont": self._at}

    def _encryption(self) -> dict[str, str]:
        plain = "ascp_plain" in self._job.script or self._options.c == "none"
        return {"Encryption": "No", "Cipher": "none"} if plain else {"Encryption": "Yes", "Cipher": self._options.c}

    def _piece(self, end: int) -> int:
        """Bytes of the next piece: one that ends where a fault happens is cut there."""
        at = self._job.fault_at
        cut = at - self._at if self._job.script and self._at < at < end else PIECE
        return min(PIECE, cut)

    def _write(self, fd: int, data: bytes) -> None:
        if "ascp_wrong_byte" in self._job.script and self._at + len(data) == self._job.size:
            data = data[:-1] + bytes([data[-1] ^ 1])
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(fd, data[written:], self._at + written)
        except OSError as error:
            raise Failure(25 if error.errno in (28, 122) else 36, f"Error writing to disk: {error.strerror}") from error
        self._at += len(data)
        self._moved()
        self._note()

    def _script(self) -> None:
        """Do what the faults say, once the byte is reached."""
        script, job = self._job.script, self._job
        if self._at < job.fault_at:
            return
        if "ascp_stalls" in script:
            while True:
                time.sleep(60)
        if "ascp_dies" in script:
            raise Died
        if "ats_transfer_token" in script:
            raise Failure(19, f"Server aborted session: {_CHARGED}")
        if "ascp_error" in script:
            raise Failure(job.fault_code, "Server aborted session: as the sandbox was told")

    def _report(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._told >= REPORT_EVERY:
            self._told = time.monotonic()
            self._management.send("STATS", Size=self._job.size, **self._encryption(), **self._management.moved)

    def _keep_to_the_rate(self, began: float) -> None:
        if self._rate:
            ahead = (self._at - self._start) / self._rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)

    # What it resumes by

    def _subject(self) -> dict[str, Any]:
        subject: dict[str, Any] = {"size": self._job.size, "modified": self._job.modified}
        return subject | ({"etag": self._job.etag} if self._options.k > 1 else {})

    def _resumable(self) -> int:
        """Say how many bytes of an earlier session can stay."""
        if self._options.k == 0 or not self._target.exists():
            return 0
        try:
            known = json.loads(self._meta.read_text(encoding="utf-8"))
            done = int(known.pop("done"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0
        return done if known == self._subject() and 0 <= done <= self._target.stat().st_size else 0

    def _note(self) -> None:
        if self._options.k:
            fresh = self._meta.with_suffix(".new")
            fresh.write_text(json.dumps(self._subject() | {"done": self._at}), encoding="utf-8")
            fresh.replace(self._meta)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line of ascp.

    :param words: without the program.
    :raises Failure: it is none that this stand-in takes.
    """

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise Failure(8, f"Incorrect usage: {message}")

    parser = Parser(prog="ascp", description=VERSION, allow_abbrev=False)
    parser.add_argument("-A", "--version", action="version", version=VERSION)
    parser.add_argument("-M", type=int, default=0, help="the management port")
    parser.add_argument("-q", action="store_true", help="quiet")
    parser.add_argument("-d", action="store_true", help="make folders")
    parser.add_argument("-k", type=int, choices=range(4), default=0, help="resume")
    parser.add_argument("-l", type=int, default=0, help="target rate in kilobits a second")
    parser.add_argument("-m", type=int, default=0, help="minimum rate")
    parser.add_argument("-P", type=int, default=22, help="TCP port")
    parser.add_argument("-O", type=int, default=33001, help="UDP port")
    parser.add_argument("-c", default="none", help="cipher")
    parser.add_argument("-i", action="append", default=[], help="private key, or authorities with WebSockets")
    for name in ("host", "user", "policy", "tags64", "file-pair-list", "source-prefix64", "check-sshfp"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--mode", choices=sorted(_MODES), required=True)
    parser.add_argument("--dest64", action="store_true")
    parser.add_argument("--ws-connect", action="store_true")
    parser.add_argument("destination")
    options = parser.parse_args(list(words))
    if not options.host or not options.file_pair_list:
        raise Failure(8, "Incorrect usage: this stand-in wants --host and --file-pair-list")
    return options


def receive(options: argparse.Namespace, management: Management) -> None:
    """Receive what a command line names.

    :param options: the command line.
    :param management: who is told.
    :raises Failure: it did not arrive.
    """
    token = os.environ.get("ASPERA_SCP_TOKEN", "")
    if not token:
        raise Failure(19, "Authentication failure: no token")
    if not options.ws_connect and not any(Path(one).is_file() for one in options.i):
        raise Failure(19, "Authentication failure: no private key")
    destination = options.destination
    if options.dest64:
        destination = base64.b64decode(destination, validate=True).decode()
    lines = Path(options.file_pair_list).read_text(encoding="utf-8").splitlines()
    if len(lines) != 2:
        raise Failure(8, "Incorrect usage: this stand-in takes one pair of source and destination")
    server = Server(options, token)
    job = server.job()
    if lines[0].lstrip("/") != job.source:
        raise Failure(41, "Server aborted session: the token is for another path")
    target = Path(destination) / lines[1].lstrip("/")
    Receiver(server=server, job=job, target=target, options=options, management=management).run()


def _cancelled(_number: int, _frame: FrameType | None) -> None:
    raise Failure(28, "Cancelled by user")


def main(words: Sequence[str] | None = None) -> int:
    """Run the program.

    :param words: its arguments; not given: the process's.
    :returns: its exit status.
    """
    signal.signal(signal.SIGTERM, _cancelled)
    try:
        options = parse(sys.argv[1:] if words is None else words)
    except Failure as failure:
        print(f"{VERSION}: {failure.words}", file=sys.stderr)  # noqa: T201 - a program for a terminal
        return 1
    if not options.q:
        print(VERSION)  # noqa: T201
    management = Management(options.M)
    management.send("INIT", Direction=_MODES[options.mode], Operation="Transfer")
    try:
        receive(options, management)
    except Died:
        return 1
    except Failure as failure:
        management.send("ERROR", Code=failure.code, Description=failure.words, **management.moved)
        print(f"{VERSION}: {failure.words}", file=sys.stderr)  # noqa: T201
        return 1
    management.send("DONE", **management.moved)
    return 0


if __name__ == "__main__":
    sys.exit(main())
