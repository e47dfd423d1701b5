"""The configuration record: what one needs to know of a server to build it again, and nothing secret.

The record holds what ``ibmcloud sl vs detail`` shows and what ``getBlockDevices``, ``getAttachedNetworkStorages`` and
``getAttributes`` return: the list of IBM's page on data portability. Every field in it stands on the allow-list below;
what the API adds one day stays out until somebody puts it there. Free text (notes, attribute values) loses the lines
that speak of passwords, keys or tokens. The record holds no time, so that an unchanged server has an unchanged digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealift.classic.models import NetworkStorage
from sealift.exports.errors import LedgerError
from sealift.exports.jsontext import canonical_json, digest
from sealift.exports.manifest import ManifestRecord, ManifestStorage
from sealift.exports.ports import ClassicApi, CosApi
from sealift.exports.redact import REMOVED, redact_text, redact_url, speaks_of_secrets
from sealift.exports.versions import reads_up_to, unreadable

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

Path = tuple[str, ...]


def _paths(*fields: str, under: Path = ()) -> tuple[Path, ...]:
    return tuple((*under, *field.split(".")) for field in fields)


SOFTWARE_PATHS: Final = ("id", "manufacturer", "name", "version", "referenceCode")

DETAIL_PATHS: Final[tuple[Path, ...]] = (
    *_paths(
        "id", "globalIdentifier", "fullyQualifiedDomainName", "hostname", "domain", "createDate", "modifyDate",
        "provisionDate", "dedicatedAccountHostOnlyFlag", "transientGuestFlag", "privateNetworkOnlyFlag",
        "localDiskFlag", "hourlyBillingFlag", "primaryIpAddress", "primaryBackendIpAddress", "maxCpu", "maxMemory",
        "placementGroupId",
    ),
    *_paths("id", "name", "longName", under=("datacenter",)),
    *_paths("keyName", "name", under=("status",)),
    *_paths("keyName", "name", under=("powerState",)),
    *_paths("keyName", "name", under=("lastKnownPowerState",)),
    *_paths("id", "name", under=("dedicatedHost",)),
    *_paths("id", "name", under=("placementGroup",)),
    *_paths("id", "name", "globalIdentifier", under=("blockDeviceTemplateGroup",)),
    *_paths("id", "vlanNumber", "networkSpace", "name", under=("networkVlans",)),
    *_paths(
        "id", "name", "port", "status", "speed", "maxSpeed", "macAddress", "primaryIpAddress",
        "primarySubnet.id", "primarySubnet.addressSpace", "primarySubnet.networkIdentifier", "primarySubnet.cidr",
        "primarySubnet.gateway", "primarySubnet.netmask",
        "securityGroupBindings.securityGroup.id", "securityGroupBindings.securityGroup.name",
        under=("networkComponents",),
    ),
    *_paths(*SOFTWARE_PATHS, under=("operatingSystem", "softwareLicense", "softwareDescription")),
    *_paths(*SOFTWARE_PATHS, under=("softwareComponents", "softwareLicense", "softwareDescription")),
    *_paths("tag.id", "tag.name", under=("tagReferences",)),
    *_paths(
        "package.id", "package.keyName", "orderItem.preset.keyName", "children.categoryCode", "children.description",
        under=("billingItem",),
    ),
)  # fmt: skip
"""What of ``guest_detail`` the record holds. Lists are passed through; ``notes`` and ``postInstallScriptUri`` are
added by hand, as their words are looked at."""

BLOCK_DEVICE_PATHS: Final = _paths(
    "id", "device", "mountType", "mountMode", "bootableFlag", "hotPlugFlag", "diskImage.id", "diskImage.capacity",
    "diskImage.units", "diskImage.name", "diskImage.description", "diskImage.metadataFlag", "diskImage.type.keyName",
)  # fmt: skip
"""What of ``getBlockDevices`` the record holds."""

ATTRIBUTE_TYPE_PATHS: Final = _paths("type.keyname", "type.name")
"""What of ``getAttributes`` the record holds beside the value."""

LEFT_OUT: Final = (
    "passwords of the operating system and of software",
    "user data (USER_DATA)",
    "user names and passwords of network storage and of its allowed hosts",
    "query and user part of the post-install script's address",
    "lines of notes and values of attributes that speak of passwords, keys or tokens",
    "prices and the user who ordered",
    "transactions",
)
"""What the record leaves out on purpose, in words; it stands in every record."""


class RecordModel(BaseModel):
    """Base of the record's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordStorage(RecordModel):
    """An attached network storage volume, without credentials."""

    id: int = Field(description="The volume's id")
    attached_as: str = Field(description="What it was asked for as: ISCSI or NAS")
    nas_type: str | None = Field(default=None, description="The volume's own type")
    capacity_gb: int | None = Field(default=None, description="Capacity in GB, as the API gives it")
    address: str | None = Field(default=None, description="Address of the storage")
    lun_id: str | None = Field(default=None, description="LUN of block storage")
    mount: str | None = Field(default=None, description="Mount address of file storage")
    in_image: Literal[False] = Field(default=False, description="Network storage is never in an image")


