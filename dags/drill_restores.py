"""drill_restores: bring exports back in turn, prove them, and measure how long that takes."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from sealift.provider.operators.drill import ChooseRehearsalsOperator, DrillReportOperator, RehearseExportOperator
from sealift.provider.params import drill_params
from sealift.provider.retry import task_defaults
from sealift.provider.settings import settings

DOC = """
### Rehearse restores

![choose_exports; rehearse for each server; report](sealift/static/drill_restores.svg)

What was never restored is no backup. A drill brings exports out of the bucket as one would in an emergency, proves what
arrived, and measures the **time to recover**. No server goes offline, and nothing is changed in the account.

1. `choose_exports` takes the servers whose turn it is, so that each comes up within *Everyone within* drills: those
   that did not come back last time, those that were never rehearsed, then those whose last rehearsal is longest ago.
2. `rehearse`, one task for each server: the download into a scratch folder of the worker, every digest against the
   manifest, then every byte (L2), the file systems (L3), and a start to the login prompt (L4, where the worker has
   QEMU). Proof and time are added beside the manifest; the folder is deleted.
3. `report` says which share of the servers came back within *Report on* days, at which level, and within what time. It
   fails if a server of this drill did not come back; its log says which, why, and what to do.

A schedule is off until somebody sets one: `AIRFLOW__SEALIFT__DRILL_SCHEDULE`.
"""

_settings = settings()

with DAG(
    dag_id="drill_restores",
    description="Rehearse restores: bring exports back in turn, prove them, measure the time to recover",
    doc_md=DOC,
    schedule=_settings.drill_schedule,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    # The next drill's turn follows from what this one did.
    max_active_runs=1,
    params=drill_params(_settings.default_params),
    tags=["sealift", "ibm-cloud", "export"],
    default_args=task_defaults(_settings),
) as dag:
    choose = ChooseRehearsalsOperator(
        task_id="choose_exports",
        doc_md="Takes the exports whose turn it is, or those that are named.",
    )
    rehearse = RehearseExportOperator.partial(
        task_id="rehearse",
        map_index_template="{{ task.label }}",
        max_active_tis_per_dagrun=_settings.drills,
        pool=_settings.drill_pool,
        doc_md="Brings a server's export back, proves it, and notes proof and time to recover.",
    ).expand(exports=choose.output)
    report = DrillReportOperator(
        task_id="report",
        trigger_rule="all_done",
        doc_md="Share of the servers that came back, at which level, within what time. Fails if one did not.",
    )
    rehearse >> report
