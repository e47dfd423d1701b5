"""The options by which commands find a bucket, and the client that they get for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sealift.connections import COS_DEFAULT, COS_TYPE, ConnectionProblem, cos_client, extra_of

if TYPE_CHECKING:
    from sealift.cli.connections import Connections, ReadConnection
    from sealift.cos.client import CosClient

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--bucket", help="The bucket. Not given: the one that the connection to the object store names."),
    click.option("--prefix", default="sealift", show_default=True, help="What all keys begin with; may be empty."),
    click.option("--region", help="The bucket's region. Not given: the one that the connection names."),
    click.option(
        "--connections",
        "file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Connections as `airflow connections export` writes them: JSON, or lines of id=connection.",
    ),
    click.option("--cos-conn-id", default=COS_DEFAULT, show_default=True, help="Connection of type ibm_cos."),
)


def bucket_options(command: F) -> F:
    """Give a command the options ``bucket``, ``prefix``, ``region``, ``file`` and ``cos_conn_id``.

    :param command: the command's function.
    :returns: the function, with these options.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class OpenBucket:
    """A bucket, and a client that reaches it.

    :param cos: the client.
    :param bucket: the bucket.
    :param stored: the connection that they come from.
    """

    cos: CosClient
    bucket: str
    stored: ReadConnection


def open_bucket(connections: Connections, *, cos_conn_id: str, bucket: str | None, region: str | None) -> OpenBucket:
    """Make a client for the bucket that somebody named, or that the connection names.

    :param connections: where connections are found.
    :param cos_conn_id: the connection.
    :param bucket: the bucket; None for the connection's.
    :param region: its region; None for the connection's.
    :returns: bucket and client. Nothing has been asked yet.
    :raises ConnectionProblem: there is no such connection, it cannot be used, or no bucket is named.
    """
    stored = connections.find(cos_conn_id, COS_TYPE)
    cos = cos_client(stored, cos_conn_id, region=region)
    bucket = bucket or str(extra_of(stored).get("bucket") or "")
    if not bucket:
        raise ConnectionProblem(
            f"No bucket is named: give --bucket, or put one into the connection {cos_conn_id!r} (field bucket)."
        )
    return OpenBucket(cos=cos, bucket=bucket, stored=stored)
