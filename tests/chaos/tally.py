"""What a round of chaos came to: how much was tried, what was done to it, and what it did wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.checker import Findings


@dataclass(kw_only=True)
class Tally:
    """The sums of some scenarios.

    :param scenarios: how many were played.
    :param faults: how many faults were injected.
    :param kills: how many processes were killed.
    :param findings: what was violated.
    :param by_fault: the faults by name.
    :param by_point: the kills by the point at which they happened.
    :param by_profile: the scenarios by kind.
    :param figures: other sums, as simulated days.
    """

    scenarios: int = 0
    faults: int = 0
    kills: int = 0
    findings: Findings = field(default_factory=Findings)
    by_fault: Counter[str] = field(default_factory=Counter)
    by_point: Counter[str] = field(default_factory=Counter)
    by_profile: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)

    def merge(self, *others: Tally) -> Tally:
        """Add others to this one.

        :returns: this object.
        """
        for other in others:
            self.scenarios += other.scenarios
            self.faults += other.faults
            self.kills += other.kills
            self.findings.merge(other.findings)
            for name in ("by_fault", "by_point", "by_profile", "figures"):
                getattr(self, name).update(getattr(other, name))
        return self

    @property
    def ok(self) -> bool:
        """Nothing was violated, and something was tried."""
        return self.scenarios > 0 and self.findings.ok

    def line(self) -> str:
        """The closing line."""
        found = self.findings
        return (
            f"chaos: {self.scenarios} scenarios, {self.faults} faults injected, {self.kills} kills, "
            f"{len(found.duplicate_captures)} duplicate captures, {len(found.cap_overshoots)} cap overshoots, "
            f"{len(found.lost)} lost, {len(found.false_done)} false done"
        )

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "scenarios": self.scenarios,
            "faults": self.faults,
            "kills": self.kills,
            "faults_by_name": dict(self.by_fault.most_common()),
            "kills_by_point": dict(self.by_point.most_common()),
            "scenarios_by_profile": dict(self.by_profile.most_common()),
            **{name: round(value, 3) for name, value in sorted(self.figures.items())},
            "findings": vars(self.findings),
        }