class ConfigurationRecord(RecordModel):
    """A server's configuration, without secrets."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    guest_id: int = Field(description="The virtual server's id")
    detail: dict[str, Any] = Field(description="What `ibmcloud sl vs detail` shows, with the API's own field names")
    block_devices: list[dict[str, Any]] = Field(description="What getBlockDevices returns")
    attached_network_storage: list[RecordStorage] = Field(
        description="What getAttachedNetworkStorages returns; its contents are not in the images"
    )
    attributes: list[dict[str, Any]] = Field(description="What getAttributes returns, without user data")
    left_out: list[str] = Field(default_factory=lambda: list(LEFT_OUT), description="What is left out on purpose")

    @property
    def body(self) -> bytes:
        """The record as it is written: canonical JSON."""
        return canonical_json(self)

    @property
    def digest(self) -> str:
        """``sha256:…`` of :attr:`body`."""
        return digest(self.body)

    def storage_not_in_image(self) -> list[ManifestStorage]:
        """Name the attached network storage for the manifest.

        :returns: the volumes, in the record's order.
        """
        return [
            ManifestStorage(
                id=one.id,
                type=one.nas_type or one.attached_as,
                capacity_gb=one.capacity_gb,
                address=one.address,
                mount=one.mount,
                lun_id=one.lun_id,
            )
            for one in self.attached_network_storage
        ]


def build_record(classic: ClassicApi, guest_id: int) -> ConfigurationRecord:
    """Ask the account for a server's configuration and keep what the allow-list names.

    Source for what belongs into it: VSDOC data-portability-classic.

    :param classic: the account.
    :param guest_id: the virtual server.
    :returns: the record.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked, or does not know the server.
    """
    raw = classic.guest_detail(guest_id)
    detail = pick(raw, DETAIL_PATHS)
    if isinstance(raw.get("notes"), str) and raw["notes"]:
        detail["notes"] = redact_text(raw["notes"])
    if isinstance(raw.get("postInstallScriptUri"), str) and raw["postInstallScriptUri"]:
        detail["postInstallScriptUri"] = redact_url(raw["postInstallScriptUri"])
    return ConfigurationRecord(
        guest_id=guest_id,
        detail=_ordered(detail),
        block_devices=sorted(
            (pick(device, BLOCK_DEVICE_PATHS) for device in classic.block_devices(guest_id)),
            key=lambda device: (str(device.get("device", "")).zfill(4), str(device.get("id", ""))),
        ),
        attached_network_storage=sorted(
            (_storage(volume) for volume in classic.attached_storage(guest_id)), key=lambda volume: volume.id
        ),
        attributes=sorted(
            (_attribute(one) for one in classic.attributes(guest_id) if _keyname(one) != "USER_DATA"),
            key=lambda one: (str(one.get("type", {}).get("keyname", "")), str(one.get("value", ""))),
        ),
    )


def parse_record(body: bytes, *, bucket: str, key: str) -> ConfigurationRecord:
    """Read a record's bytes.

    :param body: the object's bytes.
    :param bucket: where it lies, for the message.
    :param key: where it lies, for the message.
    :returns: the record.
    :raises LedgerError: they are not a configuration record.
    """
    try:
        return ConfigurationRecord.model_validate_json(body)
    except ValidationError as error:
        do = "Look at who wrote it, delete it, then clear the task."
        raise LedgerError(unreadable(error, where=f"{bucket}/{key}", what="a configuration record", do=do)) from error


def read_record(cos: CosApi, *, bucket: str, record: ManifestRecord) -> bytes:
    """Read the record that a manifest names, as it stands in the bucket.

    :param cos: the object store.
    :param bucket: the bucket.
    :param record: what the manifest says of it.
    :returns: its bytes, which have the manifest's digest.
    :raises LedgerError: it is gone, or was changed since.
    """
    body = cos.read(bucket, record.key)
    if body is None or digest(body) != record.digest:
        state = "is gone" if body is None else "was changed"
        raise LedgerError(
            f"The configuration record {bucket}/{record.key} {state} since the manifest was written: look at what "
            "wrote to the bucket."
        )
    return body


def pick(raw: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Copy the fields that an allow-list names, and nothing else.

    A path ends in a plain value: where the API has an object or a list of objects there, it is left out. Lists on the
    way are passed through, each element on its own.

    :param raw: a reply, as the API gave it.
    :param paths: the allow-list: field names from the outside in.
    :returns: the same shape with the named fields only.
    """
    tree: dict[str, Any] = {}
    for path in paths:
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = None
    return _picked(raw, tree)


