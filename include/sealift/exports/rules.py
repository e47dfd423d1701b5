"""The rules that decide, before anything is captured, whether and how well a server can be exported.

A rule has an id, a severity and a sentence. ``refuse`` keeps the server out of the run and says why; ``warn`` lets it
through with a remark; ``info`` records something that nobody need act on. What IBM's pages leave open for virtual
servers is a warning and says so. A rule that is waivable can be made a warning by the plan's ``waive`` setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from sealift.classic.models import BareMetalServer, Guest
from sealift.exports import names
from sealift.exports.disks import PlannedDisk, capacity_range
from sealift.exports.settings import PlanSettings

MAX_PARTS: Final = 10_000
"""Most parts of one multipart upload in COS."""

PART_BYTES: Final = 128 * 10**6
"""What one part of an export holds (IBM's release note of 2021-04-21: 128 MB), read the smaller way."""

IMPORT_REGIONS: Final = frozenset({"us-south", "us-east", "eu-gb", "eu-de", "jp-tok", "au-syd"})
"""Regions that IBM's page on image templates and COS names; a release note of 2026-03 adds some without naming them."""


class Severity(StrEnum):
    """What a finding does to a server."""

    REFUSE = "refuse"
    WARN = "warn"
    INFO = "info"


class Finding(BaseModel):
    """A rule that spoke about a server.

    :param rule: the rule's id.
    :param severity: what it does; a waived refusal is a warning.
    :param sentence: what was found and what to do, for people.
    """

    model_config = ConfigDict(frozen=True)

    rule: str = Field(description="Id of the rule")
    severity: Severity = Field(description="refuse, warn or info")
    sentence: str = Field(description="What was found, and what to do about it")


@dataclass(frozen=True)
class Context:
    """What rules may know beside the guest.

    :param images: the export's key prefix.
    :param past_slot: the run is for a slot that has passed.
    :param template_exists: the account already holds this export's template, which the run will adopt.
    """

    settings: PlanSettings
    images: str
    past_slot: bool = False
    template_exists: bool = False
    disks: list[PlannedDisk] = field(default_factory=list)

    @property
    def captures(self) -> bool:
        """Whether the run would capture the server: not where a template is there, nor for a slot that has passed."""
        return not self.template_exists and (not self.past_slot or self.settings.capture_now)


Check = Callable[[Guest, Context], Iterable[str]]


@dataclass(frozen=True)
class Rule:
    """A rule.

    :param sentence: what the rule says in general; its findings say it of one server.
    :param check: yields a sentence for each thing found; None for rules that are not about one guest.
    :param waivable: whether a user may turn the refusal into a warning.
    :param id: names the rule in findings and in the plan's ``waive`` setting.
    :param severity: what its findings do to a server, unless it is waived.
    """

    id: str
    severity: Severity
    sentence: str
    check: Check | None = None
    waivable: bool = False


def evaluate(guest: Guest, context: Context) -> list[Finding]:
    """Hold every rule against a guest; refusals come first.

    :param guest: the virtual server.
    :param context: what else the rules may know.
    :returns: one finding for each thing found; empty where nothing is.
    """
    findings = [
        finding(rule, sentence, context.settings)
        for rule in RULES
        if rule.check is not None
        for sentence in rule.check(guest, context)
    ]
    order = list(Severity)
    return sorted(findings, key=lambda found: order.index(found.severity))


def finding(rule: Rule, sentence: str, settings: PlanSettings) -> Finding:
    """Make a finding of a rule, as a warning if the user waived the rule.

    :param rule: the rule that spoke.
    :param sentence: what it found of one server.
    :param settings: the plan's, for what the user waived.
    :returns: the finding.
    """
    if rule.severity is Severity.REFUSE and rule.waivable and rule.id in settings.waive:
        return Finding(rule=rule.id, severity=Severity.WARN, sentence=f"{sentence} (The rule was waived.)")
    return Finding(rule=rule.id, severity=rule.severity, sentence=sentence)


def settings_findings(settings: PlanSettings) -> list[Finding]:
    """Hold the rules about the plan's settings against them.

    :param settings: the plan's.
    :returns: one finding for each thing found; empty where nothing is.
    """
    if settings.region in IMPORT_REGIONS:
        return []
    return [
        finding(
            REGION_UNLISTED,
            f"IBM's page on image templates does not name the region {settings.region}: whether exports to a bucket "
            "there work is unconfirmed. If the first export is refused, use a bucket in one of "
            f"{', '.join(sorted(IMPORT_REGIONS))}.",
            settings,
        )
    ]


def bare_metal_finding(server: BareMetalServer) -> Finding:
    """Say that a bare metal server is its owner's to export.

    Source: VSDOC data-portability-classic.

    :param server: the bare metal server.
    :returns: a refusal.
    """
    return Finding(
        rule=BARE_METAL.id,
        severity=Severity.REFUSE,
        sentence=f"{server.hostname} is a bare metal server. IBM offers no image export for bare metal: moving it is "
        "customer-managed. Its hardware inventory is recorded in the plan; back it up from inside.",
    )


def unknown_id_finding(guest_id: int) -> Finding:
    """Say that an id of the selection belongs to nobody.

    :param guest_id: the id.
    :returns: a refusal.
    """
    return Finding(
        rule=UNKNOWN_SERVER.id,
        severity=Severity.REFUSE,
        sentence=f"The account knows no server with the id {guest_id}, or the connection's user may not see it. "
        "Remove the id from the selection, or give the user access to the server.",
    )


def _active_transaction(guest: Guest, context: Context) -> Iterable[str]:
    transaction = guest.active_transaction
    if transaction is not None and context.captures:
        status = transaction.status_friendly_name or transaction.status_name or "status unknown"
        since = transaction.status_change_date or transaction.create_date
        yield (
            f"The server has an active transaction ({status}, transaction {transaction.id}"
            + (f", in this status since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if since else "")
            + "): no capture can start before it ends. Run again then; if it does not end, open a case with IBM."
        )


def _no_disk(_: Guest, context: Context) -> Iterable[str]:
    if not context.disks:
        yield "The server has no disk that can be captured: nothing but swap, metadata or CD devices."


def _not_active(guest: Guest, _: Context) -> Iterable[str]:
    if guest.status != "ACTIVE":
        yield (
            f"The server's status is {guest.status or 'not told by the API'}, not ACTIVE. IBM's release notes say "
            "(2021-08-06) that captures of servers not in ACTIVE status are prevented; whether it applies to virtual "
            "servers is unconfirmed. If the capture is refused, bring the server to ACTIVE first."
        )


def _private_only(guest: Guest, _: Context) -> Iterable[str]:
    if guest.private_network_only_flag:
        yield (
            "The server is on the private network only. IBM's release notes say (2021-04-21) that image captures of "
            "such servers are disallowed; whether it applies to virtual servers is unconfirmed."
        )


def _stopped(guest: Guest, _: Context) -> Iterable[str]:
    if guest.power_state is not None and guest.power_state != "RUNNING":
        yield (
            f"The server's power state is {guest.power_state}. IBM documents no power state that a capture needs; "
            "it is left as it is found."
        )


def _third_party_software(guest: Guest, context: Context) -> Iterable[str]:
    for name in third_party_software(guest) if context.captures else []:
        yield (
            f"{name} is listed as software of the server beside its operating system. IBM does not capture servers "
            "while third-party software that it provided is installed: remove it in the console (the server's "
            "Add-ons) first. The list does not tell who provided it; if it is your own, waive the rule."
        )


def _blocked_system(guest: Guest, _: Context) -> Iterable[str]:
    for description in _descriptions(guest):
        text = _label(description).casefold()
        if "centos stream" in text or ("red hat" in text and "sap" in text) or ("rhel" in text and "sap" in text):
            yield (
                f"The operating system is {_label(description)}. IBM's release notes say (2022-04-01) that captures "
                "of RHEL for SAP HANA and of CentOS Stream are blocked; whether it applies to exports of virtual "
                "servers is unconfirmed."
            )


def _cos_name(guest: Guest, _: Context) -> Iterable[str]:
    safe = names.key_safe(guest.hostname)
    if safe != guest.hostname:
        yield (
            f"The host name {guest.hostname!r} holds characters that object names should not: "
            f"the objects' keys say {safe} instead."
        )


def _key_too_long(_: Guest, context: Context) -> Iterable[str]:
    longest = names.disk_key(images=context.images, index=99, extension=context.settings.format)
    if len(longest.encode()) > names.KEY_MAX_BYTES:
        yield (
            f"The objects' keys would have {len(longest.encode())} bytes, and COS takes {names.KEY_MAX_BYTES}: "
            "shorten the prefix."
        )


def _disk_too_large(_: Guest, context: Context) -> Iterable[str]:
    ceiling = PART_BYTES * MAX_PARTS
    for disk in context.disks:
        largest = capacity_range(disk.capacity, disk.units)[1]
        if largest > ceiling:
            yield (
                f"Disk {disk.device} holds {disk.capacity:g} {disk.units}. The export writes parts of 128 MB, and COS "
                f"takes {MAX_PARTS:,} parts of an object: {ceiling / 10**12:.2f} TB at most. An image holds only the "
                "blocks that are in use, so that a disk with room left may fit: waive the rule to try."
            )


def _conversion(_: Guest, context: Context) -> Iterable[str]:
    if context.settings.format != "vhd":
        yield (
            f"A template captured from a virtual server leaves the API as VHD only. Its images are converted into "
            f"{context.settings.format} in the bucket, beside the VHDs; the export is done when both are proven."
        )


def _past_slot(_: Guest, context: Context) -> Iterable[str]:
    if context.past_slot and not context.template_exists and not context.settings.capture_now:
        yield (
            "The run is for a past slot, and no template was captured in it: a capture now would not be of that "
            "time. Set capture_now to capture the server as it is now; the manifest tells the true time."
        )


def third_party_software(guest: Guest) -> list[str]:
    """Name the software that the API lists for a guest beside its operating system.

    The operating system is itself in ``softwareComponents``: it is told apart by its own description's id or reference
    code, or by the description's ``operatingSystem`` flag. A component without any description is not named.

    :param guest: with its operating system and software components (softlayer-go datatypes).
    :returns: names, each once, sorted.
    """
    system = _description(guest.operating_system)
    found = []
    for component in guest.software_components:
        description = _description(component)
        if not description or description.get("operatingSystem") in (1, True) or _same(description, system):
            continue
        found.append(_label(description))
    return sorted(set(found))


def _descriptions(guest: Guest) -> list[dict[str, Any]]:
    own = _description(guest.operating_system)
    return [own] if own else []


def _description(component: dict[str, Any] | None) -> dict[str, Any]:
    license_ = (component or {}).get("softwareLicense") or {}
    return license_.get("softwareDescription") or {}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    for key in ("id", "referenceCode"):
        if one.get(key) and other.get(key):
            return bool(one[key] == other[key])
    return bool(other) and _label(one) == _label(other)


def _label(description: dict[str, Any]) -> str:
    words: list[str] = []
    for key in ("manufacturer", "name", "version"):
        word = str(description.get(key) or "").strip()
        if word and word not in words:
            words.append(word)
    return " ".join(words) or str(description.get("referenceCode") or "Unnamed software")


BARE_METAL = Rule(
    "bare-metal",
    Severity.REFUSE,
    "Bare metal servers are customer-managed: listed with their inventory, never exported.",
)
UNKNOWN_SERVER = Rule("unknown-server", Severity.REFUSE, "An id of the selection that the account does not know.")
REGION_UNLISTED = Rule(
    "region-unlisted", Severity.WARN, "The bucket's region is not among those that IBM's page on image templates names."
)
BUCKET_REGION = Rule(
    "bucket-region",
    Severity.REFUSE,
    "The bucket must exist in the region that the export names (refuses the whole plan).",
)

RULES: Final[tuple[Rule, ...]] = (
    BARE_METAL,
    UNKNOWN_SERVER,
    BUCKET_REGION,
    Rule(
        "active-transaction",
        Severity.REFUSE,
        "The server has an active transaction: no capture can start.",
        _active_transaction,
    ),
    Rule("no-disk", Severity.REFUSE, "The server has no disk that can be captured.", _no_disk),
    Rule(
        "third-party-software",
        Severity.REFUSE,
        "IBM does not capture servers while third-party software that it provided is installed.",
        _third_party_software,
        waivable=True,
    ),
    Rule(
        "disk-too-large",
        Severity.REFUSE,
        "A disk that may not fit into 10,000 parts of 128 MB (1.28 TB).",
        _disk_too_large,
        waivable=True,
    ),
    Rule("key-too-long", Severity.REFUSE, "The objects' keys would be longer than COS takes.", _key_too_long),
    Rule(
        "conversion",
        Severity.INFO,
        "A captured template leaves the API as VHD; images in another format are made of that.",
        _conversion,
    ),
    Rule(
        "past-slot",
        Severity.REFUSE,
        "A run for a past slot exports only what was captured then, unless told to capture now.",
        _past_slot,
    ),
    Rule(
        "window-closed",
        Severity.REFUSE,
        "The capture came up outside the window, and the plan refuses such captures (decided at the capture).",
    ),
    Rule(
        "not-active", Severity.WARN, "The server's status is not ACTIVE; effect on captures unconfirmed.", _not_active
    ),
    Rule(
        "private-network-only",
        Severity.WARN,
        "The server is on the private network only; effect on captures unconfirmed.",
        _private_only,
    ),
    Rule(
        "blocked-system",
        Severity.WARN,
        "RHEL for SAP HANA or CentOS Stream; effect on captures unconfirmed.",
        _blocked_system,
    ),
    Rule("cos-name", Severity.WARN, "The host name holds characters that COS dislikes; keys replace them.", _cos_name),
    REGION_UNLISTED,
    Rule("stopped", Severity.INFO, "The server is not running; its power state is left as it is found.", _stopped),
)
"""Every rule, in the order in which the documentation lists them."""
