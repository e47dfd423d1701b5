"""What goes wrong in which scenario: everything follows from its seed, and can be told in a line.

The profiles take turns by the seed, so that any range of seeds holds all of them. ``edge`` is systematic: the n-th such
scenario kills a process at the n-th point of a clean run (:func:`tests.chaos.sim.play.points_of_a_clean_run`). The
others draw.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MINUTE: Final = 60.0
HOUR: Final = 3600.0

_TURNS: Final = (
    *("edge", "faults", "edge", "cap", "edge", "zombies", "edge", "lost", "edge", "users"),
    *("edge", "cap", "edge", "damage", "edge", "faults", "edge", "everything", "edge", "zombies"),
    *("edge", "outages", "edge", "cap", "edge", "users", "edge", "triggerers", "edge", "everything"),
    *("edge", "faults", "edge", "late", "edge", "zombies", "edge", "cap", "edge", "damage"),
)
PROFILES: Final = tuple(dict.fromkeys(_TURNS))

WIRE: Final = (
    "drop_before", "lost_reply", "twice", "slow", "reset_before", "reset_after", "http_429", "http_500", "http_502",
    "http_503", "after_500", "after_502", "after_503", "rate_limit", "error_in_200", "empty_200", "truncated_body",
    "expired_token", "hang", "hang_after",
)  # fmt: skip
LOST: Final = ("lost_reply", "reset_after", "hang_after", "after_500", "after_502", "after_503", "empty_200", "slow")


@dataclass
class PlanSpec:
    """One run of the planning DAG: which servers it exports, and under which cap.

    :param servers: positions of the servers in the account, from 0.
    :param wave_size: how many go into one run of ``export_servers``.
    :param period: what its exports are named after.
    :param starts: seconds after the scenario's beginning at which its first wave starts.
    :param gap: seconds between the starts of two waves.
    """

    servers: list[int]
    max_offline: int
    wave_size: int
    period: str
    starts: float
    gap: float = 20.0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Scenario:
    """All that is decided before a scenario begins.

    :param in_workers: workers start captures and exports, rather than triggerers.
    :param edge: a process dies at the point of this number.
    :param deaths: points at which a process dies at its first passing.
    """

    seed: int
    profile: str
    servers: int = 2
    plans: list[PlanSpec] = field(default_factory=list)
    triggerers: int = 1
    transport: str = "xmlrpc"
    timeout: float = 20.0
    poll_interval: float = 60.0
    switches: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    account_faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    kill: float = 0.0
    freeze: float = 0.0
    orphan: float = 0.0
    longest_freeze: float = HOUR
    edge: int | None = None
    deaths: list[str] = field(default_factory=list)
    rough: float = 0.0
    skew: float = 0.0
    users: float = 0.0
    outages: float = 0.0
    triggerer_deaths: float = 0.0
    in_workers: bool = False
    page_size: int = 100
    latency: float = 1.0
    storm: float = 2 * HOUR

    @property
    def shows_late(self) -> bool:
        """Whether a capture may show late."""
        return bool({"template_late", "transaction_late"} & set(self.account_faults))

    @property
    def settle(self) -> float:
        """What the product takes for the longest time from a submission to its effect, in seconds."""
        minutes = [one.settings.get("grace_minutes", 15.0) for one in self.plans]
        return float(max(min(minutes) * 60.0, 4 * self.timeout))

    def line(self) -> str:
        """Tell the scenario in a line."""
        shown = {
            name: value
            for name, value in vars(self).items()
            if name not in {"seed", "profile", "plans"} and value not in (0.0, {}, None, False, 100, [])
        }
        plans = "; ".join(
            f"servers {one.servers} cap {one.max_offline} waves of {one.wave_size} {one.settings or ''}".strip()
            for one in self.plans
        )
        return f"scenario {self.seed} ({self.profile}): {plans}; {shown}"


def scenario(seed: int) -> Scenario:
    """Make the scenario of a seed.

    :param seed: any number from 0; below, one of :data:`NAMED`.
    """
    if seed < 0:
        return NAMED[seed]()
    turn = seed % len(_TURNS)
    made = Scenario(seed=seed, profile=_TURNS[turn])
    draw = random.Random(f"{seed}:scenario")
    _draw_account(made, draw)
    if made.profile == "edge":
        made.edge = (seed // len(_TURNS)) * _TURNS.count("edge") + _TURNS[:turn].count("edge")
    _PROFILES[made.profile](made, draw)
    if not made.plans:
        made.plans = _plans(made, draw)
    _surprise(made, random.Random(f"{seed}:surprises"))
    return made


def clean(*, in_workers: bool = False) -> Scenario:
    """Make a scenario in which nothing goes wrong, for its points.

    :param in_workers: whether workers start captures and exports, rather than triggerers.
    """
    made = Scenario(seed=0, profile="clean", servers=2, in_workers=in_workers)
    made.plans = [PlanSpec(servers=[0, 1], max_offline=1, wave_size=2, period="20251124T0200Z", starts=1.0)]
    return made


def crowded() -> Scenario:
    """Make a scenario in which the account takes far less at once than the caps say; nothing else goes wrong."""
    made = Scenario(seed=CROWDED, profile="crowded", servers=9, poll_interval=30.0)
    made.switches = {"captures_at_once": 2, "exports_at_once": 2, "capture_seconds": 270.0, "export_seconds": 600.0}
    made.plans = [PlanSpec(servers=[*range(9)], max_offline=6, wave_size=9, period="20251124T0200Z", starts=1.0)]
    made.storm = 12 * HOUR
    return made


CROWDED: Final = -1
NAMED: Final = {CROWDED: crowded}
"""Scenarios that no seed draws."""


def _draw_account(made: Scenario, draw: random.Random) -> None:
    made.servers = draw.choice((2, 2, 3))
    made.transport = draw.choice(("xmlrpc", "rest"))
    made.timeout = draw.choice((10.0, 20.0, 60.0))
    made.poll_interval = draw.choice((30.0, 60.0, 60.0, 120.0))
    made.triggerers = draw.choice((1, 1, 2))
    made.skew = draw.choice((0.0, 0.0, 5.0, 20.0))
    made.in_workers = draw.random() < 0.2
    made.page_size = draw.choice((1, 2, 100, 100, 100, 100))
    made.latency = draw.choice((1.0, 1.0, 5.0, 20.0))
    made.switches = {
        "capture_seconds": draw.choice((60.0, 270.0, 270.0, 900.0)),
        "export_seconds": draw.choice((60.0, 240.0, 240.0, 900.0)),
        "children_seconds_max": draw.choice((30.0, 30.0, 200.0)),
        "guest_transaction_spans_capture": draw.random() < 0.75,
        "capture_halts_guest": draw.random() < 0.8,
        "export_transaction_on": draw.choice(("child", "parent", "both")),
    }


def _settings(draw: random.Random) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if draw.random() < 0.3:
        settings["grace_minutes"] = draw.choice((5.0, 10.0, 30.0))
    if draw.random() < 0.3:
        settings["capture_deadline_minutes"] = draw.choice((60.0, 120.0))
        settings["export_deadline_minutes"] = draw.choice((60.0, 120.0))
    return settings


def _plans(made: Scenario, draw: random.Random) -> list[PlanSpec]:
    everybody = list(range(made.servers))
    return [
        PlanSpec(
            servers=everybody,
            max_offline=draw.choice((1, 2, 3)),
            wave_size=draw.choice((1, 2, made.servers)),
            period="20251124T0200Z",
            starts=1.0,
            gap=draw.choice((0.0, 20.0)),
            settings=_settings(draw),
        )
    ]


def _surprise(made: Scenario, draw: random.Random) -> None:
    """What the service does without a word: refuse what it has done, begin again what seemed to be over."""
    if made.profile == "lost":
        made.account_faults["refused_after"] = {
            "rate": draw.choice((0.0, 0.5, 1.0)),
            "methods": ["createArchiveTemplate", "copyToIcos"],
        }
    if made.profile in {"cap", "everything"}:
        again = draw.choice((0.0, 0.5, 1.0))
        made.account_faults["second_transaction"] = {"rate": again}
        if again:
            # A gap is told by the end of the server's transaction: that must not be long before the template's.
            made.switches["guest_transaction_spans_capture"] = True
        # Less than the product takes a server for offline after a transaction's end: a longer one nobody can tell.
        shortest = 0.9 * made.switches["capture_seconds"] - made.skew
        made.switches["afterwork_gap_seconds"] = draw.choice((0.1, 0.5, 0.95)) * min(made.settle / 30, shortest / 20)
        made.switches["afterwork_seconds"] = draw.choice((20.0, 60.0, 600.0))
    if made.profile in {"cap", "everything", "faults", "zombies"}:
        # The account takes fewer at once than the caps say.
        made.switches["captures_at_once"] = draw.choice((0, 0, 1))
        made.switches["exports_at_once"] = draw.choice((0, 0, 1))


def _some(names: Sequence[str], rate: float, draw: random.Random) -> dict[str, float]:
    chosen = [name for name in names if draw.random() < 0.6] or [draw.choice(names)]
    return {name: rate / len(chosen) for name in chosen}


# The profiles


def _edge(made: Scenario, draw: random.Random) -> None:
    """A process dies at a point that is chosen in turn, and sometimes again at any other."""
    made.servers = 2
    made.kill = draw.choice((0.0, 0.0, 0.005))
    made.rough = draw.choice((0.0, 0.3))
    made.plans = [
        PlanSpec(
            servers=[0, 1],
            max_offline=1,
            wave_size=2,
            period="20251124T0200Z",
            starts=1.0,
            settings=_settings(draw),
        )
    ]


def _faults(made: Scenario, draw: random.Random) -> None:
    """Every kind of fault of the wire, at every call."""
    made.rates = _some(WIRE, draw.choice((0.03, 0.08, 0.2)), draw)
    made.rough = 0.3


def _lost(made: Scenario, draw: random.Random) -> None:
    """What is submitted is carried out, and the reply does not come."""
    made.rates = {
        f"{name}@classic:{method}": rate
        for method in ("createArchiveTemplate", "copyToIcos")
        for name, rate in _some(LOST, draw.choice((0.5, 0.9)), draw).items()
    }
    made.rates["lost_reply@cos:PutObject"] = draw.choice((0.0, 0.3))
    made.kill = draw.choice((0.0, 0.01))


def _cap(made: Scenario, draw: random.Random) -> None:
    """Many servers, few slots, two plans at once with caps of their own, and everybody late."""
    made.servers = draw.choice((4, 5))
    made.freeze = draw.choice((0.0, 0.01, 0.03))
    made.longest_freeze = draw.choice((60.0, 600.0))
    made.kill = draw.choice((0.0, 0.01))
    made.rates = _some(LOST, draw.choice((0.0, 0.03)), draw)
    everybody = list(range(made.servers))
    draw.shuffle(everybody)
    half = made.servers // 2
    both = draw.random() < 0.3
    made.latency = draw.choice((1.0, 10.0, 20.0, 40.0))
    made.plans = [
        PlanSpec(
            servers=sorted(everybody if both else everybody[half:]),
            max_offline=draw.choice((1, 1, 2)),
            wave_size=draw.choice((1, 2, 5)),
            period="20251124T0200Z",
            starts=1.0,
            gap=draw.choice((0.0, 1.0, 20.0)),
        ),
        PlanSpec(
            servers=sorted(everybody if both else everybody[:half]),
            max_offline=draw.choice((1, 2)),
            wave_size=5,
            period="20251124T0200Z",
            starts=draw.choice((1.0, 1.0, 3.0, 400.0)),
        ),
    ]


def _zombies(made: Scenario, draw: random.Random) -> None:
    """Processes that Airflow gives up and that live on: stopped for long, or without a supervisor."""
    made.freeze = draw.choice((0.02, 0.05))
    made.orphan = draw.choice((0.01, 0.03))
    made.longest_freeze = draw.choice((400.0, HOUR, 2 * HOUR))
    made.rough = 1.0
    made.rates = _some(LOST, draw.choice((0.0, 0.05)), draw)


def _users(made: Scenario, draw: random.Random) -> None:
    """A person clears and marks whatever they like, at any time."""
    made.users = draw.choice((5.0, 12.0, 25.0))
    made.rough = 0.5
    made.rates = _some(LOST, draw.choice((0.0, 0.03)), draw)
    made.kill = draw.choice((0.0, 0.005))


def _damage(made: Scenario, draw: random.Random) -> None:
    """What the service itself does wrong: captures and exports that stick, end without anything, or leave rubbish."""
    for name in draw.sample(
        (
            "stuck_transaction", "empty_template", "template_gone", "gone_without_objects", "missing_last_object",
            "truncated_object", "damaged_object",
        ),
        k=draw.choice((1, 2, 3)),
    ):  # fmt: skip
        made.account_faults[name] = {"times": draw.choice((1, 1, 2))}
    made.account_faults["guest_404"] = {"rate": draw.choice((0.0, 0.05))}
    made.account_faults["unwrapped_single"] = {"rate": 0.1}
    made.account_faults["missing_total"] = {"rate": 0.1}
    made.poll_interval = 120.0
    made.storm = 4 * HOUR
    made.plans = _plans(made, draw)
    made.plans[0].settings["stuck_minutes"] = draw.choice((30.0, 60.0))


def _late(made: Scenario, draw: random.Random) -> None:
    """A new template is not listed and cannot be read for a while; lists move between their pages."""
    made.account_faults["template_late"] = {"rate": draw.choice((0.5, 1.0))}
    made.account_faults["transaction_late"] = {"rate": draw.choice((0.0, 1.0))}
    made.account_faults["moved_page"] = {"rate": 0.3}
    made.account_faults[draw.choice(("object_replaced", "object_uploaded_again"))] = {"times": draw.choice((0, 1))}
    made.rates = {f"{name}@classic:createArchiveTemplate": 0.4 for name in draw.sample(LOST, 3)}
    made.kill = draw.choice((0.0, 0.01))
    made.freeze = draw.choice((0.0, 0.01))
    made.deaths = draw.choice(
        (
            [],
            ["capture after classic createArchiveTemplate", "triggerer after classic createArchiveTemplate"],
            ["capture before airflow xcoms:set", "triggerer before airflow xcoms:set"],
        )
    )
    made.servers = 3
    made.page_size = draw.choice((1, 2, 100))
    made.plans = _plans(made, draw)
    made.switches["late_seconds"] = draw.choice((30.0, 0.25 * made.settle, 0.4 * made.settle))
    made.switches["capture_seconds"] = draw.choice((30.0, 60.0, 270.0))


def _outages(made: Scenario, draw: random.Random) -> None:
    """The scheduler, the API server, the Classic API or the object store are away for a while."""
    made.outages = draw.choice((4.0, 10.0))
    made.rough = 1.0
    made.kill = draw.choice((0.0, 0.01))


def _triggerers(made: Scenario, draw: random.Random) -> None:
    """Triggerers die, and others take over."""
    made.triggerers = 2
    made.triggerer_deaths = draw.choice((5.0, 15.0))
    made.freeze = draw.choice((0.0, 0.01))
    made.rates = _some(WIRE, draw.choice((0.0, 0.05)), draw)


def _everything(made: Scenario, draw: random.Random) -> None:
    """All of it."""
    made.servers = 3
    made.rates = _some(WIRE, draw.choice((0.02, 0.06)), draw)
    made.kill, made.freeze, made.orphan = 0.01, 0.01, 0.005
    made.users, made.outages, made.triggerer_deaths = 3.0, 2.0, 2.0
    made.rough = 1.0
    made.account_faults["template_late"] = {"rate": 0.3}
    made.account_faults["transaction_late"] = {"rate": 0.3}
    made.account_faults["guest_404"] = {"rate": 0.02}
    if draw.random() < 0.3:
        made.account_faults["stuck_transaction"] = {"times": 1}
    if draw.random() < 0.3:
        made.plans = _plans(made, draw)
        made.plans[0].settings["window"] = draw.choice(("02:00-02:30 UTC", "03:00-04:00 UTC"))


_PROFILES: Final = {
    "edge": _edge,
    "faults": _faults,
    "lost": _lost,
    "cap": _cap,
    "zombies": _zombies,
    "users": _users,
    "damage": _damage,
    "late": _late,
    "outages": _outages,
    "triggerers": _triggerers,
    "everything": _everything,
}
