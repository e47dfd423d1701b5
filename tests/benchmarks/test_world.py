"""The servers that benchmarks export are just those that a plan over all of the account exports."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.world import choose, size_of_account
from sealift.cli.connections import ReadConnection
from sealift.connections import classic_client, cos_client
from sealift.exports.plan import Outcome, make_plan
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.sandbox import Sandbox

SERVERS = 1000


def test_a_plan_over_all_but_the_surplus_exports_just_the_chosen(tmp_path: Path) -> None:
    with Sandbox(root=tmp_path / "box", servers=size_of_account(SERVERS)) as box:
        chosen, surplus = choose(tmp_path / "box" / "world.sqlite", SERVERS)
        found = {name: ReadConnection.of_fields(one, where=name) for name, one in box.connections().items()}
        classic = classic_client(found["ibm_classic_default"], "ibm_classic_default")
        cos = cos_client(found["ibm_cos_default"], "ibm_cos_default")
        plan = make_plan(
            settings=PlanSettings(
                classic_conn_id="ibm_classic_default",
                cos_conn_id="ibm_cos_default",
                bucket=box.bucket,
                region=box.region,
            ),
            selection=Selection.from_params({"all": True, "exclude": {"ids": surplus}}),
            classic=classic,
            cos=cos,
            plan_id="some-plan",
            period="r1-00000000",
            now=datetime.now(UTC),
        )
        classic.close()
        cos.close()
    assert len(chosen) == SERVERS
    by_outcome = {outcome: [item.guest_id for item in plan.items if item.outcome == outcome] for outcome in Outcome}
    assert sorted(by_outcome.pop(Outcome.EXPORT)) == sorted(chosen)
    refused = [guest for guests in by_outcome.values() for guest in guests]
    assert refused, "an account in earnest has servers that cannot be exported"


def test_an_account_with_too_few_is_refused(tmp_path: Path) -> None:
    with Sandbox(root=tmp_path / "box", servers=10):
        pass
    with pytest.raises(ValueError, match="not 10"):
        choose(tmp_path / "box" / "world.sqlite", 10)
