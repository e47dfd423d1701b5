"""Switches: values as text or as they are, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from sealift.sandbox.app import ALL_FAULTS
from sealift.sandbox.switches import Switches


def test_text_and_values() -> None:
    switches = Switches.of(
        {"capture_halts_guest": "false", "capture_seconds": "12.5", "requests_per_second": 0, "xmlrpc_nil": "nil"}
    )
    assert switches.capture_halts_guest is False
    assert switches.capture_seconds == 12.5
    assert switches.requests_per_second == 0
    assert switches.xmlrpc_nil == "nil"
    assert Switches.of({"capture_halts_guest": True}).as_dict() == Switches().as_dict()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("no_such_switch", "1", "there is no switch"),
        ("capture_halts_guest", "perhaps", "true or false"),
        ("capture_seconds", "soon", "a number"),
        ("capture_seconds", None, "a number"),
        ("requests_per_second", "-1", "no negative"),
        ("xmlrpc_nil", "null", "one of empty, nil"),
    ],
)
def test_nonsense_is_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Switches.of({name: value})


def test_the_docs_list_every_switch_and_every_fault_with_its_default(project_root: Path) -> None:
    text = (project_root / "docs" / "sandbox.md").read_text()
    for one in fields(Switches):
        default = str(one.default).lower() if isinstance(one.default, bool) else str(one.default)
        row = next((line for line in text.splitlines() if line.startswith(f"| `{one.name}` |")), "")
        assert row, f"docs/sandbox.md does not list the switch {one.name}"
        assert f"`{default}`" in row, f"docs/sandbox.md names another default of {one.name} than {default}"
    for name in ALL_FAULTS:
        assert f"| `{name}` |" in text, f"docs/sandbox.md does not list the fault {name}"
