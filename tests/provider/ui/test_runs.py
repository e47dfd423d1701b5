"""Actions become runs whose values are checked as the run itself would check them, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from sealift.exports.errors import InputError
from sealift.exports.plan import Outcome
from sealift.exports.plan_models import Plan, PlanItem
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.exports.status.rows import Row, State
from sealift.exports.status.snapshot import PlanFacts, Slot, Snapshot
from sealift.provider.ui import runs

NOW = datetime(2026, 11, 23, 2, tzinfo=UTC)
PERIOD = "20261123T0200Z"
PLACE: Any = SimpleNamespace(
    bucket="images", region="us-south", books=SimpleNamespace(prefix="weekly"), place=SimpleNamespace(cos_conn_id="cos")
)
WHERE = {"bucket": "images", "region": "us-south", "prefix": "weekly", "cos_conn_id": "cos"}
DEFAULTS = {"tags": ["prod"], "max_offline": 3}


def snapshot() -> Snapshot:
    rows = {
        1: Row(1, hostname="a", state=State.EXPORTED, read=True, level="L1", plan_id="p"),
        2: Row(2, hostname="b", state=State.FAILED, plan_id="p"),
        3: Row(3, hostname="c", state=State.FAILED, plan_id="other"),
        4: Row(4, hostname="d", state=State.SKIPPED, plan_id="p"),
    }
    facts = [
        PlanFacts(plan_id=one, written_at=NOW, last_sign=NOW, waves_reported=1, reported=one == "p", at_work=one != "p")
        for one in ("p", "open")
    ]
    return Snapshot(
        version="1",
        checked_at=NOW,
        changed_at=NOW,
        slots=[Slot(period=PERIOD, at=NOW, scheduled=True)],
        rows={PERIOD: rows},
        plans=facts,
    )


def plan(**changes: Any) -> Plan:
    settings = {"dry_run": True, "window": "22:00-06:00 UTC", "max_offline": 9, **changes.pop("settings", {})}
    items = [
        PlanItem(guest_id=n, hostname=f"h{n}", export_id=f"{n}-{PERIOD}", images=f"i/{n}", outcome=outcome)
        for n, outcome in ((1, Outcome.EXPORT), (2, Outcome.ALREADY_EXPORTED), (3, Outcome.NOT_EXPORTABLE))
    ]
    return Plan(
        plan_id="p",
        created_at=NOW,
        period=PERIOD,
        settings=PlanSettings.from_params(
            {"classic_conn_id": "evil", "cos_conn_id": "x", "bucket": "images", "region": "us-south", **settings}
        ),
        selection=Selection.from_params({"all": True}),
        items=changes.pop("items", items),
        **changes,
    )


def test_a_plan_is_a_dry_run_whatever_is_asked() -> None:
    made = runs.prepare_plan(runs.PlanAsked(params={"hostnames": ["web*"], "proof_level": "L2"}), PLACE, DEFAULTS)
    assert made.path == "/api/v2/dags/plan_exports/dagRuns"
    assert made.body.conf == {"hostnames": ["web*"], "proof_level": "L2", "dry_run": True, **WHERE}
    assert made.body.logical_date is None
    assert not made.takes_servers_offline


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"dry_run": False}, "dry_run: the action and the place decide that"),
        ({"bucket": "elsewhere"}, "bucket: the action and the place decide"),
        ({"only": "failed"}, "only: the action and the place decide"),
        ({"hostname": ["x"]}, "has no parameter hostname"),
        ({"max_offline": 0}, "max_offline"),
        ({"max_offline": "many"}, "max_offline"),
        ({"window": "whenever"}, "window"),
        ({"all": True, "tags": ["x"]}, "all servers and also tags"),
        ({"waive": ["bare-metal"]}, "cannot be waived"),
    ],
)
def test_what_the_run_would_refuse_is_refused_here(params: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        runs.prepare_plan(runs.PlanAsked(params=params), PLACE, DEFAULTS)


def test_nothing_selected_is_refused_and_defaults_select() -> None:
    assert runs.prepare_plan(runs.PlanAsked(), PLACE, DEFAULTS).body.conf == {"dry_run": True, **WHERE}
    with pytest.raises(InputError, match="The selection is empty"):
        runs.prepare_plan(runs.PlanAsked(), PLACE, {})


def test_approval_is_for_exactly_the_servers_that_were_shown() -> None:
    made = runs.prepare_approve(runs.ApproveAsked(plan_id="p"), plan(), PLACE, DEFAULTS)
    conf = made.body.conf
    assert (conf["ids"], conf["all"], conf["tags"], conf["dry_run"]) == ([1], False, [], False)
    assert (conf["window"], conf["max_offline"], conf["bucket"]) == ("22:00-06:00 UTC", 9, "images")
    assert "classic_conn_id" not in conf, "whoever can write to the bucket must not choose the account"
    assert "1 server as planned in p; 1 server will go offline" in made.summary


def test_what_cannot_be_approved_is_refused() -> None:
    asked = runs.ApproveAsked(plan_id="p")
    with pytest.raises(InputError, match="was no dry run"):
        runs.prepare_approve(asked, plan(settings={"dry_run": False}), PLACE, {})
    with pytest.raises(InputError, match="exports nothing"):
        runs.prepare_approve(asked, plan(items=[]), PLACE, {})
    other = PlanItem(guest_id=1, hostname="h", export_id="1-20260101T0000Z", images="i", outcome=Outcome.EXPORT)
    with pytest.raises(InputError, match="for several slots"):
        runs.prepare_approve(asked, plan(items=[other]), PLACE, {})
    retried = runs.prepare_approve(asked, plan(retry_of="first"), PLACE, {}).body.conf
    assert (retried["only"], retried["plan"]) == ("failed", "first")


def test_selected_servers_are_exported_and_no_others() -> None:
    made = runs.prepare_export(runs.ExportAsked(ids=[3, 2, 3], params={"format": "qcow2"}), PLACE, DEFAULTS)
    assert made.body.conf["ids"] == [2, 3]
    assert made.body.conf["tags"] == [], "the deployment's default tags would choose others"
    assert made.takes_servers_offline
    for ids in ([], [0], list(range(1, 5002))):
        with pytest.raises(ValidationError):
            runs.ExportAsked(ids=ids)


def test_what_is_missing_of_some_or_of_all() -> None:
    conf = runs.prepare_missing(runs.MissingAsked(slots=[PERIOD]), PLACE, DEFAULTS).body.conf
    assert (conf["only"], conf["all"], conf["ids"], conf["slots"]) == ("missing", True, [], [PERIOD])
    conf = runs.prepare_missing(runs.MissingAsked(ids=[4]), PLACE, DEFAULTS).body.conf
    assert (conf["all"], conf["ids"]) == (False, [4])
    assert "slots" not in conf
    with pytest.raises(InputError, match="'manual-1' is no slot"):
        runs.prepare_missing(runs.MissingAsked(slots=["manual-1"]), PLACE, DEFAULTS)


def test_a_retry_is_of_what_failed_and_has_not_been_done_since() -> None:
    made = runs.prepare_retry(runs.RetryAsked(plan_id="p"), snapshot(), PLACE, DEFAULTS)
    assert (made.body.conf["only"], made.body.conf["plan"], made.body.conf["ids"]) == ("failed", "p", [])
    assert "1 server again" in made.summary
    narrowed = runs.prepare_retry(runs.RetryAsked(plan_id="p", ids=[2, 3]), snapshot(), PLACE, DEFAULTS)
    assert narrowed.body.conf["ids"] == [2]
    for asked, words in (
        (runs.RetryAsked(plan_id="p", ids=[1]), "has failed and is still to be exported"),
        (runs.RetryAsked(plan_id="nowhere"), "There is no plan nowhere in images/weekly"),
        (runs.RetryAsked(plan_id="open"), "has not reported"),
    ):
        with pytest.raises(InputError, match=words):
            runs.prepare_retry(asked, snapshot(), PLACE, DEFAULTS)


def test_only_exports_that_are_done_are_proven_and_delivered() -> None:
    done, failed = f"1-{PERIOD}", f"2-{PERIOD}"
    made = runs.prepare_prove(runs.ProveAsked(exports=[done, done], level="L3"), snapshot(), PLACE)
    assert (made.dag_id, made.body.conf) == ("prove_exports", {"exports": [done], "level": "L3", **WHERE})
    made = runs.prepare_deliver(runs.DeliverAsked(exports=[done]), snapshot(), PLACE, to="s3://copies/x")
    assert (made.dag_id, made.body.conf["to"]) == ("deliver_images", "s3://copies/x")
    with pytest.raises(InputError, match=f"no exports that are done: {failed}, nonsense"):
        runs.prepare_prove(runs.ProveAsked(exports=[done, failed, "nonsense"]), snapshot(), PLACE)
    with pytest.raises(InputError, match="no place to deliver to"):
        runs.prepare_deliver(runs.DeliverAsked(exports=[done], to="tmp"), snapshot(), PLACE, to="")
