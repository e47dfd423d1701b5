"""Making the kits of an export. Nothing here reads a clock, a network or a disk: the same export has the same kits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sealift.exports.jsontext import canonical_json
from sealift.exports.kits.fit import Case, judge
from sealift.exports.kits.images import check_converted
from sealift.exports.kits.models import (
    ConvertedImage,
    FitLine,
    FitReport,
    GuestSystem,
    Kit,
    Outcome,
    Target,
    TargetFit,
)
from sealift.exports.kits.rules import ALL
from sealift.exports.kits.server import look_at
from sealift.exports.kits.targets import WRITERS
from sealift.exports.kits.text import lines, markdown
from sealift.exports.manifest import Manifest
from sealift.exports.record import ConfigurationRecord

FIT_JSON: Final = "fit.json"
FIT_PAGE: Final = "fit.md"

_WORDS: Final = {
    Outcome.FAILS: "would fail",
    Outcome.UNKNOWN: "not known",
    Outcome.REMARK: "to do or to know",
    Outcome.FITS: "fits",
}


def build_kits(
    manifest: Manifest,
    record: ConfigurationRecord,
    system: GuestSystem | None = None,
    converted: Sequence[ConvertedImage] = (),
    targets: Iterable[Target] = tuple(Target),
) -> list[Kit]:
    """Make kits that take an export to other platforms.

    :param manifest: the export.
    :param record: its configuration record.
    :param system: what is known of the system inside the disks; None for nothing.
    :param converted: its disks in other formats.
    :param targets: where to; each once.
    :returns: a kit for each target, in the order given.
    :raises KitError: the manifest, or a converted image, is not what Sealift writes.
    """
    case = _case(manifest, record, system, converted)
    return [_kit(case, target) for target in dict.fromkeys(targets)]


def fit_report(
    manifest: Manifest,
    record: ConfigurationRecord,
    system: GuestSystem | None = None,
    converted: Sequence[ConvertedImage] = (),
    targets: Iterable[Target] = tuple(Target),
) -> FitReport:
    """Judge how an export fits some targets. Parameters as for :func:`build_kits`, and so are errors.

    :returns: the report.
    """
    case = _case(manifest, record, system, converted)
    return _report(case, [judge(ALL, case, target) for target in dict.fromkeys(targets)])


def fit_page(report: FitReport) -> bytes:
    """Write a report for people.

    :param report: the report.
    :returns: Markdown.
    """
    page = [
        f"# How {markdown(report.hostname)} fits",
        "",
        f"Export `{report.export_id}`, proven at level {markdown(report.proof_level)}.",
        "",
    ]
    if len(report.targets) > 1:
        page += ["| Target | | would fail | not known | to do or to know | fits |", "|---|---|---|---|---|---|"]
        page += [
            f"| {fit.target.label} | {_WORDS[fit.outcome]} | "
            + " | ".join(str(len(fit.having(outcome))) for outcome in _WORDS)
            + " |"
            for fit in report.targets
        ]
        page.append("")
    for fit in report.targets:
        page += [f"## {fit.target.label}", ""]
        page += ["| | What is checked | Why, and what to do | Source |", "|---|---|---|---|"]
        for line in fit.lines:
            page.append(
                f"| {_WORDS[line.outcome]} | {markdown(line.checks)} | {markdown(line.words, limit=1000)} | "
                f"{_source(line)} |"
            )
        page.append("")
    return lines(*page)


def _source(line: FitLine) -> str:
    """Write where a rule comes from; an address is one to follow."""
    where = re.sub(r"https://[^ <>|]+", lambda found: f"<{found[0]}>", line.source)
    date = f", {line.source_date}" if line.source_date else ""
    return f"{where}{date}{'' if line.confirmed else ' (unconfirmed)'}"


def _case(
    manifest: Manifest,
    record: ConfigurationRecord,
    system: GuestSystem | None,
    converted: Sequence[ConvertedImage],
) -> Case:
    server = look_at(manifest, record, system or GuestSystem())
    check_converted(server, converted)
    return Case(server=server, converted=tuple(converted))


def _kit(case: Case, target: Target) -> Kit:
    fit = judge(ALL, case, target)
    report = _report(case, [fit])
    files = {**WRITERS[target](case), FIT_JSON: canonical_json(report), FIT_PAGE: fit_page(report)}
    return Kit(target=target, files=dict(sorted(files.items())), fit=fit)


def _report(case: Case, fits: list[TargetFit]) -> FitReport:
    server = case.server
    return FitReport(
        export_id=server.export_id,
        guest_id=server.guest_id,
        hostname=server.hostname,
        proof_level=server.proof_level,
        targets=fits,
    )
