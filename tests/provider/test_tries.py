"""What Airflow's own scheduler and triggerer code makes of a wait: over tries, deaths of triggerers, and a person's
hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from sealift.provider.triggers.waits import ExportWaitTrigger, TemplateWaitTrigger
from sealift.provider.waits import NEVER, read_xcom

from .conftest import terms

pytestmark = pytest.mark.airflow

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def uuid7(moment: datetime) -> UUID:
    """An id as Airflow gives a task instance at that moment."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | 99)


def counted(
    attempt: int, *, made: datetime | None = None, deferred: datetime | None = None, **changes: Any
) -> datetime:
    """From when a try counts its deadline that was made and deferred at some moments, submitted an hour before noon."""
    found = terms(started_at=NOW - timedelta(hours=1), **changes)
    trigger = TemplateWaitTrigger(
        classic_conn_id="c", terms=found.model_dump_json(), poll_interval=1.0, attempt=str(attempt)
    )
    if made is not None:
        trigger._task_instance = SimpleNamespace(id=uuid7(made))
    if deferred is not None:
        trigger.timeout_after = deferred + NEVER
    return trigger._counts_from(found, NOW)


def test_a_first_try_counts_from_the_submission() -> None:
    assert counted(1, made=NOW - timedelta(days=1), deferred=NOW - timedelta(minutes=5)) == NOW - timedelta(hours=1)


def test_a_later_try_counts_from_when_it_was_deferred() -> None:
    made, deferred = NOW - timedelta(minutes=9), NOW - timedelta(minutes=7)

    assert counted(2, made=made, deferred=deferred) == deferred
    assert counted(2, deferred=deferred.replace(tzinfo=None)) == deferred
    assert counted(2, made=made) == made
    assert counted(2) == NOW, "as long as nobody starts the triggerer again"


def test_an_execution_timeout_of_the_task_hides_only_when_it_was_deferred() -> None:
    """Airflow keeps the earlier of the two timeouts."""
    made = NOW - timedelta(minutes=9)

    assert counted(2, made=made, deferred=NOW + timedelta(days=1) - NEVER) == made


def test_a_wait_that_was_cleared_with_its_capture_counts_from_the_new_submission() -> None:
    """The whole way was cleared: the wait's try was made long before the capture submitted anything."""
    assert counted(2, made=NOW - timedelta(hours=3), deferred=None) == NOW - timedelta(hours=1)


def test_a_clock_that_is_ahead_makes_no_deadline_later() -> None:
    assert counted(2, deferred=NOW + timedelta(minutes=2)) == NOW


def test_an_id_of_another_kind_tells_no_time() -> None:
    trigger = ExportWaitTrigger(classic_conn_id="c", terms="", poll_interval=1.0, attempt=2)
    trigger._task_instance = SimpleNamespace(id=uuid4())
    assert trigger._counts_from(terms(started_at=NOW - timedelta(hours=1)), NOW) == NOW


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("", None),
        ("not JSON", None),
        ('{"a": 1}', {"a": 1}),
        (json.dumps(json.dumps({"a": 1})), {"a": 1}),
        (json.dumps(json.dumps(json.dumps({"a": 1}))), {"a": 1}),
    ],
)
def test_xcoms_are_read_however_often_they_were_encoded(text: str, value: Any) -> None:
    assert read_xcom(text) == value


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> dict[str, Any]:
    """What came of a wait in a database of its own; see the program's first lines."""
    home = tmp_path_factory.mktemp("airflow")
    play = subprocess.run(
        [sys.executable, "-m", "tests.provider.triggerer_play"],
        check=False,
        cwd=project_root,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        },
    )
    told = [line for line in play.stdout.splitlines() if line.startswith("REPORT ")]
    assert play.returncode == 0 and told, play.stdout[-3000:] + play.stderr[-3000:]
    found: dict[str, Any] = json.loads(told[-1].removeprefix("REPORT "))
    return found


def deadline(line: str) -> datetime:
    return datetime.fromisoformat(line.removeprefix("host7: waiting until ").removesuffix(" at the latest."))


@pytest.mark.slow
def test_a_triggerer_that_dies_moves_no_deadline_of_a_first_try(report: dict[str, Any]) -> None:
    assert report["first_state"] == "deferred", "Airflow's scheduler started it in the triggerer"
    submitted = datetime.fromisoformat(report["submitted_at"])
    assert len(report["first_try"]) == 2
    for line in report["first_try"]:
        assert abs(deadline(line) - submitted - timedelta(hours=4)) < timedelta(milliseconds=2)


@pytest.mark.slow
def test_a_triggerer_that_dies_moves_no_deadline_of_a_later_try(report: dict[str, Any]) -> None:
    assert (report["second_state"], report["second_number"]) == ("deferred", 2)
    assert len(report["second_try"]) == 3
    assert len(set(report["second_try"])) == 1, "three triggerers, one deadline"
    counts_from = deadline(report["second_try"][0]) - timedelta(hours=4)
    made, began = (datetime.fromisoformat(report[name]) for name in ("second_made", "second_began"))
    assert made - timedelta(milliseconds=2) <= counts_from <= began + timedelta(milliseconds=2)


@pytest.mark.slow
def test_a_person_s_hand_leaves_in_the_task_s_log_what_goes_on_remotely(report: dict[str, Any]) -> None:
    (line,) = report["killed"]

    assert line["file"].startswith("attempt=1.log.trigger."), "where Airflow's UI looks for the log of this try"
    assert (line["task_id"], line["run_id"], line["try_number"], line["level"]) == ("wait", "run-1", 1, "warning")
    for words in (
        "Nothing was cancelled",
        "the template 70 of the virtual server 7 (host7) goes on",
        "The last transaction seen is 4711, 'Copying disks', unchanged for",
        "by its name sealift-7-20260101T0000Z",
    ):
        assert words in line["event"]


@pytest.mark.slow
def test_a_good_end_hands_on_when_it_was_seen(report: dict[str, Any]) -> None:
    assert report["last_state"] == "success"
    ended = read_xcom(json.dumps(report["xcoms"]["ended"]))
    assert ended["template_id"] == 70
    apart = datetime.fromisoformat(ended["over_at"]) - datetime.fromisoformat(ended["unfinished_at"])
    assert timedelta(0) < apart
