"""plan_exports: choose servers, plan what to do with each, run the plan in waves, report."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from sealift.provider.notifications.late import late_alert
from sealift.provider.notifications.unreported import on_unreported
from sealift.provider.operators.approval import ApproveCapturesOperator
from sealift.provider.operators.plan import PlanExportsOperator
from sealift.provider.operators.report import PlanReportOperator
from sealift.provider.operators.wave import ExportWaveOperator, WaitForWavesOperator
from sealift.provider.params import plan_params
from sealift.provider.retry import task_defaults
from sealift.provider.settings import settings

DOC = """
### Export virtual servers as images

![make_plan, approve, export_waves for each wave, wait_for_waves, report](sealift/static/plan_exports.svg)

Chooses virtual servers of an IBM Cloud Classic account, writes a **plan** (which servers, which disks, what cannot be
exported and why) into the bucket, starts one `export_servers` run for each **wave** of at most 100 servers, and ends
with one **report** over all of them.

* Each server is offline while it is captured. `max_offline` bounds how many are at the same time.
* `dry_run` writes the plan and stops: nothing is captured.
* Where a server carries a tag such as `production`, or `approval` says so, the run waits until somebody **approves**
  the plan, under *Required Actions*.
* A server is exported when its manifest is in the bucket, and only then.
* Bare metal servers are listed with their hardware and the reason why they are not exported.

The run fails if any server failed, after all others have finished; the task `report` says which and why. **To try those
again**, trigger this DAG with *Only* set to `failed` and *Plan* to the failed run's plan: what is done is found and not
done twice. With *Only* set to `missing` it exports what has no manifest yet, slot by slot.

Mails and webhooks tell of its end, of stuck servers, and of a run that is late: `AIRFLOW__SEALIFT__NOTIFY_…`.

A schedule is off until somebody sets one: `AIRFLOW__SEALIFT__SCHEDULE`, with `AIRFLOW__SEALIFT__DEFAULT_PARAMS` for
what a scheduled run should select.
"""

_settings = settings()

with DAG(
    dag_id="plan_exports",
    description="Plan and run exports of IBM Cloud Classic virtual servers to Cloud Object Storage",
    doc_md=DOC,
    schedule=_settings.schedule,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=4,
    deadline=late_alert(),
    params=plan_params(_settings.default_params),
    tags=["sealift", "ibm-cloud", "export"],
    default_args=task_defaults(_settings),
) as dag:
    make_plan = PlanExportsOperator(
        task_id="make_plan",
        doc_md="Selects the servers, applies the rules, and writes the plan. Everything that is wrong with the input "
        "ends here, before anything is captured.",
    )
    approve = ApproveCapturesOperator(
        task_id="approve",
        doc_md="Waits until somebody approves the plan, where servers in it carry a tag that asks for it or the run "
        "does. Without an answer in time nothing is captured.",
    )
    export_waves = ExportWaveOperator.partial(
        task_id="export_waves",
        map_index_template="{{ task.wave['label'] }}",
        max_active_tis_per_dagrun=_settings.active_waves,
        # Another try only takes the run up again: there is nothing to wait for.
        retry_delay=timedelta(seconds=5),
        poll_interval=_settings.poll_interval,
        doc_md="One for each wave: starts its run of `export_servers` once, and waits without a worker until few of "
        "its servers still wait for a capture: then the next wave may start.",
    ).expand(wave=make_plan.output)
    wait_for_waves = WaitForWavesOperator(
        task_id="wait_for_waves",
        trigger_rule="all_done",
        poll_interval=_settings.poll_interval,
        doc_md="Waits for the end of all waves, without a worker.",
    )
    report = PlanReportOperator(
        task_id="report",
        trigger_rule="all_done",
        on_failure_callback=on_unreported(),
        doc_md="One report over all waves, and what they left behind. Fails if any server failed.",
    )
    make_plan >> approve >> export_waves >> wait_for_waves >> report
