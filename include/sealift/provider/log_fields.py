"""The fields that every log line of an export carries: which export, which server, which template.

Airflow 3.3 logs by structlog, in tasks and in the triggerer, and merges the context's fields into each line: into those
of Sealift's rooms without Airflow as well, and into what Airflow says of a task that failed. A trigger and the threads
that work for it have a context of their own, so that fields of one server never reach the lines of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from structlog.contextvars import bind_contextvars, get_contextvars, unbind_contextvars

from sealift.provider.waits import read_xcom

FIELDS: Final = ("export_id", "guest_id", "hostname", "template_id")
"""The names of the fields, as the manifest has them. None of them is secret."""


def bind_fields(known: Any) -> None:
    """Have every line from here on carry what is known. What is not stays as it was, unless another export begins.

    :param known: a mapping with some of :data:`FIELDS`, or JSON of one as a task hands it on; anything else is let go.
    """
    value = read_xcom(known) if isinstance(known, str) else known
    if not isinstance(value, Mapping):
        return
    given = {name: value[name] for name in FIELDS if value.get(name) not in (None, "")}
    if given.get("export_id", before := get_contextvars().get("export_id")) != before:
        unbind_contextvars(*FIELDS)
    bind_contextvars(**given)
