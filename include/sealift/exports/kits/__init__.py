"""Target kits: what takes an export to another platform, with a report that says what would fail there and why.

``build_kits`` makes the kits of an export out of its manifest and its configuration record alone; what is known of the
system inside the disks, and images in other formats, make them better. ``write_kits`` puts them beside the images.
"""

from __future__ import annotations

from sealift.exports.kits.build import build_kits, fit_page, fit_report
from sealift.exports.kits.making import converted_in_bucket, kits_of, kits_of_delivery
from sealift.exports.kits.models import (
    ConvertedImage,
    DriverPlace,
    FitReport,
    GuestSystem,
    Kit,
    KitError,
    Outcome,
    Target,
    TargetFit,
)
from sealift.exports.kits.writing import Written, WrittenKits, write_kits, write_kits_to_folder

__all__ = [
    "ConvertedImage",
    "DriverPlace",
    "FitReport",
    "GuestSystem",
    "Kit",
    "KitError",
    "Outcome",
    "Target",
    "TargetFit",
    "Written",
    "WrittenKits",
    "build_kits",
    "converted_in_bucket",
    "fit_page",
    "fit_report",
    "kits_of",
    "kits_of_delivery",
    "write_kits",
    "write_kits_to_folder",
]
