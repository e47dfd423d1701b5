"""Has the process that workers fork from import what every task needs, once, instead of each task for itself.

Airflow's task processes are forks: of the scheduler with LocalExecutor, of the Celery worker with CeleryExecutor. The
processes that parse DAG files are forks of the DAG processor. What their parent has imported costs them nothing.
Without this, the two SDKs, Sealift itself and the SDK's service models take a third of a CPU-second in each task;
``deploy/airflow/airflow_local_settings.py`` calls it.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Final

log = logging.getLogger(__name__)

MODULES: Final = (
    "encodings.unicode_escape",
    "SoftLayer",
    "SoftLayer.transports",
    "ibm_boto3",
    "ibm_boto3.session",
    "ibm_botocore.client",
    "ibm_botocore.config",
    "ibm_botocore.handlers",
    "ibm_botocore.httpsession",
    "airflow.dag_processing.bundles.local",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.hitl",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.decorators.condition",
    "airflow.sdk.definitions.decorators.setup_teardown",
    "airflow.sdk.definitions.decorators.task_group",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.dag_processing.dagbag",
    "sealift.classic.client",
    "sealift.classic.transport",
    "sealift.connections",
    "sealift.cos.client",
    "sealift.exports.converting",
    "sealift.exports.delivery",
    "sealift.exports.delivery_kits",
    "sealift.exports.doctor",
    "sealift.exports.drills.choosing",
    "sealift.exports.drills.keys",
    "sealift.exports.drills.models",
    "sealift.exports.drills.rehearsing",
    "sealift.exports.drills.reporting",
    "sealift.exports.drills.scratch",
    "sealift.exports.messages.making",
    "sealift.exports.messages.told",
    "sealift.exports.missing",
    "sealift.exports.proving_later",
    "sealift.exports.proving_servers",
    "sealift.exports.report",
    "sealift.exports.retention.applying",
    "sealift.exports.retention.dry_run",
    "sealift.exports.retry",
    "sealift.exports.status.books",
    "sealift.exports.steps",
    "sealift.exports.waiting",
    "sealift.images.bytes_proof",
    "sealift.images.convert.formats",
    "sealift.images.emulator",
    "sealift.provider.notifications.late",
    "sealift.provider.notifications.links",
    "sealift.provider.notifications.mail",
    "sealift.provider.notifications.unreported",
    "sealift.provider.notifications.webhook",
    "sealift.provider.lineage",
    "sealift.provider.operators.approval",
    "sealift.provider.operators.capture",
    "sealift.provider.operators.deliver",
    "sealift.provider.operators.doctor",
    "sealift.provider.operators.drill",
    "sealift.provider.operators.plan",
    "sealift.provider.operators.prove",
    "sealift.provider.operators.report",
    "sealift.provider.operators.retention",
    "sealift.provider.operators.wave",
    "sealift.provider.operators.wave_servers",
    "sealift.provider.params",
    "sealift.provider.retry",
    "sealift.provider.sensors.export_when_ready",
    "sealift.provider.sensors.prove_when_exported",
    "sealift.provider.slots",
    "sealift.transfer.errors",
    "sealift.transfer.s3_bucket",
    "sealift.provider.triggers.slots",
    "sealift.provider.triggers.wave",
    "sealift.provider.ui.places",
)
"""What tasks import sooner or later; a test holds it against what a run of all tasks imports."""

PARENTS: Final = (("scheduler",), ("celery", "worker"))
"""The commands of ``airflow`` whose processes tasks are forked from."""

PARSERS: Final = (("dag-processor",),)
"""Those whose processes DAG files are parsed in. Not only when a file is due: Airflow 3.3 parses it for tasks that end
in the triggerer as well, to look for callbacks."""

_PARSED: Final = ("airflow.", "sealift.provider.", "sealift.transfer.errors")
"""What the modules begin with that a DAG file imports."""

_SERIALIZING: Final = (
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
    "airflow.version",
)
"""What Airflow imports besides when it serializes a DAG, whatever is in it."""


def modules_for(arguments: Sequence[str]) -> tuple[str, ...]:
    """Tell what a process should import before it forks.

    :param arguments: its command line, as ``sys.argv``.
    :returns: all modules for ``airflow scheduler`` and ``airflow celery worker``, those of DAG files for ``airflow
        dag-processor``, and none for others.
    """
    words = tuple(one for one in arguments[1:] if not one.startswith("-"))
    if any(words[: len(command)] == command for command in PARENTS):
        return MODULES
    if any(words[: len(command)] == command for command in PARSERS):
        return (*(one for one in MODULES if one.startswith(_PARSED)), *_SERIALIZING)
    return ()


def preload(arguments: Sequence[str] | None = None) -> bool:
    """Import what forks need, where this is a process that forks.

    :param arguments: the process's command line; its own if None.
    :returns: whether it was one.
    """
    modules = modules_for(sys.argv if arguments is None else arguments)
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            # A task that needs it says so itself, with its server's name: no reason to keep a scheduler from starting.
            log.warning("Sealift could not import %s ahead of its tasks: %s", name, error)
    if not modules:
        return False
    if modules == MODULES:
        from sealift.cos.connection import warm_up

        warm_up()
    # What is there now is never garbage: the collector of a fork need not go through it, nor copy pages by doing so.
    gc.collect()
    gc.freeze()
    return True
