"""Retention in Airflow: the dry run, somebody's approval where much would go, and the deletion of what it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator

from sealift.exports.handing import check_handed_on, stamped
from sealift.provider.errors import RetentionUnfinished
from sealift.provider.failures import says_failures
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, ReportLink
from sealift.provider.metrics import count_removal, counting_faults
from sealift.provider.operators.doctor import place_of
from sealift.provider.settings import settings as deployment

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.retention.models import DryRun, Outcome
    from sealift.exports.status.prices import Prices

SHOWN = 200
"""So many lines of a dry run are logged; the rest is in the bucket."""


class DryRunRetentionOperator(BaseOperator, Linked):
    """Writes down what would go by the rules, and why. Deletes nothing.

    Returns the dry run's id, where it lies, and how much goes.

    :param retention: where to look and by which rules, by the names of ``apply_retention``'s parameters, templated; the
        run's parameters if None.
    """

    template_fields: Sequence[str] = ("retention",)
    operator_extra_links = (ReportLink(),)
    ui_color = "#fef7e0"

    def __init__(self, *, retention: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.retention = retention

    @says_failures
    def execute(self, context: Context) -> dict[str, Any]:
        """Make the dry run; a later try of the same run finds the first one's.

        :param context: the task's context.
        :returns: a small dict, for the tasks after it.
        :raises sealift.exports.errors.SettingsError: there are no rules, or they cannot be used.
        """
        with counting_faults("retention"):
            return self._dry_run(context)

    def _dry_run(self, context: Context) -> dict[str, Any]:
        from sealift.exports.retention.dry_run import keep_dry_run, make_dry_run
        from sealift.exports.retention.keys import dry_run_key, retention_id_for
        from sealift.exports.retention.rules import read_rules

        params = dict(self.retention if self.retention is not None else context["params"])
        rules = read_rules(params.get("rules") or [])
        place = place_of(params)
        cos = CosHook(place.cos_conn_id, region=place.region)
        made = keep_dry_run(
            cos.client,
            make_dry_run(
                cos=cos.client,
                classic=ClassicHook(place.classic_conn_id).client,
                bucket=place.bucket,
                prefix=place.prefix,
                rules=rules,
                retention_id=retention_id_for(context["ti"].run_id),
                now=datetime.now(UTC),
                prices=self._prices(),
            ),
        )
        self._tell(made)
        key = dry_run_key(prefix=place.prefix, retention_id=made.retention_id)
        self.remember_link(ReportLink, cos.url_of(place.bucket, key))
        return stamped(
            {
                "retention_id": made.retention_id,
                "key": key,
                "bucket": place.bucket,
                "prefix": place.prefix,
                "region": place.region,
                "classic_conn_id": place.classic_conn_id,
                "cos_conn_id": place.cos_conn_id,
                "exports": len(made.exports),
                "templates": len(made.templates) + sum(one.template_id is not None for one in made.exports),
                "size": made.size,
                "bytes_freed": made.bytes_freed,
                "protected": len(made.protected),
                "summary": made.summary,
                "only": bool(params.get("dry_run")),
                "approve_above": _number(params.get("approve_above")),
            }
        )

    def _prices(self) -> Prices:
        """Read the deployment's prices. What cannot be read spoils figures, and holds up no dry run."""
        from sealift.exports.errors import SettingsError
        from sealift.exports.status.prices import read_prices

        own = deployment().prices
        try:
            return read_prices(Path(own) if own else None)
        except SettingsError as error:
            self.log.warning("Costs are by the list prices that come with Sealift: %s", error)
            return read_prices()

    def _tell(self, made: DryRun) -> None:
        lines = [
            f"{one.export_id} of {one.hostname} goes ({', '.join(one.why)}): {len(one.objects)} objects, "
            f"{one.bytes} bytes" + (f", image template {one.template_id}" if one.template_id else "")
            for one in made.exports
        ]
        lines += [
            f"Image template {one.template_id} of {one.export_id} of {one.hostname} goes ({one.why})."
            for one in made.templates
        ]
        lines += [f"{one.kind} goes, {one.bytes} bytes: {one.what}" for one in made.orphans]
        for line in lines[:SHOWN]:
            self.log.info("%s", line)
        if len(lines) > SHOWN:
            self.log.info("… and %s more; all of them are in the dry run.", len(lines) - SHOWN)
        for back in made.taken_back:
            self.log.info("%s is kept (%s): its mark is taken back.", back.export_id, ", ".join(back.why))
        for one in made.protected:
            self.log.warning("%s would go, and %s is protected until %s.", one.export_id, one.key, one.until or "ever")
        for words in made.unreadable:
            self.log.warning("Left alone: %s", words)
        self.log.info("%s. Kept exports: %s. Kept image templates: %s.", made.summary, made.kept, made.kept_templates)


