"""Which of a guest's devices are captured, in which order they become objects, and how large they can be."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from sealift.classic.models import Guest

_DECIMAL = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


class PlannedDisk(BaseModel):
    """A disk that is captured.

    :param index: which object it becomes: ``disk-<index>``. IBM numbers exported devices from 0 without gaps
        (IMGDOC, export-image-ibm-cos).
    :param capacity_bytes: the capacity read the smaller way (1 GB = 10^9 bytes); see :func:`capacity_range`.
    """

    model_config = ConfigDict(frozen=True)

    index: int = Field(ge=0, description="Which object it becomes: disk-<index>")
    device: str = Field(description="The API's device number, a string: 0 is the boot disk")
    block_device_id: int = Field(description="Id that the capture is asked for")
    capacity: float = Field(ge=0, description="Capacity in units, as the API gives it")
    units: str = Field(default="GB", description="Units of capacity")
    capacity_bytes: int = Field(ge=0, description="Capacity in bytes, read with 1 GB = 10^9 bytes")
    name: str | None = Field(default=None, description="The disk image's name in the API")


class LeftOutDisk(BaseModel):
    """A device that is not captured, and why."""

    model_config = ConfigDict(frozen=True)

    device: str = Field(description="The API's device number")
    block_device_id: int = Field(description="The block device's id")
    reason: str = Field(description="Why it is left out")


def planned_disks(guest: Guest) -> list[PlannedDisk]:
    """List the disks that a capture of a guest is asked for, in the order of their device numbers.

    Sources: softlayer-python ``VSManager.capture`` for what is left out; IMGDOC export-image-ibm-cos for the numbering.

    :param guest: with its block devices.
    :returns: the disks, numbered from 0 without gaps; empty where the guest has none to capture.
    :raises ValueError: a disk's capacity is in units that are not known.
    """
    devices = sorted((one for one in guest.block_devices if not one.left_out_because), key=lambda d: _order(d.device))
    disks = []
    for index, device in enumerate(devices):
        assert device.disk_image is not None  # a device without image is left out
        capacity = device.disk_image.capacity or 0.0
        units = (device.disk_image.units or "GB").upper()
        disks.append(
            PlannedDisk(
                index=index,
                device=device.device,
                block_device_id=device.id,
                capacity=capacity,
                units=units,
                capacity_bytes=capacity_range(capacity, units)[0],
                name=device.disk_image.name,
            )
        )
    return disks


def left_out_disks(guest: Guest) -> list[LeftOutDisk]:
    """List the devices of a guest that are not captured.

    :param guest: with its block devices.
    :returns: the devices (swap, metadata, CD) in the order of their numbers, each with the reason.
    """
    return [
        LeftOutDisk(device=one.device, block_device_id=one.id, reason=one.left_out_because)
        for one in sorted(guest.block_devices, key=lambda d: _order(d.device))
        if one.left_out_because
    ]


def capacity_range(capacity: float, units: str) -> tuple[int, int]:
    """Return the least and the most bytes that a capacity can mean: no source says whether GB is 10^9 or 2^30.

    :param capacity: as the API gives it, in ``units``.
    :param units: ``B``, ``KB``, ``MB``, ``GB`` or ``TB``, in any case.
    :returns: both in bytes, the least first.
    :raises ValueError: units that are not known.
    """
    try:
        return int(capacity * _DECIMAL[units.upper()]), int(capacity * _BINARY[units.upper()])
    except KeyError as error:
        raise ValueError(f"A disk's capacity is given in {units!r}; known are {', '.join(_DECIMAL)}.") from error


def _order(device: str) -> tuple[int, str]:
    return (int(device), "") if device.isdigit() else (1 << 30, device)