def _picked(raw: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, below in tree.items():
        value = raw.get(name)
        if below is None:
            if isinstance(value, str | int | float) and value != "":
                kept[name] = value
        elif isinstance(value, Mapping):
            if inner := _picked(value, below):
                kept[name] = inner
        elif isinstance(value, list):
            inners = [_picked(one, below) for one in value if isinstance(one, Mapping)]
            if any(inners):
                kept[name] = [inner for inner in inners if inner]
    return kept


def _ordered(detail: dict[str, Any]) -> dict[str, Any]:
    """Sort the lists that the API gives in no order, so that the digest depends on the server alone."""
    for name in ("networkVlans", "networkComponents", "tagReferences", "softwareComponents"):
        if isinstance(detail.get(name), list):
            detail[name] = sorted(detail[name], key=lambda one: str(sorted(one.items(), key=lambda pair: pair[0])))
    return detail


def _storage(volume: NetworkStorage) -> RecordStorage:
    block = "ISCSI" in (volume.nas_type or "").upper() or bool(volume.lun_id)
    return RecordStorage(
        id=volume.id,
        attached_as="ISCSI" if block else "NAS",
        nas_type=volume.nas_type,
        capacity_gb=volume.capacity_gb,
        address=volume.service_resource_backend_ip_address,
        lun_id=volume.lun_id,
        mount=volume.mount_address,
    )


def _attribute(raw: Mapping[str, Any]) -> dict[str, Any]:
    kept = pick(raw, ATTRIBUTE_TYPE_PATHS)
    value = raw.get("value")
    if isinstance(value, str | int | float):
        kind = " ".join(str(word) for word in kept.get("type", {}).values()).replace("_", " ")
        kept["value"] = REMOVED if speaks_of_secrets(kind) or speaks_of_secrets(str(value)) else value
    return kept


def _keyname(raw: Mapping[str, Any]) -> str:
    kind = raw.get("type")
    return str(kind.get("keyname") or "").upper() if isinstance(kind, Mapping) else ""
