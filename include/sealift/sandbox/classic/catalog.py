"""What every account sees alike: datacenters, operating systems, third-party software, names of states."""

from __future__ import annotations

from typing import Any

Doc = dict[str, Any]

DATACENTERS: list[Doc] = [
    {"id": 1441195, "longName": "Dallas 10", "name": "dal10", "statusId": 2},
    {"id": 1854895, "longName": "Dallas 13", "name": "dal13", "statusId": 2},
    {"id": 2017603, "longName": "Washington 7", "name": "wdc07", "statusId": 2},
    {"id": 449506, "longName": "Frankfurt 2", "name": "fra02", "statusId": 2},
    {"id": 2434695, "longName": "Frankfurt 4", "name": "fra04", "statusId": 2},
    {"id": 358694, "longName": "London 2", "name": "lon02", "statusId": 2},
    {"id": 449604, "longName": "Tokyo 2", "name": "tok02", "statusId": 2},
]


def datacenter(name: str) -> Doc:
    """:returns: the datacenter of that short name."""
    return next(one for one in DATACENTERS if one["name"] == name)


def _os(manufacturer: str, name: str, version: str, code: str) -> Doc:
    return {
        "manufacturer": manufacturer,
        "name": name,
        "version": version,
        "referenceCode": code,
        "longDescription": f"{manufacturer} / {name} / {version}",
        "operatingSystem": 1,
    }


SYSTEMS: dict[str, Doc] = {
    "ubuntu": _os("Ubuntu", "Ubuntu", "22.04-64 Minimal for VSI", "UBUNTU_22_64"),
    "debian": _os("Debian", "Debian", "12.0.0-64 Minimal for VSI", "DEBIAN_12_64"),
    "rocky": _os("Rocky", "Rocky Linux", "9.0-64 Minimal for VSI", "ROCKY_9_64"),
    "windows": _os("Microsoft", "Windows", "2022 FULL STD 64 bit", "WIN_2022-STD-FULL_64"),
}
THIRD_PARTY: dict[str, Doc] = {
    "cpanel": {**_os("cPanel", "cPanel", "11", "CPANEL_11"), "operatingSystem": 0},
    "plesk": {**_os("Parallels", "Plesk", "18", "PLESK_18"), "operatingSystem": 0},
}

POWER: dict[str, Doc] = {
    "RUNNING": {"keyName": "RUNNING", "name": "Running", "description": "Running"},
    "HALTED": {"keyName": "HALTED", "name": "Halted", "description": "Halted"},
}
GUEST_STATUS: dict[str, Doc] = {
    "ACTIVE": {"keyName": "ACTIVE", "name": "Active"},
    "DISCONNECTED": {"keyName": "DISCONNECTED", "name": "Disconnected"},
}
GROUP_STATUS: Doc = {"keyName": "ACTIVE", "name": "Active", "description": "The Group is Active."}
IMAGE_TYPE: Doc = {
    "keyName": "SYSTEM",
    "name": "System",
    "description": "a disk that may be replaced on upgrade",
}
DISK_TYPES: dict[int, Doc] = {
    241: {"keyName": "SYSTEM", "name": "System", "description": IMAGE_TYPE["description"]},
    246: {"keyName": "SWAP", "name": "Swap", "description": "a disk reserved for swap usage"},
}
