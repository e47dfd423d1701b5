"""Exports as most people would write them, with the same API client: plain_poke, plain_reschedule, and each with a cap.

Python operators submit, a Python sensor per server and wait polls. They do less than Sealift: no plan, no look before a
capture, no proof, no configuration record and no manifest.

``plain_<mode>`` maps a task group over all servers of a run. Airflow starts what has most after it first, so that all
servers are captured, and offline, at once. Nothing in a mapped group bounds how many servers are between two of its
tasks; what does so in plain Airflow is a run for each server and ``max_active_runs``: ``plain_<mode>_capped``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG, task, task_group

from sealift.provider.hooks.classic import ClassicHook
from sealift.provider.hooks.cos import CosHook
from sealift.provider.settings import settings

_INTERVAL = settings().poll_interval
_RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=10)}


def capture(server: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Capture a server's disks.

    :returns: the template, and how many objects its export will have.
    """
    client = ClassicHook().client
    guest = client.get_guests([server["id"]])[server["id"]]
    disks = [one.id for one in guest.block_devices if one.left_out_because is None]
    template = client.capture(guest.id, name=f"{prefix}-{guest.hostname}", block_device_ids=disks, note="plain")
    return {"template": template.id, "name": f"{prefix}/{guest.hostname}-{guest.id}", "disks": len(disks)}


def is_captured(image: dict[str, Any]) -> bool:
    """Tell whether a template is whole."""
    template = ClassicHook().client.template_states([image["template"]])[image["template"]]
    return bool(template.children) and not template.transactions_left


def export(image: dict[str, Any], bucket: str) -> None:
    """Start a template's export."""
    cos = CosHook()
    uri = f"cos://{cos.region}/{bucket}/{image['name']}.vhd"
    ClassicHook().client.export_template(image["template"], uri=uri, ibm_api_key=cos.export_api_key)


def is_exported(image: dict[str, Any], bucket: str) -> bool:
    """Tell whether the template's transaction is over and all objects are there."""
    template = ClassicHook().client.template_states([image["template"]])[image["template"]]
    if template.transactions_left:
        return False
    client = CosHook().client
    return all(client.head(bucket, f"{image['name']}-{number}.vhd") for number in range(image["disks"]))


def make_way(mode: str) -> Any:
    """Make the task group of one server, whose sensors wait in a mode."""

    @task_group
    def way(server: dict[str, Any]) -> None:
        prefix, bucket = "{{ dag_run.conf['prefix'] }}", "{{ dag_run.conf['bucket'] }}"
        captured = PythonOperator(
            task_id="capture", python_callable=capture, op_kwargs={"server": server, "prefix": prefix}
        )
        whole = PythonSensor(
            task_id="wait_for_template",
            python_callable=is_captured,
            op_kwargs={"image": captured.output},
            mode=mode,
            poke_interval=_INTERVAL,
            timeout=86_400,
        )
        exported = PythonOperator(
            task_id="export", python_callable=export, op_kwargs={"image": captured.output, "bucket": bucket}
        )
        there = PythonSensor(
            task_id="wait_for_objects",
            python_callable=is_exported,
            op_kwargs={"image": captured.output, "bucket": bucket},
            mode=mode,
            poke_interval=_INTERVAL,
            timeout=86_400,
        )
        captured >> whole >> exported >> there

    return way


def make(mode: str) -> DAG:
    """Make the DAG of all servers."""
    with DAG(dag_id=f"plain_{mode}", schedule=None, default_args=_RETRIES) as made:

        @task
        def servers(**context: Any) -> list[dict[str, Any]]:
            return list(context["dag_run"].conf["servers"])

        make_way(mode).expand(server=servers())
    return made


def make_capped(mode: str) -> DAG:
    """Make the DAG of one server, of which no more runs are active than servers may be offline."""
    with DAG(
        dag_id=f"plain_{mode}_capped",
        schedule=None,
        max_active_runs=settings().max_offline,
        default_args=_RETRIES,
        render_template_as_native_obj=True,
    ) as made:
        make_way(mode)({"id": "{{ dag_run.conf['id'] }}"})
    return made


plain_poke, plain_poke_capped = make("poke"), make_capped("poke")
plain_reschedule, plain_reschedule_capped = make("reschedule"), make_capped("reschedule")
