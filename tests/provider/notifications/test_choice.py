"""The settings of notifications: off by default, and what cannot be meant so is said where the DAG file is parsed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealift.exports.messages.message import MessageKind
from sealift.provider.notifications import choice as module
from sealift.provider.notifications.choice import KINDS, checked_choice, choice

pytestmark = pytest.mark.airflow

MAIL = {"notify_smtp_conn_id": "mail", "notify_to": "a@example.com, b@example.com"}


def setting(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"AIRFLOW__SEALIFT__{name.upper()}", value)


def test_by_default_nobody_is_told_of_anything() -> None:
    made = choice()
    assert not any(made.wants(kind) for kind in KINDS)
    assert made.late_after == 0


def test_every_kind_of_message_can_be_chosen() -> None:
    assert list(KINDS) == [kind.value for kind in MessageKind]


def test_what_is_chosen_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, **MAIL, notify_on="failed,\n stuck")
    made = choice()
    assert made.to == ("a@example.com", "b@example.com")
    assert [kind for kind in KINDS if made.wants(kind)] == ["failed", "stuck"]


def test_without_a_choice_runs_and_stuck_servers_are_told_of_and_slow_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting(monkeypatch, notify_http_conn_id="hook")
    assert [kind for kind in KINDS if choice().wants(kind)] == ["approval", "finished", "failed", "stuck", "late"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**MAIL, "notify_on": "failed, everything"}, "knows no everything: it may hold approval, finished"),
        ({"notify_smtp_conn_id": "mail"}, "notify_to is not: name who gets the mails"),
        ({"notify_to": "a@example.com"}, "notify_smtp_conn_id is not"),
        ({**MAIL, "notify_to": "nobody"}, "'nobody': it must be addresses"),
        ({**MAIL, "notify_to": "a@example.com\rBcc: b@example.com"}, "it must be addresses"),
        ({**MAIL, "notify_to": "A <a@example.com>"}, "it must be addresses"),
        ({"notify_http_conn_id": "hook", "notify_webhook_body": "xml"}, "may be json or text"),
        ({**MAIL, "late_after": "-1"}, "must be minutes"),
        ({**MAIL, "late_after": "inf"}, "must be minutes"),
        ({**MAIL, "late_after": "nan"}, "must be minutes"),
        ({"late_after": "60"}, "nobody would be told"),
        ({**MAIL, "notify_on": "failed", "late_after": "60"}, "with late among notify_on"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str
) -> None:
    setting(monkeypatch, **values)
    with pytest.raises(ValueError, match=r"\[sealift\]") as refused:
        choice()
    assert words in str(refused.value)


@pytest.mark.parametrize(("values", "package"), [(MAIL, "smtp"), ({"notify_http_conn_id": "hook"}, "http")])
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], package: str
) -> None:
    setting(monkeypatch, **values)
    assert checked_choice() == choice()
    monkeypatch.setattr(module, "find_spec", lambda name: None if name.endswith(package) else object())
    with pytest.raises(ValueError, match=f"apache-airflow-providers-{package}: install it"):
        checked_choice()


def test_a_mistake_shows_at_plan_exports_and_harms_no_wave_that_runs(
    monkeypatch: pytest.MonkeyPatch, project_root: Path
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    setting(monkeypatch, notify_on="everything", notify_http_conn_id="hook")
    bag = DagBag(dag_folder=str(project_root / "dags"))
    (error,) = bag.import_errors.values()
    assert "notify_on knows no everything" in error
    assert set(bag.dags) >= {"export_servers", "deliver_images"}
    assert "plan_exports" not in bag.dags
