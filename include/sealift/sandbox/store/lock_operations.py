"""Operations on what protects objects: retention and legal holds of versions, legal holds under a retention policy."""

from __future__ import annotations

from datetime import datetime

from sealift.sandbox.store import locks, xml
from sealift.sandbox.store.bucket_operations import xml_response
from sealift.sandbox.store.call import Call
from sealift.sandbox.store.errors import S3Error
from sealift.sandbox.store.http import Response
from sealift.sandbox.store.models import StoredObject
from sealift.sandbox.store.object_operations import find


def put_lock(call: Call) -> Response:
    """PUT /bucket?object-lock: only where the bucket keeps versions, and never taken back."""
    bucket = call.store.need_bucket(call.bucket)
    call.allow("write")  # Manager and Writer (IBM docs, object-lock: IAM actions)
    data = call.document()
    locks.read_lock(data)
    if bucket.versioning != "Enabled":
        raise S3Error("InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply Object Lock")
    call.store.set_document(call.bucket, locks.LOCK, data.decode("utf-8"))
    return Response()


def put_policy(call: Call) -> Response:
    """PUT /bucket?protection: not together with versions."""
    bucket = call.store.need_bucket(call.bucket)
    call.allow("config")
    data = call.document()
    policy = locks.read_policy(data)
    if policy is not None and bucket.versioning:
        raise S3Error("InvalidBucketState", "A retention policy is not compatible with versioning.")
    call.store.set_document(call.bucket, locks.POLICY, data.decode("utf-8") if policy else None)
    return Response()


def get_policy(call: Call) -> Response:
    """GET /bucket?protection: without a policy, the status is Disabled (documented)."""
    call.store.need_bucket(call.bucket)
    call.allow("list")
    document = call.store.document(call.bucket, locks.POLICY)
    if document is None:
        return xml_response("ProtectionConfiguration", [("Status", "Disabled")])
    return Response(body=document.encode(), headers={"Content-Type": "application/xml"})


def _locked(call: Call) -> StoredObject:
    call.store.need_bucket(call.bucket)
    if call.store.document(call.bucket, locks.LOCK) is None:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    return find(call)


def get_retention(call: Call) -> Response:
    """GET /bucket/key?retention."""
    call.allow("read")
    until = _locked(call).attributes.lock.get("retain_until")
    if until is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml_response("Retention", [("Mode", "COMPLIANCE"), ("RetainUntilDate", datetime.fromisoformat(until))])


def put_retention(call: Call) -> Response:
    """PUT /bucket/key?retention: a period can only be made longer."""
    call.allow("write")
    stored = _locked(call)
    node = xml.parse(call.document(), "Retention")
    locks.check_mode(node.value("Mode"))
    until = locks.read_date(node.need("RetainUntilDate"))
    before = stored.attributes.lock.get("retain_until")
    if before is not None and until <= datetime.fromisoformat(before):
        raise S3Error("AccessDenied", "Access Denied because a retention period can only be extended.")
    call.store.set_lock(stored, {**stored.attributes.lock, "retain_until": until.isoformat()})
    return Response()


def get_legal_hold(call: Call) -> Response:
    """GET /bucket/key?legal-hold."""
    call.allow("read")
    status = _locked(call).attributes.lock.get("legal_hold")
    if status is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml_response("LegalHold", [("Status", status)])


def put_legal_hold(call: Call) -> Response:
    """PUT /bucket/key?legal-hold. IBM's page names the document both ways."""
    call.allow("write")
    stored = _locked(call)
    node = xml.parse(call.document(), "LegalHold", "legal-hold")
    status = locks.check_status(node.need("Status"))
    call.store.set_lock(stored, {**stored.attributes.lock, "legal_hold": status})
    return Response()


def change_legal_holds(call: Call) -> Response:
    """POST /bucket/key?legalHold with add or remove, under a retention policy."""
    call.store.need_bucket(call.bucket)
    call.allow("write")
    stored = find(call)
    lock = stored.attributes.lock
    if "expires" not in lock:
        raise S3Error("InvalidRequest", "The object has no retention period.")
    holds = locks.holds_of(lock)
    added, removed = call.query.get("add"), call.query.get("remove")
    if (added is None) == (removed is None):
        raise S3Error("InvalidRequest", "Name one legal hold to add or to remove.")
    if added is not None:
        locks.check_hold_id(added)
        if added in holds:
            raise S3Error("OperationAborted", "The legal hold is on the object already.")
        if len(holds) >= locks.MOST_LEGAL_HOLDS:
            raise S3Error("InvalidRequest", "The object has 100 legal holds.")
        holds.append(added)
    else:
        holds = [one for one in holds if one != removed]
    call.store.set_lock(stored, {**lock, "holds": ",".join(holds)})
    return Response()
