"""apply_retention: delete the exports and image templates that the rules do not keep, after a dry run."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from sealift.provider.operators.retention import (
    ApplyRetentionOperator,
    ApproveRetentionOperator,
    DryRunRetentionOperator,
)
from sealift.provider.params import retention_params
from sealift.provider.retry import task_defaults
from sealift.provider.settings import settings

DOC = """
### Keep what matters, drop the rest

![dry_run, approve, apply](sealift/static/apply_retention.svg)

1. `dry_run` holds the rules against what is in the bucket and the account, and writes down what would go and why, below
   `retention/` in the bucket. The button *Report* leads there.
2. `approve` asks somebody (*Required Actions*) where more would go than *Ask above*. What nobody answers within a week
   is rejected.
3. `apply` deletes what the dry run names: nothing that changed since, nothing that is held or kept by now, and **never
   the last proven export of a server**.

Killed at any moment, another try takes it up. A schedule is off until somebody sets one:
`AIRFLOW__SEALIFT__RETENTION_SCHEDULE`, with the rules in `AIRFLOW__SEALIFT__RETENTION_RULES`.
"""

_settings = settings()

with DAG(
    dag_id="apply_retention",
    description="Delete exports and image templates that the rules do not keep, after a dry run and an approval",
    doc_md=DOC,
    schedule=_settings.retention_schedule,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params=retention_params(_settings.default_params, rules=_settings.retention_rules),
    tags=["sealift", "ibm-cloud", "export"],
    default_args=task_defaults(_settings),
) as dag:
    dry_run = DryRunRetentionOperator(
        task_id="dry_run",
        doc_md="Says what would go by the rules, and why. Deletes nothing.",
    )
    approve = ApproveRetentionOperator(
        task_id="approve",
        planned=dry_run.output,
        subject="{{ ti.xcom_pull(task_ids='dry_run')['summary'] }}",
        body="The whole dry run is at `{{ ti.xcom_pull(task_ids='dry_run')['bucket'] }}/"
        "{{ ti.xcom_pull(task_ids='dry_run')['key'] }}`. What is deleted cannot be brought back.",
        response_timeout=timedelta(days=7),
        doc_md="Asks somebody where more would go than the run's *Ask above*.",
    )
    apply = ApplyRetentionOperator(
        task_id="apply",
        planned=dry_run.output,
        doc_md="Deletes what the dry run names, as far as it still goes and is as it was.",
    )
    approve >> apply
