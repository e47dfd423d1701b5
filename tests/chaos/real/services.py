"""What all exports share is killed: triggerers, schedulers, the API server, the sandbox."""

from __future__ import annotations

from tests.chaos.real import edges
from tests.chaos.real.points import Caller, Hit, Trap
from tests.chaos.real.scenario import Play, scenario
from tests.chaos.real.stage import CAPTURE, WAIT_EXPORT, WAIT_TEMPLATE, Edge, Run, Stage


def _killed_at(edge: Edge, *names: str) -> Play:
    def play(stage: Stage) -> None:
        run = stage.start(before=lambda run: stage.trap(edge, run, lambda hit: stage.take_away(*names)))
        stage.traps[0].wait(stage.patience)
        stage.bring_back()
        stage.all_exported(run)

    return play


# Triggerers


def _triggerer(wait: str, *, service: str, method: str, held: bool = False) -> Play:
    """The triggerer that has a wait is killed when a poll of it arrives, and comes back after the other took over.

    :param held: it is held instead, and then goes on with a wait that is the other's by now.
    """

    def play(stage: Stage) -> None:
        struck: list[tuple[str, int | None]] = []

        def has_it(caller: Caller) -> bool:
            name = None if caller.pid is None else stage.world.airflow.owner(caller.pid)
            found = run.state(wait, 0)
            return name is not None and found is not None and stage.world.has_job(name, found.triggerer)

        def strike(hit: Hit) -> None:
            name, found = stage.world.airflow.owner(hit.caller.pid or 0), run.state(wait, 0)
            assert name is not None
            assert found is not None
            struck.append((name, found.triggerer))
            stage.points.append(f"{wait.partition('.')[2]}: a poll of it arrived")
            (stage.hold if held else stage.take_away)(name)

        def set_trap(run: Run) -> None:
            target = run.prefix if service == "cos" else ""
            name = f"a poll of {wait} of {run.wave}"
            stage.watch(Trap(name, service, method, "arrived", target=target, by=has_it, act=strike))

        run = stage.start(before=set_trap)
        stage.traps[0].wait(stage.patience)
        run.wait_moved(wait, struck[0][1])
        stage.bring_back()
        stage.all_exported(run)

    return play


scenario("triggerer killed while a capture waits for an offline slot, the other takes over")(
    _triggerer(CAPTURE, service="classic", method="*")
)
scenario("triggerer killed while a server is captured, the other takes over")(
    _triggerer(WAIT_TEMPLATE, service="classic", method="*")
)
scenario("triggerer killed while it lists an export's objects, the other takes over")(
    _triggerer(WAIT_EXPORT, service="cos", method="ListObjectsV2")
)

scenario("triggerer held while a capture waits for an offline slot, goes on when the other has taken over")(
    _triggerer(CAPTURE, service="classic", method="*", held=True)
)
scenario("triggerer held while a server is captured, goes on when the other has taken over")(
    _triggerer(WAIT_TEMPLATE, service="classic", method="*", held=True)
)


def _starts(edge: Edge, wait: str, *, held: bool = False, loses_reply: bool = False) -> Play:
    """The triggerer that starts something is killed on the way, and comes back after the other took over.

    :param wait: the task that it does it for.
    :param held: it is held instead, and then goes on with a wait that is the other's by now.
    :param loses_reply: the reply gets lost, and it is killed when it looks for what came of it.
    """
    look = Edge(f"{wait.partition('.')[2]}: looks after a lost reply", "classic", "*TemplateGroups", "arrived", "")

    def play(stage: Stage) -> None:
        struck: list[int | None] = []

        def strike(hit: Hit) -> None:
            name, found = stage.world.airflow.owner(hit.caller.pid or 0), run.state(wait, 0)
            assert name is not None
            assert found is not None
            assert name.startswith("triggerer"), f"{hit.point} came from {name}"
            if not loses_reply or look.name in stage.points:
                struck.append(found.triggerer)
                (stage.hold if held else stage.take_away)(name)
            else:
                stage.lose_reply(hit)
                stage.trap(look, run, strike)

        run = stage.start(before=lambda run: stage.trap(edge, run, strike))
        stage.traps[0].wait(stage.patience)
        if loses_reply:
            stage.traps[1].wait(stage.patience)
        run.wait_moved(wait, struck[0])
        stage.bring_back()
        stage.all_exported(run)

    return play


for _wait, _edges in ((CAPTURE, edges.CAPTURING_EDGES), (WAIT_TEMPLATE, edges.EXPORTING_EDGES)):
    for _edge in _edges:
        scenario(f"triggerer killed at {_edge.name}, the other takes over", alone=True)(_starts(_edge, _wait))
scenario("triggerer held between its slot and its capture, goes on when the other has taken over", alone=True)(
    _starts(edges.anybodys(edges.SLOT_WRITTEN), CAPTURE, held=True)
)
scenario("reply of createArchiveTemplate lost, triggerer killed right after", alone=True)(
    _starts(edges.anybodys(edges.CAPTURE_ARRIVED), CAPTURE, loses_reply=True)
)
scenario("triggerer held between its claim and copyToIcos, goes on when the other has taken over", alone=True)(
    _starts(edges.CLAIM_WRITTEN, WAIT_TEMPLATE, held=True)
)
scenario("reply of copyToIcos lost, triggerer killed right after", alone=True)(
    _starts(edges.EXPORT_ARRIVED, WAIT_TEMPLATE, loses_reply=True)
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


@scenario("scheduler killed at createArchiveTemplate arrived, its workers live on", engine="workers")
def scheduler_without_workers(stage: Stage) -> None:
    """The worker that nobody waits for captures; it is held until Airflow has started another try."""

    def kill(hit: Hit) -> None:
        stage.take_away(stage.scheduler_of(hit), descendants_too=False)
        hit.worker.hold()

    run = stage.start(before=lambda run: stage.trap(edges.CAPTURE_ARRIVED, run, kill))
    hit = stage.traps[0].wait(stage.patience)
    try:
        stage.bring_back()
        run.wait_other_try(CAPTURE, hit.worker.ti_id)
    finally:
        hit.worker.go_on()
    stage.wait_gone(hit.worker)
    stage.all_exported(run)


@scenario("scheduler killed with all of its workers at createArchiveTemplate carried out", engine="workers")
def scheduler_with_workers(stage: Stage) -> None:
    def kill(hit: Hit) -> None:
        stage.take_away(stage.scheduler_of(hit))

    run = stage.start(before=lambda run: stage.trap(edges.CAPTURE_DONE, run, kill))
    stage.traps[0].wait(stage.patience)
    stage.bring_back()
    stage.all_exported(run)


scenario("both schedulers killed with all workers while a manifest is written, and started again")(
    _killed_at(edges.MANIFEST_ARRIVED, "scheduler-0", "scheduler-1")
)


# The API server


for _edge in (edges.CAPTURE_PUSHED, edges.CAPTURE_SUCCESS, edges.PROVE_SUCCESS):
    scenario(f"API server killed at {_edge.name}", engine=_edge.engine)(_killed_at(_edge, "api-server"))


# The account and the bucket


for _edge in (edges.CAPTURE_DONE, edges.EXPORT_ARRIVED, edges.MANIFEST_DONE):
    scenario(f"account and bucket away at {_edge.name}", engine=_edge.engine)(_killed_at(_edge, "sandbox"))


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
