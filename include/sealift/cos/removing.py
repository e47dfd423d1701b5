"""What is needed to remove objects with care: conditional replacement, what protects an object, and its versions.

Sources: IBM's documentation of Object Storage, pages object-lock, immutable and versioning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from sealift.cos.errors import (
    CosConflictError,
    CosError,
    CosNotFoundError,
    CosNotOfferedError,
    CosPermissionError,
    CosPreconditionError,
    CosTransientError,
)
from sealift.cos.models import BucketGuards, ObjectVersion, Protection
from sealift.cos.multipart import Calls

_TRIES = 4


class Removing:
    """The client's calls for removing objects with care. May be used by many threads.

    :param call: makes a call that may be repeated.
    :param read: reads a whole object.
    """

    def __init__(self, *, call: Calls, read: Callable[[str, str], bytes | None]) -> None:
        self._call = call
        self._read = read

    def put_if_match(self, bucket: str, key: str, body: bytes, *, etag: str) -> bool:
        """Replace an object only where it still is what somebody read (``If-Match``).

        Where the reply is lost, what is there decides: an object with these bytes counts as ours. That the service
        heeds ``If-Match`` with a put is not documented; whoever needs to know reads what is there afterwards.

        :param bucket: the bucket.
        :param key: the object.
        :param body: all its new bytes.
        :param etag: the ETag that it must still have, without quotes.
        :returns: False where it has another by now, or is gone.
        :raises CosPermissionError: where the key may not write, or the bucket protects the object.
        :raises CosTransientError: where the store failed, and the object is not replaced.
        """
        what = f"replace object {key} in bucket {bucket}"
        failure: CosError | None = None
        for _ in range(_TRIES):
            try:
                self._call(
                    "put_object",
                    what=what,
                    bucket=bucket,
                    key=key,
                    Body=body,
                    ContentType="application/json",
                    IfMatch=f'"{etag}"',
                )
                return True
            except CosNotFoundError:
                return False
            except CosPreconditionError:  # by another, or by an earlier try of ours whose reply was lost
                return self._read(bucket, key) == body
            except (CosTransientError, CosConflictError) as error:
                failure = error
            if self._read(bucket, key) == body:
                return True
        raise failure or CosError(f"could not {what}", bucket=bucket, key=key)

    def guards(self, bucket: str) -> BucketGuards:
        """Say what keeps objects of a bucket from being deleted. What the key may not ask for counts as present.

        :param bucket: the bucket.
        :returns: whether it keeps versions, has Object Lock, or a retention policy.
        :raises CosNotFoundError: where there is no such bucket.
        """
        status = self._call("get_bucket_versioning", what=f"look at bucket {bucket}", bucket=bucket).get("Status")
        return BucketGuards(
            versions=status in ("Enabled", "Suspended"),
            object_lock=self._has_lock(bucket),
            retention_policy=self._has_policy(bucket),
        )

    def _has_lock(self, bucket: str) -> bool:
        what = f"look at the Object Lock of bucket {bucket}"
        try:
            reply = self._call("get_object_lock_configuration", what=what, bucket=bucket)
        except CosPermissionError:
            return True
        except CosError as error:
            if isinstance(error, CosTransientError) or error.code == "NoSuchBucket":
                raise
            return False
        return (reply.get("ObjectLockConfiguration") or {}).get("ObjectLockEnabled") == "Enabled"

    def _has_policy(self, bucket: str) -> bool:
        what = f"look at the retention policy of bucket {bucket}"
        try:
            reply = self._call("get_bucket_protection_configuration", what=what, bucket=bucket)
        except (CosPermissionError, CosNotOfferedError):
            return True
        except CosError as error:
            if isinstance(error, CosTransientError) or error.code == "NoSuchBucket":
                raise
            return False
        found = reply.get("ProtectionConfiguration") or {}
        return (found.get("Status") or "Disabled") != "Disabled"

    def protection(self, bucket: str, key: str) -> Protection | None:
        """Say what keeps an object from being deleted, whether or not the time is over.

        :param bucket: the bucket.
        :param key: the object.
        :returns: None where nothing protects it, or there is no such object.
        :raises CosPermissionError: where the key may not look at it.
        """
        try:
            reply = self._call("head_object", what=f"look at object {key} in bucket {bucket}", bucket=bucket, key=key)
        except CosNotFoundError:
            return None
        dates = [_time(reply.get(name)) for name in ("ObjectLockRetainUntilDate", "RetentionExpirationDate")]
        until = max((one for one in dates if one is not None), default=None)
        # -1 stands for an indefinite and -2 for a permanent retention.
        endless = until is None and int(reply.get("RetentionPeriod") or 0) < 0
        held = reply.get("ObjectLockLegalHoldStatus") == "ON" or int(reply.get("RetentionLegalHoldCount") or 0) > 0
        if until is None and not held and not endless:
            return None
        return Protection(until=until, legal_hold=held, endless=endless)

    def versions(self, bucket: str, prefix: str) -> Iterator[ObjectVersion]:
        """The versions and delete markers of the objects whose keys begin so.

        :param bucket: the bucket.
        :param prefix: the beginning of the keys.
        :returns: the versions, page by page.
        :raises CosError: where the store's list breaks off.
        """
        extra: dict[str, Any] = {}
        while True:
            what = f"list the versions in bucket {bucket}"
            reply = self._call("list_object_versions", what=what, bucket=bucket, Prefix=prefix, **extra)
            for kind in ("Versions", "DeleteMarkers"):
                for one in reply.get(kind) or []:
                    yield ObjectVersion(
                        key=one["Key"],
                        version_id=str(one["VersionId"]),
                        latest=bool(one.get("IsLatest")),
                        marker=kind == "DeleteMarkers",
                        size=int(one.get("Size") or 0),
                    )
            if not reply.get("IsTruncated"):
                return
            following = {"KeyMarker": reply.get("NextKeyMarker"), "VersionIdMarker": reply.get("NextVersionIdMarker")}
            following = {name: value for name, value in following.items() if value}
            if not following or following == extra:
                raise CosError(
                    f"the list of versions in bucket {bucket} does not go on where it says so", bucket=bucket
                )
            extra = following

    def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """Delete one version of an object for good; one that is not there is deleted already.

        :param bucket: the bucket.
        :param key: the object.
        :param version_id: the version, from :meth:`versions`.
        :raises CosPermissionError: where the key may not delete versions, or the version is protected.
        """
        what = f"delete version {version_id} of object {key} in bucket {bucket}"
        try:
            self._call("delete_object", what=what, bucket=bucket, key=key, VersionId=version_id)
        except CosNotFoundError:
            return


def _time(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
