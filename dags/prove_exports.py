"""prove_exports: read finished exports once more in the bucket, every byte of them, and add what was found."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from sealift.provider.operators.prove import ChooseProofsOperator, ProveExportOperator
from sealift.provider.params import prove_params
from sealift.provider.retry import task_defaults
from sealift.provider.settings import settings

DOC = """
### Prove exports again

![choose_exports, then prove for each export](sealift/static/prove_exports.svg)

Reads exports that are done once more, deeper than their manifests say, and adds what was found beside them. Nothing is
captured, and no server goes offline.

* **L2** reads every byte of every disk, and compares the digests with the object store's own and with earlier ones.
* **L3** reads the file systems as well: whether they are whole and hold what the server needs to start.

An export that is not sound any more fails its task, which says what was found and what to do. It takes a worker as
long as reading the images lasts.
"""

_settings = settings()

with DAG(
    dag_id="prove_exports",
    description="Prove finished exports again at level L2, L3 or L4, in the bucket",
    doc_md=DOC,
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    params=prove_params(_settings.default_params),
    tags=["sealift", "ibm-cloud", "export"],
    default_args=task_defaults(_settings),
) as dag:
    choose = ChooseProofsOperator(
        task_id="choose_exports",
        doc_md="Finds the exports. What is wrong with the input ends here.",
    )
    ProveExportOperator.partial(
        task_id="prove",
        map_index_template="{{ task.label }}",
        max_active_tis_per_dagrun=_settings.deliveries,
        doc_md="Reads the export's images in the bucket, and adds the proof beside the manifest.",
    ).expand(exports=choose.output)
