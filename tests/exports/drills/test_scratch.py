"""The scratch folder: gone after every end, also of a process that was killed, and never somebody else's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sealift.exports.drills.scratch import ROOM, clear_left, folder_name, scratch_folder, scratch_root
from sealift.exports.errors import SettingsError
from sealift.transfer.errors import InUseError, TransferError

NAME = folder_name(export_id="101-20261123T0200Z", drill_id="drill-1")
OTHER = folder_name(export_id="102-20261123T0200Z", drill_id="drill-1")

HOLD = """
import sys, time
from pathlib import Path
from sealift.exports.drills.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), sys.argv[2]) as folder:
    (folder / "disk-0.vhd.part").write_bytes(b"half")
    print("holds", flush=True)
    time.sleep(600)
"""


class Process:
    """Another process that is at a rehearsal."""

    def __init__(self, root: Path, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(root), name], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "holds\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_it_is_there_for_as_long_as_it_is_needed_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    root = scratch_root(tmp_path)
    assert root == tmp_path / ROOM
    with scratch_folder(root, NAME) as folder:
        (folder / "disk-0.vhd").write_bytes(b"image")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert list(root.iterdir()) == []


def test_it_is_gone_when_a_rehearsal_ends_badly(tmp_path: Path) -> None:
    def stop() -> None:
        with scratch_folder(tmp_path, NAME) as folder:
            (folder / "sub").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_and_what_runs_stays(tmp_path: Path) -> None:
    running, killed = Process(tmp_path, OTHER), Process(tmp_path, NAME)
    try:
        killed.kill()
        assert (tmp_path / NAME / "disk-0.vhd.part").exists()
        third = folder_name(export_id="103-x", drill_id="drill-1")
        with scratch_folder(tmp_path, third):
            assert not (tmp_path / NAME).exists()
            assert (tmp_path / OTHER / "disk-0.vhd.part").exists()
        assert {one.name for one in tmp_path.iterdir()} == {OTHER, f"{OTHER}.lock"}
        with pytest.raises(InUseError, match="Another process rehearses the same export"):
            scratch_folder(tmp_path, OTHER).__enter__()
    finally:
        running.kill()
    assert clear_left(tmp_path) == [OTHER]
    assert list(tmp_path.iterdir()) == []


def test_another_try_of_the_same_rehearsal_finds_what_a_killed_one_left(tmp_path: Path) -> None:
    Process(tmp_path, NAME).kill()
    with scratch_folder(tmp_path, NAME) as folder:
        assert (folder / "disk-0.vhd.part").read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_deleted_that_is_not_a_rehearsals_own(tmp_path: Path) -> None:
    kept = ("notes.txt", "web01.drill", "101-x.0123456.drill", "elsewhere")
    for name in kept:
        (tmp_path / name).mkdir()
    target = tmp_path / "elsewhere"
    (target / "precious").touch()
    (tmp_path / f"{NAME}.lock").touch()  # a crash right before its folder was made
    assert clear_left(tmp_path) == [NAME]
    assert {one.name for one in tmp_path.iterdir()} == set(kept)
    assert (target / "precious").exists()


@pytest.mark.parametrize("export_id", ["../../etc", "101-../../x", "101", ""])
def test_a_name_that_leads_elsewhere_is_none(export_id: str) -> None:
    with pytest.raises(SettingsError):
        folder_name(export_id=export_id, drill_id="d")


def test_a_folder_that_others_may_write_to_or_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.mkdir()
    shared.chmod(0o777)
    (tmp_path / "target").mkdir()
    link.symlink_to(tmp_path / "target")
    for root in (shared, link):
        with pytest.raises(TransferError, match="images are not brought there"), scratch_folder(root, NAME):
            pass
        assert list(root.iterdir()) == []


def test_names_tell_exports_and_drills_apart() -> None:
    assert NAME != OTHER
    assert folder_name(export_id="101-20261123T0200Z", drill_id="drill-2") != NAME
    assert NAME.startswith("101-20261123T0200Z.")
