"""The history in numbers, for people: read from the file, whether the sandbox runs or not."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from sealift.cli import main
from sealift.sandbox.history import events_of, summarize


def test_the_summary_counts(make_sandbox: Any, rest: Any) -> None:
    box = make_sandbox(faults={"stuck_transaction": 1.0, "lost_reply": 0.0})
    client = rest(box)
    client.capture("web-01", "same")
    client.capture("db-01", "same")
    box.set_fault("lost_reply", times=1)
    with pytest.raises(requests.ConnectionError):
        client.get("SoftLayer_Account/getObject.json")
    path = box.root / "history.jsonl"
    with path.open("ab") as file:
        file.write(b'{"seq":')  # as a reader may see it while a line is being written
    summary = summarize(events_of(path))
    assert summary == {
        "events": len(box.history()),
        "requests": {
            "SoftLayer_Account::getObject": {"dropped": 1},
            "SoftLayer_Virtual_Guest::createArchiveTemplate": {"ok": 2},
            "SoftLayer_Virtual_Guest::getBlockDevices": {"ok": 2},
        },
        "faults": {"stuck_transaction": 2, "lost_reply": 1},
        "effects": {"capture-started": 2, "guest-offline": 2},
        "offline_at_most": 2,
        "captured_more_than_once": ["same"],
    }
    assert summarize([])["events"] == 0


def test_the_summary_on_the_command_line(make_sandbox: Any, rest: Any) -> None:
    box = make_sandbox(faults={"stuck_transaction": 1.0})
    rest(box).capture("web-01", "image")
    asked = CliRunner().invoke(main, ["sandbox", "history", "--state", str(box.root)])
    assert asked.exit_code == 0, asked.output
    assert "SoftLayer_Virtual_Guest::createArchiveTemplate  1 ok" in asked.output
    assert "captured more than once  none" in asked.output
    as_json = CliRunner().invoke(main, ["sandbox", "history", "--json", "--state", str(box.root)])
    assert json.loads(as_json.output)["offline_at_most"] == 1
    nothing = CliRunner().invoke(main, ["sandbox", "history", "--state", str(box.root / "images")])
    assert nothing.exit_code == 1
    assert "has no history" in nothing.output
