"""Reading connections: one place that turns what a person typed into arguments, and says plainly what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from sealift.provider.errors import ConnectionProblem

if TYPE_CHECKING:
    from airflow.sdk import Connection


def _checked(connection: Connection, conn_id: str, conn_type: str) -> Connection:
    if connection.conn_type != conn_type:
        raise ConnectionProblem(
            f"The connection {conn_id!r} has the type {connection.conn_type!r}, but {conn_type!r} is needed: "
            "change its type, or name another connection."
        )
    return connection


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
        return _checked(BaseHook.get_connection(conn_id), conn_id, conn_type)
    except AirflowNotFoundException as error:
        raise _missing(conn_id, conn_type) from error


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
        return _checked(await BaseHook.aget_connection(conn_id), conn_id, conn_type)
    except AirflowNotFoundException as error:
        raise _missing(conn_id, conn_type) from error


def extra_of(connection: Connection) -> dict[str, Any]:
    """Give the connection's extra fields, without the empty ones.

    :param connection: the connection.
    :returns: its extra fields; a form's empty field counts as absent.
    """
    return {key: value for key, value in connection.extra_dejson.items() if value not in (None, "")}


def number(extra: Mapping[str, Any], field: str, default: float, conn_id: str) -> float:
    """Read a number that may have been typed as text.

    :param extra: the extra fields.
    :param field: the field's name.
    :param default: the value where the field is absent.
    :param conn_id: the connection's id, for the message.
    :returns: the number.
    :raises ConnectionProblem: if it is none, or not above zero.
    """
    try:
        value = float(extra.get(field, default))
    except (TypeError, ValueError):
        value = 0.0
    if value <= 0:
        raise ConnectionProblem(
            f"The connection {conn_id!r} has {field} = {extra[field]!r}: give a number above 0, or leave it empty."
        )
    return value


def choice(extra: Mapping[str, Any], field: str, options: tuple[str, ...], conn_id: str) -> str:
    """Read one of a few words; the first is the default.

    :param extra: the extra fields.
    :param field: the field's name.
    :param options: the words that are allowed.
    :param conn_id: the connection's id, for the message.
    :returns: the word.
    :raises ConnectionProblem: if it is another.
    """
    value = str(extra.get(field, options[0]))
    if value not in options:
        raise ConnectionProblem(
            f"The connection {conn_id!r} has {field} = {value!r}: it must be one of {', '.join(options)}."
        )
    return value


def verify_of(extra: Mapping[str, Any], conn_id: str) -> bool | str:
    """Read how TLS certificates are checked.

    :param extra: the extra fields.
    :param conn_id: the connection's id, for the message.
    :returns: True, False, or the path of a CA bundle.
    :raises ConnectionProblem: if there is nothing at that path on this machine.
    """
    value = extra.get("verify", True)
    if isinstance(value, bool):
        return value
    text = str(value)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not Path(text).exists():
        raise ConnectionProblem(
            f"The connection {conn_id!r} has verify = {text!r}, and there is no such file on this machine: give true, "
            "false, or the path of a CA bundle that every worker and triggerer has."
        )
    return text


def endpoint_of(connection: Connection) -> str | None:
    """Give the endpoint typed into the host field, as a URL.

    :param connection: the connection.
    :returns: the URL, ``https`` unless another scheme stands there, or None where the field is empty.
    """
    host = (connection.host or "").strip()
    if not host:
        return None
    parts = urlsplit(host if "://" in host else f"https://{host}")
    if connection.port and parts.port is None:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    return parts.geturl()
