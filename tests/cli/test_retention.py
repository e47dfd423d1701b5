"""``sealift retention`` and ``sealift hold`` over the sandbox: real exports, real image templates, deleted for good."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.exports import ledger
from sealift.sandbox import Sandbox
from tests.cli.steps import LATER, PERIOD, Exported


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[Exported]:
    """One of the servers is exported twice. Of a sandbox of its own, as everything here deletes."""
    with Sandbox(root=tmp_path / "sandbox", scenario="demo", speed=3000.0) as sandbox:
        made = Exported(sandbox)
        yield made
        made.close()


@pytest.fixture
def sealift(exported: Exported, tmp_path: Path) -> Callable[..., Result]:
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(exported.sandbox.connections()))

    def run(*arguments: str) -> Result:
        given = [*arguments, "--connections", str(path), "--bucket", exported.bucket]
        return CliRunner().invoke(main, given)

    return run


def keys_of(exported: Exported) -> list[str]:
    return [one.key for one in exported.cos.list(exported.bucket, "")]


def test_a_dry_run_and_then_what_it_names(exported: Exported, sealift: Callable[..., Result]) -> None:
    guest = exported.several.guest_id
    old, new = exported.manifest(guest, PERIOD), exported.manifest(guest, LATER)
    before = keys_of(exported)
    templates = {one["id"] for one in exported.sandbox.templates()}

    shown = sealift("retention", "--keep-last", "1")

    assert shown.exit_code == 0, shown.output
    assert f"goes: {old.export_id}" in shown.output
    assert new.export_id not in shown.output
    assert "1 of 3 exports and 1 of 3 image templates of 2 servers go" in shown.output
    assert "Nothing was changed" in shown.output
    (id_,) = re.findall(r"--apply (\S+)", shown.output)
    assert [one for one in keys_of(exported) if "/retention/" not in one] == before

    done = sealift("retention", "--apply", id_)

    assert done.exit_code == 0, done.output
    assert f"removed: {old.export_id}" in done.output
    left = [one for one in keys_of(exported) if "/retention/" not in one]
    assert left == [one for one in before if old.export_id not in one and f"manifests/{guest}/{PERIOD}.json" not in one]
    assert set(ledger.manifests(exported.cos, bucket=exported.bucket, prefix="sealift")) == {
        (guest, LATER),
        (exported.other.guest_id, PERIOD),
    }
    deadline = time.monotonic() + 30
    while old.template.id in {one["id"] for one in exported.sandbox.templates()}:
        assert time.monotonic() < deadline, "the account deletes what it said it would"
        time.sleep(0.05)
    assert {one["id"] for one in exported.sandbox.templates()} == templates - {old.template.id}
    examined = json.loads(sealift("doctor", "--settled", "0", "--json").output)
    assert [one for one in examined["findings"] if one["export_id"] == old.export_id] == [], "nothing is left behind"
    again = sealift("retention", "--apply", id_, "--json")
    assert [one["done"] for one in json.loads(again.output)["outcomes"]] == ["removed"]
    assert sealift("retention", "--apply", "no-such-run").exit_code == 2


def test_held_exports_stay_until_they_are_released(exported: Exported, sealift: Callable[..., Result]) -> None:
    old = exported.manifest(exported.several.guest_id, PERIOD).export_id

    assert sealift("hold", old, "--reason", "an audit").exit_code == 0
    assert "an audit" in sealift("hold").output
    held = json.loads(sealift("retention", "--keep-last", "1", "--json").output)
    assert (held["exports"], held["kept"]["held"]) == ([], 1)
    assert sealift("hold", old, "--release").exit_code == 0
    freed = json.loads(sealift("retention", "--keep-last", "1", "--json").output)
    assert [one["export_id"] for one in freed["exports"]] == [old]
    missing = sealift("hold", "12345-20260101T0000Z")
    assert missing.exit_code == 2
    assert "12345-20260101T0000Z" not in sealift("hold").output


def test_what_is_kept_costs_by_server_and_what_rules_would_change(
    exported: Exported, sealift: Callable[..., Result], tmp_path: Path
) -> None:
    guest = exported.several
    old, new = exported.manifest(guest.guest_id, PERIOD), exported.manifest(guest.guest_id, LATER)
    prices = {
        "dated": "2026-11-27",
        "currency": "EUR",
        "storage": [
            {"id": "one", "title": "A plan", "per_gb_month": 1000, "confirmed": True, "source": "a contract"},
            {"id": "two", "title": "B", "per_gb_month": 2000, "confirmed": False, "source": "a guess"},
        ],
        "egress": [],
    }
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    (tmp_path / "rules.json").write_text(json.dumps([{"name": "r", "servers": {"all": True}, "keep_last": 1}]))

    shown = sealift(
        "cost", "--prices", str(tmp_path / "prices.json"), "--rules", str(tmp_path / "rules.json"), "--json"
    )

    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.output)
    (its,) = [one for one in told["servers"] if one["guest_id"] == guest.guest_id]
    assert its["now"]["bytes"] == old.total_bytes + old.record.size + new.total_bytes + new.record.size
    assert its["after"]["bytes"] == new.total_bytes + new.record.size
    assert its["cost_now"] == round(its["now"]["bytes"] / 1e9 * 1000, 2)
    assert (its["now"]["templates"], its["after"]["templates"]) == (2, 1)
    assert (its["template_cost_now"], told["templates_price"]) == (None, None), "not priced, and not 0"
    (rule,) = told["rules"]
    assert (rule["rule"], rule["servers"], rule["instead"]) == ("r", 2, {"no rule": 2})
    assert rule["without_it"]["bytes"] - rule["with_it"]["bytes"] == old.total_bytes + old.record.size
    assert (rule["cost_with_it"], rule["cost_without_it"]) == (told["total"]["cost_after"], told["total"]["cost_now"])
    words = sealift("cost", "--prices", str(tmp_path / "prices.json"), "--price", "two")
    assert words.exit_code == 0, words.output
    assert "All: 3 exports" in words.output
    assert "no source of the seller confirms" in words.output
    assert "image templates, " in words.output
    assert words.output.count("not priced") >= 2, "of each server, and how to fill it in"
    prices["templates"] = {"title": "T", "per_gb_month": 1000, "confirmed": True, "source": "an invoice"}
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    given = ("--prices", str(tmp_path / "prices.json"), "--rules", str(tmp_path / "rules.json"))
    priced = sealift("cost", *given)
    assert "not priced" not in priced.output
    assert "Image templates by 1000.0 EUR for 10^9 bytes and month: an invoice." in priced.output
    assert "Rule r: 2 servers keep 2 exports" in priced.output
    assert "without it (everything kept)" in priced.output
    told = json.loads(sealift("cost", *given, "--json").output)
    (its,) = [one for one in told["servers"] if one["guest_id"] == guest.guest_id]
    assert its["template_cost_now"] == round(its["now"]["template_bytes"] / 1e9 * 1000, 2) > 0
    freed = sealift("retention", *given)
    assert re.search(r"By the price of image templates of 2026-11-27: \d+\.\d\d EUR a month less", freed.output)
    assert "is not priced" in sealift("retention", "--rules", str(tmp_path / "rules.json")).output
    assert sealift("cost", "--price", "three").exit_code == 2
    assert "USD" in sealift("cost").output


def test_rules_come_from_a_file_and_mistakes_are_named(
    sealift: Callable[..., Result], tmp_path: Path, exported: Exported
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"name": "web", "servers": {"hostnames": ["*"]}, "keep_last": 1}]))
    shown = sealift("retention", "--rules", str(rules))
    assert shown.exit_code == 0, shown.output
    assert exported.manifest(exported.several.guest_id, PERIOD).export_id in shown.output

    rules.write_text(json.dumps([{"name": "web", "servers": {"all": True}}]))
    wrong = sealift("retention", "--rules", str(rules))
    assert (wrong.exit_code, "nothing of what to keep" in wrong.output) == (2, True)
    rules.write_text("{")
    assert sealift("retention", "--rules", str(rules)).exit_code == 2
    assert sealift("retention").exit_code == 2
    assert sealift("retention", "--keep-last", "1", "--apply", "x").exit_code == 2
