"""Reading connections from Airflow, in tasks and in the triggerer; what their fields mean is in sealift.connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from sealift.connections import check_type
from sealift.provider.errors import ConnectionProblem

if TYPE_CHECKING:
    from airflow.sdk import Connection


def _missing(conn_id: str, conn_type: str) -> ConnectionProblem:
    return ConnectionProblem(
        f"There is no connection {conn_id!r}. Add one of the type {conn_type!r} (Admin, Connections), "
        "or name another connection when you trigger the run."
    )


def read_connection(conn_id: str, conn_type: str) -> Connection:
    """Read a connection in a task.

    :param conn_id: the connection's id.
    :param conn_type: the type that it must have.
    :returns: the connection.
    :raises ConnectionProblem: if there is none, or it has another type.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise _missing(conn_id, conn_type) from error
    check_type(connection, conn_id, conn_type)
    return connection


async def aread_connection(conn_id: str, conn_type: str) -> Connection:
    """Read a connection in the triggerer.

    A shared stream's poll task has no greenback portal, so the synchronous call would find no connection that lives
    only in the metadata database; the asynchronous one does.

    :param conn_id: the connection's id.
    :param conn_type: the type that it must have.
    :returns: the connection.
    :raises ConnectionProblem: if there is none, or it has another type.
    """
    try:
        connection = await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException as error:
        raise _missing(conn_id, conn_type) from error
    check_type(connection, conn_id, conn_type)
    return connection
