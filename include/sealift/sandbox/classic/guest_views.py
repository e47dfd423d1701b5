"""The relational properties of a guest, made from its short document.

A guest's document holds its local properties under their own names, and under names that begin with an underscore
what the rest is made from. Strings that begin with PLANTED are secrets put there to be found: whoever copies them
anywhere has read what it should not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic import catalog
from sealift.sandbox.classic.transaction_views import transaction_view
from sealift.sandbox.classic.values import stable_uuid

if TYPE_CHECKING:
    from sealift.sandbox.world import World

Doc = dict[str, Any]

_BLOCK_DEVICE_BASE = 900_000_000
_DISK_IMAGE_BASE = 1_000_000_000


def block_devices(guest: Doc, _world: World | None = None) -> list[Doc]:
    """All block devices: boot, swap, data, CD and metadata, in the order of their numbers as recorded."""
    disks = [_device(guest, disk["device"], _disk_image(guest, disk)) for disk in guest["_disks"]]
    swap = {"device": "1", "gb": 2, "kind": "swap"}
    disks.append(_device(guest, "1", _disk_image(guest, swap)))
    cd = _device(guest, "3", None)
    cd.update(mountType="CD", mountMode="RO", hotPlugFlag=1)
    disks.append(cd)
    metadata = {"device": "7", "gb": 64, "kind": "metadata"}
    disks.append(_device(guest, "7", _disk_image(guest, metadata)))
    return sorted(disks, key=lambda one: int(one["device"]))


def block_device_id(guest: Doc, device: str) -> int:
    """:returns: the id of a guest's block device."""
    return int(_BLOCK_DEVICE_BASE + guest["_n"] * 16 + int(device))


def _device(guest: Doc, device: str, image: Doc | None) -> Doc:
    doc: Doc = {
        "id": block_device_id(guest, device),
        "bootableFlag": 1 if device == "0" else 0,
        "createDate": guest["createDate"],
        "device": device,
        "diskImageId": image["id"] if image else None,
        "guestId": guest["id"],
        "hotPlugFlag": 0,
        "modifyDate": None,
        "mountMode": "RW",
        "mountType": "Disk",
        "statusId": 1,
        "uuid": stable_uuid("vbd", guest["id"], device),
        "status": {"keyName": "CONNECTED", "name": "Connected"},
        "_guest": guest["id"],
    }
    if image is not None:
        doc["diskImage"] = image
    return doc


def _disk_image(guest: Doc, disk: Doc) -> Doc:
    kind, device = disk["kind"], disk["device"]
    number = _DISK_IMAGE_BASE + guest["_n"] * 16 + int(device)
    name = {"swap": f"{guest['id']}-SWAP", "metadata": f"{guest['hostname']} - Metadata"}.get(
        kind, guest["fullyQualifiedDomainName"] if device == "0" else f"{guest['hostname']} - Disk {device}"
    )
    type_id = 246 if kind == "swap" else 241
    return {
        "id": number,
        "capacity": disk["gb"],
        "checksum": None,
        "createDate": guest["createDate"],
        "description": name,
        "modifyDate": None,
        "name": name,
        "parentId": None,
        "storageRepositoryId": 2330744,
        "typeId": type_id,
        "units": "MB" if kind == "metadata" else "GB",
        "uuid": stable_uuid("vdi", guest["id"], device),
        "type": catalog.DISK_TYPES[type_id],
        "metadataFlag": kind == "metadata",
        "bootableVolumeFlag": device == "0",
        "localDiskFlag": guest["localDiskFlag"],
        "softwareReferences": [_software_reference(guest)] if device == "0" else [],
        "storageRepository": {"id": 2330744, "capacity": 6000.0, "description": "sandbox repository"},
    }


def _software_reference(guest: Doc) -> Doc:
    return {"id": guest["_n"] + 1, "softwareDescriptionId": 2748, "softwareDescription": system(guest)}


def system(guest: Doc) -> Doc:
    """:returns: the description of the guest's operating system."""
    return catalog.SYSTEMS[guest["_os"]]


