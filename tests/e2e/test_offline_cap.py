"""The cap on servers offline: captures that begin at the same moment wait in the triggerer for their turn."""

from __future__ import annotations

from itertools import pairwise


def test_never_more_servers_offline_than_the_run_allows(house) -> None:
    before = set(house.sandbox.world.transactions)
    ran = house.plan(hostnames=["web-*", "win-*", "batch-*"], max_offline=1)
    assert ran.state == "success", ran.outcomes()
    assert set(ran.manifests()) == {"web-01", "win-01", "batch-01"}
    captures = sorted(
        (one["started"], one["ended"])
        for number, one in house.sandbox.world.transactions.items()
        if number not in before and one["kind"] == "capture"
    )
    assert len(captures) == 3
    for (_, ended), (began, _) in pairwise(captures):
        assert began >= ended, "one server was taken offline before the other was back"
    tries = [
        one["try_number"]
        for one in house.api.task_instances("export_servers", ran.wave_run_id)
        if one["task_id"] == "export.capture"
    ]
    assert tries == [1, 1, 1], "waiting for a slot is no failure"
