"""The stand-in for ascp as a program: what it calls itself, what it takes, what it reports, and how it ends."""

from __future__ import annotations

import base64
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox import Sandbox
from tests.sandbox.aspera.ats_client import Client

PIECE = 256 * 1024


class Program:
    """Runs the program against a sandbox, with a management port of the test's own."""

    def __init__(self, box: Sandbox, folder: Path) -> None:
        self.box = box
        self.client = Client(box)
        self.folder = folder
        self.data = b""

    def put(self, size: int, *, seed: int = 1) -> None:
        self.data = random.Random(seed).randbytes(size)
        self.box.store.put_bytes(bucket=self.box.bucket, key="a/disk.vhd", data=self.data)

    def words(self, *more: str) -> list[str]:
        pairs = self.folder / "pairs"
        pairs.write_text("a/disk.vhd\ndisk.vhd\n")
        host, port = self.box.ats.url.removeprefix("http://").split(":")
        folder = base64.b64encode(str(self.folder / "data").encode()).decode()
        fixed = ["--mode", "recv", f"--host={host}", "--user", "xfer", "-P", port, "-c", "aes128", "--ws-connect", "-d"]
        return [str(self.box.ascp), *fixed, f"--file-pair-list={pairs}", *more, "--dest64", folder]

    def run(self, *more: str, token: str | None = None, then: Any = None) -> tuple[int, list[dict[str, str]]]:
        """Run it, and return its exit status and its reports."""
        environment = {"ASPERA_SCP_TOKEN": self.client.spec()["token"] if token is None else token}
        with socket.create_server(("127.0.0.1", 0)) as server:
            process = subprocess.Popen(
                self.words("-M", str(server.getsockname()[1]), *more),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            server.settimeout(20)
            connection, _ = server.accept()
            connection.settimeout(20)
            told = b""
            with connection:
                while data := connection.recv(65536):
                    told += data
                    if then is not None:
                        then(process, told)
            self.printed = process.communicate(timeout=20)[0].decode()
        frames = []
        for text in told.decode().split("\n\n"):
            header, *lines = text.splitlines() or [""]
            if header:
                assert header == "FASPMGR 2"
                frames.append(dict(line.split(": ", 1) for line in lines))
        return process.returncode, frames

    @property
    def file(self) -> Path:
        return self.folder / "data" / "disk.vhd"


@pytest.fixture
def program(make_sandbox: Any, tmp_path: Path) -> Program:
    return Program(make_sandbox(servers=1), tmp_path)


@pytest.mark.parametrize("word", ["--version", "-A", "--help"])
def test_it_says_what_it_is(program: Program, word: str) -> None:
    done = subprocess.run([program.box.ascp, word], capture_output=True, text=True, check=True)
    assert "stand-in for ascp" in done.stdout
    assert "not by FASP" in " ".join(done.stdout.split())
    assert "stand-in for IBM's ascp" in program.box.ascp.read_text()


def test_it_is_a_command_of_sealift_as_well(program: Program) -> None:
    command = [str(Path(sys.executable).with_name("sealift")), "sandbox", "ascp", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "stand-in for ascp" in done.stdout


@pytest.mark.parametrize("words", [[], ["--mode=send", "x"], ["--mode=recv", "-k", "9", "x"], ["--nonsense", "x"]])
def test_what_it_does_not_take_is_an_error(program: Program, words: list[str]) -> None:
    done = subprocess.run([program.box.ascp, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Incorrect usage" in done.stderr


def test_it_reports_from_its_beginning_to_its_end(program: Program) -> None:
    program.put(3 * PIECE + 7)
    status, frames = program.run()
    assert status == 0
    assert program.file.read_bytes() == program.data
    kinds = [one["Type"] for one in frames]
    assert kinds[:2] == ["INIT", "SESSION"]
    assert kinds[-2:] == ["STOP", "DONE"]
    assert set(kinds[2:-2]) == {"STATS"}
    assert len({one["SessionId"] for one in frames}) == 1
    assert frames[1]["Encryption"] == "Yes"
    assert frames[-1]["TransferBytes"] == str(len(program.data))
    assert [one.name for one in program.file.parent.iterdir()] == ["disk.vhd"]
    assert "stand-in for ascp" in program.printed


@pytest.mark.parametrize("level", ["1", "2", "3"])
def test_it_resumes_a_file_of_the_same_object(program: Program, level: str) -> None:
    program.put(4 * PIECE)
    program.box.switches.set("ascp_fault_at", 2 * PIECE)
    program.box.set_fault("ascp_error", times=1)
    status, frames = program.run("-k", level)
    assert status == 1
    assert (frames[-1]["Type"], frames[-1]["Code"], frames[-1]["Bytescont"]) == ("ERROR", "16", str(2 * PIECE))
    status, frames = program.run("-k", level)
    assert status == 0
    assert (frames[-1]["StartByte"], frames[-1]["TransferBytes"]) == (str(2 * PIECE), str(2 * PIECE))
    assert program.file.read_bytes() == program.data


@pytest.mark.parametrize("why", ["level 0", "another object", "no notes"])
def test_it_begins_anew_where_it_cannot_resume(program: Program, why: str) -> None:
    program.put(4 * PIECE)
    program.box.switches.set("ascp_fault_at", 2 * PIECE)
    program.box.set_fault("ascp_error", times=1)
    program.run("-k", "2")
    if why == "another object":
        program.put(4 * PIECE, seed=2)
    elif why == "no notes":
        program.file.with_name("disk.vhd.aspx").write_text("{")
    status, frames = program.run("-k", "0" if why == "level 0" else "2")
    assert status == 0
    assert frames[-1]["StartByte"] == "0"
    assert program.file.read_bytes() == program.data


def test_it_keeps_to_the_rate(program: Program) -> None:
    program.put(4 * PIECE)
    status, frames = program.run("-l", str(4 * PIECE * 8 // 1000))  # all of it in a second
    assert status == 0
    assert len([one for one in frames if one["Type"] == "STATS"]) >= 4, "it took its time"


def test_it_ends_on_sigterm_and_keeps_what_it_has(program: Program) -> None:
    program.put(8 * PIECE)
    asked = []

    def cancel(process: subprocess.Popen[bytes], told: bytes) -> None:
        if b"STATS" in told and not asked:
            asked.append(process.pid)
            os.kill(process.pid, signal.SIGTERM)

    status, frames = program.run("-k", "2", "-l", str(PIECE * 8 // 1000), then=cancel)
    assert status == 1
    assert (frames[-1]["Type"], frames[-1]["Code"]) == ("ERROR", "28")
    status, frames = program.run("-k", "2")
    assert int(frames[-1]["StartByte"]) >= PIECE
    assert program.file.read_bytes() == program.data


@pytest.mark.parametrize(("token", "code"), [("", "19"), ("SANDBOX_http_unknown", "37")])
def test_who_may_not_is_told_so(program: Program, token: str, code: str) -> None:
    program.put(10)
    status, frames = program.run(token=token)
    assert status == 1
    assert (frames[-1]["Type"], frames[-1]["Code"]) == ("ERROR", code)


def test_over_ssh_it_wants_a_key(program: Program) -> None:
    program.put(10)
    words = program.words
    program.words = lambda *more: [one for one in words(*more) if one != "--ws-connect"]  # type: ignore[method-assign]
    _, frames = program.run()
    assert (frames[-1]["Type"], frames[-1]["Code"]) == ("ERROR", "19")
    key = program.folder / "key"
    key.write_text("a key")
    status, _ = program.run("-i", str(key))
    assert status == 0


def test_a_token_is_for_the_path_that_it_was_made_for(program: Program) -> None:
    program.put(10)
    words = program.words

    def other(*more: str) -> list[str]:
        made = words(*more)
        (program.folder / "pairs").write_text("a/other.vhd\ndisk.vhd\n")
        return made

    program.words = other  # type: ignore[method-assign]
    _, frames = program.run()
    assert frames[-1]["Code"] == "41"


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("ascp_plain", lambda frames, data, file: frames[1]["Encryption"] == "No"),
        ("ascp_wrong_byte", lambda frames, data, file: file.read_bytes() == data[:-1] + bytes([data[-1] ^ 1])),
        ("ascp_short", lambda frames, data, file: file.read_bytes() == data[:-1] and frames[-1]["Type"] == "DONE"),
        ("ascp_dies", lambda frames, data, file: frames[-1]["Type"] not in {"DONE", "ERROR"}),
    ],
)
def test_faults(program: Program, fault: str, check: Any) -> None:
    program.put(PIECE + 1)
    program.box.set_fault(fault, times=1)
    _, frames = program.run()
    assert check(frames, program.data, program.file)
