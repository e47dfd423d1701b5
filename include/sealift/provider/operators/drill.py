"""Restore drills in Airflow: exports whose turn it is are brought back, each in a task of its own, and reported."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from sealift.provider.errors import ServersFailed
from sealift.provider.failures import says_failures
from sealift.provider.links import Linked, ManifestLink
from sealift.provider.log_fields import bind_fields
from sealift.provider.metrics import count_drill, counting_faults
from sealift.provider.operators.deliver import cos_of, in_batches, label_of
from sealift.provider.progress import DownloadProgress, ReadingProgress
from sealift.provider.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.drills.models import DrillReport, Rehearsal

REPORT_KEY: Final = "report"
"""XCom key of the report: it is there whether the drill went well or not."""

SHOWN: Final = 200
"""So many servers of the report are logged."""


class _Drills(BaseOperator):
    """What the tasks of a drill share.

    :param drill: what to rehearse and how, by the names of ``drill_restores``'s parameters, templated; the run's
        parameters if None.
    """

    template_fields: Sequence[str] = ("drill",)
    ui_color = "#e8f0fe"

    def __init__(self, *, drill: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drill = drill

    def _params(self, context: Context) -> dict[str, Any]:
        return dict(self.drill if self.drill is not None else context["params"])

    @staticmethod
    def _place(params: Mapping[str, Any]) -> tuple[Any, str, str]:
        """Open the object store, and say which bucket and prefix."""
        from sealift.exports.names import normal_prefix

        cos = cos_of(params)
        return cos, str(cos.bucket_or_default(params.get("bucket"))), normal_prefix(str(params.get("prefix") or ""))


class ChooseRehearsalsOperator(_Drills):
    """Chooses the exports of a drill: those whose turn it is, or those that are named.

    Returns batches: lists of exports, of one each unless there are more than a thousand.
    """

    @says_failures
    def execute(self, context: Context) -> list[list[dict[str, Any]]]:
        """Choose them. Another try of the same run chooses the same.

        :param context: the task's context.
        :returns: the batches; none where there is no finished export.
        :raises NoSuchExportError: what is named is not there.
        """
        from sealift.exports.drills.choosing import choose_exports, choose_named
        from sealift.exports.drills.keys import drill_id_for

        params = self._params(context)
        cos, bucket, prefix = self._place(params)
        wanted = [str(one).strip() for one in params.get("exports") or [] if str(one).strip()]
        if wanted:
            chosen = choose_named(cos.client, bucket=bucket, prefix=prefix, wanted=wanted, period=None)
        else:
            at_most = params.get("at_most")
            chosen = choose_exports(
                cos.client,
                bucket=bucket,
                prefix=prefix,
                within=int(params.get("within") or 10),
                at_most=None if at_most is None else int(at_most),
                drill_id=drill_id_for(context["ti"].run_id),
            )
        if not chosen:
            self.log.warning("There is no finished export in %s below %s: nothing is rehearsed.", bucket, prefix or "/")
            return []
        for one in chosen:
            self.log.info("%s: export %s (%s).", one.hostname, one.export_id, one.why)
        return in_batches([one.model_dump(mode="json") for one in chosen])


class RehearseExportOperator(_Drills, Linked):
    """Brings exports back into a scratch folder of the worker, proves them, and notes proof and time to recover.

    A task whose exports were all deleted meanwhile is skipped. Where it is mapped, name its instances by
    ``map_index_template="{{ task.label }}"``.

    :param exports: one of the batches that :class:`ChooseRehearsalsOperator` returned, templated.
    """

    template_fields: Sequence[str] = (*_Drills.template_fields, "exports")
    operator_extra_links = (ManifestLink(),)
    ui_color = "#e6f4ea"

    def __init__(self, *, exports: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exports = exports

    @property
    def label(self) -> str:
        """What the grid calls the task: its server, or how many exports it has."""
        return label_of(self.exports)

    @says_failures
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Rehearse them, one after the other; one that fails leaves the others of its task alone.

        :param context: the task's context.
        :returns: for each, its id, what came of it, the level, and the seconds that it took.
        :raises RehearsalFailedError: an export did not come back; the message says which, why, and what to do.
        :raises RehearsalUnfinishedError: one could not be rehearsed on this worker.
        :raises RehearsalBrokenOffError: the same, but another try may get further.
        """
        with counting_faults("drill"):
            return self._rehearse(context)

    def _rehearse(self, context: Context) -> list[dict[str, Any]]:
        from sealift.exports import names
        from sealift.exports.delivery_places import How
        from sealift.exports.drills.keys import Outcome, drill_id_for
        from sealift.exports.drills.models import Chosen
        from sealift.exports.drills.rehearsing import Rehearser, Terms
        from sealift.exports.drills.scratch import scratch_root
        from sealift.exports.errors import RehearsalBrokenOffError, RehearsalFailedError, StepError
        from sealift.images.verdict import ProofLevel
        from sealift.transfer.pace import Pace

        params = self._params(context)
        cos, bucket, prefix = self._place(params)
        ti, folder = context["ti"], settings().drill_folder
        megabytes = params.get("limit_megabytes")
        rehearser = Rehearser(
            cos=cos.client,
            terms=Terms(
                bucket=bucket,
                prefix=prefix,
                drill_id=drill_id_for(ti.run_id),
                made_by=f"{ti.dag_id} {ti.run_id}",
                scratch=scratch_root(Path(folder) if folder else None),
                level=ProofLevel(str(params.get("level") or "L4")),
                how=How(
                    streams=int(params.get("streams") or 4),
                    pace=Pace(bytes_per_second=float(megabytes) * 1e6 if megabytes else None),
                ),
            ),
            watcher=DownloadProgress(self.log),
            progress=ReadingProgress(self.log, what="proven"),
        )
        made: list[Rehearsal] = []
        errors: list[StepError] = []
        for export in [Chosen.model_validate(one) for one in self.exports]:
            bind_fields(export.model_dump())
            if not made and not errors:
                key = names.manifest_key(prefix=prefix, guest_id=export.guest_id, period=export.period)
                self.remember_link(ManifestLink, cos.url_of(bucket, key))
            began = time.monotonic()
            try:
                made.append(rehearser.rehearse(export))
            except StepError as error:
                if isinstance(error, RehearsalFailedError):
                    count_drill("failed", time.monotonic() - began)
                self.log.error("%s", error)  # noqa: TRY400 - the words say it all, and it is raised at the end
                errors.append(error)
            else:
                if made[-1].recovery is not None:
                    count_drill("restored", made[-1].recovery.seconds)
                self._tell(made[-1])
        if errors:
            passing = [one for one in errors if isinstance(one, RehearsalBrokenOffError)]
            kind = type((passing or errors)[0])
            raise kind(" ".join(str(one) for one in errors)) from errors[0]
        if all(one.outcome is Outcome.GONE for one in made):
            raise AirflowSkipException(" ".join(f"{one.export_id}: {one.words}" for one in made))
        return [
            {
                "export_id": one.export_id,
                "outcome": one.outcome.value,
                "level": one.proof_level,
                "seconds": one.recovery.seconds if one.recovery else None,
            }
            for one in made
        ]

    def _tell(self, one: Rehearsal) -> None:
        from sealift.exports.drills.reporting import line_of

        self.log.info("%s", line_of(one))


