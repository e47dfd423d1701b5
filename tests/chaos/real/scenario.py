"""What a scenario is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.real.stage import Stage
from tests.chaos.real.world import Engine

Play = Callable[[Stage], None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing that goes wrong, and what must come of it all the same.

    :param name: in words.
    :param play: lets it happen; raises if something does not come about as it must.
    :param alone: nothing else may go on meanwhile: it sets a cap of its own, or needs the whole machine.
    :param engine: the configuration that it plays in.
    """

    name: str
    play: Play
    alone: bool = False
    engine: Engine = "postgresql"


SCENARIOS: list[Scenario] = []


def scenario(name: str, *, alone: bool = False, engine: Engine = "postgresql") -> Callable[[Play], Play]:
    """Put a function on the list; parameters as for :class:`Scenario`."""

    def keep(play: Play) -> Play:
        SCENARIOS.append(Scenario(name=name, play=play, alone=alone, engine=engine))
        return play

    return keep
