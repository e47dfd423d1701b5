"""Buttons of tasks that lead to the page: to a plan, a wave, a server, or to the coverage.

They follow from a task's run and map index alone, so that they are there while a task still waits, and whatever became
of it. The plugin of the page registers them; Airflow's API server asks them, and no worker has anything to do with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

from sealift.exports.names import plan_id_for
from sealift.exports.waves import wave_of_run
from sealift.provider.operators.approval import ApproveCapturesOperator
from sealift.provider.operators.capture import CaptureImageOperator
from sealift.provider.operators.deliver import ChooseExportsOperator, DeliverExportOperator
from sealift.provider.operators.doctor import ExamineExportsOperator
from sealift.provider.operators.drill import ChooseRehearsalsOperator, DrillReportOperator, RehearseExportOperator
from sealift.provider.operators.plan import PlanExportsOperator
from sealift.provider.operators.prove import ChooseProofsOperator, ProveExportOperator
from sealift.provider.operators.report import PlanReportOperator, WaveReportOperator
from sealift.provider.operators.retention import (
    ApplyRetentionOperator,
    ApproveRetentionOperator,
    DryRunRetentionOperator,
)
from sealift.provider.operators.wave import ExportWaveOperator, WaitForWavesOperator
from sealift.provider.operators.wave_servers import ReadWaveOperator
from sealift.provider.sensors.export_when_ready import ExportWhenReadySensor
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

ROUTE: Final = "plugin/sealift"
"""Where Airflow's page shows ours, below its base address."""


def page_url(**fields: str | int) -> str:
    """Give the address of a view of the page.

    :param fields: the view and what it shows, by the names that its address has.
    :returns: a path on the host that Airflow's page came from, whichever name that has for the user.
    """
    base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{base}/{ROUTE}{'?' if fields else ''}{urlencode(fields)}"


class CoverageLink(BaseOperatorLink):
    """All servers by slots."""

    name = "Exports in Sealift"
    operators = [
        ApplyRetentionOperator,
        ApproveRetentionOperator,
        ChooseExportsOperator,
        ChooseProofsOperator,
        ChooseRehearsalsOperator,
        DeliverExportOperator,
        DrillReportOperator,
        DryRunRetentionOperator,
        ExamineExportsOperator,
        ProveExportOperator,
        RehearseExportOperator,
    ]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Give the coverage.

        :param operator: the task.
        :param ti_key: its instance.
        :returns: the address.
        """
        return page_url()


class PlanPageLink(BaseOperatorLink):
    """The plan of the task's run."""

    name = "Plan in Sealift"
    operators = [
        ApproveCapturesOperator,
        ExportWaveOperator,
        PlanExportsOperator,
        PlanReportOperator,
        WaitForWavesOperator,
    ]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Give the plan.

        :param operator: the task.
        :param ti_key: its instance.
        :returns: the address.
        """
        return page_url(view="plan", plan=plan_id_for(dag_id=ti_key.dag_id, run_id=ti_key.run_id))


class WavePageLink(BaseOperatorLink):
    """The wave that the task carries out, or starts."""

    name = "Wave in Sealift"
    operators = [
        CaptureImageOperator,
        ExportWaveOperator,
        ExportWhenReadySensor,
        ProveWhenExportedSensor,
        ReadWaveOperator,
        WaveReportOperator,
    ]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Give the wave.

        :param operator: the task.
        :param ti_key: its instance.
        :returns: the address; empty where the run carries out no wave of a plan.
        """
        wave = wave_of_run(ti_key.run_id)
        if wave is None and ti_key.map_index >= 0:
            wave = plan_id_for(dag_id=ti_key.dag_id, run_id=ti_key.run_id), ti_key.map_index
        return "" if wave is None else page_url(view="wave", plan=wave[0], wave=wave[1])


class ServerPageLink(BaseOperatorLink):
    """The server that the task is about, in the slot of its export."""

    name = "Server in Sealift"
    operators = [CaptureImageOperator, ExportWhenReadySensor, ProveWhenExportedSensor]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Give the server, by its place in its wave.

        :param operator: the task.
        :param ti_key: its instance.
        :returns: the address; empty where the task is no server's of a wave.
        """
        wave = wave_of_run(ti_key.run_id)
        if wave is None or ti_key.map_index < 0:
            return ""
        return page_url(view="server", plan=wave[0], wave=wave[1], index=ti_key.map_index)


LINKS: Final = (CoverageLink(), PlanPageLink(), WavePageLink(), ServerPageLink())
"""What the plugin registers."""
