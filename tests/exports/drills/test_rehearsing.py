"""Rehearsals: an export is brought back, proven and timed; what does not come back is noted, and nothing is left."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sealift.cos.errors import CosPermissionError, CosTransientError
from sealift.exports.drills import scratch
from sealift.exports.drills.choosing import choose_exports
from sealift.exports.drills.keys import Outcome
from sealift.exports.drills.models import Chosen
from sealift.exports.errors import RehearsalBrokenOffError, RehearsalFailedError, RehearsalUnfinishedError
from sealift.exports.proofs import proof_level
from sealift.images import emulator
from sealift.transfer.errors import NoSpaceError
from tests.exports.drills.world import BUCKET, PREFIX, World


class Killed(BaseException):
    """The process is killed here."""


def next_drill(world: World, drill: str, **how: Any) -> list[Chosen]:
    return choose_exports(world.cos, bucket=BUCKET, prefix=PREFIX, drill_id=drill, **{"within": 10, **how})


def test_proof_and_time_to_recover_stand_beside_the_manifest_and_no_file_is_left(world: World) -> None:
    chosen = world.export(kinds=("root", "data"))
    before = world.cos.objects[world.key_of(chosen)]
    seconds = itertools.chain([100.0, 130.0, 137.5], itertools.repeat(0.0))
    made = world.rehearse(chosen, level="L3", monotonic=lambda: next(seconds))
    assert world.cos.objects[world.key_of(chosen)] == before, "the manifest is never changed"
    (proof,) = world.proofs(chosen)
    assert (made.outcome, made.proof_level, made.asked_level) == (Outcome.PASSED, "L3", "L3")
    assert made.proof == f"nightly/proofs/101/{chosen.period}/0001.json"
    assert (proof.proof_level, proof.made_by, proof.content is not None) == ("L3", "a test", True)
    assert proof_level(world.manifest(chosen), [proof]) == "L3"
    assert [one.sha256 for one in proof.disks] == [
        hashlib.sha256(world.images[one]).hexdigest() for one in ("root", "data")
    ]
    recovery = proof.recovery
    assert recovery is not None
    assert recovery == made.recovery
    assert (recovery.seconds, recovery.download_seconds, recovery.proof_seconds) == (37.5, 30.0, 7.5)
    assert (recovery.boot_seconds, recovery.resumed_bytes, recovery.not_deeper) == (None, 0, "")
    assert recovery.bytes > sum(len(world.images[one]) for one in ("root", "data"))
    assert world.left() == []
    (noted,) = world.rehearsals()
    assert world.read(noted) == made


def test_at_l4_the_server_is_started_from_what_arrived(world: World) -> None:
    chosen = world.export(kinds=("root", "data"))
    made = world.rehearse(chosen, level="L4")
    (proof,) = world.proofs(chosen)
    assert made.proof_level == proof.proof_level == "L4"
    assert proof.boot is not None
    assert proof.boot.tries[-1].login
    assert made.recovery is not None
    assert made.recovery.boot_seconds == proof.boot.tries[-1].seconds > 0
    assert made.recovery.seconds >= made.recovery.boot_seconds
    assert world.left() == []


def test_a_machine_without_an_emulator_proves_less_and_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda _name: None)
    made = world.rehearse(world.export(kinds=("root", "data")), level="L4")
    assert (made.outcome, made.asked_level, made.proof_level) == (Outcome.PASSED, "L4", "L3")
    assert made.recovery is not None
    assert made.words == made.recovery.not_deeper
    assert re.match(r"Not started: qemu-system-x86_64 is not installed.*apt-get install", made.words)


def test_a_machine_that_cannot_be_started_at_all_is_no_fault_of_the_export(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_more: Any) -> Any:
        raise emulator.EmulatorError("The image starts by UEFI, for which there is no firmware here.")

    monkeypatch.setattr("sealift.exports.proving_servers.prove_boot", refuse)
    made = world.rehearse(world.export(kinds=("root", "data")), level="L4")
    assert (made.outcome, made.proof_level) == (Outcome.PASSED, "L3")
    assert made.words == "Not started: The image starts by UEFI, for which there is no firmware here."


def test_a_server_that_shows_no_prompt_to_programs_passes_at_l3_and_says_so(world: World) -> None:
    made = world.rehearse(world.export(kinds=("windows", "data")), level="L4")
    assert (made.outcome, made.proof_level) == (Outcome.PASSED, "L3")
    assert made.words.startswith("not started: its operating system")


def test_a_damaged_image_fails_in_words_is_noted_and_has_its_turn_first_in_the_next_drill(world: World) -> None:
    damaged, *others = [world.export(guest) for guest in (103, 101, 102)]
    world.damage(damaged)
    for one in others:
        world.rehearse(one)
    with pytest.raises(RehearsalFailedError) as caught:
        world.rehearse(damaged)
    words = str(caught.value)
    assert f"web103 (export {damaged.export_id}) did not come back" in words
    assert f"sealift prove-export {damaged.export_id}" in words
    assert "The next drill takes this server first." in words
    assert not caught.value.retryable
    assert world.proofs(damaged) == []
    (failed,) = [one for one in world.rehearsals() if one.outcome is Outcome.FAILED]
    told = world.read(failed)
    assert (told.hostname, told.words, told.check_id, told.proof_level) == ("web103", words, "etag", None)
    assert world.left() == []

    turns = next_drill(world, "drill-2", within=3)
    assert (turns[0].export_id, turns[0].why) == (damaged.export_id, "again")
    newer = world.export(103, day=7)
    turns = next_drill(world, "drill-2", within=3)
    assert turns[0].export_id == newer.export_id, "the newest export is the one to restore from"
    assert world.rehearse(newer, drill="drill-2").outcome is Outcome.PASSED
    assert [one.why for one in next_drill(world, "drill-3", within=3)] == ["longest-ago"]


def test_what_differs_from_an_earlier_reading_is_found_on_its_way(world: World) -> None:
    chosen = world.export()
    world.rehearse(chosen)
    disk = world.manifest(chosen).disks[0]
    body = bytearray(world.images["root"])
    body[len(body) // 2] ^= 1
    world.cos.store(disk.key, bytes(body), etag=disk.etag)
    with pytest.raises(RehearsalFailedError, match="was read with the SHA-256"):
        world.rehearse(chosen, drill="drill-2")
    assert world.left() == []


def test_an_object_that_was_replaced_fails(world: World) -> None:
    chosen = world.export()
    disk = world.manifest(chosen).disks[0]
    world.cos.store(disk.key, world.images["root"], etag="another")
    with pytest.raises(RehearsalFailedError, match=f"web101.*{chosen.export_id}.*did not come back"):
        world.rehearse(chosen)


def test_disks_that_hold_no_server_fail_at_l3_and_pass_at_l2(world: World) -> None:
    chosen = world.export(kinds=("data", "data"))
    assert world.rehearse(chosen).outcome is Outcome.PASSED
    with pytest.raises(RehearsalFailedError, match="not sound"):
        world.rehearse(chosen, level="L3", drill="drill-2")


def test_a_manifest_that_cannot_be_read_fails_as_nothing_can_be_restored_from_it(world: World) -> None:
    chosen = world.export()
    world.cos.store(world.key_of(chosen), b"{}")
    (turn,) = next_drill(world, "drill-1")
    assert (turn.hostname, turn.export_id) == ("101", chosen.export_id)
    with pytest.raises(RehearsalFailedError, match="is not a manifest that this version of Sealift can read"):
        world.rehearse(turn)


def test_the_manifest_of_another_export_fails(world: World) -> None:
    chosen, other = world.export(101), world.export(102)
    world.cos.store(world.key_of(chosen), world.cos.objects[world.key_of(other)][0])
    with pytest.raises(RehearsalFailedError, match=f"is the manifest of {other.export_id}"):
        world.rehearse(chosen)


def test_what_is_deleted_before_or_meanwhile_is_gone_and_no_failure(world: World) -> None:
    first, second, third = (world.export(guest) for guest in (101, 102, 103))
    del world.cos.objects[world.key_of(first)]
    assert world.rehearse(first).outcome is Outcome.GONE
    world.mark(second)
    assert world.rehearse(second).outcome is Outcome.GONE

    def retention(what: str) -> None:
        if what.startswith("open "):
            world.act = lambda _what: None
            world.mark(third)
            del world.cos.objects[world.manifest(third).disks[0].key]

    world.act = retention
    made = world.rehearse(third)
    assert (made.outcome, made.words) == (Outcome.GONE, "The export was deleted after it had been chosen.")
    assert world.left() == []
    assert not [key for key in world.cos.objects if "/proofs/" in key]
    assert {one.outcome for one in world.rehearsals()} == {Outcome.GONE}


def test_what_is_marked_while_it_is_proven_gets_no_proof(world: World) -> None:
    chosen = world.export()

    def progress(_key: str, _size: int, _count: int) -> None:
        if world.manifest(chosen).removal is None:
            world.mark(chosen)

    made = world.rehearse(chosen, progress=progress)
    assert (made.outcome, made.words) == (Outcome.GONE, "The export was deleted while it was rehearsed.")
    assert not [key for key in world.cos.objects if "/proofs/" in key]


def test_a_disk_without_room_is_found_before_the_first_byte_and_says_nothing_of_the_export(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = world.export()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("sealift.exports.delivery_places.shutil.disk_usage", lambda _path: usage)
    opened: list[str] = []
    world.act = lambda what: opened.append(what) if what.startswith("open ") else None
    with pytest.raises(
        RehearsalUnfinishedError, match=r"says nothing of the export: .*but only 1000 are free"
    ) as caught:
        world.rehearse(chosen)
    assert isinstance(caught.value.__cause__, NoSpaceError)
    assert opened == []
    assert [one.outcome for one in world.rehearsals()] == [Outcome.UNFINISHED]
    assert [one.why for one in next_drill(world, "drill-2")] == ["again"]
    assert world.left() == []


def test_a_store_that_fails_for_now_leaves_another_try_to_make(world: World) -> None:
    chosen = world.export()

    def fail(what: str) -> None:
        if what.startswith("head "):
            raise CosTransientError("the object store failed for now")

    world.act = fail
    with pytest.raises(RehearsalBrokenOffError) as caught:
        world.rehearse(chosen)
    assert caught.value.retryable
    world.act = lambda _what: None
    assert world.rehearse(chosen).outcome is Outcome.PASSED
    assert [one.outcome for one in world.rehearsals()] == [Outcome.UNFINISHED, Outcome.PASSED]
    assert [one.why for one in next_drill(world, "drill-2")] == ["longest-ago"], "the last try of a drill counts"


def test_a_key_that_may_only_read_says_that_nothing_could_be_noted(world: World) -> None:
    chosen = world.export()

    def refuse(what: str) -> None:
        if what.startswith("write "):
            raise CosPermissionError("the key may not write")

    world.act = refuse
    with pytest.raises(RehearsalUnfinishedError, match="And this could not be noted in the bucket"):
        world.rehearse(chosen)
    assert world.left() == []


def test_another_try_of_a_drill_that_passed_brings_nothing(world: World) -> None:
    chosen = world.export()
    made = world.rehearse(chosen)
    opened: list[str] = []
    world.act = lambda what: opened.append(what) if what.startswith("open ") else None
    assert world.rehearse(chosen) == made
    assert opened == []
    assert len(world.proofs(chosen)) == 1
    assert world.rehearse(chosen, drill="drill-2").outcome is Outcome.PASSED
    assert opened != []


def killable(patched: pytest.MonkeyPatch) -> None:
    """Have a kill end locks and leave files, as a kernel does."""
    remove = scratch._remove

    def removed(folder: Path, lock: int) -> None:
        if isinstance(sys.exception(), Killed):
            os.close(lock)
        else:
            remove(folder, lock)

    patched.setattr(scratch, "_remove", removed)


def kill_at(world: World, monkeypatch: pytest.MonkeyPatch, chosen: Chosen, number: int) -> bool:
    """Kill a rehearsal at its so-manieth call of the store; False where it has fewer."""
    count = 0

    def act(what: str) -> None:
        nonlocal count
        count += 1
        if count >= number:
            raise Killed(what)

    world.act = act
    with monkeypatch.context() as patched:
        killable(patched)
        try:
            world.rehearse(chosen)
        except Killed:
            return True
        finally:
            world.act = lambda _what: None
    return False


@pytest.mark.parametrize("again", ["drill-1", "drill-2"])
def test_killed_at_every_step_the_next_run_leaves_nothing_and_proves_once(
    world: World, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """Whether it is another try of the same drill, or the next drill."""
    left, steps = 0, 0
    for number in itertools.count(1):
        chosen = world.export(100 + number)
        if not kill_at(world, monkeypatch, chosen, number):
            break
        steps += 1
        left += bool(world.left())
        proven = len(world.proofs(chosen))
        made = world.rehearse(chosen, drill=again)
        assert made.outcome is Outcome.PASSED
        assert world.left() == []
        assert len(world.proofs(chosen)) == (proven if again == "drill-1" and proven else proven + 1)
        assert [one.drill_id for one in world.rehearsals() if one.guest_id == chosen.guest_id] == [again]
    assert steps >= 10
    assert left >= 3, "some of the kills have to leave files behind"


def test_what_a_killed_try_had_brought_is_taken_up_and_counts_as_no_measure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = world.export(kinds=("root", "data"))
    opened = 0

    def second_disk(what: str) -> None:
        nonlocal opened
        opened += what.startswith("open ") and "disk-1" in what
        if opened:
            raise Killed

    world.act = second_disk
    with monkeypatch.context() as patched:
        killable(patched)
        with pytest.raises(Killed):
            world.rehearse(chosen)
    brought: list[str] = []
    world.act = lambda what: brought.append(what) if what.startswith("open ") else None
    made = world.rehearse(chosen)
    assert brought
    assert all("disk-1" in one for one in brought)
    assert made.recovery is not None
    assert made.recovery.resumed_bytes == len(world.images["root"])


def test_a_folder_that_cannot_be_made_is_told_of(world: World, tmp_path: Path) -> None:
    (tmp_path / "sealift-drills").write_text("a file")
    with pytest.raises(RehearsalUnfinishedError, match="File exists"):
        world.rehearse(world.export())
