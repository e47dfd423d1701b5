"""The object store as Sealift uses it: ibm-cos-sdk inside, typed answers, conditional puts, a preflight in plain words.

The SDK is imported at the first call only, so that importing this module stays cheap. One client may be used by many
threads at once.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sealift.cos.connection import Connection
from sealift.cos.errors import (
    CosAuthError,
    CosConflictError,
    CosError,
    CosNotFoundError,
    CosPermissionError,
    CosPreconditionError,
    CosRegionError,
    CosTransientError,
)
from sealift.cos.iam import DEFAULT_ENDPOINT, IamTokens
from sealift.cos.models import MultipartUpload, ObjectInfo, PutOutcome, unquoted
from sealift.cos.multipart import Multipart
from sealift.cos.objects import Objects
from sealift.cos.redact import Redactor
from sealift.cos.regions import (
    EndpointKind,
    check_region,
    endpoint_for,
    location_constraint_for,
    region_of_location_constraint,
)
from sealift.cos.removing import Removing
from sealift.cos.retrying import Retries
from sealift.cos.streams import RangeStream
from sealift.cos.verdict import Doing

if TYPE_CHECKING:
    from pydantic import SecretStr

    from sealift.cos.fasp import FaspConnection


class CosClient:
    """A client of one Cloud Object Storage endpoint. Making one touches no network.

    Either an IAM API key or an HMAC pair is given.

    :param region: as ``us-south``; names the endpoint, unless one is given.
    :param endpoint_url: the endpoint, where it is not the region's own.
    :param endpoint_kind: ``public``, ``private`` or ``direct``.
    :param api_key: an IBM Cloud API key.
    :param service_instance_id: the CRN of the service instance; needed to create a bucket, and to say where one is.
    :param iam_endpoint: where tokens come from.
    :param access_key_id: the HMAC key's id.
    :param secret_access_key: the HMAC key's secret.
    :param timeout: seconds to wait for the connection, and then for each piece of a reply.
    :param max_attempts: how often a call that may be repeated is tried in all.
    :param verify: False, True, or the path of a CA bundle.
    :param sleep: waits for seconds, between tries.
    :param rng: where the jitter between tries comes from.
    :param on_retry: told of each failure after which a call is tried again.
    :raises CosAuthError: where no key, half a key or both kinds are given.
    :raises CosRegionError: where the region can be none.
    :raises ValueError: where another setting cannot be right.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str | None = None,
        endpoint_kind: EndpointKind = "public",
        api_key: str | None = None,
        service_instance_id: str | None = None,
        iam_endpoint: str = DEFAULT_ENDPOINT,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        timeout: float = 60.0,
        max_attempts: int = 5,
        verify: bool | str = True,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        on_retry: Callable[[CosError], None] | None = None,
    ) -> None:
        if bool(access_key_id) != bool(secret_access_key):
            raise CosAuthError("an HMAC key needs both its access key id and its secret")
        if bool(api_key) == bool(access_key_id):
            raise CosAuthError("give either an IBM Cloud API key or an HMAC key for the object store")
        if timeout <= 0 or max_attempts < 1:
            raise ValueError("timeout must be above 0 and max_attempts at least 1")
        if endpoint_url:
            endpoint_url = endpoint_url if "://" in endpoint_url else f"https://{endpoint_url}"
            parts = urlsplit(endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
                raise ValueError(f"the object store's endpoint must be a plain URL like {endpoint_for('us-south')}")
        self.region = region
        self.endpoint_url = endpoint_url or endpoint_for(region, endpoint_kind)
        jitter = rng or random.Random()  # noqa: S311 - no secret
        self._retries = Retries(max_attempts=max_attempts, sleep=sleep, rng=jitter, on_retry=on_retry)
        tokens: IamTokens | None = None
        if api_key:
            tokens = IamTokens(
                endpoint=iam_endpoint, api_key=api_key, timeout=timeout, verify=verify, retries=self._retries
            )
        self._tokens, self._verify = tokens, verify
        # Given with each call that needs it; the SDK would add it to two of the three only.
        self._instance = {"IBMServiceInstanceId": service_instance_id} if service_instance_id else {}
        self._connection = Connection(
            region=region,
            endpoint_url=self.endpoint_url,
            tokens=tokens,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            timeout=timeout,
            verify=verify,
            redact=Redactor([api_key, secret_access_key]),
        )
        self._objects = Objects(connection=self._connection)

    def __repr__(self) -> str:
        return f"CosClient({self.endpoint_url}, {self._connection.key_kind} key)"

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._connection.close()

    # --- buckets ---------------------------------------------------------------------------------------------------

    def bucket_names(self) -> builtins.list[str]:
        """The buckets that the key sees; with an IAM key, those of the client's service instance.

        :returns: the names.
        :raises CosAuthError: where the key is refused.
        :raises CosPermissionError: where the key may not list buckets.
        """
        reply = self._call("list_buckets", what="list the buckets", **self._instance)
        return [str(one["Name"]) for one in reply.get("Buckets") or []]

    def bucket_region(self, bucket: str) -> str:
        """The region that a bucket is in, by its location constraint.

        :param bucket: the bucket.
        :returns: as ``us-south``; empty where the store gives the bucket no constraint.
        :raises CosNotFoundError: where there is no such bucket at this endpoint.
        """
        reply = self._call("get_bucket_location", what=f"tell where bucket {bucket} is", bucket=bucket)
        return region_of_location_constraint(reply.get("LocationConstraint") or "")

    def preflight(self, *, bucket: str, region: str, prefix: str = "", create: bool = False) -> None:
        """Make sure that an export to a bucket can work, before anything is captured. Leaves nothing behind.

        :param bucket: the bucket.
        :param region: the region that the export names; it must be the bucket's.
        :param prefix: where in the bucket the key must be able to list and write.
        :param create: whether to create the bucket where there is none.
        :raises CosRegionError: where the bucket is in another region, saying which.
        :raises CosNotFoundError: where there is no such bucket, and it was not to be created.
        :raises CosAuthError: where the key is refused.
        :raises CosPermissionError: where the key may not read, list or write.
        :raises CosUnreachableError: where the endpoint or IAM does not answer.
        """
        check_region(region)
        try:
            found: str | None = self.bucket_region(bucket)
        except CosNotFoundError:
            found = None
        if found is None:
            found = self._region_elsewhere(bucket)
            if found == region:
                raise CosRegionError(
                    f"bucket {bucket!r} is in {region}, but the connection leads to {self.endpoint_url}, which does "
                    f"not know it: set the connection's region (or its endpoint) to {region}",
                    bucket=bucket,
                )
            if found is None and create:
                self._create_bucket(bucket, region=region)
                found = region
            if found is None:
                raise CosNotFoundError(
                    f"there is no bucket {bucket!r} in {region} (asked {self.endpoint_url}): correct its name or its "
                    "region, create it there, or allow Sealift to create it",
                    code="NoSuchBucket",
                    bucket=bucket,
                )
        if found and found != region:
            raise CosRegionError(
                f"bucket {bucket!r} is in {found}, but the export names {region}: name {found}, or take a bucket in "
                f"{region}",
                bucket=bucket,
            )
        self._call("list_objects_v2", what=f"list bucket {bucket}", bucket=bucket, Prefix=prefix, MaxKeys=1)
        self.check_write(bucket, prefix)

    def _region_elsewhere(self, bucket: str) -> str | None:
        """The region of a bucket that this endpoint does not know, by the list of all the instance's buckets."""
        with contextlib.suppress(CosError):  # the answer only makes a message better; the key may well not have it
            what = "list the instance's buckets"
            reply = self._call("list_buckets_extended", what=what, Prefix=bucket, **self._instance)
            for one in reply.get("Buckets") or []:
                if one.get("Name") == bucket:
                    return region_of_location_constraint(one.get("LocationConstraint") or "") or None
        return None

    def _create_bucket(self, bucket: str, *, region: str) -> None:
        constraint = location_constraint_for(region)
        why: str
        try:
            self._call(
                "create_bucket",
                what=f"create bucket {bucket} in {region}",
                bucket=bucket,
                CreateBucketConfiguration={"LocationConstraint": constraint},
                **self._instance,
            )
            return
        except CosConflictError as error:
            if error.code == "BucketAlreadyOwnedByYou":  # an earlier try whose reply was lost, or another process
                return
            why = str(error)
        raise CosConflictError(
            f"bucket {bucket!r} cannot be created, as the name is taken by somebody else (bucket names are unique in "
            f"all of IBM Cloud): choose another name ({why})",
            code="BucketAlreadyExists",
            bucket=bucket,
        )

    def check_write(self, bucket: str, prefix: str = "", *, clean_up: CosClient | None = None) -> None:
        """Begin a multipart upload and abort it: the one write that leaves nothing behind.

        :param bucket: the bucket.
        :param prefix: where in the bucket the key must be able to write.
        :param clean_up: the client that aborts, where this one's key may have no right to; this one if not given.
        :raises CosAuthError: where the key is refused.
        :raises CosPermissionError: where the key may not write.
        :raises CosError: where what was begun could not be aborted, naming it.
        """
        cleaner = clean_up or self
        folder = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        key = f"{folder}.sealift-preflight-{uuid.uuid4().hex}"
        what = f"write to bucket {bucket}"
        try:
            # Once only: were it repeated after a lost reply, an upload nobody knows of would stay.
            reply = self._once("create_multipart_upload", Doing(what=what, **self._about(bucket, key)), Key=key)
        except CosPermissionError:
            pass
        except CosTransientError:
            with contextlib.suppress(CosError):  # the lost reply is what the caller must hear of
                for left in cleaner.list_multipart_uploads(bucket, key):
                    cleaner._abort(bucket, left)
            raise
        else:
            cleaner._abort(bucket, MultipartUpload(key=key, upload_id=str(reply["UploadId"])))
            return
        raise CosPermissionError(
            f"the key may not write to bucket {bucket!r}: give its service ID the role Writer on this bucket",
            code="AccessDenied",
            bucket=bucket,
        )

    def _abort(self, bucket: str, upload: MultipartUpload) -> None:
        failure: CosError
        try:
            self._call(
                "abort_multipart_upload",
                what=f"abort an upload in bucket {bucket}",
                bucket=bucket,
                key=upload.key,
                UploadId=upload.upload_id,
            )
            return
        except CosNotFoundError:  # aborted by an earlier try whose reply was lost
            return
        except CosError as error:
            failure = error
        raise type(failure)(
            f"{failure.message}; the empty upload {upload.upload_id} of {upload.key}, which only tried whether the key "
            "may write, stays in the bucket: abort it, or let a lifecycle rule do so",
            code=failure.code,
            bucket=bucket,
            key=upload.key,
        )

    # --- reading ---------------------------------------------------------------------------------------------------

    def head(self, bucket: str, key: str, *, with_part_size: bool = False) -> ObjectInfo | None:
        """What the store says of an object, or None where there is none (or no such bucket: a HEAD cannot tell).

        :param bucket: the bucket.
        :param key: the object.
        :param with_part_size: ask for the size of the first part as well, with a second request where the object came
            in more than one.
        :returns: size in bytes, ETag, time and, where the store keeps one, checksum; None where there is no object.
        :raises CosPermissionError: where the key may not look at it.
        """
        doing = Doing(what=f"look at object {key} in bucket {bucket}", **self._about(bucket, key))
        try:
            reply = self._retries.run(lambda: self._objects.look(doing))
        except CosNotFoundError:
            return None
        info = ObjectInfo(
            key=key,
            size=reply["ContentLength"],
            etag=unquoted(reply["ETag"]),
            last_modified=reply["LastModified"].astimezone(UTC),
            crc64nvme=reply.get("ChecksumCRC64NVME"),
            version_id=reply.get("VersionId"),
        )
        if not with_part_size or info.parts is None:
            return info
        if info.parts == 1:
            return replace(info, part_size=info.size)
        part = self._retries.run(lambda: self._objects.look(doing, first_part_of=info.etag))
        # A store that does not know part numbers answers with the whole object.
        size = part["ContentLength"] if part["ContentLength"] < info.size else None
        return replace(info, part_size=size)

    def list(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys begin so, in the order of their keys, page by page.

        :param bucket: the bucket.
        :param prefix: the beginning of the keys; empty for all.
        :returns: the objects, without checksums and part sizes, which only :meth:`head` tells.
        :raises CosNotFoundError: where there is no such bucket.
        :raises CosError: where the store's list breaks off.
        """
        extra: dict[str, Any] = {}
        while True:
            reply = self._call("list_objects_v2", what=f"list bucket {bucket}", bucket=bucket, Prefix=prefix, **extra)
            for one in reply.get("Contents") or []:
                yield ObjectInfo(
                    key=one["Key"],
                    size=one["Size"],
                    etag=unquoted(one["ETag"]),
                    last_modified=one["LastModified"].astimezone(UTC),
                )
            token = reply.get("NextContinuationToken")
            if not reply.get("IsTruncated"):
                return
            if not token or token == extra.get("ContinuationToken"):
                raise CosError(f"the list of bucket {bucket} does not go on where it says so", bucket=bucket)
            extra = {"ContinuationToken": token}

    def list_multipart_uploads(self, bucket: str, prefix: str) -> builtins.list[MultipartUpload]:
        """The uploads begun and neither completed nor aborted, whose keys begin so.

        :param bucket: the bucket.
        :param prefix: the beginning of the keys; empty for all.
        :returns: the uploads. A listing of objects does not show them.
        """
        found: builtins.list[MultipartUpload] = []
        extra: dict[str, Any] = {}
        while True:
            what = f"list the uploads in bucket {bucket}"
            reply = self._call("list_multipart_uploads", what=what, bucket=bucket, Prefix=prefix, **extra)
            for one in reply.get("Uploads") or []:
                found.append(MultipartUpload(key=one["Key"], upload_id=one["UploadId"], initiated=one.get("Initiated")))
            following = {"KeyMarker": reply.get("NextKeyMarker"), "UploadIdMarker": reply.get("NextUploadIdMarker")}
            following = {name: value for name, value in following.items() if value}
            if not reply.get("IsTruncated") or not following or following == extra:
                return found
            extra = following

    def upload_size(self, bucket: str, upload: MultipartUpload) -> tuple[int, int]:
        """How much of an unfinished upload the store holds, and bills.

        :param bucket: the bucket.
        :param upload: the upload, from :meth:`list_multipart_uploads`.
        :returns: how many parts, and their bytes together.
        :raises CosNotFoundError: where the upload was completed or aborted meanwhile.
        :raises CosPermissionError: where the key may not look at its parts.
        """
        doing = {"what": f"list the parts of an upload in bucket {bucket}", "bucket": bucket, "key": upload.key}
        parts = size = marker = 0
        while True:
            reply = self._call("list_parts", **doing, UploadId=upload.upload_id, PartNumberMarker=marker)
            page = reply.get("Parts") or []
            parts += len(page)
            size += sum(one["Size"] for one in page)
            following = reply.get("NextPartNumberMarker") or 0
            if not reply.get("IsTruncated") or following <= marker:
                return parts, size
            marker = following

    def read(self, bucket: str, key: str) -> bytes | None:
        """A whole object, or None where there is none.

        :param bucket: the bucket.
        :param key: the object.
        :returns: all its bytes.
        :raises CosNotFoundError: where there is no such bucket.
        """
        try:
            return self._get(bucket, key)
        except CosNotFoundError as error:
            if error.code == "NoSuchBucket":
                raise
            return None

    def read_json(self, bucket: str, key: str) -> Any | None:
        """A whole object as JSON, or None where there is none. Parameters as for :meth:`read`.

        :returns: what the JSON holds.
        :raises CosError: where it is no JSON.
        """
        body = self.read(bucket, key)
        if body is None:
            return None
        with contextlib.suppress(ValueError):
            return json.loads(body)
        raise CosError(f"object {key} in bucket {bucket} is not JSON", bucket=bucket, key=key)

    def read_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str | None = None) -> bytes:
        """A part of an object, exactly as long as asked for.

        :param bucket: the bucket.
        :param key: the object.
        :param start: the first byte, from 0.
        :param length: how many bytes.
        :param if_match: the ETag that the object must still have, without quotes.
        :returns: ``length`` bytes.
        :raises CosPreconditionError: where the object has another ETag by now.
        :raises CosNotFoundError: where there is no such object.
        :raises CosError: where the object does not have all of these bytes.
        :raises ValueError: where start or length is negative.
        """
        if start < 0 or length < 0:
            raise ValueError(f"a range begins at 0 or later and is not negative: {start}, {length}")
        if length == 0:
            return b""

        doing = self._reading(bucket, key)
        return self._retries.run(lambda: self._objects.read(doing, start=start, length=length, if_match=if_match))

    def read_range_into(
        self, bucket: str, key: str, view: memoryview, *, start: int, if_match: str | None = None
    ) -> None:
        """A part of an object, into memory, which it fills. Otherwise as :meth:`read_range`.

        :param bucket: the bucket.
        :param key: the object.
        :param view: where the bytes go: as many as it is long.
        :param start: the first byte, from 0.
        :param if_match: the ETag that the object must still have, without quotes.
        :raises CosPreconditionError: where the object has another ETag by now.
        :raises CosNotFoundError: where there is no such object.
        :raises CosError: where the object does not have all of these bytes.
        :raises ValueError: where start is negative.
        """
        if start < 0:
            raise ValueError(f"a range begins at 0 or later: {start}")
        doing = self._reading(bucket, key)
        if view:
            self._retries.run(lambda: self._objects.read_into(doing, view, start=start, if_match=if_match))

    def open_range(self, bucket: str, key: str, *, start: int, length: int, if_match: str) -> RangeStream:
        """Begin to read a part of an object, piece by piece. Made once: a stream that breaks off is not taken up again.

        :param bucket: the bucket.
        :param key: the object.
        :param start: the first byte, from 0.
        :param length: how many bytes, at least one.
        :param if_match: the ETag that the object must still have, without quotes.
        :returns: the stream; close it, or use it in a ``with`` statement.
        :raises CosPreconditionError: where the object has another ETag by now.
        :raises CosNotFoundError: where there is no such object.
        :raises CosError: where the object does not have all of these bytes.
        :raises ValueError: where the range is empty or begins before the object.
        """
        if start < 0 or length < 1:
            raise ValueError(f"a range begins at 0 or later and holds a byte or more: {start}, {length}")
        return self._objects.open(self._reading(bucket, key), start=start, length=length, if_match=if_match)

    def _get(self, bucket: str, key: str) -> bytes:
        """Read a whole object, body and all, trying again where the body breaks off."""
        doing = self._reading(bucket, key)

        def whole() -> bytes:
            reply = self._once("get_object", doing, Key=key)
            with contextlib.closing(reply["Body"]) as body:
                data: bytes = self._connection.guarded(doing, body.read)
            return data

        return self._retries.run(whole)

    # --- writing ---------------------------------------------------------------------------------------------------

    def put(self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        """Write an object, whether or not there is one.

        :param bucket: the bucket.
        :param key: the object.
        :param body: all its bytes.
        :param content_type: the object's media type.
        :raises CosNotFoundError: where there is no such bucket.
        :raises CosPermissionError: where the key may not write.
        """
        what = f"write object {key} in bucket {bucket}"
        self._call("put_object", what=what, bucket=bucket, key=key, Body=body, ContentType=content_type)

    def put_if_absent(
        self, bucket: str, key: str, body: bytes, *, content_type: str = "application/json"
    ) -> PutOutcome:
        """Write an object only where there is none (``If-None-Match: *``). Parameters as for :meth:`put`.

        Where the reply is lost, what is there decides: an object with these bytes counts as created, since nobody could
        tell it from ours.

        :returns: what was found; never changes an object that exists.
        :raises CosTransientError: where the store failed on every attempt and the object is still absent.
        :raises CosConflictError: where other conditional puts of this key were under way on every attempt.
        """
        doing = Doing(what=f"write object {key} in bucket {bucket}", **self._about(bucket, key))
        replies_lost = 0
        failure = CosError(f"could not {doing.what}", bucket=bucket, key=key)
        for attempt in range(1, self._retries.max_attempts + 1):
            if attempt > 1:
                self._retries.again(failure)
                self._retries.sleep(self._retries.wait_before(attempt))
            try:
                self._once("put_object", doing, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
                return PutOutcome.CREATED
            except CosPreconditionError as error:
                failure = error
            except CosTransientError as error:
                failure = error
                replies_lost += 1
            except CosConflictError as error:  # another conditional put of this key is under way
                failure = error
            found = self.read(bucket, key)
            if found is not None and found != body:
                return PutOutcome.EXISTS_DIFFERENT
            if found is not None:
                return PutOutcome.CREATED if replies_lost else PutOutcome.EXISTS_SAME
        raise failure

    @property
    def multipart(self) -> Multipart:
        """Uploads in parts."""
        return Multipart(call=self._call, head=self.head)

    @property
    def removing(self) -> Removing:
        """Conditional replacement, protection and versions of objects."""
        return Removing(call=self._call, read=self.read)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that is not there is deleted already.

        :param bucket: the bucket.
        :param key: the object.
        :raises CosPermissionError: where the key may not delete, or the bucket protects the object.
        """
        self._call("delete_object", what=f"delete object {key} in bucket {bucket}", bucket=bucket, key=key)

    def fasp_connection(self, bucket: str) -> FaspConnection:
        """How Aspera reaches a bucket; see :func:`sealift.cos.fasp.ask_connection`."""
        from sealift.cos.fasp import ask_connection

        by_key, store = self._tokens is not None, self.endpoint_url
        return ask_connection(self._call, bucket=bucket, store=store, by_api_key=by_key, verify=self._verify)

    def delegated_token(self, receiver: str = "aspera_ats") -> SecretStr:
        """A token that only another service can use; see :func:`sealift.cos.fasp.ask_token`."""
        from sealift.cos.fasp import ask_token

        return ask_token(self._tokens, receiver)

    def _about(self, bucket: str | None, key: str | None) -> dict[str, Any]:
        return {"endpoint": self.endpoint_url, "bucket": bucket, "key": key}

    def _reading(self, bucket: str, key: str) -> Doing:
        return Doing(what=f"read object {key} in bucket {bucket}", **self._about(bucket, key))

    def _call(
        self, operation: str, *, what: str, bucket: str | None = None, key: str | None = None, **params: Any
    ) -> dict[str, Any]:
        """Make a call that may be repeated."""
        doing = Doing(what=what, **self._about(bucket, key))
        if key is not None:
            params["Key"] = key
        return self._retries.run(lambda: self._once(operation, doing, **params))

    def _once(self, operation: str, doing: Doing, **params: Any) -> dict[str, Any]:
        """Make a call, once."""
        if doing.bucket is not None:
            params["Bucket"] = doing.bucket
        return self._connection.call(operation, doing, **params)
