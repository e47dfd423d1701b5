"""The hook of the connection type ``ibm_classic``: makes Classic API clients from a connection."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from sealift.connections import CLASSIC_DEFAULT, CLASSIC_TYPE, classic_client
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.connections import aread_connection, read_connection
from sealift.provider.metrics import count_classic_retry

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from sealift.classic.client import ClassicClient


class ClassicHook(BaseHook):
    """Calls the IBM Cloud Classic (SoftLayer) API.

    :param classic_conn_id: connection of the type ``ibm_classic``: login is the user name (or the word ``apikey``),
        password the key, host the endpoint (empty: IBM's own).
    """

    conn_name_attr = "classic_conn_id"
    default_conn_name = CLASSIC_DEFAULT
    conn_type = CLASSIC_TYPE
    hook_name = "IBM Cloud Classic (SoftLayer API)"

    def __init__(self, classic_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.classic_conn_id = classic_conn_id

    @cached_property
    def client(self) -> ClassicClient:
        """The client, for tasks.

        :raises ConnectionProblem: if the connection is missing or wrong.
        """
        return self._client_from(read_connection(self.classic_conn_id, self.conn_type))

    async def aclient(self, *, caller: str = "") -> ClassicClient:
        """Make a client in the triggerer.

        :param caller: which part of Sealift calls; see :class:`sealift.classic.client.ClassicClient`.
        :returns: a new client; its calls block, so they belong into threads.
        :raises ConnectionProblem: if the connection is missing or wrong.
        """
        return self._client_from(await aread_connection(self.classic_conn_id, self.conn_type), caller=caller)

    def get_conn(self) -> ClassicClient:
        """Give the client, under the name that Airflow's hooks use."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Ask the API for the account's id.

        :returns: whether it answered, and what to tell the person who pressed Test.
        """
        from sealift.classic.errors import ClassicError

        try:
            account = self.client.account_id()
        except (ClassicError, ConnectionProblem) as error:
            return False, str(error)
        return True, f"The Classic API answers for account {account}."

    def _client_from(self, connection: Connection, *, caller: str = "") -> ClassicClient:
        return classic_client(connection, self.classic_conn_id, caller=caller, on_retry=count_classic_retry)
