"""Plans and reports as people read them: Markdown for Airflow and pages, aligned columns for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sealift.exports.plan import Outcome, Plan, PlanItem
from sealift.exports.report import OutcomeKind, RunReport, ServerOutcome

Style = Literal["markdown", "text"]

REPORT_COLUMNS = ("server", "id", "outcome", "template", "disks", "bytes", "proof", "seconds", "manifest or reason")
PLAN_COLUMNS = ("server", "id", "outcome", "disks", "capacity", "findings")


def render_report(report: RunReport, *, style: Style = "markdown") -> str:
    """Write a run's report: one row for each server, remarks, and the summary line last."""
    parts = [_table(REPORT_COLUMNS, report_rows(report), style)]
    remarks = [*(finding.sentence for finding in report.findings), *report.notes]
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    parts.append(report.summary)
    return "\n\n".join(parts) + "\n"


def report_rows(report: RunReport) -> list[tuple[str, ...]]:
    """Return a report's rows, in the order of :data:`REPORT_COLUMNS`."""
    return [_report_row(one) for one in report.outcomes]


def render_plan(plan: Plan, *, style: Style = "markdown") -> str:
    """Write a plan: one row for each server, remarks, and what the run will do."""
    rows = [_plan_row(item) for item in plan.items]
    rows += [
        (one.hostname, str(one.hardware_id), one.outcome.value, "", "", " ".join(f.sentence for f in one.findings))
        for one in plan.bare_metal
    ]
    rows += [("", str(one), Outcome.NOT_EXPORTABLE.value, "", "", "unknown-server") for one in plan.unknown_ids]
    parts = [_table(PLAN_COLUMNS, rows, style)]
    remarks = [*(finding.sentence for finding in plan.findings), *plan.notes]
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    to_export = plan.items_with(Outcome.EXPORT)
    already = len(plan.items_with(Outcome.ALREADY_EXPORTED))
    total = len(plan.items) + len(plan.bare_metal) + len(plan.unknown_ids)
    parts.append(
        f"{len(to_export)} {'would be exported (dry run)' if plan.settings.dry_run else 'to export'} with "
        f"{sum(len(item.disks) for item in to_export)} disks and {_bytes(sum(i.capacity_bytes for i in to_export))} of "
        f"capacity, in {len(plan.waves)} waves; {already} already exported; "
        f"{total - len(to_export) - already} not exportable"
    )
    return "\n\n".join(parts) + "\n"


def _report_row(one: ServerOutcome) -> tuple[str, ...]:
    done = one.kind in {OutcomeKind.EXPORTED, OutcomeKind.ALREADY_EXPORTED}
    if done:
        why = one.manifest_key or ""
    else:
        label = one.rule or one.task or ""
        why = f"{label}: {one.words}" if label else one.words or ""
    return (
        one.hostname or "?",
        str(one.id),
        one.kind.value,
        str(one.template_id or ""),
        str(one.disks) if done else "",
        _bytes(one.bytes) if done else "",
        one.proof_level or "",
        f"{one.seconds:.0f}" if one.seconds is not None else "",
        why,
    )


def _plan_row(item: PlanItem) -> tuple[str, ...]:
    return (
        item.hostname,
        str(item.guest_id),
        item.outcome.value,
        str(len(item.disks)),
        _bytes(item.capacity_bytes),
        " ".join(f"{found.severity.value} {found.rule}: {found.sentence}" for found in item.findings),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], style: Style) -> str:
    if style == "markdown":
        lines = [columns, ["---"] * len(columns), *([_cell(one) for one in row] for row in rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    flat = [[" ".join(one.split()) for one in row] for row in (columns, *rows)]
    widths = [max(len(row[column]) for row in flat) for column in range(len(columns))]
    return "\n".join(
        "  ".join(one.ljust(width) for one, width in zip(row, widths, strict=True)).rstrip() for row in flat
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
