"""Between rows of the index and the records of models.py."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from sealift.sandbox.store.database import Row
from sealift.sandbox.store.models import Attributes, Bucket, Part, StoredObject, Upload

OBJECT_COLUMNS = (
    "row, bucket, key, version_id, latest, delete_marker, blob, size, etag, modified, attributes, part_sizes"
)
UPLOAD_COLUMNS = "upload_id, bucket, key, initiated, attributes, checksum_algorithm"
PART_COLUMNS = "number, size, etag, modified, checksums, blob"
BUCKET_COLUMNS = "name, location_constraint, service_instance, created, versioning"


def key_bytes(key: str) -> bytes:
    """Encode a key as the index holds it."""
    return key.encode("utf-8")


def attributes_to_text(attributes: Attributes) -> str:
    """Encode attributes as JSON."""
    return json.dumps(
        {
            "content_type": attributes.content_type,
            "metadata": dict(attributes.metadata),
            "headers": dict(attributes.headers),
            "tags": dict(attributes.tags),
            "checksums": dict(attributes.checksums),
            "checksum_type": attributes.checksum_type,
            "crc64nvme": attributes.crc64nvme,
            **({"lock": dict(attributes.lock)} if attributes.lock else {}),
        },
        separators=(",", ":"),
    )


def attributes_from_text(text: str) -> Attributes:
    """Decode what :func:`attributes_to_text` wrote."""
    return Attributes(**json.loads(text))


def object_from_row(root: Path, row: Row) -> StoredObject:
    """Build an object from a row of ``OBJECT_COLUMNS``."""
    number, bucket, key, version_id, latest, marker, blob, size, etag, modified, attributes, part_sizes = row
    return StoredObject(
        row=number,
        bucket=bucket,
        key=bytes(key).decode("utf-8"),
        version_id=version_id,
        size=size,
        etag=etag,
        last_modified=datetime.fromtimestamp(modified, UTC),
        attributes=attributes_from_text(attributes),
        part_sizes=tuple(json.loads(part_sizes)),
        delete_marker=bool(marker),
        latest=bool(latest),
        path=root / blob if blob is not None else None,
    )


def upload_from_row(row: Row) -> Upload:
    """Build an upload from a row of ``UPLOAD_COLUMNS``."""
    upload_id, bucket, key, initiated, attributes, algorithm = row
    return Upload(
        upload_id=upload_id,
        bucket=bucket,
        key=bytes(key).decode("utf-8"),
        initiated=datetime.fromtimestamp(initiated, UTC),
        attributes=attributes_from_text(attributes),
        checksum_algorithm=algorithm,
    )


def part_from_row(root: Path, row: Row) -> Part:
    """Build a part from a row of ``PART_COLUMNS``."""
    number, size, etag, modified, checksums, blob = row
    return Part(
        number=number,
        size=size,
        etag=etag,
        last_modified=datetime.fromtimestamp(modified, UTC),
        checksums=json.loads(checksums),
        path=root / blob,
    )


def bucket_from_row(row: Row) -> Bucket:
    """Build a bucket from a row of ``BUCKET_COLUMNS``."""
    name, location_constraint, service_instance, created, versioning = row
    return Bucket(
        name=name,
        location_constraint=location_constraint,
        service_instance=service_instance,
        created=datetime.fromtimestamp(created, UTC),
        versioning=versioning,
    )
