"""One run of a program in the place of ascp: it is listened to, ended in time, and judged by how it ended."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealift.cos.redact import Redactor
from sealift.transfer.aspera.command import Command
from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.aspera.management import ManagementPort
from sealift.transfer.aspera.session import Patience, Session
from sealift.transfer.errors import EngineUnavailableError, Stopped

TALK = """\
import os, random, signal, socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def say(kind, **fields):
    lines = ["FASPMGR 2", "Type: " + kind] + [f"{name}: {one}" for name, one in fields.items()]
    sock.sendall(("\\n".join(lines) + "\\n\\n").encode())
say("INIT")
"""


class Runner:
    """Runs programs of a few lines as a session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop = threading.Event()
        self.progress: list[tuple[int, int]] = []
        self.seconds = 0.0

    def run(self, program: str, *, patience: Patience | None = None) -> None:
        """Run a program of Python that has connected to the port already."""
        self.run_file(self.script(TALK + textwrap.dedent(program)), patience=patience)

    def script(self, text: str) -> Path:
        path = self.folder / "program.py"
        path.write_text(f"#!{sys.executable} -IS\n{text}")
        path.chmod(0o755)
        return path

    def run_file(self, path: Path, *, patience: Patience | None = None) -> None:
        port = ManagementPort()
        began = time.monotonic()
        try:
            Session(
                command=Command(argv=(str(path), str(port.port)), environment={"ASPERA_SCP_TOKEN": "PLANTED-token"}),
                port=port,
                folder=self.folder,
                kept_open=[],
                progress=lambda start, there: self.progress.append((start, there)),
                redact=Redactor(["PLANTED-token"]),
                stop=self.stop,
                patience=patience or Patience(connect=20, progress=20, leave=20, terminate=5),
            ).run()
        finally:
            port.close()
            self.seconds = time.monotonic() - began

    def failure(self, program: str, *, patience: Patience | None = None) -> AsperaError:
        with pytest.raises(AsperaError) as caught:
            self.run(program, patience=patience)
        assert "PLANTED" not in str(caught.value)
        return caught.value


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    made = Runner(tmp_path)
    yield made
    left = [pid for pid in os.listdir("/proc") if pid.isdigit() and _runs(int(pid), str(tmp_path))]
    assert not left, "no program is left behind"


def _runs(pid: int, word: str) -> bool:
    try:
        return word in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return False


def test_progress_is_told_as_it_grows(runner: Runner) -> None:
    runner.run(
        """
        for done in (0, 10, 10, 5, 30):
            say("STATS", TransferBytes=done, StartByte=100)
        say("DONE", TransferBytes=30, StartByte=100)
        """
    )
    assert runner.progress == [(100, 100), (100, 110), (100, 130)]


@pytest.mark.parametrize(
    ("code", "retryable", "refused"),
    [(4, False, False), (13, True, False), (19, False, True), (29, False, False), (37, True, True), (47, True, False)],
)
def test_an_error_is_told_by_its_number_and_in_words(runner: Runner, code: int, retryable: bool, refused: bool) -> None:
    error = runner.failure(f'say("ERROR", Code={code}, Description="it went PLANTED-token wrong")\nsys.exit(1)')
    assert (error.code, error.retryable, error.refused) == (code, retryable, refused)
    assert f'"it went *** wrong", error {code}' in str(error)


def test_words_about_a_token_ask_for_a_new_one_whatever_the_number(runner: Runner) -> None:
    error = runner.failure('say("ERROR", Code=1, Description="aborted: bearer token expired")\nsys.exit(1)')
    assert (error.refused, error.retryable) == (True, False)


@pytest.mark.parametrize("kind", ["FILEERROR", "DONE"])
def test_an_error_of_a_file_or_at_the_end_is_one_though_the_status_is_good(runner: Runner, kind: str) -> None:
    error = runner.failure(f'say("{kind}", Code=5, Description="no permission")\nsay("DONE")')
    assert error.code == 5


