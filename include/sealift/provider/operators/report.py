"""Reports: what became of each server of a wave, and of a whole plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator

from sealift.provider.errors import ConnectionProblem, ServersFailed
from sealift.provider.failures import FAILURE_KEY
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, ReportLink
from sealift.provider.operators.base import WaveTaskOperator
from sealift.provider.operators.plan import PLAN_KEY, REFUSAL_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.plan import Plan, WaveSlice
    from sealift.exports.report import RunReport, ServerOutcome, TaskFailure

STEPS: Final = ("capture", "wait_for_template", "wait_for_export")

_WORDLESS: Final = {
    "failed": "The task failed without leaving words: its worker may have been killed. Its log says more.",
    "upstream_failed": "The task did not run, because one before it failed.",
    "skipped": "The task was skipped by hand.",
    "removed": "The task was removed from the run.",
}


class WaveReportOperator(WaveTaskOperator, Linked):
    """Writes a wave's report, after all of its servers have ended, and fails if any of them failed.

    The other parameters are those of :class:`WaveTaskOperator`.

    :param group_id: the mapped task group of the servers' steps.
    """

    operator_extra_links = (ReportLink(),)

    def __init__(self, *, group_id: str = "export", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group_id = group_id

    def execute(self, context: Context) -> str:
        """Make and write the report.

        :param context: the task's context.
        :returns: the report's key.
        :raises ServersFailed: if any server failed; the message says which and why.
        """
        from sealift.exports.report import make_wave_report, write_wave_report

        cos, wave = self.cos.client, self.wave
        ti = context["ti"]
        report = make_wave_report(
            cos=cos,
            wave=wave,
            failures=self._failures(ti, wave),
            run_id=ti.run_id,
            now=datetime.now(UTC),
        )
        key = write_wave_report(cos, report, bucket=self.bucket, prefix=wave.settings.prefix)
        self.remember_link(ReportLink, self.cos.url_of(self.bucket, key))
        for one in report.outcomes:
            self.log.info("%s", line_of(one))
        if report.failed:
            raise ServersFailed(_failed_words(report.failed, f"{self.bucket}/{key}"))
        return key

    def _failures(self, ti: Any, wave: WaveSlice) -> dict[int, TaskFailure]:
        """Find, for each server whose steps did not all succeed, the first step that did not, and its words."""
        from sealift.exports.report import TaskFailure

        states: Mapping[str, str | None] = ti.get_task_states(
            dag_id=ti.dag_id, task_ids=[f"{self.group_id}.{step}" for step in STEPS], run_ids=[ti.run_id]
        ).get(ti.run_id, {})
        failures: dict[int, TaskFailure] = {}
        for index, item in enumerate(wave.items):
            for step in STEPS:
                state = states.get(f"{self.group_id}.{step}_{index}")
                if state == "success":
                    continue
                said = ti.xcom_pull(task_ids=f"{self.group_id}.{step}", key=FAILURE_KEY, map_indexes=index) or {}
                words = said.get("words") or _WORDLESS.get(
                    str(state), f"The task is {state or 'not started'}, though all of its wave should have ended."
                )
                failures[item.guest_id] = TaskFailure(task=step, words=str(words), rule=said.get("rule"))
                break
        return failures


class PlanReportOperator(BaseOperator, Linked):
    """Writes one report over all waves of a plan, says what they left behind, and fails if any server failed.

    :param plan_task_id: the task that made the plan.
    :param approval_task_id: the task that had it approved.
    """

    operator_extra_links = (ReportLink(),)
    ui_color = "#e8f0fe"

    def __init__(self, *, plan_task_id: str = "make_plan", approval_task_id: str = "approve", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.approval_task_id = approval_task_id

    def execute(self, context: Context) -> str:
        """Make and write the report.

        :param context: the task's context.
        :returns: the report's key; the plan's in a dry run.
        :raises ServersFailed: if any server failed, or if there is no plan.
        """
        from sealift.exports.approval import Refusal
        from sealift.exports.plan import read_plan
        from sealift.exports.report import make_run_report, read_wave_reports, write_run_report

        where = context["ti"].xcom_pull(task_ids=self.plan_task_id, key=PLAN_KEY)
        if not where:
            raise ServersFailed(
                f"There is no plan to report on: the task {self.plan_task_id} failed. Its log says what to change; "
                "nothing was captured."
            )
        hook = CosHook(where["cos_conn_id"], region=where["region"])
        plan = read_plan(hook.client, bucket=where["bucket"], key=where["key"])
        key = str(where["key"])
        if plan.settings.dry_run:
            self.log.info("This was a dry run: the plan is at %s/%s.", plan.settings.bucket, key)
        else:
            refused = context["ti"].xcom_pull(task_ids=self.approval_task_id, key=REFUSAL_KEY)
            report = make_run_report(
                cos=hook.client,
                plan=plan,
                waves=read_wave_reports(hook.client, plan),
                now=datetime.now(UTC),
                refusal=Refusal.model_validate(refused) if refused else None,
            )
            key = write_run_report(hook.client, report, prefix=plan.settings.prefix)
            self._index(hook, plan)
            for one in report.outcomes:
                self.log.info("%s", line_of(one))
            for note in report.notes:
                self.log.warning("%s", note)
            if plan.retry_of:
                self.log.info("These were the failed servers of the plan %s.", plan.retry_of)
            self.log.info("%s", report.summary)
            # A run that exported nothing can have left nothing behind.
            left = self._left_behind(hook, plan, report) if plan.waves else ""
            if report.failed:
                self.log.info(
                    "To try the failed servers again: trigger plan_exports with only=failed and plan=%s.", plan.plan_id
                )
        self.remember_link(ReportLink, hook.url_of(plan.settings.bucket, key))
        if not plan.settings.dry_run and report.failed:
            raise ServersFailed(f"{_failed_words(report.failed, f'{plan.settings.bucket}/{key}')} {left}".strip())
        return key

    def _index(self, hook: CosHook, plan: Plan) -> None:
        """Write the indexes of the plan's slots, by which the page and `sealift status` look quickly.

        It costs a call for each server of a small plan, or the pages of the ledger; and the manifests that no index
        holds yet. The report is worth as much without: everything in an index can be found elsewhere.
        """
        from sealift.cos.errors import CosError
        from sealift.exports.status.books import Books

        books = Books(cos=hook.client, bucket=plan.settings.bucket, prefix=plan.settings.prefix)
        try:
            written = books.write_index_of(plan)
        except CosError as error:
            self.log.warning("The index could not be written; `sealift status --write-index` does it: %s", error)
        else:
            self.log.info("The index was written of: %s", ", ".join(written) or "nothing, it was up to date")

    def _left_behind(self, hook: CosHook, plan: Plan, report: RunReport) -> str:
        """Look at what this run's own exports left in the account and the bucket.

        It costs a call for 100 templates, and one for each server that failed at its export. A report without it is
        worth more than none: where the account does not answer, the log says so.

        :returns: how many findings there are, in a sentence; empty where there are none.
        """
        from sealift.classic.errors import ClassicError
        from sealift.cos.errors import CosError
        from sealift.exports.doctor import examine_run
        from sealift.exports.doctor_models import line_of as finding_line

        try:
            classic = ClassicHook(plan.settings.classic_conn_id).client
            findings = examine_run(classic=classic, cos=hook.client, plan=plan, report=report, now=datetime.now(UTC))
        except (ClassicError, CosError, ConnectionProblem) as error:
            self.log.warning("What the run left behind could not be looked at: %s", error)
            return ""
        for finding in findings:
            self.log.warning("Left behind: %s", finding_line(finding))
        if not findings:
            self.log.info("The run left nothing behind.")
            return ""
        count = f"{len(findings)} thing{'' if len(findings) == 1 else 's'}"
        words = f"The run left {count} behind in the account and the bucket; its log says what to do with each."
        self.log.warning("%s The DAG examine_exports and `sealift doctor` look at everything.", words)
        return words


def line_of(outcome: ServerOutcome) -> str:
    """Put one server's outcome into a line for the log.

    :param outcome: the outcome.
    :returns: the line.
    """
    name = f"{outcome.hostname or 'unknown'} ({outcome.server} server {outcome.id}): {outcome.kind.value}"
    if outcome.manifest_key:
        return f"{name}, {outcome.disks} disks, {outcome.bytes} bytes, {outcome.proof_level}, {outcome.manifest_key}"
    at = f" at {outcome.task}" if outcome.task else ""
    return f"{name}{at}. {outcome.words or ''}".strip()


def _failed_words(failed: Sequence[ServerOutcome], where: str) -> str:
    count = f"{len(failed)} server{'' if len(failed) == 1 else 's'} failed"
    first = "; ".join(line_of(one) for one in failed[:5])
    more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
    return f"{count}: {first}{more}. The whole report is at {where}."
