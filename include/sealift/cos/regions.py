"""Regions of IBM Cloud Object Storage, their endpoints, and location constraints.

Source: IBM Cloud docs, "Endpoints and storage locations" and "Use storage classes".
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from sealift.cos.errors import CosRegionError

EndpointKind = Literal["public", "private", "direct"]

REGIONS = (
    "au-syd",
    "br-sao",
    "ca-mon",
    "ca-tor",
    "eu-de",
    "eu-es",
    "eu-gb",
    "in-che",
    "in-mum",
    "jp-osa",
    "jp-tok",
    "us-east",
    "us-south",
)

# Cross-region and single-site locations: image exports are documented for regional buckets only.
CROSS_REGIONS = frozenset({"us", "eu", "ap"})

STORAGE_CLASSES = ("standard", "vault", "cold", "flex", "smart", "onerate_active")

_HOSTS: dict[str, str] = {"public": "s3", "private": "s3.private", "direct": "s3.direct"}
_TOKEN = re.compile(r"[a-z]{2,5}[0-9]{0,2}(-[a-z]+[0-9]*)*")


def check_region(region: str) -> None:
    """Refuse what can be no regional location.

    A region that is not in :data:`REGIONS` passes: IBM adds some, and the bucket itself tells where it is.

    :param region: as ``us-south``.
    :raises CosRegionError: where it is a cross-region location, or no name of a region at all.
    """
    if region in CROSS_REGIONS:
        raise CosRegionError(
            f"{region!r} is a cross-region location, and images are exported to regional buckets only: "
            f"take a bucket in one of {', '.join(REGIONS)}"
        )
    if not _TOKEN.fullmatch(region) or "-" not in region:
        raise CosRegionError(f"{region!r} is no region of Cloud Object Storage; it must be like {', '.join(REGIONS)}")


def endpoint_for(region: str, kind: EndpointKind = "public") -> str:
    """The endpoint of a region.

    :param region: as ``us-south``.
    :param kind: ``public``, ``private`` (within IBM Cloud's classic network) or ``direct`` (from a VPC).
    :returns: the URL.
    :raises CosRegionError: where the region can be none.
    :raises ValueError: where the kind is unknown.
    """
    if kind not in _HOSTS:
        raise ValueError(f"the kind of endpoint must be public, private or direct, not {kind!r}")
    check_region(region)
    return f"https://{_HOSTS[kind]}.{region}.cloud-object-storage.appdomain.cloud"


def is_inside(endpoint_url: str) -> bool:
    """Say whether an endpoint is reached within IBM Cloud only, where bytes cost nothing and the line is short.

    :param endpoint_url: the endpoint.
    :returns: True for those of the kinds ``private`` and ``direct``.
    """
    host = urlsplit(endpoint_url).hostname or ""
    return any(host.startswith(f"{_HOSTS[kind]}.") for kind in ("private", "direct"))


def region_of_location_constraint(constraint: str) -> str:
    """The region in a bucket's location constraint.

    :param constraint: as ``us-south-standard``.
    :returns: as ``us-south``.
    """
    for storage_class in STORAGE_CLASSES:
        if constraint.endswith(f"-{storage_class}"):
            return constraint[: -len(storage_class) - 1]
    return constraint


def location_constraint_for(region: str, storage_class: str = "standard") -> str:
    """The location constraint that creates a bucket in a region.

    :param region: as ``us-south``.
    :param storage_class: one of :data:`STORAGE_CLASSES`.
    :returns: as ``us-south-standard``.
    :raises CosRegionError: where the region can be none.
    :raises ValueError: where the storage class is unknown.
    """
    check_region(region)
    if storage_class not in STORAGE_CLASSES:
        raise ValueError(f"the storage class must be one of {', '.join(STORAGE_CLASSES)}, not {storage_class!r}")
    return f"{region}-{storage_class}"