def test_a_program_that_never_reports_does_not_work_here(runner: Runner) -> None:
    path = runner.script('import sys\nprint("bad licence PLANTED-token \\x1b[31m")\nsys.exit(3)\n')
    with pytest.raises(AsperaError) as caught:
        runner.run_file(path)
    assert not caught.value.retryable
    assert 'ended with status 3 and the words "bad licence *** [31m"' in str(caught.value)


def test_a_program_that_ends_in_the_middle_may_do_better_next_time(runner: Runner) -> None:
    assert runner.failure("sys.exit(2)").retryable
    error = runner.failure("os.kill(os.getpid(), signal.SIGKILL)")
    assert error.retryable
    assert "signal 9" in str(error)


def test_a_program_that_cannot_be_started_is_no_engine(runner: Runner, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"\x00\x01")
    text.chmod(0o755)
    for path in (tmp_path / "nowhere", tmp_path, text):
        with pytest.raises(EngineUnavailableError, match="cannot be started"):
            runner.run_file(path)


def test_one_that_stands_still_is_ended(runner: Runner) -> None:
    error = runner.failure("time.sleep(60)", patience=Patience(connect=20, progress=0.6, leave=20, terminate=5))
    assert error.retryable
    assert "No new byte" in str(error)
    assert runner.seconds < 15


def test_one_that_does_not_connect_is_ended(runner: Runner) -> None:
    path = runner.script("import time\ntime.sleep(60)\n")
    with pytest.raises(AsperaError, match="did not report") as caught:
        runner.run_file(path, patience=Patience(connect=0.6, progress=20, leave=20, terminate=5))
    assert caught.value.retryable


def test_one_that_does_not_heed_sigterm_is_killed(runner: Runner) -> None:
    patience = Patience(connect=20, progress=0.6, leave=20, terminate=0.5)
    runner.failure('signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay("STATS")\ntime.sleep(60)', patience=patience)
    assert runner.seconds < 15


def test_what_it_started_itself_ends_with_it(runner: Runner) -> None:
    patience = Patience(connect=20, progress=0.6, leave=20, terminate=5)
    program = "import subprocess\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', __file__])"
    runner.failure(program, patience=patience)
    assert runner.seconds < 15


def test_one_that_has_said_its_last_word_and_does_not_leave_is_ended(runner: Runner) -> None:
    runner.run('say("DONE", TransferBytes=5)\ntime.sleep(60)', patience=Patience(connect=20, progress=20, leave=0.5))
    assert runner.seconds < 15


def test_stopping_ends_it_at_once(runner: Runner) -> None:
    threading.Timer(0.5, runner.stop.set).start()
    with pytest.raises(Stopped):
        runner.run("time.sleep(60)")
    assert runner.seconds < 15


@pytest.mark.parametrize("when", ["before a byte", "at the end"])
def test_bytes_in_plain_end_it(runner: Runner, when: str) -> None:
    said = 'say("SESSION", Encryption="No")\n'
    rest = "time.sleep(60)" if when == "before a byte" else 'say("DONE")'
    error = runner.failure(said + rest)
    assert "without encryption" in str(error)
    assert not error.retryable


def test_rubbish_on_the_port_is_no_progress(runner: Runner) -> None:
    program = """
    source = random.Random(1)
    try:
        while True:
            sock.sendall(source.randbytes(65536))
            time.sleep(0.02)
    except OSError:
        pass
    """
    error = runner.failure(program, patience=Patience(connect=20, progress=0.8, leave=20, terminate=5))
    assert "No new byte" in str(error)
    assert runner.progress == []


def test_what_it_prints_does_not_stop_it_and_is_not_kept(runner: Runner) -> None:
    runner.run('for _ in range(300):\n    print("x" * 1000)\nsay("DONE")')
    assert runner.seconds < 15


def test_it_gets_no_file_of_ours_but_what_is_meant_for_it(runner: Runner, tmp_path: Path) -> None:
    kept = os.open(tmp_path / "ours", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(kept, True)
    try:
        runner.run(
            f"""
            try:
                os.fstat({kept})
            except OSError:
                say("DONE")
            else:
                say("ERROR", Code=1, Description="it is open")
            """
        )
    finally:
        os.close(kept)
