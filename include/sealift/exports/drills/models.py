"""What drills write and report: rehearsals, one object each, and the figures that are made of them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sealift.exports.drills.keys import Outcome, Rehearsed
from sealift.exports.proofs import ProvenRecovery
from sealift.exports.versions import reads_up_to

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]


class DrillModel(BaseModel):
    """Base of what is written: frozen, and strict about fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Chosen(DrillModel):
    """An export that a drill rehearses."""

    export_id: str = Field(description="<guest id>-<period>")
    guest_id: int = Field(description="The virtual server's id")
    period: str = Field(description="The export's period")
    hostname: str = Field(description="The server's host name; its id where its manifest cannot be read")
    why: str = Field(description="Why it was chosen: again, never, longest-ago, or named")


class Rehearsal(DrillModel):
    """What came of bringing one export back. It is written once, and never changed."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    drill_id: str = Field(description="The drill")
    export_id: str = Field(description="<guest id>-<period>")
    guest_id: int = Field(description="The virtual server's id")
    period: str = Field(description="The export's period")
    hostname: str = Field(description="The server's host name")
    outcome: Outcome = Field(description="What came of it")
    ended_at: AwareDatetime = Field(description="When it ended")
    made_by: str = Field(description="What made it: a DAG run, or a command")
    asked_level: str = Field(description="How deep it was to be proven: L2, L3 or L4")
    proof_level: str | None = Field(default=None, description="How deep it is proven; null where it is not")
    proof: str | None = Field(default=None, description="Key of the proof that was added")
    recovery: ProvenRecovery | None = Field(default=None, description="The time to recover, where it passed")
    check_id: str | None = Field(default=None, description="The check that failed, where it was one")
    words: str = Field(default="", description="What failed and what to do, or why it was not proven deeper")

    @property
    def rehearsed(self) -> Rehearsed:
        """What its key tells."""
        return Rehearsed(
            guest_id=self.guest_id,
            period=self.period,
            ended_at=self.ended_at,
            outcome=self.outcome,
            drill_id=self.drill_id,
        )


class Spread(DrillModel):
    """How durations are spread: values that were measured, and no averages between two of them."""

    count: int = Field(ge=1, description="How many were measured")
    p50: float = Field(ge=0, description="Half of them took no longer, in seconds")
    p95: float = Field(ge=0, description="Of a hundred, 95 took no longer, in seconds")
    longest: float = Field(ge=0, description="The longest, in seconds")


class DrilledServer(DrillModel):
    """A server, and its last rehearsal."""

    guest_id: int = Field(description="The virtual server's id")
    hostname: str = Field(description="Its host name; empty where nothing that was read tells it")
    outcome: Outcome | None = Field(default=None, description="What came of its last rehearsal; null: there was none")
    export_id: str = Field(default="", description="The export that was rehearsed")
    ended_at: AwareDatetime | None = Field(default=None, description="When that ended")
    proof_level: str | None = Field(default=None, description="How deep it was proven, where it passed")
    seconds: float | None = Field(default=None, description="Its time to recover, where it passed")
    words: str = Field(default="", description="What failed and what to do, or why it was not proven deeper")


class DrillReport(DrillModel):
    """How well it is rehearsed that exports come back."""

    made_at: AwareDatetime = Field(description="When it was made")
    days: int = Field(ge=1, description="Rehearsals of so many days count")
    servers: int = Field(ge=0, description="Servers with a finished export")
    proven: int = Field(ge=0, description="Of these, such whose last rehearsal passed within these days")
    by_level: dict[str, int] = Field(description="Of these, how many at which level")
    never: int = Field(ge=0, description="Servers that were never rehearsed")
    failing: int = Field(ge=0, description="Servers whose last rehearsal did not pass, whenever that was")
    rehearsals: int = Field(ge=0, description="Rehearsals within these days")
    time_to_recover: Spread | None = Field(
        default=None, description="From the start of the download to the proof; without downloads that were resumed"
    )
    download: Spread | None = Field(default=None, description="Of this, the download")
    proof: Spread | None = Field(default=None, description="Of this, the proof of what had arrived")
    boot: Spread | None = Field(default=None, description="From switching on to the login prompt, where it was started")
    lines: list[DrilledServer] = Field(
        description="The servers: those that did not pass, then never rehearsed ones, then by age, the oldest first"
    )

    @property
    def share(self) -> float:
        """Share of the servers that are proven, from 0 to 1; 1 where there is none."""
        return self.proven / self.servers if self.servers else 1.0

    @property
    def summary(self) -> str:
        """The report in a sentence or two."""
        if not self.servers:
            return "There is no finished export, and so nothing to rehearse."
        levels = ", ".join(f"{count} at {level}" for level, count in self.by_level.items())
        words = (
            f"{self.proven} of {self.servers} servers ({100 * self.share:.0f} %) came back within the last "
            f"{self.days} days" + (f": {levels}" if levels else "")
        )
        if self.failing:
            words += f"; {self.failing} did not at their last rehearsal"
        if self.never:
            words += f"; {self.never} {'was' if self.never == 1 else 'were'} never rehearsed"
        if self.time_to_recover is not None:
            spread = self.time_to_recover
            words += f". Time to recover: p50 {in_time(spread.p50)}, p95 {in_time(spread.p95)}"
        return f"{words}."


def in_time(seconds: float) -> str:
    """Write a duration for people.

    :param seconds: the duration.
    :returns: as ``42 s``, ``3 min 20 s`` or ``2 h 5 min``.
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
