"""What the fields of a connection mean: one place that turns what a person typed into clients, and says what is wrong.

Airflow's hooks and the command line share it, so that a connection means the same to both. It knows nothing of Airflow:
anything with the fields of :class:`StoredConnection` will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sealift.classic.client import ClassicClient
    from sealift.classic.errors import ClassicError
    from sealift.cos.client import CosClient
    from sealift.cos.errors import CosError

CLASSIC_TYPE = "ibm_classic"
COS_TYPE = "ibm_cos"
CLASSIC_DEFAULT = "ibm_classic_default"
COS_DEFAULT = "ibm_cos_default"


class ConnectionProblem(Exception):  # noqa: N818 - the name that logs and retry rules know it by
    """A connection is missing or cannot work as it is written. No retry helps until a person changes it."""


class StoredConnection(Protocol):
    """A connection as somebody typed it; Airflow's own class fits."""

    @property
    def conn_type(self) -> str | None: ...

    @property
    def host(self) -> str | None: ...

    @property
    def port(self) -> int | None: ...

    @property
    def login(self) -> str | None: ...

    @property
    def password(self) -> str | None: ...

    @property
    def extra_dejson(self) -> dict[str, Any]: ...


def check_type(connection: StoredConnection, conn_id: str, conn_type: str) -> None:
    """Refuse a connection of another type.

    :param connection: the connection.
    :param conn_id: its id, for the message.
    :param conn_type: the type that it must have.
    :raises ConnectionProblem: it has another.
    """
    if connection.conn_type != conn_type:
        raise ConnectionProblem(
            f"The connection {conn_id!r} has the type {connection.conn_type!r}, but {conn_type!r} is needed: "
            "change its type, or name another connection."
        )


def extra_of(connection: StoredConnection) -> dict[str, Any]:
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


def endpoint_of(connection: StoredConnection) -> str | None:
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


def classic_client(
    connection: StoredConnection,
    conn_id: str,
    *,
    caller: str = "",
    on_retry: Callable[[ClassicError], None] | None = None,
) -> ClassicClient:
    """Make a client of the Classic API. Touches no network.

    :param connection: a connection of the type ``ibm_classic``.
    :param conn_id: its id, for messages.
    :param caller: which part of Sealift calls; see :class:`sealift.classic.client.ClassicClient`.
    :param on_retry: told of each failure after which a call is tried again.
    :returns: the client.
    :raises ConnectionProblem: a field is missing or cannot be used.
    """
    from sealift.classic.client import ClassicClient

    if not connection.login or not connection.password:
        raise ConnectionProblem(
            f"The connection {conn_id!r} needs a user name (login) and an API key (password); with an IBM Cloud "
            "API key the user name is the word apikey."
        )
    extra = extra_of(connection)
    known: dict[str, Any] = {
        "transport": choice(extra, "transport", ("xmlrpc", "rest"), conn_id),
        "network": choice(extra, "network", ("public", "private"), conn_id),
    }
    try:
        return ClassicClient(
            username=connection.login,
            api_key=connection.password,
            endpoint_url=endpoint_of(connection),
            timeout=number(extra, "timeout", 60.0, conn_id),
            requests_per_second=number(extra, "requests_per_second", 20.0, conn_id),
            verify=verify_of(extra, conn_id),
            caller=caller,
            on_retry=on_retry,
            **known,
        )
    except ValueError as error:
        raise ConnectionProblem(f"The connection {conn_id!r} cannot be used: {error}") from None


def region_of(connection: StoredConnection) -> str:
    """Give the region that a connection names.

    :param connection: a connection of the type ``ibm_cos``.
    :returns: its region; ``us-south`` where it names none.
    """
    return str(extra_of(connection).get("region", "us-south"))


def cos_client(
    connection: StoredConnection,
    conn_id: str,
    *,
    region: str | None = None,
    export_key: str | None = None,
    on_retry: Callable[[CosError], None] | None = None,
) -> CosClient:
    """Make a client of the object store. Touches no network.

    :param connection: a connection of the type ``ibm_cos``.
    :param conn_id: its id, for messages.
    :param region: the region to work in, where it is another than the connection's.
    :param export_key: an API key to use instead of the connection's own.
    :param on_retry: told of each failure after which a call is tried again.
    :returns: the client.
    :raises ConnectionProblem: a field is missing or cannot be used.
    """
    from sealift.cos.client import CosClient
    from sealift.cos.errors import CosRegionError

    extra = extra_of(connection)
    hmac = {name: extra.get(name) for name in ("access_key_id", "secret_access_key")}
    if any(hmac.values()) and not all(hmac.values()):
        raise ConnectionProblem(f"The connection {conn_id!r} has half an HMAC pair: both of its keys are needed.")
    if not connection.password and not all(hmac.values()):
        raise ConnectionProblem(
            f"The connection {conn_id!r} holds no key: give an IBM Cloud API key (password), or an HMAC pair "
            "(access_key_id and secret_access_key)."
        )
    optional: dict[str, Any] = {}
    if "iam_endpoint" in extra:
        optional["iam_endpoint"] = str(extra["iam_endpoint"])
    if export_key is not None:
        optional["api_key"] = export_key
    elif all(hmac.values()):
        optional |= hmac
    else:
        optional["api_key"] = connection.password
    try:
        return CosClient(
            region=region or region_of(connection),
            endpoint_url=endpoint_of(connection),
            endpoint_kind=cast("Any", choice(extra, "endpoint_kind", ("public", "private", "direct"), conn_id)),
            service_instance_id=extra.get("service_instance_id"),
            timeout=number(extra, "timeout", 60.0, conn_id),
            verify=verify_of(extra, conn_id),
            on_retry=on_retry,
            **optional,
        )
    except (ValueError, CosRegionError) as error:
        raise ConnectionProblem(f"The connection {conn_id!r} cannot be used: {error}") from None
