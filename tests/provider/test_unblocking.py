"""The triggerer's parent and child cannot wait for each other for ever: the parent's answers never wait to be read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sealift.provider.unblocking import Unblocked, unblock_triggerer

pytestmark = pytest.mark.airflow
LARGE = 4 * 2**20
"""More than the buffers of a socket hold."""


def test_an_answer_that_nobody_reads_yet_keeps_nobody_waiting_and_arrives_in_order() -> None:
    here, there = socket.socketpair()
    with here, there:
        unblocked = Unblocked(here)
        first, second = b"a" * LARGE, b"b" * LARGE
        unblocked.sendall(first)
        unblocked.sendall(second)
        # Nothing was read, and both calls have returned.
        found = bytearray()
        while len(found) < 2 * LARGE:
            found += there.recv(2**20)
        assert bytes(found) == first + second
        assert unblocked.fileno() == here.fileno()


def test_a_peer_that_has_gone_is_told_of_by_the_next_answer() -> None:
    here, there = socket.socketpair()
    with here:
        unblocked = Unblocked(here)
        there.close()
        unblocked.sendall(b"lost")
        unblocked.over.wait(30)
        with pytest.raises(BrokenPipeError):
            unblocked.sendall(b"lost as well")


def test_a_parent_and_a_child_that_both_write_first_come_to_an_end() -> None:
    """What stood still: the child writes lines before it reads its answer, the parent answers before it reads lines."""

    def exchange(answers: object, *, lines: socket.socket, child: threading.Thread) -> bool:
        def parent() -> None:
            try:
                answers.sendall(b"x" * LARGE)  # type: ignore[attr-defined]
                left = LARGE
                while left:
                    left -= len(lines.recv(2**20))
            except OSError:  # the test has ended
                return

        whole = threading.Thread(target=parent, daemon=True)
        child.start()
        whole.start()
        whole.join(timeout=5)
        return not whole.is_alive()

    def pair() -> tuple[socket.socket, socket.socket, threading.Thread]:
        answers, asks = socket.socketpair()
        lines, logs = socket.socketpair()

        def child() -> None:
            try:
                logs.sendall(b"y" * LARGE)
                left = LARGE
                while left:
                    left -= len(asks.recv(2**20))
            except OSError:  # the test has ended
                return

        return answers, lines, threading.Thread(target=child, daemon=True)

    answers, lines, child = pair()
    assert not exchange(answers, lines=lines, child=child), "as it is without, both wait"
    for one in (answers, lines):
        one.shutdown(socket.SHUT_RDWR)
    child.join(timeout=30)
    answers, lines, child = pair()
    assert exchange(Unblocked(answers), lines=lines, child=child)
    child.join(timeout=30)
    assert not child.is_alive()


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["airflow", "triggerer"], True),
        (["airflow", "triggerer", "--skip-serve-logs"], True),
        (["airflow", "scheduler"], False),
        (["airflow", "celery", "worker"], False),
        (["airflow"], False),
    ],
)
def test_airflows_own_start_changes_the_triggerer_and_no_other_program(
    arguments: list[str], changed: bool, tmp_path: Path
) -> None:
    """By the settings file that is shipped, imported as Airflow imports it."""
    shipped = Path(__file__).resolve().parents[2] / "deploy" / "airflow" / "airflow_local_settings.py"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "airflow_local_settings.py").write_text(shipped.read_text())
    program = (
        f"import sys; sys.argv = {arguments!r}\n"
        "import airflow.settings\n"
        "import airflow.jobs.triggerer_job_runner as runner\n"
        "print('changed:', runner.TriggerRunnerSupervisor.send_msg.__module__ == 'sealift.provider.unblocking')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__UNIT_TEST_MODE": "False"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"changed: {changed}" in done.stdout


def test_other_programs_are_left_alone() -> None:
    assert not unblock_triggerer(["pytest"])
    assert not unblock_triggerer([])
