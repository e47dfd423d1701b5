"""export_servers: carry out one wave of a plan, one mapped group of tasks for each server."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task_group

from sealift.provider.operators.capture import CaptureImageOperator
from sealift.provider.operators.report import WaveReportOperator
from sealift.provider.operators.wave_servers import ReadWaveOperator
from sealift.provider.params import wave_params
from sealift.provider.retry import task_defaults
from sealift.provider.sensors.export_when_ready import ExportWhenReadySensor
from sealift.provider.sensors.prove_when_exported import ProveWhenExportedSensor
from sealift.provider.settings import settings

DOC = """
### Carry out one wave of a plan

![read_wave; for each server capture, wait_for_template, wait_for_export; summarise](sealift/static/export_servers.svg)

`plan_exports` starts this DAG; there is rarely a reason to start it by hand. Each server goes its own way:

1. **capture** waits, without a worker, until an offline slot is free; then the triggerer looks for the export's image
   template by its exact name, and creates it where there is none. From then on the server is offline until its image is
   made.
2. **wait_for_template** waits, without a worker, until the template has no transaction left, its sizes are known and
   the server is back; then it asks the Classic API to copy the template's disks into the bucket.
3. **wait_for_export** waits, without a worker, until every expected object is there; then it reads the images inside
   the bucket, saves the server's configuration, and writes the manifest last. The manifest is what makes an export
   done.

Clearing any task is safe: each looks first for what is there. A server that fails leaves the others alone.
"""

_settings = settings()
_CAPTURED = "{{ ti.xcom_pull(task_ids='export.capture', map_indexes=ti.map_index) | tojson }}"
_STARTED = "{{ ti.xcom_pull(task_ids='export.wait_for_template', map_indexes=ti.map_index) | tojson }}"
# What a trigger is told of its server: it sees no mapped arguments, and asks for an unmapped task's XCom by index -1.
_GATE = "{{ ti.xcom_pull(task_ids='read_wave', key='gate', map_indexes=-1) | tojson }}"
_QUEUED = "{{ ti.xcom_pull(task_ids='read_wave', map_indexes=-1)[ti.map_index] | tojson }}"

with DAG(
    dag_id="export_servers",
    description="One wave of exports: capture, export, prove, record",
    doc_md=DOC,
    schedule=None,
    catchup=False,
    max_active_runs=16,
    # It has no schedule and runs only what plan_exports starts; paused, it would hold that up without a word.
    is_paused_upon_creation=False,
    params=wave_params(),
    tags=["sealift", "ibm-cloud", "export"],
    default_args={
        **task_defaults(_settings),
        "weight_rule": "absolute",
    },
) as dag:
    read_wave = ReadWaveOperator(task_id="read_wave", doc_md="Reads the wave's servers from the plan in the bucket.")

    @task_group(group_id="export", tooltip="The way of one server")
    def export(server: Any) -> None:
        """Wire one server's steps. What finishes work goes before what starts some: the weights rise along the way.

        :param server: ``{"guest_id", "hostname", "export_id"}``, mapped.
        """
        capture = CaptureImageOperator(
            task_id="capture",
            server=server,
            gate=_GATE,
            queued=_QUEUED,
            poll_interval=_settings.poll_interval,
            start_in_triggerer=_settings.start_in_triggerer,
            priority_weight=1,
        )
        wait_for_template = ExportWhenReadySensor(
            task_id="wait_for_template",
            captured=_CAPTURED,
            poll_interval=_settings.poll_interval,
            start_in_triggerer=_settings.start_in_triggerer,
            priority_weight=2,
        )
        wait_for_export = ProveWhenExportedSensor(
            task_id="wait_for_export",
            started=_STARTED,
            poll_interval=_settings.poll_interval,
            priority_weight=3,
        )
        capture >> wait_for_template >> wait_for_export

    summarise = WaveReportOperator(
        task_id="summarise",
        trigger_rule="all_done",
        priority_weight=4,
        doc_md="Writes the wave's report into the bucket. Fails if any server failed.",
    )
    export.expand(server=read_wave.output) >> summarise
