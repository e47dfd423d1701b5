"""Plans and reports read well in Markdown and in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sealift.exports.plan import Plan
from sealift.exports.rendering import REPORT_COLUMNS, render_plan, render_report, report_rows
from sealift.exports.report import OutcomeKind, RunReport, ServerOutcome


@pytest.fixture
def report(now: Any) -> RunReport:
    return RunReport(
        plan_id="p",
        period="20261123T0200Z",
        bucket="b",
        reported_at=now,
        notes=["hostnames: 'wbe*' fits no selected server."],
        outcomes=[
            ServerOutcome(
                kind=OutcomeKind.EXPORTED,
                server="virtual",
                id=1,
                hostname="web1",
                template_id=900,
                disks=3,
                bytes=12_345_678,
                proof_level="L1",
                seconds=61.4,
                manifest_key="manifests/1/x.json",
            ),
            ServerOutcome(
                kind=OutcomeKind.FAILED,
                server="virtual",
                id=2,
                hostname="web2",
                task="capture",
                words="It said: a|b\nand more.",
            ),
            ServerOutcome(
                kind=OutcomeKind.NOT_EXPORTABLE, server="unknown", id=3, hostname="", rule="unknown-server", words="No."
            ),
        ],
    )


def test_a_report_in_markdown(report: RunReport) -> None:
    lines = render_report(report).splitlines()

    assert lines[0] == "| " + " | ".join(REPORT_COLUMNS) + " |"
    assert lines[2] == "| web1 | 1 | exported | 900 | 3 | 12.3 MB | L1 | 61 | manifests/1/x.json |"
    assert lines[3] == "| web2 | 2 | failed |  |  |  |  |  | capture: It said: a\\|b and more. |"
    assert lines[4].endswith("| unknown-server: No. |")
    assert "- hostnames: 'wbe*' fits no selected server." in lines
    assert lines[-1] == "1 exported, 3 disks proven, 1 not exportable, 1 failed"


def test_a_report_as_text_has_columns_that_line_up(report: RunReport) -> None:
    lines = render_report(report, style="text").splitlines()

    place = lines[0].index("outcome")
    assert [line[place:].split("  ")[0] for line in lines[1:4]] == ["exported", "failed", "not exportable"]
    assert "|" not in lines[0]
    assert all(len(row) == len(REPORT_COLUMNS) for row in report_rows(report))


def test_a_plan_says_what_the_run_would_do(
    make_guest: Callable[..., Any],
    make_bare_metal: Callable[..., Any],
    make_transaction: Callable[..., Any],
    make_classic: Any,
    plan_of: Callable[..., Plan],
) -> None:
    classic = make_classic(
        guests=[make_guest(1, data_disks=1), make_guest(2, activeTransaction=make_transaction())],
        bare_metal=[make_bare_metal(9)],
    )

    text = render_plan(plan_of(classic, dry_run=True, region="br-sao"))

    assert "| web1 | 1 | export | 2 | 2.0 GB |" in text
    assert "refuse active-transaction: The server has an active transaction" in text
    assert "| metal9 | 9 | not exportable |" in text
    assert "IBM's page on image templates does not name the region br-sao" in text
    assert text.endswith(
        "1 would be exported (dry run) with 2 disks and 2.0 GB of capacity, in 1 waves; 0 already exported; "
        "2 not exportable\n"
    )
