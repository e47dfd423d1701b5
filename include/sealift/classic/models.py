"""What Sealift reads of the Classic API, as typed models.

Fields that the API adds are ignored; a field that is missing raises, and the client names the call it was missing from.
Shapes: SoftLayer datatypes as softlayer-go lists them, with recorded replies where there are any.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _nil(value: object) -> object:
    """XML-RPC clients see null as an empty string (softlayer-python #962)."""
    return None if value == "" else value


OptionalInt = Annotated[int | None, BeforeValidator(_nil)]
OptionalFloat = Annotated[float | None, BeforeValidator(_nil)]
OptionalStr = Annotated[str | None, BeforeValidator(_nil)]
OptionalTime = Annotated[datetime | None, BeforeValidator(_nil)]


class ClassicModel(BaseModel):
    """Base of all models: camelCase outside, snake_case inside, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Transaction(ClassicModel):
    """A transaction as seen through a guest or a template; it cannot be fetched by id (there is no such service)."""

    id: int
    create_date: OptionalTime = None
    modify_date: OptionalTime = None
    status_change_date: OptionalTime = None
    elapsed_seconds: OptionalFloat = None
    group_name: OptionalStr = Field(default=None, validation_alias=AliasPath("transactionGroup", "name"))
    status_name: OptionalStr = Field(default=None, validation_alias=AliasPath("transactionStatus", "name"))
    status_friendly_name: OptionalStr = Field(
        default=None, validation_alias=AliasPath("transactionStatus", "friendlyName")
    )


OptionalTransaction = Annotated[Transaction | None, BeforeValidator(_nil)]


class DiskImage(ClassicModel):
    """The image behind a block device. ``capacity`` is in ``units``, usually GB; a metadata disk says MB."""

    id: OptionalInt = None
    capacity: OptionalFloat = None
    units: OptionalStr = None
    name: OptionalStr = None
    description: OptionalStr = None
    metadata_flag: bool | None = None
    type_key_name: OptionalStr = Field(default=None, validation_alias=AliasPath("type", "keyName"))


OptionalDiskImage = Annotated[DiskImage | None, BeforeValidator(_nil)]


class BlockDevice(ClassicModel):
    """A block device of a guest. ``device`` is a text: "0" boot, "1" swap, "3" CD, "7" metadata in recorded replies."""

    id: int
    device: str
    mount_type: OptionalStr = None
    mount_mode: OptionalStr = None
    disk_image: OptionalDiskImage = None

    @property
    def left_out_because(self) -> str | None:
        """Why a capture leaves this device out (swap, metadata, CD), or None where it is captured.

        The rule is softlayer-python's ``VSManager.capture`` and the ibmcloud plugin's ``getDisks``.
        """
        if self.mount_type == "CD":
            return "it is a CD drive"
        if self.disk_image is None:
            return "it holds no disk image"
        if self.disk_image.type_key_name == "SWAP":
            return "it is the swap disk"
        if self.disk_image.metadata_flag:
            return "it is the metadata disk"
        return None


class Guest(ClassicModel):
    """A virtual server as selection and planning see it."""

    id: int
    hostname: str
    domain: OptionalStr = None
    global_identifier: OptionalStr = None
    fully_qualified_domain_name: OptionalStr = None
    create_date: OptionalTime = None
    datacenter: OptionalStr = Field(default=None, validation_alias=AliasPath("datacenter", "name"))
    status: OptionalStr = Field(default=None, validation_alias=AliasPath("status", "keyName"))
    power_state: OptionalStr = Field(default=None, validation_alias=AliasPath("powerState", "keyName"))
    dedicated_host_id: OptionalInt = Field(default=None, validation_alias=AliasPath("dedicatedHost", "id"))
    dedicated_host_name: OptionalStr = Field(default=None, validation_alias=AliasPath("dedicatedHost", "name"))
    private_network_only_flag: bool | None = None
    local_disk_flag: bool | None = None
    active_transaction: OptionalTransaction = None
    block_devices: list[BlockDevice] = Field(default_factory=list)
    tag_references: list[dict[str, Any]] = Field(default_factory=list)
    operating_system: dict[str, Any] | None = None
    software_components: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def tags(self) -> list[str]:
        """The names of the guest's tags."""
        return sorted(str(ref["tag"]["name"]) for ref in self.tag_references if ref.get("tag", {}).get("name"))


class GuestState(ClassicModel):
    """What the shared poll asks of a guest."""

    id: int
    status: OptionalStr = Field(default=None, validation_alias=AliasPath("status", "keyName"))
    power_state: OptionalStr = Field(default=None, validation_alias=AliasPath("powerState", "keyName"))
    active_transaction: OptionalTransaction = None
    last_transaction: OptionalTransaction = None


class TemplateDisk(ClassicModel):
    """A disk that a template's child lists. A captured template still lists swap, without ``disk_space``."""

    id: OptionalInt = None
    device: str
    disk_space: OptionalFloat = None
    units: OptionalStr = None


class TemplateChild(ClassicModel):
    """A template in one datacenter. Transactions and sizes live here, not on the parent."""

    id: int
    transaction_id: OptionalInt = None
    transaction: OptionalTransaction = None
    datacenter: OptionalStr = Field(default=None, validation_alias=AliasPath("datacenter", "name"))
    block_devices_disk_space_total: OptionalFloat = None
    block_devices: list[TemplateDisk] = Field(default_factory=list)


class Template(ClassicModel):
    """An image template group (parent) with its children. Right after a capture ``children`` can be empty."""

    id: int
    account_id: OptionalInt = None
    parent_id: OptionalInt = None
    name: OptionalStr = None
    note: OptionalStr = None
    global_identifier: OptionalStr = None
    create_date: OptionalTime = None
    status_id: OptionalInt = None
    transaction_id: OptionalInt = None
    transaction: OptionalTransaction = None
    children: list[TemplateChild] = Field(default_factory=list)

    @property
    def transactions_left(self) -> list[int]:
        """The ids of the transactions that still run on the parent or its children."""
        ids = [self.transaction_id, *(child.transaction_id for child in self.children)]
        return [one for one in ids if one is not None]


class NetworkStorage(ClassicModel):
    """A storage volume attached over the network: it is *not* part of an image. No credentials are read."""

    id: int
    nas_type: OptionalStr = None
    capacity_gb: OptionalInt = None
    service_resource_backend_ip_address: OptionalStr = None
    lun_id: OptionalStr = None
    mount_address: OptionalStr = Field(default=None, validation_alias="fileNetworkMountAddress")


class BareMetalServer(ClassicModel):
    """A bare metal server: customer-managed, listed and never exported."""

    id: int
    hostname: str
    domain: OptionalStr = None
    fully_qualified_domain_name: OptionalStr = None
    global_identifier: OptionalStr = None
    datacenter: OptionalStr = Field(default=None, validation_alias=AliasPath("datacenter", "name"))
    tag_references: list[dict[str, Any]] = Field(default_factory=list)
    inventory: dict[str, Any] = Field(default_factory=dict)

    @property
    def tags(self) -> list[str]:
        """The names of the server's tags."""
        return sorted(str(ref["tag"]["name"]) for ref in self.tag_references if ref.get("tag", {}).get("name"))
