"""Workers that are killed, held, or half killed at each edge of an export."""

from __future__ import annotations

import os
import signal

from tests.chaos.real import edges
from tests.chaos.real.points import Hit
from tests.chaos.real.scenario import SCENARIOS, Play, Scenario, scenario
from tests.chaos.real.stage import CAPTURE, Edge, Stage

LONG_GRACE_MINUTES = 1.5


def _kills_at(edge: Edge) -> Play:
    def play(stage: Stage) -> None:
        run = stage.start(before=lambda run: stage.trap(edge, run, stage.kill_worker))
        stage.traps[0].wait(stage.patience)
        stage.all_exported(run)

    return play


SCENARIOS += [
    Scenario(name=f"worker killed at {edge.name}", play=_kills_at(edge), engine=edge.engine)
    for edge in edges.WORKER_EDGES
]
SCENARIOS += [
    Scenario(name=f"SQLite: worker killed at {edge.name}", play=_kills_at(edge), engine="sqlite")
    for edge in (edges.CAPTURE_ARRIVED, edges.CAPTURE_DONE, edges.MANIFEST_ARRIVED)
]


@scenario("task process killed alone at createArchiveTemplate carried out", engine="workers")
def task_process_alone(stage: Stage) -> None:
    """Its supervisor lives and reports the end at once, as when the kernel runs out of memory."""

    def kill(hit: Hit) -> None:
        assert hit.worker.task is not None
        stage.strike([hit.worker.task])

    run = stage.start(before=lambda run: stage.trap(edges.CAPTURE_DONE, run, kill))
    stage.all_exported(run)
    assert run.tries(CAPTURE) >= 2


@scenario("supervisor killed alone at createArchiveTemplate arrived", engine="workers")
def supervisor_alone(stage: Stage) -> None:
    """The task's process lives on without anybody to report to, and captures."""

    def kill(hit: Hit) -> None:
        assert hit.worker.supervisor is not None
        stage.strike([hit.worker.supervisor])

    run = stage.start(before=lambda run: stage.trap(edges.CAPTURE_ARRIVED, run, kill))
    stage.all_exported(run)
    assert run.tries(CAPTURE) >= 2


def _held_between(taken: Edge, task: str, *, until: str = "") -> Play:
    """A worker stands still between its note and its submission, while Airflow gives it up and another try runs.

    Only the task's process is let go on: its supervisor would end it at once, told by Airflow that it was given up.

    :param taken: the note's edge, at which its answer has not come back: the worker cannot have gone on by itself.
    :param until: how the other try must stand before the worker goes on; empty for when it waits to be certain.
    """

    def play(stage: Stage) -> None:
        # Airflow gives the worker up after seconds, and the other try must begin while the note is young.
        grace = {} if until else {"grace_minutes": LONG_GRACE_MINUTES}
        run = stage.start(before=lambda run: stage.trap(taken, run, lambda hit: hit.worker.hold()), **grace)
        hit = stage.traps[0].wait(stage.patience)
        first = stage.world.metadata.try_of(hit.worker.ti_id)
        assert first is not None
        try:
            # On a very slow machine the note is old enough when the other try begins: then that one does it at once.
            if until:
                run.wait_state(task, until, index=0, beyond=first.try_number)
            else:
                run.wait_uncertain(task, beyond=first.try_number)
            assert hit.worker.task is not None
            with stage.next_call(hit.worker):
                os.kill(hit.worker.task, signal.SIGCONT)
        finally:
            hit.worker.go_on()
        stage.wait_gone(hit.worker)
        stage.all_exported(run)

    return play


SCENARIOS += [
    Scenario(
        name="worker held between its slot and its capture, goes on while another try waits to be certain",
        play=_held_between(edges.SLOT_WRITTEN, CAPTURE),
        engine="workers",
    ),
    Scenario(
        name="worker held between its slot and its capture, goes on after another try captured",
        play=_held_between(edges.SLOT_WRITTEN, CAPTURE, until="success"),
        engine="workers",
    ),
]


@scenario("reply of createArchiveTemplate lost, worker killed right after", engine="workers")
def lost_reply(stage: Stage) -> None:
    """The reply is lost, and the worker is killed when it looks for what came of it."""
    look = Edge("capture: looks after a lost reply", "classic", "*", "arrived", CAPTURE)

    def lose(hit: Hit) -> None:
        stage.lose_reply(hit)
        stage.trap(look, run, stage.kill_worker)

    run = stage.start(before=lambda run: stage.trap(edges.CAPTURE_ARRIVED, run, lose))
    stage.all_exported(run)
    assert look.name in stage.points