def _component(guest: Doc, description: Doc, slot: int) -> Doc:
    user = "Administrator" if guest["_os"] == "windows" else "root"
    word = "os" if slot == 0 else "software"
    return {
        "id": 65_000_000 + guest["_n"] * 8 + slot,
        "hardwareId": None,
        "manufacturerLicenseInstance": "",
        "passwords": [
            {
                "id": 30_000_000 + guest["_n"] * 8 + slot,
                "username": user,
                "password": f"PLANTED-{word}-password-{guest['id']}",
                "notes": f"PLANTED-{word}-note-{guest['id']}",
                "port": None,
            }
        ],
        "softwareLicense": {"id": 15_892, "softwareDescriptionId": 2748, "softwareDescription": description},
    }


def operating_system(guest: Doc, _world: World) -> Doc:
    """The operating system with its passwords, which only a mask brings out."""
    return _component(guest, system(guest), 0)


def software_components(guest: Doc, world: World) -> list[Doc]:
    """The operating system and, on a few guests, third-party software."""
    more = [_component(guest, catalog.THIRD_PARTY[name], slot + 1) for slot, name in enumerate(guest["_software"])]
    return [operating_system(guest, world), *more]


def user_data(guest: Doc, _world: World) -> list[Doc]:
    """The customer's own start-up data."""
    if not guest["_userdata"]:
        return []
    return [{"value": guest["_userdata"], "type": {"keyname": "USER_DATA", "name": "User Data"}}]


def attributes(guest: Doc, world: World) -> list[Doc]:
    """Attributes, user data among them. ``type.keyname`` has a lower-case n: recorded."""
    boot = {"value": "HVM", "type": {"keyname": "VIRTUALIZATION_MODE", "name": "Virtualization Mode"}}
    return [boot, *user_data(guest, world)]


def tag_references(guest: Doc, _world: World) -> list[Doc]:
    """Tags of a guest, a bare metal server or a template."""
    return [
        {
            "id": guest["id"] % 1_000_000 * 10 + position,
            "resourceTableId": guest["id"],
            "tagId": tag_id(name),
            "tag": {"id": tag_id(name), "name": name, "internal": 0},
        }
        for position, name in enumerate(guest["_tags"])
    ]


def tag_id(name: str) -> int:
    """:returns: a tag's id, the same for the same name."""
    return int(stable_uuid("tag", name)[:6], 16)


def status(guest: Doc, _world: World) -> Doc:
    """The guest's status."""
    return catalog.GUEST_STATUS[guest["_status"]]


def power_state(guest: Doc, _world: World) -> Doc:
    """The guest's power state."""
    return catalog.POWER[guest["_power"]]


def device_status(_guest: Doc, _world: World) -> Doc:
    """What ``slcli vs list`` shows as a status."""
    return {"id": 5, "keyName": "ACTIVE", "name": "Active"}


def location(guest: Doc, _world: World) -> Doc:
    """The datacenter of a guest, host, template child or volume."""
    return catalog.datacenter(guest["_dc"])


def dedicated_host(guest: Doc, world: World) -> Doc | None:
    """The dedicated host that the guest runs on, if any."""
    return world.dedicated_hosts.get(guest["_host"]) if guest["_host"] else None


def active_transactions(guest: Doc, world: World) -> list[Doc]:
    """What runs on the guest, newest first."""
    running = [one for one in world.running_on_guest(guest["id"]) if world.shown(one)]
    return [transaction_view(one, world) for one in reversed(running)]


def active_transaction(guest: Doc, world: World) -> Doc | None:
    """The newest of what runs on the guest."""
    running = active_transactions(guest, world)
    return running[0] if running else None


def last_transaction(guest: Doc, world: World) -> Doc | None:
    """The newest transaction of all, running or not."""
    newest = world.last_of_guest.get(guest["id"])
    if newest and not world.shown(world.transactions[newest]):
        earlier = (one["id"] for one in world.transactions.values() if one["guestId"] == guest["id"])
        newest = max((one for one in earlier if one < newest), default=None)
    return transaction_view(world.transactions[newest], world) if newest else None


