"""Plays many scenarios in a few worker processes, and sums up what they found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.chaos.checker import Findings
from tests.chaos.sim.worker import ROOT
from tests.chaos.tally import Tally

Progress = Callable[[str], None]

PROCESSES: Final = 2
LONGEST: Final = 300.0
"""Seconds of true time after which a worker process counts as hanging."""


PLAYED_AT_MOST: Final = 50
"""So many scenarios a process plays before another takes its place: what killed workers held stays in its memory, 10 MB
for each scenario, and makes it slower and slower."""


class WorkerDied(Exception):  # noqa: N818 - what happened
    """A worker process ended, or gives no answer."""


class WorkerProcess:
    """One process that plays scenarios.

    :param plant: the bug to put into the product, if any.
    :param trace: called with each event of each scenario.
    """

    def __init__(self, *, plant: str = "", trace: Callable[[str], None] | None = None) -> None:
        memory = Path("/dev/shm")
        self.home = Path(tempfile.mkdtemp(prefix="sealift-chaos-", dir=memory if memory.is_dir() else None))
        arguments = [str(self.home), *([f"plant={plant}"] if plant else []), *(["trace"] if trace else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.sim.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if trace else subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            # The order of a set must not depend on the process, or a seed would not bring back what it found.
            env={**os.environ, "PYTHONHASHSEED": "0", "TZ": "UTC"},
        )
        self._tracer: threading.Thread | None = None
        if trace is not None:
            self._tracer = threading.Thread(target=self._tell, args=(trace,), daemon=True)
            self._tracer.start()
        self.points: list[str] = self._answer()["points"]
        self.played = 0

    def _tell(self, trace: Callable[[str], None]) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            trace(line.rstrip("\n"))

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watch = threading.Timer(LONGEST, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise WorkerDied(f"a worker process ended or hung (exit status {self._process.wait()})")
        return dict(json.loads(line))

    def play(self, seed: int) -> dict[str, Any]:
        """Play the scenario of a seed.

        :returns: what :func:`tests.chaos.sim.stage.as_json` makes of it.
        :raises WorkerDied: if there is no answer.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        self.played += 1
        return self._answer()

    def close(self) -> None:
        """End the process and remove its folder."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._tracer is not None:
            self._tracer.join(timeout=10)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        shutil.rmtree(self.home, ignore_errors=True)


def run_scenarios(
    seeds: Iterable[int],
    *,
    processes: int = PROCESSES,
    plant: str = "",
    progress: Progress = lambda line: None,
    until: Callable[[Tally], bool] = lambda tally: False,
) -> Tally:
    """Play scenarios in worker processes.

    :param seeds: which.
    :param processes: how many play at once.
    :param plant: a bug to put into the product.
    :param progress: is told a line now and then, and of everything that was violated.
    :param until: looked at after each scenario; ends the round early.
    :returns: the sums.
    """
    left = deque(seeds)
    total = len(left)
    tally = Tally()
    points: set[str] = set()
    lock = threading.Lock()
    began = time.perf_counter()

    def serve() -> None:
        worker: WorkerProcess | None = None
        try:
            while True:
                with lock:
                    if not left or until(tally):
                        return
                    seed = left.popleft()
                if worker is not None and worker.played >= PLAYED_AT_MOST:
                    worker.close()
                    worker = None
                try:
                    worker = worker or WorkerProcess(plant=plant)
                    points.update(worker.points)
                    answer = worker.play(seed)
                except WorkerDied as died:
                    if worker is not None:
                        worker.close()
                    worker, answer = None, {"seed": seed, "broken": str(died)}
                with lock:
                    one = tally_of(answer)
                    tally.merge(one)
                    for line in told(answer, one):
                        progress(line)
                    if tally.scenarios % 25 == 0 or tally.scenarios == total:
                        seconds = time.perf_counter() - began
                        progress(f"{tally.scenarios} of {total} in {seconds:.0f} s: {tally.line()}")
        finally:
            if worker is not None:
                worker.close()

    threads = [threading.Thread(target=serve) for _ in range(min(processes, total) or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.figures["wall_seconds"] = time.perf_counter() - began
    tally.figures["points_of_a_clean_run"] = len(points)
    tally.figures["points_killed_at"] = len(points & set(tally.by_point))
    return tally


def tally_of(answer: dict[str, Any]) -> Tally:
    """Make the sums of one scenario."""
    if "broken" in answer:
        words = f"scenario {answer['seed']} broke: {answer['broken']}"
        return Tally(scenarios=1, findings=Findings(lost=[words]))
    kills = Counter(answer["kills"])
    findings = {
        kind: [f"scenario {answer['seed']} ({answer['profile']}): {one}" for one in sentences]
        for kind, sentences in answer["findings"].items()
    }
    return Tally(
        scenarios=1,
        faults=sum(answer["faults"].values()),
        kills=sum(kills.values()),
        findings=Findings(**findings),
        by_fault=Counter(answer["faults"]),
        by_point=kills,
        by_profile=Counter([answer["profile"]]),
        figures=Counter(
            {
                "simulated_days": answer["days"],
                "cpu_seconds": answer["seconds"],
                "requests": answer["calls"],
                "stops": sum(answer["stops"].values()),
                **{f"servers_{name}": count for name, count in answer["outcomes"].items()},
            }
        ),
    )


def told(answer: dict[str, Any], tally: Tally) -> list[str]:
    """Put what a scenario violated into lines, with the end of its story."""
    if tally.findings.ok:
        return []
    lines = [answer.get("line", f"scenario {answer['seed']}"), *(f"  {one}" for one in tally.findings.sentences())]
    lines += [f"    {one}" for one in answer.get("tail", [])[-25:]]
    lines.append(f"  to play it again: python -m tests.chaos --scenario {answer['seed']}")
    return lines
