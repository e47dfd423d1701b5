"""Background processes: none outlives its stop, not even one that has left its session and ignores requests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import processes

# Starts a grandchild in another session that ignores SIGTERM, says so, and sleeps.
STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("child", os.getpid(), flush=True)
time.sleep(600)
"""


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline, f"{path} never held {text!r}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A zombie has ended; only its parent has not asked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_stop_ends_descendants_that_left_the_session(tmp_path: Path) -> None:
    mark, log = processes.new_mark(), tmp_path / "log"
    process = processes.start([sys.executable, "-c", STUBBORN], env=os.environ, mark=mark, log=log, cwd=tmp_path)
    wait_for(log, "child")
    pids = processes.marked(mark)
    assert process.pid in pids
    assert len(pids) == 2
    processes.stop(mark, patience=0.3)
    process.wait(timeout=10)
    assert processes.marked(mark) == []
    assert not any(alive(pid) for pid in pids)


def test_stop_leaves_others_alone(tmp_path: Path) -> None:
    ours, theirs = processes.new_mark(), processes.new_mark()
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    other = processes.start(command, env=os.environ, mark=theirs, log=tmp_path / "other", cwd=tmp_path)
    wait_for(tmp_path / "other", "up")
    processes.stop(ours)
    assert other.poll() is None
    processes.stop(theirs)
    assert other.wait(timeout=10) == -15


def test_what_is_on_a_leash_ends_with_its_holder_even_by_sigkill(tmp_path: Path, project_root: Path) -> None:
    mark, log = processes.new_mark(), tmp_path / "log"
    holder = f"""
import os, sys, time
sys.path.insert(0, {str(project_root)!r})
from pathlib import Path
from tools import processes
leash = processes.Leash({mark!r})
command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
processes.start(command, env=os.environ, mark={mark!r}, log=Path({str(log)!r}), cwd=Path("/"))
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", holder])
    wait_for(log, "up")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while processes.marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_let_go_stays(tmp_path: Path) -> None:
    mark = processes.new_mark()
    leash = processes.Leash(mark)
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    process = processes.start(command, env=os.environ, mark=mark, log=tmp_path / "log", cwd=tmp_path)
    wait_for(tmp_path / "log", "up")
    leash.let_go()
    assert process.poll() is None
    processes.stop(mark)
    process.wait(timeout=10)


def test_what_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "marked", lambda mark: [2**22 + 1])
    monkeypatch.setattr(time, "monotonic", iter(range(0, 1000, 6)).__next__)
    with pytest.raises(processes.StillRunningError, match=str(2**22 + 1)):
        processes.stop("nobody", patience=5)


def test_free_ports_are_different_and_free() -> None:
    ports = processes.free_ports(5)
    assert len(set(ports)) == 5
    code = "import socket, sys; [socket.create_server(('127.0.0.1', int(p))) for p in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", code, *map(str, ports)], check=True)


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    assert processes.tail(tmp_path / "none") == ""
    (tmp_path / "log").write_text("\n".join(map(str, range(100))))
    assert processes.tail(tmp_path / "log", lines=3) == "97\n98\n99"