def network_storage(guest: Doc, world: World) -> list[Doc]:
    """Volumes attached over the network: none of them is part of an image."""
    return [world.volumes[number] for number in guest["_volumes"]]


def allowed_host(guest: Doc, world: World) -> Doc | None:
    """The iSCSI initiator of the guest, with the credential that a mask brings out."""
    if not any(one["nasType"] == "ISCSI" for one in network_storage(guest, world)):
        return None
    return {
        "id": 1_500_000 + guest["_n"],
        "accountId": guest["accountId"],
        "credentialId": 1_600_000 + guest["_n"],
        "name": f"iqn.2025-01.com.ibm:sandbox-{guest['_n']}",
        "resourceTableId": guest["id"],
        "resourceTableName": "VIRTUAL_GUEST",
        "credential": {
            "id": 1_600_000 + guest["_n"],
            "username": f"IBM02SU{guest['accountId']}-V{guest['_n']}",
            "password": f"PLANTED-chap-password-{guest['id']}",
        },
    }


def network_components(guest: Doc, world: World) -> list[Doc]:
    """The private and, unless the guest is private only, the public network interface."""
    faces = [(0, "PRIVATE", guest["primaryBackendIpAddress"])]
    if guest["primaryIpAddress"]:
        faces.append((1, "PUBLIC", guest["primaryIpAddress"]))
    return [
        {
            "id": 88_000_000 + guest["_n"] * 2 + port,
            "guestId": guest["id"],
            "macAddress": f"06:00:{guest['_n'] >> 8 & 255:02x}:{guest['_n'] & 255:02x}:0{port}:01",
            "maxSpeed": 1000,
            "name": "eth",
            "port": port,
            "primaryIpAddress": address,
            "speed": 1000,
            "status": "ACTIVE",
            "primarySubnet": {
                "id": 2_447_534 + port,
                "addressSpace": space,
                "cidr": 26,
                "gateway": address.rsplit(".", 1)[0] + ".1",
                "netmask": "255.255.255.192",
                "networkIdentifier": address.rsplit(".", 1)[0] + ".0",
                "subnetType": "PRIMARY",
            },
            "securityGroupBindings": [],
            "networkVlan": network_vlans(guest, world)[0 if port == 0 else -1],
        }
        for port, space, address in faces
    ]


def network_vlans(guest: Doc, _world: World) -> list[Doc]:
    """The VLANs of the guest's interfaces."""
    private = {"id": 3_151_180, "name": None, "networkSpace": "PRIVATE", "vlanNumber": 924}
    public = {"id": 3_151_178, "name": None, "networkSpace": "PUBLIC", "vlanNumber": 823}
    return [private, public] if guest["primaryIpAddress"] else [private]


def billing_item(guest: Doc, _world: World) -> Doc:
    """What is billed; a disk's kind (SAN or LOCAL) can be read off its description."""
    place = "LOCAL" if guest["localDiskFlag"] else "SAN"
    memory = f"{guest['maxMemory'] // 1024} GB"
    children: list[Doc] = [
        {"categoryCode": "ram", "description": memory, "nextInvoiceTotalRecurringAmount": 0},
        *(
            {
                "categoryCode": f"guest_disk{position}",
                "description": f"{disk['gb']} GB ({place})",
                "nextInvoiceTotalRecurringAmount": round(disk["gb"] * 0.11, 3),
                "recurringFee": str(round(disk["gb"] * 0.11, 3)),
            }
            for position, disk in enumerate(guest["_disks"])
        ),
    ]
    return {
        "id": 899_000_000 + guest["_n"],
        "nextInvoiceTotalRecurringAmount": 122.082,
        "package": {"id": 1035, "keyName": "SUSPEND_CLOUD_SERVER", "name": "Public Virtual Server (hourly)"},
        "children": children,
        "nextInvoiceChildren": children,
        "orderItem": {
            "id": 865_000_000 + guest["_n"],
            "preset": {"keyName": "B1_2X4X25"},
            "order": {"id": 11_000_000 + guest["_n"], "userRecord": {"username": "sandbox-buyer"}},
        },
    }
