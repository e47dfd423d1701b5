"""The rules of retention as people write them: for which servers, what is kept, and what counts as proven."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from sealift.classic.models import Guest
from sealift.exports.errors import SettingsError
from sealift.exports.selection import Criteria, Texts

Count = Annotated[int, Field(ge=1, le=100_000)]
Days = Annotated[float, Field(gt=0, le=36_525)]


class RulesModel(BaseModel):
    """Base of the rules' parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Servers(Criteria):
    """The servers that a rule is for: criteria as a run's selection has them.

    :param all: every server.
    """

    all: bool = Field(default=False, description="Every server")

    def fit(self, server: Guest) -> bool:
        """Say whether the rule is for a server.

        :param server: the server, as its manifests or the account show it.
        :returns: whether it is.
        """
        return self.all or server.id in self.ids or self.describes(server)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.all and (self.ids or self.has_criteria):
            raise ValueError("all goes with no other criterion: write a rule for these servers before the one for all")
        if not (self.all or self.ids or self.has_criteria):
            raise ValueError("names no servers: give all, ids or a criterion")
        return self


class KeepRule(RulesModel):
    """What is kept of some servers. What no part of the rule keeps goes, if it may."""

    name: str = Field(min_length=1, max_length=100, description="Name of the rule, for reports")
    servers: Servers = Field(description="The servers that the rule is for; of several rules, the first that fits")
    keep_last: Count | None = Field(default=None, description="Keep the newest so many exports of a server")
    keep_daily: Count | None = Field(default=None, description="Keep the newest export of each of so many days")
    keep_weekly: Count | None = Field(default=None, description="… of each of so many weeks, which begin on Monday")
    keep_monthly: Count | None = Field(default=None, description="… of each of so many months")
    keep_yearly: Count | None = Field(default=None, description="… of each of so many years")
    keep_within_days: Days | None = Field(default=None, description="Keep what was captured within so many days")
    hold_tags: Texts = Field(
        default_factory=list, description="Keep everything of a server that has one of these tags, for ever"
    )
    proof_level: Literal["L1", "L2", "L3", "L4"] = Field(
        default="L1", description="An export counts as proven from this level on"
    )
    proof_max_age_days: Days | None = Field(
        default=None, description="An export counts as proven for so many days after its newest proof; empty: for ever"
    )
    templates: Literal["newest", "untouched"] = Field(
        default="newest",
        description="newest: image templates go once their export is proven, but for the newest of each server; "
        "untouched: no image template is deleted",
    )
    templates_newest: Count = Field(default=1, description="So many image templates of each server are kept")

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        kept = (self.keep_last, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly)
        if not any(kept) and self.keep_within_days is None:
            raise ValueError(
                f"the rule {self.name!r} says nothing of what to keep: give keep_last, keep_daily, keep_weekly, "
                "keep_monthly, keep_yearly or keep_within_days"
            )
        return self

    @property
    def proof_max_age(self) -> timedelta | None:
        """How old a proof may be; None for any age."""
        return None if self.proof_max_age_days is None else timedelta(days=self.proof_max_age_days)

    @property
    def within(self) -> timedelta | None:
        """How long everything is kept; None where the rule does not say."""
        return None if self.keep_within_days is None else timedelta(days=self.keep_within_days)


OrphanKind = Literal["orphan-template", "broken-template", "duplicate-templates", "half-export", "unfinished-upload"]


class OrphanRule(RulesModel):
    """When what sealift doctor finds may go."""

    after_days: float = Field(ge=1, le=36_525, description="It goes once it is so many days old")
    kinds: list[OrphanKind] = Field(
        default_factory=lambda: list(get_args(OrphanKind)),
        min_length=1,
        description="Findings that go; all if not given",
    )


def _document(value: Any) -> Any:
    return {"rules": value} if isinstance(value, list) else value


class RetentionRules(RulesModel):
    """All rules of a bucket. A server that none of them fits keeps everything."""

    rules: list[KeepRule] = Field(min_length=1, max_length=1000, description="The rules, in the order of their weight")
    timezone: str = Field(default="UTC", description="Time zone in which days, weeks, months and years begin")
    at_most: Count = Field(
        default=5000, description="A dry run names so many exports, and image templates alone; the next one the rest"
    )
    orphans: OrphanRule | None = Field(default=None, description="When orphans that the doctor finds go; null: never")
    versions: Literal["keep", "delete"] = Field(
        default="keep",
        description="In a bucket that keeps versions: keep leaves them to its lifecycle rules, and frees no bytes "
        "itself; delete deletes all versions of what goes",
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone; one looks like Europe/Berlin") from error
        return name

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone."""
        return zoneinfo.ZoneInfo(self.timezone)

    @property
    def asks_for_proofs(self) -> bool:
        """Whether it matters what was proven after the manifests were written."""
        return any(one.proof_level != "L1" or one.proof_max_age is not None for one in self.rules)

    @property
    def asks_for_tags(self) -> bool:
        """Whether the servers' tags must be known."""
        return any(one.hold_tags or one.servers.tags for one in self.rules)

    def rule_for(self, server: Guest) -> KeepRule | None:
        """Find the rule that a server falls under.

        :param server: the server.
        :returns: the first rule that fits, or None.
        """
        return next((one for one in self.rules if one.servers.fit(server)), None)


_Read = Annotated[RetentionRules, BeforeValidator(_document)]


class _Holder(BaseModel):
    rules: _Read


def read_rules(value: Any) -> RetentionRules:
    """Read rules as a file or a form holds them: the whole document, or the list of its rules.

    :param value: made of what JSON knows.
    :returns: the rules.
    :raises SettingsError: they are none; the message names what is wrong where.
    """
    try:
        return _Holder.model_validate({"rules": value}).rules
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(one) for one in _place(first["loc"]))
        raise SettingsError(
            f"The rules of retention cannot be used: {place + ': ' if place else ''}{first['msg']}."
        ) from error


def _place(loc: Sequence[int | str]) -> Sequence[int | str]:
    return [f"rules[{one}]" if isinstance(one, int) else one for one in loc[1:] if one != "rules"]