class ApproveRetentionOperator(ApprovalOperator):
    """Asks somebody where more goes than a set number, and is silent else. What nobody answers for is rejected.

    :param planned: what :class:`DryRunRetentionOperator` returned, templated.
    """

    template_fields: Sequence[str] = ("planned", *ApprovalOperator.template_fields)
    ui_color = "#fef7e0"

    def __init__(self, *, planned: Any, **kwargs: Any) -> None:
        super().__init__(defaults=[self.REJECT], **kwargs)
        self.planned = planned

    @says_failures
    def execute(self, context: Context) -> Any:
        """Ask, where it takes an answer.

        :param context: the task's context.
        :returns: nothing, where it does not.
        """
        check_handed_on(self.planned, by="the dry run")
        above = self.planned["approve_above"]
        if self.planned["only"] or above is None or self.planned["size"] <= above:
            self.log.info("%s: no approval is needed.", self.planned["summary"])
            return None
        return super().execute(context)


class ApplyRetentionOperator(BaseOperator, Linked):
    """Deletes what a dry run names, as far as it still goes by its rules and is as it was.

    Returns how many of what it names were removed, kept, changed, protected, refused.

    :param planned: what :class:`DryRunRetentionOperator` returned, templated.
    """

    template_fields: Sequence[str] = ("planned",)
    operator_extra_links = (ReportLink(),)
    ui_color = "#fce8e6"

    def __init__(self, *, planned: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned = planned

    @says_failures
    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Carry the dry run out, or take it up where another try ended.

        :param context: the task's context.
        :returns: counts by kind.
        :raises RetentionUnfinished: something was begun and not finished; another try takes it up.
        """
        with counting_faults("retention"):
            return self._apply()

    def _apply(self) -> dict[str, Any]:
        from sealift.exports.retention.applying import apply_dry_run
        from sealift.exports.retention.dry_run import read_dry_run
        from sealift.exports.retention.keys import result_key

        told = self.planned
        check_handed_on(told, by="the dry run")
        if told["only"]:
            self.log.info("Only the dry run was asked for: nothing is deleted.")
            return {}
        cos = CosHook(told["cos_conn_id"], region=told["region"])
        where = {"bucket": told["bucket"], "prefix": told["prefix"], "retention_id": told["retention_id"]}
        result = apply_dry_run(
            read_dry_run(cos.client, **where),
            cos=cos.client,
            classic=ClassicHook(told["classic_conn_id"]).client,
            clock=lambda: datetime.now(UTC),
            tell=self._tell,
        )
        key = result_key(prefix=told["prefix"], retention_id=told["retention_id"])
        self.remember_link(ReportLink, cos.url_of(told["bucket"], key))
        self.log.info("%s. %s bytes are free.", result.summary, result.bytes)
        if result.unfinished:
            raise RetentionUnfinished(
                f"{len(result.unfinished)} removals were begun and not finished, as {result.unfinished[0].export_id}: "
                f"{result.unfinished[0].words} Another try, or the next run, takes them up."
            )
        return {str(kind): count for kind, count in result.counts.items()}

    def _tell(self, outcome: Outcome) -> None:
        count_removal(outcome)
        what = f"image template {outcome.template_id} of {outcome.export_id}" if outcome.template_id else ""
        level = self.log.warning if outcome.words else self.log.info
        level("%s: %s %s", outcome.done.value, what or outcome.export_id, outcome.words)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
