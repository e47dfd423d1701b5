"""What people do: clear tasks of a finished server, mark waiting ones, start runs side by side, wait for many."""

from __future__ import annotations

from tests.chaos.real import edges
from tests.chaos.real.scenario import Play, scenario
from tests.chaos.real.stage import CAPTURE, WAIT_EXPORT, WAIT_TEMPLATE, Stage
from tests.chaos.real.world import BUCKET

# Of a hundred requests about eight meet one of these.
NOISE = {
    f"{fault}@{service}": rate
    for service in ("classic", "cos", "iam")
    for fault, rate in {
        "lost_reply": 0.01,
        "reset_before": 0.01,
        "reset_after": 0.01,
        "truncated_body": 0.01,
        "http_503": 0.02,
        "after_502": 0.01,
        "slow": 0.02,
    }.items()
}
GROUP = (CAPTURE, WAIT_TEMPLATE, WAIT_EXPORT)


@scenario("each task of a finished server cleared, one after the other")
def clear_each(stage: Stage) -> None:
    run = stage.start()
    stage.all_exported(run)
    (guest,) = run.guests
    manifest = stage.world.store.path_of(BUCKET, run.manifest_key(guest))
    assert manifest is not None
    before, effects = manifest.read_bytes(), stage.effects_on(run)
    for task in GROUP:
        tries = run.tries(task)
        stage.world.api.clear("export_servers", run.wave, [(task, 0)], downstream=False)
        run.wait_state(task, "success", index=0, beyond=tries)
        # What is cleared while Airflow ends the run stays as it is, in a run that has ended.
        assert stage.world.api.wait("export_servers", run.wave, seconds=stage.patience) == "success"
    stage.points += [f"{task.partition('.')[2]} cleared" for task in GROUP]
    assert stage.effects_on(run) == effects, "nothing was captured, exported, uploaded or written again"
    after = stage.world.store.path_of(BUCKET, run.manifest_key(guest))
    assert after is not None
    assert after.read_bytes() == before, "the same manifest"


def _marked(state: str) -> Play:
    """The wait for a capture is marked by hand while its server is offline: the cap must hold, the log must help."""

    def play(stage: Stage) -> None:
        with stage.capped(1), stage.captures_last():
            run = stage.start(2, max_offline=1)
            first = stage.wait_offline(run.guests)
            second = next(guest for guest in run.guests if guest != first)
            index, other = run.index_of(first), run.index_of(second)
            run.wait_waiting(WAIT_TEMPLATE, index)
            run.wait_waiting(CAPTURE, other)
            stage.mark(run, WAIT_TEMPLATE, index, state)
            stage.points.append(f"capture marked {state} while its server is offline")
            run.wait_state(WAIT_TEMPLATE, state, index=index)
            stage.wait_polls(8)
            assert stage.captured(run) == [first], "the slot of a server that is offline is not free"
            stage.wait_log(run, WAIT_TEMPLATE, index, "Nothing was cancelled", f"sealift-{run.export_id(first)}")
            stage.end_capture(first)
            stage.wait_offline([second])
            stage.end_capture(second)
            # Marked as a success it left nothing to wait for, and the next task says so.
            assert run.end(seconds=stage.patience) == "failed"
            assert run.outcomes() == {run.export_id(first): "failed", run.export_id(second): "exported"}
            # What was marked is taken up again: the template is there.
            stage.world.api.clear("export_servers", run.wave, [(WAIT_TEMPLATE, index)])
            assert stage.world.api.wait("export_servers", run.wave, seconds=stage.patience) == "success"
            run.cleared = True
            stage.all_exported(run)
        assert stage.captured(run) == [first, second]

    return play


for _state in ("failed", "success"):
    scenario(f"a waiting capture marked {_state} while its server is offline", alone=True)(_marked(_state))


@scenario("two plan runs at once with different caps", alone=True)
def two_caps(stage: Stage) -> None:
    with stage.capped(3):
        narrow = stage.start(2, max_offline=1)
        wide = stage.start(4, max_offline=3)
        stage.all_exported(wide)
        stage.all_exported(narrow)
    stage.points.append("two runs wait for offline slots of one account")
    offline: set[int] = set()
    for event in stage.effects():
        if event.get("guest") not in {*narrow.guests, *wide.guests}:
            continue
        if event["what"] == "guest-offline":
            cap = 1 if event["guest"] in narrow.guests else 3
            assert len(offline) < cap, f"server {event['guest']} of a run with cap {cap} joined {sorted(offline)}"
            offline.add(event["guest"])
        elif event["what"] == "guest-online":
            offline.discard(event["guest"])


@scenario("two triggerers at once, one killed while 100 servers wait", alone=True)
def a_hundred_wait(stage: Stage) -> None:
    with stage.captures_last():
        run = stage.start(100, wave_size=100)
        # Who waits for a slot is not offline yet: its capture would begin when the others have been ended.
        waits = stage.wait_all_waiting(run, seconds=900)
        job = max(waits, key=lambda one: len(waits[one]))
        stage.points.append(f"100 servers wait, {len(waits[job])} of them in the triggerer that is killed")
        stage.take_away(stage.world.name_of_job(job))
        stage.wait_all_waiting(run, but=job)
        stage.end_capture(*run.guests)
        stage.bring_back()
    assert stage.captured(run) == list(dict.fromkeys(stage.captured(run))), "each was captured once"
    stage.all_exported(run, seconds=900)


@scenario("faults on every way to the account and the bucket, and a worker killed", alone=True, engine="workers")
def everything_at_random(stage: Stage) -> None:
    plan = stage.world.plan
    for text, rate in NOISE.items():
        plan.set(text, rate=rate)
    try:
        run = stage.start(4, before=lambda run: stage.trap(edges.CAPTURE_DONE, run, stage.kill_worker))
        stage.all_exported(run)
    finally:
        plan.clear()