class DrillReportOperator(_Drills):
    """Says what came of a drill, and how well the restore of all servers is rehearsed; fails if one did not come back.

    :param choose_task_id: the task that chose the exports.
    """

    ui_color = "#e8f0fe"

    def __init__(self, *, choose_task_id: str = "choose_exports", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choose_task_id = choose_task_id

    @says_failures
    def execute(self, context: Context) -> dict[str, Any]:
        """Make the report.

        :param context: the task's context.
        :returns: its figures, which are also in the XCom ``report`` where this fails.
        :raises ServersFailed: an export did not come back or could not be rehearsed, or nothing was chosen at all.
        """
        from sealift.exports.drills.keys import Outcome, drill_id_for
        from sealift.exports.drills.models import Chosen
        from sealift.exports.drills.reporting import close_drill, drill_report, line_of
        from sealift.exports.looking import real_clock

        ti, params = context["ti"], self._params(context)
        batches = ti.xcom_pull(task_ids=self.choose_task_id)
        if batches is None:
            raise ServersFailed(
                f"There is no drill to report on: the task {self.choose_task_id} failed. Its log says what to change."
            )
        cos, bucket, prefix = self._place(params)
        made = close_drill(
            cos.client,
            [Chosen.model_validate(one) for batch in batches for one in batch],
            bucket=bucket,
            prefix=prefix,
            drill_id=drill_id_for(ti.run_id),
            asked_level=str(params.get("level") or "L4"),
            made_by=f"{ti.dag_id} {ti.run_id}",
            clock=real_clock,
        )
        for one in made:
            self.log.info("%s", line_of(one))
        report = drill_report(
            cos.client, bucket=bucket, prefix=prefix, days=int(params.get("days") or 90), now=datetime.now(UTC)
        )
        self._tell(report)
        told = {
            "summary": report.summary,
            **report.model_dump(mode="json", exclude={"lines"}),
            "share": report.share,
            "drill": [{"hostname": one.hostname, "outcome": one.outcome.value} for one in made],
        }
        ti.xcom_push(key=REPORT_KEY, value=told)
        bad = [one for one in made if one.outcome in (Outcome.FAILED, Outcome.UNFINISHED)]
        if bad:
            first = " ".join(one.words for one in bad[:5])
            more = f" And {len(bad) - 5} more." if len(bad) > 5 else ""
            raise ServersFailed(f"{len(bad)} of {len(made)} exports did not come back. {first}{more}")
        return told

    def _tell(self, report: DrillReport) -> None:
        from sealift.exports.drills.reporting import table_of

        for line in table_of(report, at_most=SHOWN):
            self.log.info("%s", line)
        self.log.info("%s", report.summary)
