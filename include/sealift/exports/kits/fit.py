"""Judging how an export fits a target: rules as data, one for each fact, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sealift.exports.kits.models import ConvertedImage, FitLine, Outcome, Target, TargetFit
from sealift.exports.kits.server import Server
from sealift.exports.kits.text import plain

_ORDER: Final = (Outcome.FAILS, Outcome.UNKNOWN, Outcome.REMARK, Outcome.FITS)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a rule comes from.

    :param where: address or name of a document.
    :param date: of when it is, as ``2026-04-09``; empty where that is not known.
    :param confirmed: it says so; otherwise nobody was found who does, and the rule is from experience.
    """

    where: str
    date: str = ""
    confirmed: bool = True


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a rule judges.

    :param server: the server.
    :param converted: its disks in other formats.
    """

    server: Server
    converted: Sequence[ConvertedImage] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rule found.

    :param outcome: in one word.
    :param words: why, and what to do.
    """

    outcome: Outcome
    words: str


Judge = Callable[[Case], Verdict]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One fact about a target that an export may fit or not.

    :param id: the fact's name; with the target's before it, the rule's.
    :param target: the target.
    :param checks: what is checked.
    :param source: where the rule comes from.
    :param judge: looks at an export.
    """

    id: str
    target: Target
    checks: str
    source: Source
    judge: Judge

    def line(self, case: Case) -> FitLine:
        """Judge an export.

        :param case: the export.
        :returns: what was found.
        """
        verdict = self.judge(case)
        return FitLine(
            id=f"{self.target}.{self.id}",
            checks=self.checks,
            outcome=verdict.outcome,
            words=plain(verdict.words, limit=1000),
            source=self.source.where,
            source_date=self.source.date,
            confirmed=self.source.confirmed,
        )


def fits(words: str) -> Verdict:
    """Say that it fits.

    :param words: why.
    """
    return Verdict(outcome=Outcome.FITS, words=words)


def fails(words: str) -> Verdict:
    """Say that it fails.

    :param words: why, and what to do.
    """
    return Verdict(outcome=Outcome.FAILS, words=words)


def unknown(words: str) -> Verdict:
    """Say that it is not known.

    :param words: why, and how to find out.
    """
    return Verdict(outcome=Outcome.UNKNOWN, words=words)


def remark(words: str) -> Verdict:
    """Say that it works, but needs something done or known.

    :param words: what.
    """
    return Verdict(outcome=Outcome.REMARK, words=words)


def judge(rules: Sequence[Rule], case: Case, target: Target) -> TargetFit:
    """Judge an export by the rules of one target.

    :param rules: rules, those of other targets among them.
    :param case: the export.
    :param target: the target.
    :returns: what each rule found, what fails first.
    """
    found = [rule.line(case) for rule in rules if rule.target is target]
    ordered = sorted(found, key=lambda line: _ORDER.index(line.outcome))
    return TargetFit(target=target, outcome=ordered[0].outcome if ordered else Outcome.FITS, lines=ordered)
