"""deliver_images: bring finished exports out of the bucket, to a folder or into a bucket of S3, each checked."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from sealift.provider.assets import delivered_asset, exported_asset
from sealift.provider.operators.deliver import ChooseExportsOperator, DeliverExportOperator
from sealift.provider.params import deliver_params
from sealift.provider.retry import task_defaults
from sealift.provider.settings import settings

DOC = """
### Deliver images

![choose_exports, then deliver for each export](sealift/static/deliver_images.svg)

Brings exports out of the bucket: every disk, the configuration record and the manifest, with a `SHA256SUMS` file that
is written last. To a **folder** that the worker sees (`/srv/images`), or into a **bucket** of AWS or of anything else
that speaks S3 (`s3://bucket/prefix`, by a connection of the type `aws`); then nothing touches the worker's disk.

* Each disk is read by ranges that demand the proven ETag, hashed on the way, compared with what the target keeps, and
  its structure is proven once more where it arrived.
* *Format* has the images arrive as VMDK, qcow2, fixed VHD or raw disks: those that were converted in the bucket, or
  else converted on their way. *Target kits* go below them.
* A delivery that broke off goes on where it stopped. What is there already is checked, and not brought again.
* Each export is a folder of its own: `<host name>-<id>/<export id>`.

With `AIRFLOW__SEALIFT__DELIVER_TO` set, a run starts by itself when exports have finished, with all of them since the
run before. Without, trigger it and name the exports.
"""

_settings = settings()

with DAG(
    dag_id="deliver_images",
    description="Bring finished exports out of the bucket, to a folder or into a bucket of S3",
    doc_md=DOC,
    schedule=[exported_asset()] if _settings.deliver_to else None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    # One at a time: what finishes meanwhile is gathered for the next run.
    max_active_runs=1,
    params=deliver_params(_settings.default_params, to=_settings.deliver_to, aws_conn_id=_settings.deliver_aws_conn_id),
    tags=["sealift", "ibm-cloud", "export"],
    default_args=task_defaults(_settings),
) as dag:
    choose = ChooseExportsOperator(
        task_id="choose_exports",
        doc_md="Finds the exports: those that are named, or those whose end started the run. What is wrong with the "
        "input ends here.",
    )
    DeliverExportOperator.partial(
        task_id="deliver",
        map_index_template="{{ task.label }}",
        outlets=[delivered_asset()],
        max_active_tis_per_dagrun=_settings.deliveries,
        doc_md="Brings an export to its place, checks every file, and says so in SHA256SUMS.",
    ).expand(exports=choose.output)
