"""The pages about plans and manifests name every rule and every field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from sealift.exports.manifest import Manifest, ManifestDisk, ManifestGuest, ManifestRun, ManifestTemplate
from sealift.exports.record import ConfigurationRecord
from sealift.exports.report import OutcomeKind
from sealift.exports.rules import RULES
from sealift.exports.selection import Criteria

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def plan_page() -> str:
    return (DOCS / "plan.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def manifest_page() -> str:
    return (DOCS / "manifest.md").read_text(encoding="utf-8")


def test_the_table_of_rules_is_the_list_of_rules(plan_page: str) -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ((?:refuse|warn|info)[a-z, ]*) \| (.+) \|$", plan_page, re.MULTILINE)

    assert rows == [
        (rule.id, rule.severity.value + (", can be waived" if rule.waivable else ""), rule.sentence) for rule in RULES
    ]


def test_every_criterion_and_outcome_is_on_the_page(plan_page: str) -> None:
    for name in (*Criteria.model_fields, "all", "exclude", "ignore_unknown_ids"):
        assert f"`{name}`" in plan_page
    for kind in OutcomeKind:
        assert f"| {kind.value} |" in plan_page


@pytest.mark.parametrize(
    "model", [Manifest, ManifestDisk, ManifestGuest, ManifestTemplate, ManifestRun, ConfigurationRecord]
)
def test_every_field_is_on_the_page(manifest_page: str, model: type[BaseModel]) -> None:
    missing = [name for name in model.model_fields if f"`{name}`" not in manifest_page]

    assert missing == []


def test_links_between_pages_lead_somewhere(plan_page: str, manifest_page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", plan_page + manifest_page)

    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
