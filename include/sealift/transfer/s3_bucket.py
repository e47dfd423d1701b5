"""A bucket of anything that speaks S3, by a client of boto3: errors in words, and objects as sources of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sealift.transfer.errors import TransferError

T = TypeVar("T")


class S3Bucket:
    """A bucket that anything of S3 serves, with its errors in words.

    :param client: a client of boto3, as Airflow's ``S3Hook`` gives it. The caller closes it.
    :param bucket: the bucket.
    """

    def __init__(self, *, client: Any, bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def call(self, operation: str, *, key: str, **params: Any) -> dict[str, Any]:
        """Make a call for an object.

        :param operation: the SDK's name of it.
        :param key: the object.
        :param params: as the SDK takes them.
        :returns: the SDK's reply.
        :raises TransferError: it failed, in the store's words. Retries are the SDK's.
        """
        return self.guarded(lambda: getattr(self._client, operation)(Bucket=self.bucket, Key=key, **params), key=key)

    def guarded(self, action: Callable[[], T], *, key: str) -> T:
        """Do something with the SDK.

        :param action: what to do.
        :param key: the object that it is for.
        :returns: what the action returns.
        :raises TransferError: it failed.
        """
        import botocore.exceptions as sdk

        try:
            return action()
        except sdk.ClientError as error:
            told = error.response.get("Error", {})
            words = f"{told.get('Message') or 'no words'} [{told.get('Code')}]"
        except (sdk.BotoCoreError, OSError) as error:
            words = f"{type(error).__name__}: {error}"
        raise TransferError(f"s3://{self.bucket}/{key} failed: {words}. The same command goes on where it stopped.")

    def head(self, key: str) -> dict[str, Any] | None:
        """Say what the store tells of an object.

        :param key: the object.
        :returns: the reply to a HEAD with checksums, or None where there is no object.
        :raises TransferError: it cannot be asked.
        """
        import botocore.exceptions as sdk

        def ask() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = self._client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
            except sdk.ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                    return None
                raise
            return found

        return self.guarded(ask, key=key)

    def read(self, key: str) -> bytes | None:
        """Read a small object.

        :param key: the object.
        :returns: all its bytes, or None where there is none.
        :raises TransferError: it cannot be read.
        """
        if self.head(key) is None:
            return None
        body = self.call("get_object", key=key)["Body"]
        return self.guarded(lambda: bytes(body.read()), key=key)

    def uploads(self, key: str) -> list[str]:
        """List the unfinished uploads of an object, the newest first.

        :param key: the object.
        :returns: upload ids.
        """
        found = [one for one in self._uploads(key) if one["Key"] == key]
        return [str(one["UploadId"]) for one in sorted(found, key=lambda one: one["Initiated"], reverse=True)]

    def uploads_below(self, prefix: str) -> list[tuple[str, str]]:
        """List the unfinished uploads of objects whose keys begin so.

        :param prefix: the beginning of their keys.
        :returns: of each, the key and the upload's id.
        """
        return [(str(one["Key"]), str(one["UploadId"])) for one in self._uploads(prefix)]

    def _uploads(self, prefix: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads")
        return self.guarded(
            lambda: [
                one for page in pages.paginate(Bucket=self.bucket, Prefix=prefix) for one in page.get("Uploads") or []
            ],
            key=prefix,
        )

    def keys_below(self, prefix: str) -> list[str]:
        """List the objects whose keys begin so.

        :param prefix: the beginning of their keys.
        :returns: their keys.
        """
        pages = self._client.get_paginator("list_objects_v2")
        return self.guarded(
            lambda: [
                str(one["Key"])
                for page in pages.paginate(Bucket=self.bucket, Prefix=prefix)
                for one in page.get("Contents") or []
            ],
            key=prefix,
        )

    def parts(self, key: str, upload_id: str) -> list[dict[str, Any]]:
        """List the parts of an unfinished upload.

        :param key: the object.
        :param upload_id: the upload.
        :returns: as the SDK gives them.
        """
        pages = self._client.get_paginator("list_parts")
        return self.guarded(
            lambda: [
                one
                for page in pages.paginate(Bucket=self.bucket, Key=key, UploadId=upload_id)
                for one in page.get("Parts") or []
            ],
            key=key,
        )


class S3Source:
    """An object in an S3 bucket that is read by ranges, for a proof.

    :param place: the bucket.
    :param key: the object.
    :param size: its size in bytes.
    :param etag: the ETag that it must have.
    """

    def __init__(self, *, place: S3Bucket, key: str, size: int, etag: str) -> None:
        self.size = size
        self._place = place
        self._key = key
        self._etag = etag

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        :raises TransferError: the object does not have them, or was replaced.
        """
        if length == 0:
            return b""
        span = f"bytes={offset}-{offset + length - 1}"
        reply = self._place.call("get_object", key=self._key, Range=span, IfMatch=f'"{self._etag}"')
        data = self._place.guarded(lambda: bytes(reply["Body"].read()), key=self._key)
        if len(data) != length:
            raise TransferError(
                f"s3://{self._place.bucket}/{self._key} gave {len(data)} bytes at {offset}, where {length} were due."
            )
        return data


def unquoted(etag: str) -> str:
    """Give an ETag without its quotes, as it is compared.

    :param etag: as a header has it.
    """
    return etag.removeprefix("W/").strip('"')
