"""Judges a scenario that was played: the checker's findings, and what only the scenario itself can know."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sealift.exports.errors import ExportsError
from sealift.exports.plan import Outcome
from sealift.exports.report import make_run_report, read_wave_reports
from tests.chaos import evidence
from tests.chaos.checker import Findings, check

if TYPE_CHECKING:
    from tests.chaos.sim.play import Play, Running


@dataclass
class Result:
    """What became of a scenario.

    :param days: simulated time, in days.
    :param stops: what was stopped, cut off or away for a while, and came back.
    :param seconds: processor time.
    :param refused: what the account refused, by method and its words.
    :param tries: the most tries that a task took.
    :param story: a digest of all events: the same seed tells the same story.
    """

    seed: int
    profile: str
    line: str
    findings: Findings
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    tries: int = 0
    days: float = 0.0
    seconds: float = 0.0
    calls: int = 0
    steps: int = 0
    story: str = ""
    tail: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing was violated."""
        return self.findings.ok


def judge(play: Play) -> Result:
    """Judge a scenario that has ended.

    :param play: the scenario, with everything still open.
    :returns: what became of it.
    """
    sandbox = play.world.sandbox
    history = sandbox.history()
    secrets = {
        "classic key": sandbox.api_key,
        "cos key": sandbox.cos_api_key,
        "hmac secret": sandbox.hmac_secret_access_key,
    }
    findings = Findings()
    outcomes: Counter[str] = Counter()
    for running in play.plans:
        reported = _reported(play, running)
        outcomes.update(reported.values())
        first = running is play.plans[0]
        found = check(
            history=history,
            store=evidence.open_store(play.folder),
            caps=max(one.spec.max_offline for one in play.plans),
            servers=[item.export_id for item in running.plan.items],
            outcomes=reported,
            secrets=secrets if first else (),
            texts=dict(enumerate(map(str, play.airflow.texts))) if first else (),
            images=evidence.true_images(play.folder) if first else None,
        )
        # The plans of a scenario share one account and one bucket: what is wrong with those is said once.
        findings.merge(found if first else Findings(lost=found.lost))
        findings.lost += _not_exported(play, running, reported)
    findings.cap_overshoots += _own_caps(play, history)
    findings.lost += [*play.problems, *_outside_windows(play, history)]
    return Result(
        seed=play.scenario.seed,
        profile=play.scenario.profile,
        line=play.scenario.line(),
        findings=findings,
        faults=Counter(play.network.plan.counts()) + _account_faults(play),
        kills=play.network.kills,
        stops=play.network.stops,
        points=play.network.passed,
        outcomes=outcomes,
        refused=_refused(history),
        tries=max((task.try_number for task in play.airflow.tasks()), default=0),
        days=play.days,
        seconds=time.process_time() - play.cpu_began,
        calls=play.network.calls,
        steps=play.sim.steps,
        story=hashlib.sha256("\n".join(map(told, play.sim.events)).encode()).hexdigest()[:16],
        tail=[told(one) for one in play.sim.events[-60:]],
    )


def told(event: tuple[float, str, str]) -> str:
    """Put an event of the trace into a line."""
    when, who, text = event
    return f"{_clock(when)[:-3]}  {who:<36} {text}"


def _account_faults(play: Play) -> Counter[str]:
    counters = play.world.sandbox.faults.counters()
    return Counter({name: counters[name]["hits"] for name in play.scenario.account_faults if name in counters})


def _reported(play: Play, running: Running) -> dict[str, str]:
    """What the run's report says of each server, by export id."""
    waves = read_wave_reports(play.cos, running.plan)
    try:
        report = make_run_report(cos=play.cos, plan=running.plan, waves=waves, now=datetime.now(UTC))
    except ExportsError as error:
        play.problems.append(f"{running.plan.plan_id} has no report: {error}")
        return {}
    for one in report.outcomes:
        if one.kind.value == "failed" and not (one.words or "").strip():
            play.problems.append(f"{one.export_id} failed without words")
    return {str(one.export_id): one.kind.value.replace(" ", "-") for one in report.outcomes}


def _not_exported(play: Play, running: Running, reported: dict[str, str]) -> list[str]:
    """Every server that the account itself did not spoil must be exported by now."""
    found = []
    for item in running.plan.items:
        if item.outcome is not Outcome.EXPORT or play.spoiled(item.guest_id):
            continue
        if reported.get(item.export_id) in {"exported", "already-exported"}:
            continue
        words = [
            f"{task}: {task.state} {task.words[:300]}"
            for run in running.runs
            for task in run.tasks.values()
            if task.state != "success" and task.index >= 0
            if run.servers[task.index]["guest_id"] == item.guest_id
        ]
        state = reported.get(item.export_id, "not reported")
        found.append(f"{item.export_id} is {state} after everything was calm: {' | '.join(words[:2])}")
    return found


def _own_caps(play: Play, history: list[dict[str, Any]]) -> list[str]:
    """Each run keeps to its own cap, where another run has a larger one.

    A capture was decided on at most half of ``settle`` before it began: who was offline by then counts. The larger cap
    of another run excuses the rest, which the checker looks after. Nobody decides on a second transaction of a capture.
    """
    decided = {event["transaction"] for event in history if event.get("what") == "capture-started"}
    caps: dict[int, int] = {}
    for running in play.plans:
        for item in running.plan.items:
            caps[item.guest_id] = max(caps.get(item.guest_id, 0), running.spec.max_offline)
    found: list[str] = []
    offline: dict[int, float] = {}
    for event in history:
        if event["kind"] != "effect":
            continue
        if event["what"] == "guest-offline" and event["guest"] in caps and event["transaction"] in decided:
            before = [one for one, since in offline.items() if since < event["at"] - play.settle / 2]
            if len(before) >= caps[event["guest"]]:
                found.append(
                    f"server {event['guest']} of a run with the cap {caps[event['guest']]} went offline at "
                    f"{_clock(event['at'])}, while {', '.join(map(str, before))} had been offline for long"
                )
        if event["what"] == "guest-offline" and event["guest"] in caps:
            offline[event["guest"]] = event["at"]
        elif event["what"] == "guest-online":
            offline.pop(event["guest"], None)
    return found


def _outside_windows(play: Play, history: list[dict[str, Any]]) -> list[str]:
    """No capture begins outside of its window, but for a request that was on its way when it closed."""
    windows = {
        item.guest_id: running.plan.settings.window
        for running in play.plans
        for item in running.plan.items
        if running.plan.settings.window is not None
    }
    found = []
    for event in history:
        if event["kind"] != "effect" or event["what"] != "capture-started" or event["guest"] not in windows:
            continue
        window = windows[event["guest"]]
        moments = (event["at"], event["at"] - play.settle / 2)
        if not any(window.contains(datetime.fromtimestamp(one, UTC)) for one in moments):
            found.append(f"server {event['guest']} was captured at {_clock(event['at'])}, outside its window")
    return found


def _refused(history: list[dict[str, Any]]) -> Counter[str]:
    return Counter(
        f"{event['method']}: {event['error']}"
        for event in history
        if event["kind"] == "request" and event.get("outcome") == "refused"
    )


def _clock(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%d. %H:%M:%S.%f}"
