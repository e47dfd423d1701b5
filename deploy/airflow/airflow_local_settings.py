"""Airflow imports this file as it starts, if it lies in ``$AIRFLOW_HOME/config`` or elsewhere on the path.

It has the scheduler (LocalExecutor) and Celery's workers import what Sealift's tasks need before they fork them, and
the DAG processor what its DAG files need; other programs of Airflow import nothing. And it has the scheduler name the
tasks of a wave after their servers, and keeps the triggerer's two processes from waiting for each other for ever. A
deployment that has such a file already adds these lines to it.
"""

from sealift.provider.naming import task_instance_mutation_hook  # noqa: F401
from sealift.provider.preload import preload
from sealift.provider.unblocking import unblock_triggerer

preload()
unblock_triggerer()
