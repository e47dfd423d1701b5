"""The settings of a plan: where exports go, how many servers may be offline. They hold connection ids, no secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from sealift.exports import names
from sealift.exports.errors import SettingsError
from sealift.exports.window import Window
from sealift.images.verdict import ProofLevel

FORMATS: Final = ("vhd", "vmdk", "qcow2", "vhd-fixed", "raw")
"""A captured template leaves the API as a dynamic VHD; the others are converted from that, in the bucket."""

ProvenAt = Literal["L1", "L2", "L3", "L4"]

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)?|[a-z]{3}\d{2}")


def _blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


class PlanSettings(BaseModel):
    """How a run exports.

    Deadlines are worked out from the size of the disks (see :mod:`sealift.exports.deadlines`); the ``…_minutes``
    fields replace what is worked out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classic_conn_id: str = Field(min_length=1, description="Connection of type ibm_classic")
    cos_conn_id: str = Field(min_length=1, description="Connection of type ibm_cos")
    bucket: Annotated[str, BeforeValidator(_lower)] = Field(description="Bucket that the images are exported to")
    region: Annotated[str, BeforeValidator(_lower)] = Field(description="The bucket's region, as us-south")
    prefix: str = Field(default="", description="What all keys begin with; may be empty")
    format: Annotated[Literal["vhd", "vmdk", "qcow2", "vhd-fixed", "raw"], BeforeValidator(_lower)] = Field(
        default="vhd", description="Format of the images; any but vhd is made of the exported VHDs, which stay"
    )
    wave_size: int | None = Field(
        default=None, ge=1, le=100, description="Most servers in one wave (one DAG run); none: it follows from the caps"
    )
    max_offline: int = Field(default=5, ge=1, description="Most servers of the account offline for capture at once")
    window: Annotated[Window | None, BeforeValidator(_blank)] = Field(
        default=None, description="Times in which captures may start; none means any time"
    )
    outside_window: Literal["wait", "refuse"] = Field(
        default="wait", description="What a capture does that comes up outside the window"
    )
    dry_run: bool = Field(default=False, description="Write the plan and stop")
    bucket_create: bool = Field(default=False, description="Create the bucket if it does not exist")
    capture_now: bool = Field(
        default=False,
        description="In a run for a past slot, capture servers as they are now where no template is found",
    )
    proof_level: ProvenAt = Field(
        default="L1",
        description="How deep images are proven before an export is done; L2 reads every byte, L3 the file systems, "
        "L4 starts the server in an emulated machine",
    )
    proof_share: int = Field(
        default=100,
        ge=0,
        le=100,
        description="Per cent of the exports that are proven deeper than L1, chosen evenly by their ids",
    )
    waive: list[str] = Field(default_factory=list, description="Ids of refusing rules to treat as warnings")
    capture_deadline_minutes: float | None = Field(default=None, gt=0, description="Longest wait for a template")
    export_deadline_minutes: float | None = Field(default=None, gt=0, description="Longest wait for an export")
    stuck_minutes: float | None = Field(
        default=None, gt=0, description="A transaction whose status does not change for so long is stuck"
    )
    grace_minutes: float | None = Field(
        default=None, gt=0, description="How long something may be missing before it counts as gone"
    )

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Read settings from a DAG's params.

        :param params: the settings by name; None means not given.
        :returns: the settings.
        :raises SettingsError: a setting is missing, unknown, out of range or malformed; the message names each.
        """
        try:
            return cls.model_validate(dict(params))
        except ValidationError as error:
            parts = [
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors(include_url=False)
            ]
            raise SettingsError("The settings cannot be used. " + "; ".join(parts)) from error

    def proof_level_of(self, export_id: str) -> ProofLevel:
        """Say how deep an export's images are to be proven.

        Which exports belong to the share follows from their ids, so that a retry decides the same. As the id holds the
        period, it is another share of the servers every time.

        :param export_id: the export.
        """
        chosen = int.from_bytes(hashlib.sha256(export_id.encode()).digest()[:8], "big") % 100 < self.proof_share
        return ProofLevel(self.proof_level) if chosen else ProofLevel.L1

    def check_machine(self) -> None:
        """Refuse a level of proof that this machine cannot make, before anything is captured for it.

        Workers are taken to be alike: what is missing where a plan is made is missing where images are proven.

        :raises SettingsError: L4 is asked for and QEMU is not installed.
        """
        if ProofLevel(self.proof_level) < ProofLevel.L4 or not self.proof_share:
            return
        from sealift.images.emulator import EmulatorError, find_emulator

        try:
            find_emulator()
        except EmulatorError as error:
            raise SettingsError(f"The proof level L4 cannot be made on this worker. {error}") from error

    @model_validator(mode="before")
    @classmethod
    def _defaults_for_none(cls, value: Any) -> Any:
        """Take None for "not given", as forms and DAG params send it."""
        return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value

    @field_validator("format", mode="before")
    @classmethod
    def _known_format(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip().lower() not in FORMATS:
            raise ValueError(f"the format {value!r} is not supported; use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        return value

    @field_validator("bucket")
    @classmethod
    def _bucket_name(cls, value: str) -> str:
        if not _BUCKET.fullmatch(value) or ".." in value:
            raise ValueError(
                f"{value!r} is no bucket name; COS takes 3 to 63 lower-case letters, digits, '.' and '-', beginning "
                "and ending with a letter or digit"
            )
        return value

    @field_validator("region")
    @classmethod
    def _region_name(cls, value: str) -> str:
        if not _REGION.fullmatch(value):
            raise ValueError(f"{value!r} is no region; write it as us-south or eu-de, without a storage class")
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        try:
            return names.normal_prefix(value)
        except SettingsError as error:
            raise ValueError(error.message) from error

    @field_validator("waive")
    @classmethod
    def _waivable(cls, value: list[str]) -> list[str]:
        from sealift.exports.rules import RULES

        waivable = [rule.id for rule in RULES if rule.waivable]
        for rule in value:
            if rule not in waivable:
                raise ValueError(f"the rule {rule!r} cannot be waived; these can: {', '.join(waivable)}")
        return sorted(set(value))
