"""Whether a plan has to wait for a person before servers go offline, and what that person is shown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sealift.exports.kits.text import markdown
from sealift.exports.plan_models import Outcome, Plan, PlanItem

Approval = Literal["tagged", "always", "never"]

RULE: Final = "not-approved"
"""The rule by which servers are reported that nobody approved."""

SHOWN: Final = 200
"""So many servers are listed; the plan holds all."""


class Refusal(BaseModel):
    """That nobody approved the captures of a plan.

    :param by: who refused; none where the time was over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    by: str | None = Field(default=None)
    at: AwareDatetime
    waited_hours: float = Field(gt=0)

    @property
    def words(self) -> str:
        """Say it in a sentence, with what to do."""
        if self.by is None:
            what = f"Nobody approved the captures of this plan within {self.waited_hours:g} hours"
        else:
            what = f"{self.by} refused the captures of this plan at {self.at:%Y-%m-%d %H:%M} UTC"
        return f"{what}: the server was not captured. To have it exported, run plan_exports again and approve the plan."


def going_offline(plan: Plan) -> list[PlanItem]:
    """List the servers that a plan takes offline; those whose template exists already stay online.

    :param plan: the plan.
    """
    return [item for item in plan.items_with(Outcome.EXPORT) if not item.adopt_only]


def asks_for_approval(plan: Plan, *, approval: Approval, tags: Collection[str]) -> str:
    """Say why a plan has to be approved.

    :param plan: the plan.
    :param approval: ``always``, ``never``, or ``tagged``: where a server that goes offline carries one of the tags.
    :param tags: these tags; case does not count.
    :returns: a sentence; empty where nobody needs to approve it.
    """
    offline = going_offline(plan)
    if approval == "never" or not offline or plan.settings.dry_run:
        return ""
    if approval == "always":
        return "This run asks for an approval before servers go offline."
    wanted = {tag.casefold() for tag in tags}
    carrying = [item for item in offline if not wanted.isdisjoint(tag.casefold() for tag in item.tags)]
    if not carrying:
        return ""
    named = ", ".join(sorted({tag for item in carrying for tag in item.tags if tag.casefold() in wanted}))
    verb = "carries a tag that asks" if len(carrying) == 1 else "carry tags that ask"
    return f"{len(carrying)} of the servers {verb} for an approval: {named}."


def subject_of(plan: Plan) -> str:
    """Head what a person is asked.

    :param plan: the plan.
    """
    count = len(going_offline(plan))
    if count == 1:
        return "Take a virtual server offline to export it?"
    return f"Take {count} virtual servers offline to export them?"


def body_of(plan: Plan, *, why: str, key: str) -> str:
    """Show what is decided on, in Markdown. Every value out of the account is shown as it is.

    :param plan: the plan.
    :param why: why it is asked.
    :param key: the plan's key in the bucket.
    """
    offline = going_offline(plan)
    settings = plan.settings
    at_once = min(settings.max_offline, len(offline))
    lines = [
        f"**{len(offline)} servers go offline** while they are captured, at most {at_once} at the same time"
        + (f", within {markdown(settings.window.text)}." if settings.window else ".")
        + f" {markdown(why)}",
        "",
        "Rejecting captures nothing; so does no answer in time.",
        "",
        "| Server | Data center | Disks | Size | Offline | Tags |",
        "|---|---|---|---|---|---|",
        *(_row(item) for item in offline[:SHOWN]),
    ]
    if len(offline) > SHOWN:
        lines += ["", f"and {len(offline) - SHOWN} more."]
    others = len(plan.items) + len(plan.bare_metal) + len(plan.unknown_ids) - len(offline)
    if others:
        lines += ["", f"{others} more were selected and do not go offline: the plan says why of each."]
    lines += ["", f"The plan: {markdown(settings.bucket)}/{markdown(key, limit=1000)}"]
    return "\n".join(lines)


def _row(item: PlanItem) -> str:
    seconds = item.capture_expected_seconds
    offline = "not known yet" if seconds is None else f"about {max(1, round(seconds / 60))} min"
    cells = (
        item.hostname,
        item.datacenter or "",
        len(item.disks),
        f"{item.capacity_bytes / 10**9:g} GB",
        offline,
        ", ".join(item.tags),
    )
    return f"| {' | '.join(markdown(cell) for cell in cells)} |"
