"""Reads /etc/fstab and finds what each line means among a server's volumes (fstab(5))."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from sealift.images.file_systems.volumes import INCOMPLETE, UNREAD, Volume

MOST_LINES: Final = 1000

_NETWORK: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "glusterfs", "ceph", "sshfs", "fuse.sshfs", "davfs", "afs", "lustre", "9p",
     "fuse.glusterfs", "fuse.s3fs", "s3fs", "ocfs2", "gfs2", "iscsi", "curlftpfs")
)  # fmt: skip
_KERNEL_OWN: Final = frozenset(
    ("proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "debugfs", "securityfs", "cgroup", "cgroup2", "configfs", "mqueue",
     "hugetlbfs", "binfmt_misc", "usbfs", "overlay", "rpc_pipefs", "selinuxfs", "bpf", "tracefs", "none", "ramfs")
)  # fmt: skip
_SHOWN_OPTIONS: Final = frozenset(
    ("defaults", "ro", "rw", "nofail", "noauto", "_netdev", "bind", "rbind", "noatime", "relatime", "nodev", "nosuid",
     "noexec", "discard", "sw", "acl", "user_xattr", "barrier=0", "errors=remount-ro", "errors=continue", "umask=0077",
     "x-systemd.automount", "usrquota", "grpquota", "quota", "swap")
)  # fmt: skip
"""Options that hold nothing secret and say something about how a server starts."""
_BY_NAME: Final = {
    "/dev/disk/by-uuid/": "uuid",
    "/dev/disk/by-label/": "label",
    "/dev/disk/by-partuuid/": "part_uuid",
    "/dev/disk/by-partlabel/": "part_label",
}
_TAGS: Final = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "part_uuid", "PARTLABEL": "part_label"}
HIDING: Final = frozenset(("luks", "raid", UNREAD))
"""What holds other volumes that are not seen."""
_DISK: Final = re.compile(r"/dev/(?:xvd|sd|vd|hd)([a-z])(\d*)$")


class Meaning(StrEnum):
    """What a line's device is."""

    FOUND = "found"
    MISSING = "missing"
    """It names a volume that would have to be on one of the disks, and is not."""
    ELSEWHERE = "elsewhere"
    """It is not on a disk of the server: a network file system, or one that the kernel makes."""
    UNKNOWN = "unknown"
    """It cannot be told from the disks alone which one is meant."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A line of an fstab."""

    device: str
    mount_point: str
    type: str
    options: tuple[str, ...]

    @property
    def optional(self) -> bool:
        """Whether a server starts without it."""
        waits_not = ("nofail", "noauto", "_netdev", "x-systemd.automount")
        return any(option in waits_not for option in self.options)

    @property
    def swap(self) -> bool:
        """Whether it is swap space."""
        return self.type == "swap"

    @property
    def network(self) -> bool:
        """Whether it is a network file system."""
        return self.type in _NETWORK or self.type.startswith("fuse.") or self.device.startswith("//")

    @property
    def bind(self) -> bool:
        """Whether it is a directory that is mounted at a second place."""
        return "bind" in self.options or "rbind" in self.options

    @property
    def shown_device(self) -> str:
        """The device, without a name and password that a URL may have."""
        return re.sub(r"//[^/@\s]*@", "//", self.device)

    @property
    def shown_options(self) -> list[str]:
        """Options that hold nothing secret."""
        return [option for option in self.options if option in _SHOWN_OPTIONS]


def parse_fstab(text: str) -> list[Line]:
    """Read an fstab.

    :param text: of the file.
    :returns: its lines that mount something, at most :data:`MOST_LINES`.
    """
    found = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#") or len(words) < 2:
            continue
        words += ["auto", "defaults"][len(words) - 2 :] if len(words) < 4 else []
        device, mount_point, kind, options = (_unescaped(word) for word in words[:4])
        if mount_point != "/":
            mount_point = mount_point.rstrip("/") or "/"
        found.append(
            Line(device=device.strip('"'), mount_point=mount_point, type=kind, options=tuple(options.split(",")))
        )
        if len(found) >= MOST_LINES:
            break
    return found


def _unescaped(word: str) -> str:
    """Return a word with ``\\040`` and its like as the characters that they stand for."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), word)


def find_device(device: str, volumes: Sequence[Volume], *, letters: Sequence[str]) -> tuple[Meaning, Volume | None]:
    """Find the volume that a device's name means.

    :param device: as an fstab or a kernel's command line has it.
    :param volumes: all volumes of the server.
    :param letters: which letter Linux gives each disk; empty where that is not known.
    :returns: what it means, and the volume where one was found.
    """
    tag, equals, value = device.partition("=")
    if equals and tag in _TAGS:
        return _by_field(volumes, _TAGS[tag], value.strip('"'))
    for start, field in _BY_NAME.items():
        if device.startswith(start):
            return _by_field(volumes, field, _decoded(device.removeprefix(start)))
    if not device.startswith("/dev/"):
        return Meaning.ELSEWHERE, None
    for volume in volumes:
        if device in volume.devices:
            return (Meaning.MISSING, None) if volume.content.kind == INCOMPLETE else (Meaning.FOUND, volume)
    return (Meaning.MISSING if _must_be_there(device, volumes, letters) else Meaning.UNKNOWN), None


def hiding(volumes: Sequence[Volume]) -> list[str]:
    """Name the volumes that hold others, which are not seen: what is not found may be in them.

    :param volumes: all volumes of the server.
    """
    return [volume.name for volume in volumes if volume.content.kind in HIDING]


def _must_be_there(device: str, volumes: Sequence[Volume], letters: Sequence[str]) -> bool:
    """Say whether a device that was not found would have been if it were on one of the disks."""
    disk = _DISK.match(device)
    if disk:
        return disk.group(1) in letters or all(letters)
    if hiding(volumes):
        return False
    if device.startswith("/dev/mapper/"):
        return True
    # A group of which one volume was found was read whole.
    groups = {volume.devices[1].split("/")[2] for volume in volumes if volume.disk is None and len(volume.devices) > 1}
    parts = device.split("/")
    return len(parts) == 4 and parts[2] in groups


def _by_field(volumes: Sequence[Volume], field: str, value: str) -> tuple[Meaning, Volume | None]:
    for volume in volumes:
        found = getattr(volume.content if field in ("uuid", "label") else volume, field)
        # Labels are what was written; identifiers are numbers.
        if value and (found == value if "label" in field else found.lower() == value.lower()):
            return Meaning.FOUND, volume
    return (Meaning.UNKNOWN if hiding(volumes) else Meaning.MISSING), None


def _decoded(name: str) -> str:
    """Return a name as udev writes it into a path, with ``\\x20`` for a space."""
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match.group(1), 16)), name)
