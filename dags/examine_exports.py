"""examine_exports: find what carries Sealift's names and belongs to no running or finished export."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from sealift.provider.operators.doctor import ExamineExportsOperator
from sealift.provider.params import examine_params
from sealift.provider.retry import task_defaults
from sealift.provider.settings import settings

DOC = """
### Look for what was left behind

![examine](sealift/static/examine_exports.svg)

Looks at the account and the bucket for everything that carries Sealift's names and belongs to no running or finished
export, and at finished exports for objects that are gone or changed:

* image templates without an export, broken ones, and two of one export,
* objects without a manifest, manifests without objects, objects that are not what was proven,
* unfinished uploads, objects that Sealift does not write, notes that were left over.

The log of the task `examine` has one line for each, with what to do. The whole report is in the bucket, below
`reports/examinations/`; the button *Report* leads there. **Nothing is deleted or changed.**

The run succeeds with findings, unless *Fail on findings* is set. A schedule is off until somebody sets one:
`AIRFLOW__SEALIFT__EXAMINE_SCHEDULE`.
"""

_settings = settings()

with DAG(
    dag_id="examine_exports",
    description="Find half exports, orphan templates, unfinished uploads and changed objects; change nothing",
    doc_md=DOC,
    schedule=_settings.examine_schedule,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params=examine_params(_settings.default_params),
    tags=["sealift", "ibm-cloud", "export"],
    default_args=task_defaults(_settings),
) as dag:
    ExamineExportsOperator(
        task_id="examine",
        doc_md="Lists templates, objects and uploads, and says of each that belongs to nothing what to do.",
    )
