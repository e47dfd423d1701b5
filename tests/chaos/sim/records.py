"""What the little Airflow's metadata database holds: task instances, runs and triggers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.sim.engine import Actor

GROUP: Final = "export"
ENDED: Final = frozenset({"success", "failed", "upstream_failed", "skipped"})
STEPS: Final = ("capture", "wait_for_template", "wait_for_export")


@dataclass(eq=False)
class Task:
    """A task instance."""

    run: Run
    task_id: str
    index: int
    state: str | None = None
    try_number: int = 0
    max_tries: int = 0
    next_method: str | None = None
    next_kwargs: dict[str, Any] | None = None
    trigger: int | None = None
    xcoms: dict[str, str] = field(default_factory=dict)
    attempt: int = 0
    worker: Actor | None = None
    ready_at: float = 0.0
    words: str = ""

    def __repr__(self) -> str:
        return f"{self.run.run_id}/{self.task_id}[{self.index}]"

    @property
    def step(self) -> str:
        """The task's name without its group."""
        return self.task_id.rpartition(".")[2]


@dataclass(eq=False)
class Run:
    """A run of ``export_servers``: one wave."""

    run_id: str
    params: dict[str, Any]
    tasks: dict[tuple[str, int], Task] = field(default_factory=dict)
    servers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to do."""
        return all(one.state in ENDED for one in self.tasks.values())


@dataclass
class TriggerRow:
    """What the metadata database holds of a trigger."""

    id: int
    task: Task
    classpath: str
    kwargs: str
    from_worker: bool
    triggerer: str | None = None
