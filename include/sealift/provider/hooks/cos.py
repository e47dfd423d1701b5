"""The hook of the connection type ``ibm_cos``: object store clients, and the key that exports write with."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from sealift.connections import COS_DEFAULT, COS_TYPE, cos_client, extra_of, region_of
from sealift.provider.errors import ConnectionProblem
from sealift.provider.hooks.connections import aread_connection, read_connection
from sealift.provider.links import object_url
from sealift.provider.metrics import count_cos_retry

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from sealift.cos.client import CosClient


class CosHook(BaseHook):
    """Reads and writes IBM Cloud Object Storage.

    :param cos_conn_id: connection of the type ``ibm_cos``: password is an IAM API key, or the extra fields hold an HMAC
        pair; host is the endpoint (empty: the region's).
    :param region: region to work in, where it is another than the connection's.
    """

    conn_name_attr = "cos_conn_id"
    default_conn_name = COS_DEFAULT
    conn_type = COS_TYPE
    hook_name = "IBM Cloud Object Storage"

    def __init__(self, cos_conn_id: str = default_conn_name, *, region: str | None = None) -> None:
        super().__init__()
        self.cos_conn_id = cos_conn_id
        self._region = region

    @cached_property
    def _connection(self) -> Connection:
        return read_connection(self.cos_conn_id, self.conn_type)

    @cached_property
    def client(self) -> CosClient:
        """The client, for tasks.

        :raises ConnectionProblem: if the connection is missing or wrong.
        """
        return self._client_from(self._connection)

    async def aclient(self) -> CosClient:
        """Make a client in the triggerer.

        :returns: a new client; its calls block, so they belong into threads.
        :raises ConnectionProblem: if the connection is missing or wrong.
        """
        return self._client_from(await aread_connection(self.cos_conn_id, self.conn_type))

    async def aloaded(self) -> CosHook:
        """Read the connection in the triggerer, so that nothing else of this hook has to.

        :returns: this hook. Its client's calls block, so they belong into threads.
        :raises ConnectionProblem: if the connection is missing or wrong.
        """
        self.__dict__["_connection"] = await aread_connection(self.cos_conn_id, self.conn_type)
        return self

    @property
    def region(self) -> str:
        """The region asked for, else the connection's; ``us-south`` where it names none."""
        return self._region_of(self._connection)

    @property
    def default_bucket(self) -> str | None:
        """The bucket that the connection names, if any."""
        bucket = extra_of(self._connection).get("bucket")
        return None if bucket is None else str(bucket)

    def bucket_or_default(self, named: Any) -> Any:
        """Give the bucket that a run names, or else the connection's.

        :param named: the bucket, as the run's parameter has it; empty for the connection's.
        :returns: the bucket.
        :raises SettingsError: neither names one.
        """
        from sealift.exports.errors import SettingsError

        bucket = named or self.default_bucket
        if not bucket:
            raise SettingsError(
                "No bucket is named. Give one when you trigger the run, or put one into the connection "
                f"{self.cos_conn_id!r} (field bucket)."
            )
        return bucket

    @property
    def service_instance_id(self) -> str | None:
        """CRN of the Cloud Object Storage instance, if the connection names it."""
        crn = extra_of(self._connection).get("service_instance_id")
        return None if crn is None else str(crn)

    def url_of(self, bucket: str, key: str) -> str:
        """Give the page of an object, for a button on a task.

        :param bucket: the bucket.
        :param key: the object's key.
        :returns: its bucket's page in the console where the service instance is known, else its own address.
        """
        return object_url(
            bucket=bucket,
            key=key,
            region=self.region,
            endpoint=self.client.endpoint_url,
            service_instance_id=self.service_instance_id,
        )

    @property
    def export_api_key(self) -> str:
        """The key that goes to the Classic API with an export, so that it can write the images.

        :raises ConnectionProblem: if the connection has neither an export key nor an API key: whether the Classic API
            takes HMAC keys for an export is not confirmed by any source.
        """
        key = extra_of(self._connection).get("export_api_key") or self._connection.password
        if not key:
            raise ConnectionProblem(
                f"The connection {self.cos_conn_id!r} holds no IBM Cloud API key. The Classic API writes the images "
                "itself and needs one: put it into the password, or into the field export_api_key."
            )
        return str(key)

    def check_export_key(self, *, bucket: str, prefix: str) -> None:
        """Make sure that the Classic API can write with the key it will be handed, before anything is captured.

        The preflight tries the client's own key; this tries the export's, where it is another. What it begins is ended
        by the client, as the export's key need not have any right but to write.

        :param bucket: the bucket.
        :param prefix: what the keys of the exports begin with.
        :raises ConnectionProblem: if there is no such key, or it is refused, or may not write to the bucket.
        """
        from sealift.cos.errors import CosAuthError, CosPermissionError

        key = self.export_api_key
        extra = extra_of(self._connection)
        if key == self._connection.password and "access_key_id" not in extra:
            return
        writer = self._client_from(self._connection, export_key=key)
        try:
            writer.check_write(bucket, prefix, clean_up=self.client)
        except (CosAuthError, CosPermissionError) as error:
            field = "export_api_key" if "export_api_key" in extra else "password"
            raise ConnectionProblem(
                f"The connection {self.cos_conn_id!r} holds, in the field {field}, the key that the Classic API writes "
                f"the images with, and this key cannot write to the bucket {bucket!r}: {error}. Correct the key, or "
                "give its service ID the role Writer or Object Writer on the bucket."
            ) from error
        finally:
            writer.close()

    def get_conn(self) -> CosClient:
        """Give the client, under the name that Airflow's hooks use."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Ask the store something that this key should be able to see.

        :returns: whether it answered, and what to tell the person who pressed Test.
        """
        from sealift.cos.errors import CosError

        try:
            bucket = self.default_bucket
            if bucket is None:
                count = len(self.client.bucket_names())
                return True, f"The key is good; it sees {count} bucket{'' if count == 1 else 's'}."
            self.client.preflight(bucket=bucket, region=self.region)
        except (CosError, ConnectionProblem) as error:
            return False, str(error)
        return True, f"The key may write to the bucket {bucket!r} in {self.region}."

    def _region_of(self, connection: Connection) -> str:
        return self._region or region_of(connection)

    def _client_from(self, connection: Connection, *, export_key: str | None = None) -> CosClient:
        return cos_client(
            connection, self.cos_conn_id, region=self._region, export_key=export_key, on_retry=count_cos_retry
        )
