"""The stage of a worker process: what is set up once for all scenarios that it plays."""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from sealift.classic import limiter
from tests.chaos.sim import planted, sockets, world
from tests.chaos.sim.play import Play, Result, find_points
from tests.chaos.sim.scenarios import scenario

ROOT: Final = Path(__file__).resolve().parents[3]


def _load_dag() -> Any:
    path = ROOT / "dags" / "export_servers.py"
    spec = importlib.util.spec_from_file_location("chaos_export_servers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


def _install() -> None:
    sockets.install()
    world.install()
    limiter._state_of_machine = lambda host, account: limiter.InMemory(start=0.0)
    _spare_the_sdk_repetition()
    # Coroutines and tasks of killed processes never end, and say so when they are collected.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    logging.getLogger("sealift").setLevel(logging.INFO)
    for handler in list(logging.getLogger().handlers):
        logging.getLogger().removeHandler(handler)


def _spare_the_sdk_repetition() -> None:
    """The SDK reads its megabytes of JSON and works out its events' names anew for every client: once is enough."""
    from ibm_botocore.hooks import EventAliaser
    from ibm_botocore.loaders import JSONFileLoader

    name_of = EventAliaser._alias_event_name
    names: dict[str, str] = {}

    def alias(self: Any, event_name: str) -> str:
        if event_name not in names:
            names[event_name] = name_of(self, event_name)
        return names[event_name]

    EventAliaser._alias_event_name = alias
    original = JSONFileLoader.load_file
    loader = JSONFileLoader()

    @cache
    def load(path: str) -> Any:
        return original(loader, path)

    JSONFileLoader.load_file = lambda self, path: load(path)


class Stage:
    """Plays scenarios one after the other.

    :param home: a folder for everything.
    """

    def __init__(self, home: Path) -> None:
        _install()
        self._home = home
        self._cache = home / "images"
        self._cache.mkdir()
        self.dag = _load_dag()
        self.points = [name for name, *_ in find_points(self.dag, home / "clean", self._cache)]
        # What was imported stays for good: looking through it again and again would cost a quarter of the time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    def play(self, seed: int, *, trace: Callable[[str], None] | None = None) -> Result:
        """Play the scenario of a seed."""
        play = Play(
            scenario=scenario(seed), dag=self.dag, folder=self._home / f"s{seed}", cache=self._cache, trace=trace
        )
        try:
            return play.run()
        finally:
            play.close()
            gc.collect()


def serve(home: Path, arguments: list[str]) -> int:
    """Answer seeds with results, a line of JSON each.

    :param arguments: ``plant=<name>`` puts a bug into the product first; ``trace`` tells every event on standard error.
    """
    trace = (lambda text: sys.stderr.write(f"{text}\n")) if "trace" in arguments else None
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2 if trace else os.open(os.devnull, os.O_WRONLY), 1)  # what Airflow's logging prints is no answer
    stage = Stage(home)
    for one in arguments:
        if one.startswith("plant="):
            planted.plant(one.removeprefix("plant="))
    answers.write(f"{json.dumps({'points': stage.points})}\n")
    answers.flush()
    for line in sys.stdin:
        seed = int(line)
        try:
            answer: dict[str, Any] = as_json(stage.play(seed, trace=trace))
        except Exception:  # noqa: BLE001 - goes to whoever asked
            answer = {"seed": seed, "broken": traceback.format_exc()}
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()
    return 0


def as_json(result: Result) -> dict[str, Any]:
    """Put a result into JSON."""
    return {
        **{name: value for name, value in vars(result).items() if name != "findings"},
        "findings": vars(result.findings),
    }
