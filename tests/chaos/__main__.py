"""``python -m tests.chaos``: play scenarios until something gives, and say in one line what was found."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.chaos.sim.runner import PROCESSES, WorkerProcess, run_scenarios, tally_of, told
from tests.chaos.tally import Tally


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--simulated", type=int, default=500, metavar="N", help="scenarios on simulated time")
    parser.add_argument("--real", type=int, default=0, metavar="N", help="scenarios with real processes")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first scenario's seed")
    parser.add_argument(
        "--processes", type=int, default=PROCESSES, metavar="N", help="worker processes of the simulator"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--scenario", type=int, metavar="SEED", help="play one simulated scenario alone, telling all")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _alone(seed: int) -> Tally:
    worker = WorkerProcess(trace=_say)
    try:
        answer = worker.play(seed)
    finally:
        worker.close()
    tally = tally_of(answer)
    _say(answer.get("line", ""))
    for line in told(answer | {"tail": []}, tally):
        _say(line)
    return tally


def main() -> int:
    """Play, and say what was found.

    :returns: 0 if nothing was violated.
    """
    arguments = _arguments()
    began = time.monotonic()
    if arguments.scenario is not None:
        tally = _alone(arguments.scenario)
    else:
        tally = Tally()
        if arguments.simulated > 0:
            seeds = range(arguments.seed, arguments.seed + arguments.simulated)
            tally.merge(run_scenarios(seeds, processes=arguments.processes, progress=_say))
        if arguments.real > 0:
            from tests.chaos.real.runner import run_scenarios as run_real_scenarios

            tally.merge(run_real_scenarios(arguments.real, arguments.seed, _say))
    if arguments.json is not None:
        figures = {**tally.as_json(), "seed": arguments.seed, "seconds": round(time.monotonic() - began, 1)}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for sentence in tally.findings.leaks:
        _say(f"leak: {sentence}")
    _say(tally.line())
    return 0 if tally.ok else 1


if __name__ == "__main__":
    sys.exit(main())
