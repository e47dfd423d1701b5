"""Background programs: nothing outlives its stop, however far it went to get away, and nothing outlives its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import processes
from tools.keeper import MARK, descendants

# A grandchild in another session, orphaned, that overwrote its environment as Airflow's parts do, and ignores SIGTERM.
STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print('child', os.getpid(), flush=True);"
        os.execve(sys.executable, [sys.executable, "-c", code + "time.sleep(600)"], {})
    os._exit(0)
os.wait()
time.sleep(600)
"""
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def wait_for(path: Path, text: str) -> str:
    deadline = time.monotonic() + 20
    while text not in (found := path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline, f"{path} never held {text!r}"
        time.sleep(0.02)
    return found


def wait_gone(mark: str) -> None:
    deadline = time.monotonic() + 20
    while processes.running(mark):
        assert time.monotonic() < deadline, processes.running(mark)
        time.sleep(0.05)


def alive(pid: int) -> bool:
    return pid in descendants(1) or Path(f"/proc/{pid}").exists()


def begin(folder: Path, command: list[str], mark: str, name: str = "log") -> processes.Program:
    return processes.Program(command, env=os.environ, mark=mark, log=folder / name, cwd=folder)


def test_stop_ends_an_orphan_that_left_everything_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = processes.new_mark()
    begin(tmp_path, [sys.executable, "-c", STUBBORN], mark)
    child = int(wait_for(tmp_path / "log", "child").split()[1])
    pids = processes.running(mark)
    assert child in pids
    assert len(pids) == 3, "keeper, program and orphan"
    processes.stop(mark)
    assert processes.running(mark) == []
    assert not alive(child)


def test_stopping_a_program_is_enough(tmp_path: Path) -> None:
    mark = processes.new_mark()
    program = begin(tmp_path, [sys.executable, "-c", STUBBORN], mark)
    child = int(wait_for(tmp_path / "log", "child").split()[1])
    assert not program.ended()
    program.stop()
    assert program.ended()
    assert not alive(child)


def test_stop_leaves_others_alone(tmp_path: Path) -> None:
    ours, theirs = processes.new_mark(), processes.new_mark()
    other = begin(tmp_path, SLEEPER, theirs)
    wait_for(tmp_path / "log", "up")
    processes.stop(ours)
    assert not other.ended()
    other.stop()


def test_the_program_does_not_carry_the_keepers_mark(tmp_path: Path) -> None:
    mark = processes.new_mark()
    program = begin(tmp_path, [sys.executable, "-c", "import os; print(sorted(os.environ), flush=True)"], mark)
    assert MARK not in wait_for(tmp_path / "log", "]")
    wait_gone(mark)
    assert program.ended()


def test_a_program_that_ends_takes_its_children_along(tmp_path: Path) -> None:
    mark = processes.new_mark()
    code = f"import subprocess; subprocess.Popen({SLEEPER!r}); print('started', flush=True)"
    program = begin(tmp_path, [sys.executable, "-c", code], mark)
    wait_for(tmp_path / "log", "started")
    wait_gone(mark)
    assert program.ended()


def holder(folder: Path, mark: str, word: str = "") -> subprocess.Popen[bytes]:
    """A process that starts a program, does what the word says, and stays."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(Path(processes.__file__).parents[1])!r})
from pathlib import Path
from tools.processes import Program
program = Program({SLEEPER!r}, env=os.environ, mark={mark!r}, log=Path({str(folder / "log")!r}), cwd=Path("/"))
{word}
print("held", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    wait_for(folder / "log", "up")
    return process


def test_it_ends_with_its_holder_even_by_sigkill(tmp_path: Path) -> None:
    mark = processes.new_mark()
    process = holder(tmp_path, mark)
    assert len(processes.running(mark)) == 2
    process.kill()
    process.communicate()
    wait_gone(mark)


def test_what_is_let_go_stays_and_can_be_stopped(tmp_path: Path) -> None:
    mark = processes.new_mark()
    process = holder(tmp_path, mark, "program.let_go()")
    process.kill()
    process.communicate()
    time.sleep(0.5)  # the keeper looks ten times a second
    assert len(processes.running(mark)) == 2
    processes.stop(mark)
    assert processes.running(mark) == []


def test_what_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "running", lambda mark: [2**22 + 1])
    monkeypatch.setattr(time, "monotonic", iter(range(0, 1000, 6)).__next__)
    with pytest.raises(processes.StillRunningError, match=str(2**22 + 1)):
        processes.stop("nobody")


def test_free_ports_are_different_and_free() -> None:
    ports = processes.free_ports(5)
    assert len(set(ports)) == 5
    assert all(processes.port_is_free(port) for port in ports)


def test_no_two_processes_are_given_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    few = range(17900, 17908)
    code = (
        "import sys; from tools import processes; processes._PORTS = range(17900, 17908);"
        "print(*processes.free_ports(3), flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    theirs = {int(port) for port in other.stdout.readline().split()}
    monkeypatch.setattr(processes, "_PORTS", few)
    monkeypatch.setattr(processes, "_reserved", [])
    assert len(theirs) == 3
    ours = {port for port in few if processes._reserve(port)}
    assert not ours & theirs
    with pytest.raises(processes.StartFailedError, match="fewer than 1 "):
        processes.free_ports(1)
    other.communicate()
    theirs_again = set(processes.free_ports(3))
    assert theirs_again == theirs, "they are free again when who reserved them has gone"
    for name in processes._reserved:
        name.close()


def test_a_port_in_use_is_not_free() -> None:
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
    process = subprocess.Popen([sys.executable, "-c", code + "time.sleep(600)"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert not processes.port_is_free(int(process.stdout.readline()))
    process.kill()
    process.communicate()


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    assert processes.tail(tmp_path / "none") == ""
    (tmp_path / "log").write_text("\n".join(map(str, range(100))))
    assert processes.tail(tmp_path / "log", lines=3) == "97\n98\n99"


def test_its_process_id_is_told(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    program = begin(tmp_path, [sys.executable, "-c", code], processes.new_mark())
    assert program.pid == int(wait_for(tmp_path / "log", "\n"))
    program.stop()


def test_a_command_that_is_not_there_has_none(tmp_path: Path) -> None:
    program = begin(tmp_path, [str(tmp_path / "none")], processes.new_mark())
    with pytest.raises(processes.StartFailedError):
        program.pid  # noqa: B018 - reading it is the test
    program.stop()


def test_what_a_killed_program_leaves_lives_on_where_it_stays(tmp_path: Path) -> None:
    mark = processes.new_mark()
    program = processes.Program(
        [sys.executable, "-c", STUBBORN], env=os.environ, mark=mark, log=tmp_path / "log", cwd=tmp_path, stays=True
    )
    child = int(wait_for(tmp_path / "log", "child").split()[1])
    assert sorted(program.left()) == sorted([program.pid, child])
    os.kill(program.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not program.ended():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert program.left() == [child]
    program.stop()
    assert program.ended()
    assert processes.running(mark) == []
