"""What docs/notify.md says to try does what it says: the receivers print what they get, by the settings of the page."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sealift.exports.messages.message import Message, MessageKind
from sealift.provider.notifications.choice import KINDS, choice
from sealift.provider.notifications.telling import tell

pytestmark = pytest.mark.airflow


@pytest.fixture
def receivers(project_root: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The program, and the ports of its mail server and of its webhook's receiver."""
    command = [sys.executable, "-m", "tools.receivers", "--mail", "0", "--webhook", "0"]
    with subprocess.Popen(command, cwd=project_root, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        mail, webhook = re.findall(r"127\.0\.0\.1:(\d+)", program.stdout.readline())
        yield program, mail, webhook
        program.terminate()


def test_the_settings_of_the_page_bring_a_message_to_both(
    receivers: tuple[subprocess.Popen[str], str, str], monkeypatch: pytest.MonkeyPatch, project_root: Path
) -> None:
    program, mail, webhook = receivers
    text = (project_root / "docs/notify.md").read_text().split("## Try it")[1].split("\n## ")[0]
    settings = dict(re.findall(r"^(AIRFLOW_\w+)='?(.*?)'?$", text, re.MULTILINE))
    assert len(settings) == 6
    for name, value in settings.items():
        monkeypatch.setenv(name, value.replace("1025", mail).replace("8026", webhook))
    assert choice().late_after > 0
    message = Message(
        kind=MessageKind.FINISHED,
        subject="Sealift: 1 exported",
        summary="Yes.",
        at=datetime.now(UTC),
        dag_id="plan_exports",
        run_id="r",
    )
    assert tell("finished", lambda: message, log=logging.getLogger("tests.notifications"))
    assert program.stdout is not None
    shown = ""
    while not shown.endswith("}\n"):
        shown += program.stdout.readline()
    assert "--- mail to me@example.com: Sealift: 1 exported\n<!DOCTYPE html>" in shown
    assert '--- webhook /exports\n{\n  "schema_version": 1,' in shown


def test_the_page_describes_every_kind_of_message(project_root: Path) -> None:
    text = (project_root / "docs/notify.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE) == list(KINDS)
