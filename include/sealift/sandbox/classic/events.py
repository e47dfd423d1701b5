"""What the history says of captures and exports, made of the documents of transactions and templates."""

from __future__ import annotations

from typing import Any

Doc = dict[str, Any]


TAKES_OFFLINE = frozenset({"capture", "afterwork"})
"""The kinds of transactions that keep their guest offline."""


def capture_started(entry: Doc) -> Doc:
    """A capture was accepted."""
    return {
        "what": "capture-started",
        "guest": entry["guestId"],
        "template": entry["groupId"],
        "name": entry["work"].get("name", ""),
        "transaction": entry["id"],
        "disks": [disk["device"] for disk in entry["work"]["disks"]],
    }


def guest_offline(entry: Doc) -> Doc:
    """A guest went offline, which it does in the moment in which its capture is accepted."""
    return {"what": "guest-offline", "guest": entry["guestId"], "transaction": entry["id"]}


def guest_online(entry: Doc) -> Doc:
    """A guest is back."""
    return {"what": "guest-online", "guest": entry["guestId"], "transaction": entry["id"]}


def export_started(entry: Doc) -> Doc:
    """An export was accepted."""
    targets = entry["work"]["objects"]
    return {
        "what": "export-started",
        "template": entry["groupId"],
        "transaction": entry["id"],
        "bucket": targets[0]["bucket"] if targets else None,
        "keys": [one["key"] for one in targets],
    }


def template_gone(number: int, name: str) -> Doc:
    """A parent template is not there any more."""
    return {"what": "template-gone", "template": number, "name": name}


def ended(entry: Doc, *, was_offline: bool) -> list[Doc]:
    """A transaction ended; those of other kinds than captures and exports are nobody's business.

    :param was_offline: its guest was offline up to now.
    """
    if entry["kind"] == "afterwork":
        return [guest_online(entry)] if was_offline else []
    if entry["kind"] not in {"capture", "export"}:
        return []
    end: Doc = {"what": f"{entry['kind']}-ended", "template": entry["groupId"], "transaction": entry["id"]}
    if entry["kind"] == "capture":
        end["guest"] = entry["guestId"]
    return [guest_online(entry), end] if was_offline else [end]
