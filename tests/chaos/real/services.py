"""What all exports share is killed: triggerers, schedulers, the API server, the sandbox."""

from __future__ import annotations

from tests.chaos.real import edges
from tests.chaos.real.points import Caller, Hit, Trap
from tests.chaos.real.scenario import Play, scenario
from tests.chaos.real.stage import CAPTURE, WAIT_EXPORT, WAIT_TEMPLATE, Edge, Stage


def _killed_at(edge: Edge, *names: str) -> Play:
    def play(stage: Stage) -> None:
        run = stage.start(before=lambda run: stage.trap(edge, run, lambda hit: stage.take_away(*names)))
        stage.traps[0].wait(stage.patience)
        stage.bring_back()
        stage.all_exported(run)

    return play


# Triggerers


def _triggerer_killed(wait: str, *, service: str, method: str) -> Play:
    """The triggerer that has a wait is killed when its next poll arrives, and comes back after the other took over."""

    def play(stage: Stage) -> None:
        run = stage.start()
        job = run.wait_waiting(wait).triggerer
        assert job is not None
        name = stage.world.name_of_job(job)

        def its_own(caller: Caller) -> bool:
            return caller.pid is not None and stage.world.airflow.owner(caller.pid) == name

        def kill(hit: Hit) -> None:
            stage.points.append(f"{wait.partition('.')[2]}: a poll of it arrived")
            stage.take_away(name)

        target = run.prefix if service == "cos" else ""
        poll = Trap(
            name=f"{wait}: the next poll of {name}",
            service=service,
            method=method,
            phase="arrived",
            target=target,
            by=its_own,
            act=kill,
        )
        stage.watch(poll).wait(stage.patience)
        run.wait_moved(wait, job)
        stage.bring_back()
        stage.all_exported(run)

    return play


scenario("triggerer killed while a capture waits, the other takes over")(
    _triggerer_killed(CAPTURE, service="classic", method="*")
)
scenario("triggerer killed at its first poll for wait_for_template, the other takes over")(
    _triggerer_killed(WAIT_TEMPLATE, service="classic", method="*")
)
scenario("triggerer killed while it lists an export's objects, the other takes over")(
    _triggerer_killed(WAIT_EXPORT, service="cos", method="ListObjectsV2")
)


@scenario("both triggerers killed while a template is waited for, and started again")
def both_triggerers(stage: Stage) -> None:
    run = stage.start()
    run.wait_waiting(WAIT_TEMPLATE)
    stage.points.append("wait_for_template: a triggerer has it")
    stage.take_away("triggerer-0", "triggerer-1")
    stage.bring_back()
    stage.all_exported(run)


# Schedulers


@scenario("scheduler killed at createArchiveTemplate arrived, its workers live on")
def scheduler_without_workers(stage: Stage) -> None:
    """The worker captures, while the other scheduler takes it for lost and starts another try."""

    def kill(hit: Hit) -> None:
        stage.take_away(stage.scheduler_of(hit), descendants_too=False)

    run = stage.start(before=lambda run: stage.trap(edges.CAPTURE_ARRIVED, run, kill))
    hit = stage.traps[0].wait(stage.patience)
    run.wait_other_try(CAPTURE, hit.worker.ti_id)
    stage.bring_back()
    stage.all_exported(run)


@scenario("scheduler killed with all of its workers at copyToIcos carried out")
def scheduler_with_workers(stage: Stage) -> None:
    def kill(hit: Hit) -> None:
        stage.take_away(stage.scheduler_of(hit))

    run = stage.start(before=lambda run: stage.trap(edges.EXPORT_DONE, run, kill))
    stage.traps[0].wait(stage.patience)
    stage.bring_back()
    stage.all_exported(run)


scenario("both schedulers killed with all workers while a manifest is written, and started again")(
    _killed_at(edges.MANIFEST_ARRIVED, "scheduler-0", "scheduler-1")
)


# The API server


for _edge in (edges.CAPTURE_PUSHED, edges.CAPTURE_DEFERS, edges.PROVE_SUCCESS):
    scenario(f"API server killed at {_edge.name}")(_killed_at(_edge, "api-server"))


# The account and the bucket


for _edge in (edges.CAPTURE_DONE, edges.EXPORT_ARRIVED, edges.MANIFEST_DONE):
    scenario(f"account and bucket away at {_edge.name}")(_killed_at(_edge, "sandbox"))


def _killed_while(kind: str, name: str) -> Play:
    def play(stage: Stage) -> None:
        run = stage.start()
        stage.wait_transaction(run.guests[0], kind)
        stage.points.append(f"account: the {kind} runs")
        stage.take_away(name)
        stage.bring_back()
        stage.all_exported(run)

    return play


for _kind in ("capture", "export"):
    scenario(f"account and bucket away while the {_kind} runs")(_killed_while(_kind, "sandbox"))


scenario("SQLite: everything of Airflow killed while a server is offline, and started again", engine="sqlite")(
    _killed_while("capture", "standalone")
)
scenario("SQLite: account and bucket away while the export runs", engine="sqlite")(_killed_while("export", "sandbox"))
