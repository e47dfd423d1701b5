"""The simulator's baton: who sleeps lets others run, who is killed never runs again, and a seed decides the rest."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.sim.engine import START, Sim


def go(sim: Sim, seconds: float = 1000.0) -> None:
    sim.run(until=lambda: False, deadline=START + seconds)


def test_the_clock_jumps_to_whoever_wakes_first() -> None:
    sim = Sim(seed=1)
    seen: list[tuple[str, float]] = []

    def sleeper(name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            for _ in range(2):
                sim.sleep(seconds)
                seen.append((name, sim.now - START))

        return run

    sim.spawn("slow", "worker", sleeper("slow", 30.0))
    sim.spawn("quick", "worker", sleeper("quick", 20.0))
    go(sim)

    assert seen == [("quick", 20.0), ("slow", 30.0), ("quick", 40.0), ("slow", 60.0)]


def test_a_killed_process_runs_no_line_more_until_the_end() -> None:
    sim = Sim(seed=1)
    seen: list[str] = []

    def run() -> None:
        try:
            sim.sleep(10.0)
            seen.append("lived")
        finally:
            seen.append("finally")

    actor = sim.spawn("victim", "worker", run)
    sim.later(5.0, lambda: sim.kill(actor))
    go(sim)
    assert seen == []
    assert not actor.alive

    sim.close()
    assert seen == ["finally"]


def test_a_process_can_kill_itself_where_it_stands() -> None:
    sim = Sim(seed=1)
    seen: list[str] = []

    def run() -> None:
        seen.append("before")
        sim.kill(actor)
        seen.append("after")

    actor = sim.spawn("victim", "worker", run)
    go(sim)
    sim.close()

    assert seen == ["before"]


def test_a_stopped_process_goes_on_later_and_a_woken_one_sooner() -> None:
    sim = Sim(seed=1)
    seen: list[tuple[str, float]] = []

    def sleeper(name: str) -> Callable[[], None]:
        def run() -> None:
            sim.sleep(10.0)
            seen.append((name, sim.now - START))

        return run

    stopped = sim.spawn("stopped", "worker", sleeper("stopped"))
    woken = sim.spawn("woken", "worker", sleeper("woken"))
    sim.later(1.0, lambda: sim.freeze(stopped, 100.0))
    sim.later(2.0, lambda: sim.wake(woken))
    go(sim)

    assert seen == [("woken", 2.0), ("stopped", 101.0)]


def test_threads_live_and_die_with_their_process() -> None:
    sim = Sim(seed=1)
    seen: list[str] = []

    def thread() -> None:
        sim.sleep(10.0)
        seen.append("thread")

    def run() -> None:
        sim.thread(actor, thread)
        sim.sleep(100.0)

    actor = sim.spawn("process", "triggerer", run)
    sim.later(5.0, lambda: sim.kill(actor))
    go(sim)
    sim.close()

    assert seen == []


def test_each_process_has_module_variables_of_its_own() -> None:
    class Module:
        value = "everybody's"

    sim = Sim(seed=1)
    seen: list[str] = []

    def run() -> None:
        Module.value += "!"
        sim.sleep(1.0)
        seen.append(Module.value)

    for name in ("a", "b"):
        sim.spawn(name, "triggerer", run).has_own(Module, "value", name)
    go(sim)

    assert sorted(seen) == ["a!", "b!"]
    assert Module.value == "everybody's"


def test_what_is_due_at_the_same_moment_goes_in_an_order_that_the_seed_decides() -> None:
    def order(seed: int) -> list[int]:
        sim = Sim(seed=seed)
        seen: list[int] = []
        for number in range(8):
            sim.spawn(str(number), "worker", lambda number=number: seen.append(number))  # type: ignore[misc]
        go(sim)
        return seen

    assert order(1) == order(1)
    assert sorted(order(1)) == list(range(8))
    assert len({tuple(order(seed)) for seed in range(10)}) > 5
