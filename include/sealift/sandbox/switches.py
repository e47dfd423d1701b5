"""Switches for behaviour of the real service that no source confirms, so that a client can be tried against each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


def _switch(default: Any, doc: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"doc": doc, "choices": choices})


@dataclass(kw_only=True)
class Switches:
    """All switches with their defaults; docs/sandbox.md lists them with the evidence there is for each."""

    capture_seconds: float = _switch(270.0, "How long a capture takes at speed 1, give or take a tenth.")
    children_seconds_min: float = _switch(5.0, "Earliest appearance of a template's child after its creation.")
    children_seconds_max: float = _switch(30.0, "Latest appearance of a template's child after its creation.")
    export_seconds: float = _switch(240.0, "How long an export takes at speed 1, give or take a tenth.")
    delete_seconds: float = _switch(60.0, "How long a template's deletion takes at speed 1.")
    transfer_seconds: float = _switch(120.0, "How long copying a template to another datacenter takes at speed 1.")
    capture_halts_guest: bool = _switch(True, "The guest's powerState is HALTED while it is captured.")
    guest_transaction_spans_capture: bool = _switch(
        True, "The guest's transaction ends with the template's; else it ends halfway."
    )
    capture_requires_active: bool = _switch(True, "Only guests whose status is ACTIVE can be captured.")
    capture_requires_power: bool = _switch(False, "Only guests that run can be captured.")
    capture_refuses_third_party: bool = _switch(True, "Guests with third-party software cannot be captured.")
    capture_refuses_private_only: bool = _switch(False, "Guests with a private network only cannot be captured.")
    captures_at_once: int = _switch(0, "How many captures may run at once in the account; 0 means any number.")
    exports_at_once: int = _switch(0, "How many exports may run at once in the account; 0 means any number.")
    late_seconds: float = _switch(
        60.0,
        "How long a late template or transaction (faults template_late, transaction_late) stays unseen at speed 1.",
    )
    afterwork_gap_seconds: float = _switch(
        20.0, "How long after a capture's end its second transaction (fault second_transaction) begins at speed 1."
    )
    afterwork_seconds: float = _switch(60.0, "How long a capture's second transaction takes at speed 1.")
    archive_transaction_returns: str = _switch(
        "template", "What the deprecated createArchiveTransaction returns.", ("template", "transaction")
    )
    name_length: int = _switch(0, "Longest name of a template, in characters; 0 means any length.")
    note_length: int = _switch(0, "Longest note of a template, in characters; 0 means any length.")
    export_transaction_on: str = _switch(
        "child", "Where the transaction of an export is seen.", ("child", "parent", "both")
    )
    export_overwrites: bool = _switch(True, "An export replaces objects of the same name; else it is refused.")
    export_swap_takes_index: bool = _switch(False, "The swap entry takes a number in the names of exported objects.")
    export_vmdk: str = _switch(
        "refuse", "What happens to a .vmdk uri for a captured template.", ("refuse", "write-vhd")
    )
    export_accepts_hmac: bool = _switch(False, "copyToIcos takes ibmAccessKey and ibmSecretKey in place of ibmApiKey.")
    delete_while_busy: str = _switch("refuse", "Deleting a template that has a transaction.", ("refuse", "allow"))
    bad_filter: str = _switch(
        "clause", "How much of an objectFilter a malformed or unsupported clause voids.", ("clause", "all")
    )
    unknown_mask_property: str = _switch(
        "error", "An objectMask that names an unknown property of a known type.", ("error", "ignore")
    )
    xmlrpc_nil: str = _switch("empty", "How null travels over XML-RPC.", ("empty", "nil"))
    xmlrpc_bearer: bool = _switch(False, "XML-RPC takes bearer tokens.")
    requests_per_second: int = _switch(50, "Requests that one user may send per second; 0 switches the limit off.")
    rate_limit_retry_after: bool = _switch(False, "A refusal for the rate carries the header Retry-After.")
    ats_offered: bool = _switch(True, "Buckets name the Aspera Transfer Service; else their location has none.")
    ats_immutable: str = _switch(
        "store",
        "Who refuses Aspera for a bucket with a retention policy: the store, or the node API.",
        ("store", "node"),
    )
    ats_websockets: bool = _switch(True, "The transfer server takes WebSockets; else SSH with a key only.")
    ats_cipher: str = _switch(
        "aes-128", "The cipher of a transfer spec.", ("aes-128", "aes-256", "aes-256-gcm", "none")
    )
    ats_needs_tags: bool = _switch(False, "The transfer server wants the storage credentials in ascp's tags.")
    ascp_fault_at: int = _switch(0, "The byte at which faults of the stand-in for ascp happen.")
    ascp_fault_code: int = _switch(16, "The number of the error that the fault ascp_error ends with.")
    gigabyte: str = _switch("2^30", "How many bytes a GB of a disk's capacity has.", ("2^30", "10^9"))

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Switches:
        """Make switches from some settings, given as values or as text (``"true"``, ``"12.5"``).

        :raises ValueError: on an unknown name or a value that the switch does not take; the message names both.
        """
        switches = cls()
        for name, value in (settings or {}).items():
            switches.set(name, value)
        return switches

    def set(self, name: str, value: Any) -> None:
        """Set one switch.

        :raises ValueError: on an unknown name or a value that the switch does not take.
        """
        known = {one.name: one for one in fields(self)}
        if name not in known:
            raise ValueError(f"there is no switch {name!r}; there are: {', '.join(sorted(known))}")
        setattr(self, name, _coerce(name, value, type(known[name].default), known[name].metadata["choices"]))

    def as_dict(self) -> dict[str, Any]:
        """:returns: all switches by name."""
        return asdict(self)


def _coerce(name: str, value: Any, kind: type, choices: tuple[str, ...]) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        word = str(value).lower()
        if word not in {"true", "yes", "on", "1", "false", "no", "off", "0"}:
            raise ValueError(f"switch {name!r} takes true or false, not {value!r}")
        return word in {"true", "yes", "on", "1"}
    if kind in {int, float}:
        try:
            number = kind(value)
        except (TypeError, ValueError):
            raise ValueError(f"switch {name!r} takes a number, not {value!r}") from None
        if number < 0:
            raise ValueError(f"switch {name!r} takes no negative number")
        return number
    if choices and value not in choices:
        raise ValueError(f"switch {name!r} takes one of {', '.join(choices)}, not {value!r}")
    return str(value)
