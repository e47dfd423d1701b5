"""Examining an account and a bucket: what carries Sealift's names and belongs to no running or finished export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from sealift.provider.failures import says_failures
from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.links import Linked, ReportLink
from sealift.provider.metrics import counting_faults

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sealift.exports.doctor_models import Examination
    from sealift.exports.settings import PlanSettings


class ExamineExportsOperator(BaseOperator, Linked):
    """Finds half exports, orphan templates, unfinished uploads and the like, and reports them. Deletes nothing.

    :param examination: what to look at, by the names of ``examine_exports``'s parameters, templated; the run's
        parameters if None.
    """

    template_fields: Sequence[str] = ("examination",)
    operator_extra_links = (ReportLink(),)
    ui_color = "#e8f0fe"

    def __init__(self, *, examination: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.examination = examination

    @says_failures
    def execute(self, context: Context) -> dict[str, Any]:
        """Examine, and write the report.

        :param context: the task's context.
        :returns: the report's key, and how many findings there are of each kind.
        :raises AirflowFailException: if there are findings and ``fail_on_findings`` is set.
        """
        with counting_faults("examine"):
            return self._examine(context)

    def _examine(self, context: Context) -> dict[str, Any]:
        from sealift.exports.doctor import examine
        from sealift.exports.doctor_models import line_of
        from sealift.exports.jsontext import canonical_json
        from sealift.exports.names import examination_key
        from sealift.provider.slots import slots_kept

        params = dict(self.examination if self.examination is not None else context["params"])
        settings = place_of(params)
        cos = CosHook(settings.cos_conn_id, region=settings.region)
        classic = ClassicHook(settings.classic_conn_id).client
        slots = slots_kept(classic, settings)
        found = examine(
            classic=classic,
            cos=cos.client,
            bucket=settings.bucket,
            prefix=settings.prefix,
            now=datetime.now(UTC),
            rules=_rules(params),
            slots=slots.place,
            slots_cos=CosHook(slots.at.cos_conn_id, region=slots.at.region).client,
            thorough=bool(params.get("thorough")),
        )
        for finding in found.findings:
            self.log.warning("%s", line_of(finding))
        self._tell(found)
        key = examination_key(prefix=settings.prefix, run_id=context["ti"].run_id)
        cos.client.put(settings.bucket, key, canonical_json(found))
        self.remember_link(ReportLink, cos.url_of(settings.bucket, key))
        if found.findings and params.get("fail_on_findings"):
            raise AirflowFailException(
                f"{found.summary}. The whole report is at {settings.bucket}/{key}; the lines above say what to do with "
                "each finding."
            )
        return {"key": key, "bucket": settings.bucket, "findings": {str(kind): n for kind, n in found.counts.items()}}

    def _tell(self, found: Examination) -> None:
        for plan in found.at_work:
            self.log.info(
                "At work, and left alone: %s exports of the plan %s, whose run wrote last at %s.",
                plan.exports,
                plan.plan_id,
                plan.last_sign.isoformat(timespec="seconds"),
            )
        for cap in found.learned_caps:
            self.log.info("%s", cap.sentence)
        for other in found.elsewhere:
            self.log.info("%s image templates went to %s; examine that as well.", other.templates, other.place)
        self.log.info(
            "Looked at %s manifests (%s of them read), %s objects, %s plans and %s image templates: %s.",
            found.looked.manifests,
            found.looked.manifests_read,
            found.looked.objects,
            found.looked.plans,
            found.looked.templates,
            found.summary,
        )


def place_of(params: Mapping[str, Any]) -> PlanSettings:
    """Read where to look, as a plan's settings are read: the connection says what the run does not.

    :param params: the run's parameters.
    :returns: settings of which connections, bucket, region and prefix count.
    :raises SettingsError: one of them cannot be used.
    """
    from sealift.exports.settings import PlanSettings

    cos_conn_id = str(params.get("cos_conn_id") or CosHook.default_conn_name)
    cos = CosHook(cos_conn_id)
    return PlanSettings.from_params(
        {
            "classic_conn_id": params.get("classic_conn_id") or ClassicHook.default_conn_name,
            "cos_conn_id": cos_conn_id,
            "bucket": cos.bucket_or_default(params.get("bucket")),
            "region": params.get("region") or cos.region,
            "prefix": params.get("prefix"),
        }
    )


def _rules(params: Mapping[str, Any]) -> Any:
    from sealift.exports.doctor import Rules
    from sealift.exports.doctor_models import PLAN_AT_WORK, SETTLED

    settled, days = params.get("settled_minutes"), params.get("plan_days")
    return Rules(
        settled=SETTLED if settled is None else timedelta(minutes=float(settled)),
        plan_at_work=PLAN_AT_WORK if days is None else timedelta(days=float(days)),
        over=list(params.get("over") or ()),
    )
