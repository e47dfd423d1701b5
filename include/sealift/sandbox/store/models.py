"""What the store knows of buckets, objects, uploads and parts: plain frozen records, no behaviour but reading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

# Regions, cross-region and single-site locations and storage classes of Cloud Object Storage
# (IBM docs, cloud-object-storage: "Endpoints and storage locations" and "Use storage classes").
_LOCATIONS = [
    "us-south",
    "us-east",
    "eu-gb",
    "eu-de",
    "eu-es",
    "eu-fr2",
    "au-syd",
    "jp-tok",
    "jp-osa",
    "ca-tor",
    "ca-mon",
    "br-sao",
    "in-che",
    "in-mum",
    "us",
    "eu",
    "ap",
    "ams03",
    "che01",
    "mil01",
    "mon01",
    "par01",
    "sjc04",
    "sng01",
    "sao01",
    "osl01",
    "hkg02",
    "mex01",
    "seo01",
    "tor01",
]
_CLASSES = ["standard", "vault", "cold", "smart", "flex", "onerate_active"]
_LOCATION_CONSTRAINT = re.compile(rf"({'|'.join(_LOCATIONS)})-({'|'.join(_CLASSES)})")


def region_of(location_constraint: str) -> str | None:
    """Take the region out of a COS provisioning code.

    :param location_constraint: such as ``us-south-standard``.
    :returns: such as ``us-south``; ``None`` for a code that COS does not know.
    """
    match = _LOCATION_CONSTRAINT.fullmatch(location_constraint)
    return match.group(1) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket. ``versioning`` is ``""`` (never enabled), ``Enabled`` or ``Suspended``."""

    name: str
    location_constraint: str
    service_instance: str
    created: datetime
    versioning: str = ""

    @property
    def region(self) -> str:
        """The region, cross-region location or single site that holds the bucket, such as ``us-south``."""
        return region_of(self.location_constraint) or self.location_constraint


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a client sets with an object beside its bytes.

    :param headers: stored response headers by lower-case name: cache-control, content-disposition, content-encoding,
        content-language, expires.
    :param checksums: the digests that the writer sent, base64 by algorithm (checksums.ALGORITHMS).
    :param crc64nvme: base64 CRC-64/NVME over the whole object as the store itself computed it, where it has.
    :param lock: what keeps it from being deleted, as locks.py writes it.
    :param checksum_type: ``FULL_OBJECT`` or ``COMPOSITE`` (a digest of the parts' digests, with ``-<parts>``).
    """

    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str = "FULL_OBJECT"
    crc64nvme: str | None = None
    lock: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One version of an object, or a delete marker (then ``path`` is ``None`` and ``size`` 0).

    :param etag: without quotes.
    :param version_id: ``null`` where the bucket had no versioning at the time.
    :param part_sizes: sizes of the parts of a multipart upload in order; empty for a plain put.
    :param path: the file that holds the bytes. Read it, never write it.
    """

    row: int
    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    last_modified: datetime
    attributes: Attributes
    part_sizes: tuple[int, ...]
    delete_marker: bool
    latest: bool
    path: Path | None

    @property
    def content_type(self) -> str:
        """The media type that the writer gave."""
        return self.attributes.content_type

    @property
    def metadata(self) -> Mapping[str, str]:
        """User metadata by lower-case name, without ``x-amz-meta-``."""
        return self.attributes.metadata

    @property
    def file(self) -> Path:
        """The file with the bytes; a delete marker has none, and asking for it is a mistake."""
        if self.path is None:
            raise ValueError(f"{self.bucket}/{self.key} version {self.version_id} is a delete marker and has no bytes")
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A multipart upload that is neither completed nor aborted."""

    upload_id: str
    bucket: str
    key: str
    initiated: datetime
    attributes: Attributes
    checksum_algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A received part. Only the last one sent under a number counts."""

    number: int
    size: int
    etag: str
    last_modified: datetime
    checksums: Mapping[str, str]
    path: Path
