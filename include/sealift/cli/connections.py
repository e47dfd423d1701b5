"""Connections in Airflow's own forms, read without Airflow: from the environment, or from a file that Airflow exported.

Nothing secret comes from the command line: an argument can be read by everybody on the machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from sealift.connections import ConnectionProblem, check_type

_COMMENT = re.compile(r"\s*#")


@dataclass(frozen=True, kw_only=True)
class ReadConnection:
    """A connection as Airflow keeps it, with the fields that Sealift reads."""

    conn_type: str | None
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra_dejson: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of_text(cls, text: str, *, where: str) -> Self:
        """Read a connection in Airflow's JSON form or in its URI form.

        :param text: the connection, as it stands in a variable of the environment.
        :param where: where it stands, for messages, which never hold any of the text.
        :returns: the connection.
        :raises ConnectionProblem: it is neither.
        """
        if text.lstrip().startswith("{"):
            try:
                document = json.loads(text)
            except ValueError:
                raise ConnectionProblem(f"{where} begins like JSON and cannot be read as such.") from None
            return cls.of_fields(document, where=where)
        return cls.of_uri(text.strip(), where=where)

    @classmethod
    def of_fields(cls, fields: Any, *, where: str) -> Self:
        """Read a connection from its fields.

        :param fields: as in Airflow's JSON form: ``conn_type``, ``host`` …; ``extra`` an object, or the text of one.
        :param where: where they stand, for messages.
        :returns: the connection.
        :raises ConnectionProblem: they are not such fields.
        """
        if not isinstance(fields, Mapping):
            raise ConnectionProblem(f"{where} is no connection: it must be an object with conn_type, host and so on.")
        extra = fields.get("extra") or fields.get("extra_dejson") or {}
        if isinstance(extra, str):
            try:
                extra = json.loads(extra)
            except ValueError:
                extra = None
        if not isinstance(extra, dict):
            raise ConnectionProblem(f"The extra of {where} must be an object, or the text of one.")
        try:
            port = int(fields["port"]) if fields.get("port") else None
        except (TypeError, ValueError):
            raise ConnectionProblem(f"The port of {where} must be a number.") from None
        return cls(
            conn_type=_conn_type(fields.get("conn_type")),
            port=port,
            extra_dejson=extra,
            **{name: _text(fields.get(name)) for name in ("host", "login", "password")},
        )

    @classmethod
    def of_uri(cls, uri: str, *, where: str) -> Self:
        """Read a connection from Airflow's URI form: ``ibm-cos://:key@host?region=us-south``.

        A host with a protocol of its own is written with a second ``://``, as Airflow does.

        :param uri: the URI, each part of it percent-encoded.
        :param where: where it stands, for messages.
        :returns: the connection.
        :raises ConnectionProblem: it is none.
        """
        kind, found, rest = uri.partition("://")
        protocol, inner, behind = rest.partition("://")
        if not found or "://" in behind or (inner and ("@" in protocol or ":" in protocol)):
            raise ConnectionProblem(f"{where} is neither JSON nor a URI as Airflow writes it.")
        try:
            parts = urlsplit(f"//{behind if inner else rest}")
            port = parts.port
        except ValueError:
            raise ConnectionProblem(f"The host or port of {where} cannot be read.") from None
        host = unquote(parts.hostname or "")
        if "/" in host:  # a percent-encoded path, which urlsplit has put into lower case
            host = unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        fields = {
            "conn_type": kind,
            "host": f"{protocol}://{host}" if inner and host else host,
            "port": port,
            "login": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "extra": query.get("__extra__", query),
        }
        return cls.of_fields(fields, where=where)


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Where the command line finds connections.

    :param file: connections by id, from a file; None where none is given: then the environment has them.
    :param path: the file, for messages.
    :param environment: the environment's variables.
    """

    file: Mapping[str, Any] | None = None
    path: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def find(self, conn_id: str, conn_type: str) -> ReadConnection:
        """Find a connection.

        :param conn_id: its id.
        :param conn_type: the type that it must have.
        :returns: the connection.
        :raises ConnectionProblem: there is none, it cannot be read, or it has another type.
        """
        if self.file is not None:
            where = f"The connection {conn_id!r} in {self.path}"
            value = self.file.get(conn_id)
            if value is None:
                raise ConnectionProblem(
                    f"There is no connection {conn_id!r} in {self.path}. It holds: {', '.join(sorted(self.file))}."
                )
        else:
            name = f"AIRFLOW_CONN_{conn_id.upper()}"
            where = f"The variable {name}"
            value = self.environment.get(name)
            if not value:
                raise ConnectionProblem(
                    f"There is no connection {conn_id!r}. Put it into the variable {name}, in Airflow's JSON or URI "
                    "form, or name a file with --connections, as `airflow connections export` writes it."
                )
        if isinstance(value, str):
            connection = ReadConnection.of_text(value, where=where)
        else:
            connection = ReadConnection.of_fields(value, where=where)
        check_type(connection, conn_id, conn_type)
        return connection


def read_file(path: Path) -> Connections:
    """Read a file of connections as ``airflow connections export`` writes it: JSON, or lines of ``id=connection``.

    The form is told by how the text begins, so that it may come from a pipe.

    :param path: the file.
    :returns: its connections.
    :raises ConnectionProblem: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConnectionProblem(f"{path} cannot be read: {reason}.") from None
    document = _json(text) if text.lstrip().startswith("{") else _lines(text)
    if not isinstance(document, dict) or not document:
        raise ConnectionProblem(
            f"{path} holds no connections: it must be a file as `airflow connections export` writes it, in JSON "
            "(--file-format json) or lines of id=connection (--file-format env)."
        )
    return Connections(file=document, path=path)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # says the text, which holds secrets, nowhere
        return None


def _lines(text: str) -> dict[str, str] | None:
    found = {}
    for line in text.splitlines():
        if not line.strip() or _COMMENT.match(line):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip() or not value.strip():
            return None
        found[name.strip()] = value.strip()
    return found


def _conn_type(value: Any) -> str | None:
    return str(value).replace("-", "_") if value else None


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)
