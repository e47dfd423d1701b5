"""The types that the sandbox knows, property by property (names: softlayer-go's ``datatypes``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic import catalog, guest_views, template_views
from sealift.sandbox.classic.schema import Relation, Schema, TypeDef
from sealift.sandbox.classic.transaction_views import transaction_view

if TYPE_CHECKING:
    from sealift.sandbox.world import World

Doc = dict[str, Any]

GUEST = "SoftLayer_Virtual_Guest"
GROUP = "SoftLayer_Virtual_Guest_Block_Device_Template_Group"
DEVICE = "SoftLayer_Virtual_Guest_Block_Device"
IMAGE = "SoftLayer_Virtual_Disk_Image"
TRANSACTION = "SoftLayer_Provisioning_Version1_Transaction"
HOST = "SoftLayer_Virtual_DedicatedHost"
HARDWARE = "SoftLayer_Hardware_Server"
STORAGE = "SoftLayer_Network_Storage"
ACCOUNT = "SoftLayer_Account"

_OPEN = Relation()
_OPEN_MANY = Relation(many=True)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _guest_of(doc: Doc, world: World) -> Doc | None:
    return world.guests.get(doc["_guest"]) if doc.get("_guest") else None


def _datacenter_of(doc: Doc, _world: World) -> Doc:
    return catalog.datacenter(doc["_dc"])


_GUEST = TypeDef(
    name=GUEST,
    locals=(
        "accountId", "createDate", "dedicatedAccountHostOnlyFlag", "deviceStatusId", "domain",
        "fullyQualifiedDomainName", "globalIdentifier", "hostname", "hourlyBillingFlag", "id", "lastPowerStateId",
        "lastVerifiedDate", "localDiskFlag", "managedResourceFlag", "maxCpu", "maxCpuUnits", "maxMemory",
        "metricPollDate", "modifyDate", "notes", "placementGroupId", "postInstallScriptUri",
        "primaryBackendIpAddress", "primaryIpAddress", "privateNetworkOnlyFlag", "provisionDate", "startCpus",
        "statusId", "transientGuestFlag", "typeId", "uuid",
    ),
    relations={
        "account": Relation(ACCOUNT, resolve=lambda _doc, world: world.account),
        "activeTransaction": Relation(TRANSACTION, resolve=guest_views.active_transaction),
        "activeTransactions": Relation(TRANSACTION, many=True, resolve=guest_views.active_transactions),
        "allowedHost": Relation(resolve=guest_views.allowed_host),
        "attachedNetworkStorages": Relation(STORAGE, many=True, resolve=guest_views.network_storage),
        "attributes": Relation(many=True, resolve=guest_views.attributes),
        "billingItem": Relation(resolve=guest_views.billing_item),
        "blockDevices": Relation(DEVICE, many=True, resolve=guest_views.block_devices),
        "blockDeviceTemplateGroup": Relation(GROUP),
        "datacenter": Relation(resolve=guest_views.location),
        "dedicatedHost": Relation(HOST, resolve=guest_views.dedicated_host),
        "deviceStatus": Relation(resolve=guest_views.device_status),
        "lastKnownPowerState": Relation(resolve=guest_views.power_state),
        "lastOperatingSystemReload": Relation(TRANSACTION),
        "lastTransaction": Relation(TRANSACTION, resolve=guest_views.last_transaction),
        "location": Relation(resolve=guest_views.location),
        "networkComponents": Relation(many=True, resolve=guest_views.network_components),
        "networkMonitors": Relation(many=True, resolve=lambda _doc, _world: []),
        "networkStorage": Relation(STORAGE, many=True, resolve=guest_views.network_storage),
        "networkVlans": Relation(many=True, resolve=guest_views.network_vlans),
        "operatingSystem": Relation(resolve=guest_views.operating_system),
        "operatingSystemReferenceCode": Relation(
            resolve=lambda doc, _world: guest_views.system(doc)["referenceCode"]
        ),
        "pendingMigrationFlag": Relation(resolve=lambda _doc, _world: False),
        "powerState": Relation(resolve=guest_views.power_state),
        "softwareComponents": Relation(many=True, resolve=guest_views.software_components),
        "sshKeys": Relation(many=True, resolve=lambda _doc, _world: []),
        "status": Relation(resolve=guest_views.status),
        "tagReferences": Relation(many=True, resolve=guest_views.tag_references),
        "type": Relation(resolve=lambda _doc, _world: {"keyName": "PUBLIC", "name": "Public"}),
        "userData": Relation(many=True, resolve=guest_views.user_data),
        "users": Relation(many=True, resolve=lambda _doc, _world: []),
    },
    unused=_words(
        "accountOwnedPoolFlag allowedNetworkStorage allowedNetworkStorageReplicas antivirusSpywareSoftwareComponent "
        "applicationDeliveryController availableMonitoring averageDailyPrivateBandwidthUsage "
        "averageDailyPublicBandwidthUsage backendNetworkComponents backendRouters bandwidthAllocation "
        "bandwidthAllotmentDetail billingCycleBandwidthUsage billingCyclePrivateBandwidthUsage "
        "billingCyclePublicBandwidthUsage blockCancelBecauseDisconnectedFlag browserConsoleAccessLogs consoleData "
        "consoleIpAddressFlag consoleIpAddressRecord continuousDataProtectionSoftwareComponent controlPanel "
        "currentBandwidthSummary evaultNetworkStorage firewallServiceComponent frontendNetworkComponents "
        "frontendRouters gpuCount gpuType guestBootParameter hardwareFunctionDescription host "
        "hostIpsSoftwareComponent inboundPrivateBandwidthUsage inboundPublicBandwidthUsage internalTagReferences "
        "latestNetworkMonitorIncident metricTrackingObject metricTrackingObjectId monitoringRobot "
        "monitoringServiceComponent monitoringServiceEligibilityFlag monitoringUserNotification "
        "networkMonitorIncidents openCancellationTicket orderedPackageId outboundPrivateBandwidthUsage "
        "outboundPublicBandwidthUsage overBandwidthAllocationFlag placementGroup primaryBackendNetworkComponent "
        "primaryNetworkComponent projectedOverBandwidthAllocationFlag projectedPublicBandwidthUsage recentEvents "
        "regionalGroup regionalInternetRegistry reservedCapacityGroup reservedCapacityGroupFlag "
        "reservedCapacityGroupInstance scaleAssets scaleMember scaledFlag securityScanRequests serverRoom "
        "supplementalCreateObjectOptions transientWebhookURI upgradeRequest virtualRack virtualRackId virtualRackName"
    ),
)  # fmt: skip

_GROUP = TypeDef(
    name=GROUP,
    locals=(
        "accountId", "createDate", "globalIdentifier", "id", "name", "note", "parentId", "publicFlag", "statusId",
        "summary", "transactionId", "userRecordId",
    ),
    relations={
        "account": Relation(ACCOUNT, resolve=lambda _doc, world: world.account),
        "accountReferences": Relation(many=True, resolve=template_views.account_references),
        "blockDevices": Relation(many=True, resolve=template_views.block_devices),
        "blockDevicesDiskSpaceTotal": Relation(resolve=template_views.disk_space),
        "byolFlag": Relation(resolve=lambda _doc, _world: False),
        "children": Relation(GROUP, many=True, resolve=template_views.children),
        "datacenter": Relation(resolve=template_views.datacenter),
        "datacenters": Relation(many=True, resolve=template_views.datacenters),
        "firstChild": Relation(GROUP, resolve=template_views.first_child),
        "flexImageFlag": Relation(resolve=lambda _doc, _world: False),
        "imageType": Relation(resolve=template_views.image_type),
        "imageTypeKeyName": Relation(resolve=lambda _doc, _world: "SYSTEM"),
        "nextGenFlag": Relation(resolve=lambda _doc, _world: False),
        "parent": Relation(GROUP, resolve=template_views.parent),
        "sshKeys": Relation(many=True, resolve=lambda _doc, _world: []),
        "status": Relation(resolve=template_views.status),
        "tagReferences": Relation(many=True, resolve=guest_views.tag_references),
        "transaction": Relation(TRANSACTION, resolve=template_views.transaction),
    },
    unused=_words("accountContacts region regions storageRepository"),
)  # fmt: skip

_DEVICE = TypeDef(
    name=DEVICE,
    locals=(
        "bootableFlag", "createDate", "device", "diskImageId", "guestId", "hotPlugFlag", "id", "modifyDate",
        "mountMode", "mountType", "statusId", "uuid",
    ),
    relations={
        "diskImage": Relation(IMAGE),
        "guest": Relation(GUEST, resolve=_guest_of),
        "status": _OPEN,
    },
)  # fmt: skip

_IMAGE = TypeDef(
    name=IMAGE,
    locals=(
        "capacity", "checksum", "createDate", "description", "id", "modifyDate", "name", "parentId",
        "storageRepositoryId", "typeId", "units", "uuid",
    ),
    relations={
        "bootableVolumeFlag": _OPEN,
        "localDiskFlag": _OPEN,
        "metadataFlag": _OPEN,
        "softwareReferences": _OPEN_MANY,
        "storageRepository": _OPEN,
        "type": _OPEN,
    },
    unused=_words(
        "billingItem blockDevices coalescedDiskImages copyOnWriteFlag importedDiskType isEncrypted localDiskFlag "
        "newestSourceDiskImage parentImage sourceDiskImage storageGroups storageRepositoryType supportedHardware "
        "templateBlockDevice"
    ),
)  # fmt: skip

_TRANSACTION = TypeDef(
    name=TRANSACTION,
    locals=(
        "createDate", "elapsedSeconds", "guestId", "hardwareId", "id", "modifyDate", "statusChangeDate",
    ),
    relations={
        "guest": Relation(GUEST, resolve=_guest_of),
        "pendingTransactions": _OPEN_MANY,
        "transactionGroup": _OPEN,
        "transactionStatus": _OPEN,
    },
    unused=_words("account hardware location ticketScheduledActionReference"),
)  # fmt: skip

_HOST = TypeDef(
    name=HOST,
    locals=(
        "accountId",
        "cpuCount",
        "createDate",
        "diskCapacity",
        "id",
        "memoryCapacity",
        "modifyDate",
        "name",
        "notes",
    ),
    relations={
        "account": Relation(ACCOUNT, resolve=lambda _doc, world: world.account),
        "datacenter": Relation(resolve=_datacenter_of),
        "guests": Relation(GUEST, many=True, resolve=lambda doc, world: world.guests_on_host(doc["id"])),
    },
    unused=_words("allocationStatus backendRouter billingItem internalTagReferences tagReferences pciDevices"),
)

_STORAGE = TypeDef(
    name=STORAGE,
    locals=(
        "accountId", "capacityGb", "createDate", "guestId", "hardwareId", "hostId", "id", "nasType", "notes",
        "password", "serviceProviderId", "serviceResourceBackendIpAddress", "serviceResourceName", "storageTypeId",
        "username",
    ),
    relations={
        "allowedHardware": Relation(HARDWARE, many=True, resolve=lambda _doc, _world: []),
        "allowedVirtualGuests": Relation(
            GUEST, many=True, resolve=lambda doc, world: [world.guests[one] for one in doc["_allowed"]]
        ),
        "bytesUsed": _OPEN,
        "credentials": _OPEN_MANY,
        "fileNetworkMountAddress": _OPEN,
        "iops": _OPEN,
        "lunId": _OPEN,
        "osType": _OPEN,
        "serviceResource": Relation(
            resolve=lambda doc, _world: {"id": 1, "datacenter": catalog.datacenter(doc["_dc"])}
        ),
        "storageType": _OPEN,
    },
    unused=_words(
        "account activeTransactions allowedIpAddresses allowedSubnets billingItem iscsiLuns "
        "iscsiTargetIpAddresses hasEncryptionAtRest parentVolume replicationPartners replicationStatus schedules "
        "snapshotCapacityGb snapshots staasVersion storageTierLevel totalBytesUsed volumeStatus virtualGuest"
    ),
)  # fmt: skip

_ACCOUNT = TypeDef(
    name=ACCOUNT,
    locals=(
        "accountManagedResourcesFlag", "accountStatusId", "allowedPptpVpnQuantity", "brandId", "city", "companyName",
        "country", "createDate", "email", "firstName", "id", "isReseller", "lastName", "lateFeeProtectionFlag",
        "modifyDate", "officePhone", "postalCode", "state", "statusDate",
    ),
    relations={
        "blockDeviceTemplateGroups": Relation(GROUP, many=True, resolve=lambda _doc, world: world.shown_groups()),
        "bareMetalInstances": Relation(HARDWARE, many=True, resolve=lambda _doc, _world: []),
        "dedicatedHosts": Relation(
            HOST, many=True, resolve=lambda _doc, world: list(world.dedicated_hosts.values())
        ),
        "hardware": Relation(HARDWARE, many=True, resolve=lambda _doc, world: list(world.hardware.values())),
        "hourlyVirtualGuests": Relation(
            GUEST,
            many=True,
            resolve=lambda _doc, world: [one for one in world.guests.values() if one["hourlyBillingFlag"]],
        ),
        "iscsiNetworkStorage": Relation(STORAGE, many=True, resolve=lambda _doc, world: world.volumes_of("ISCSI")),
        "monthlyVirtualGuests": Relation(
            GUEST,
            many=True,
            resolve=lambda _doc, world: [one for one in world.guests.values() if not one["hourlyBillingFlag"]],
        ),
        "nasNetworkStorage": Relation(STORAGE, many=True, resolve=lambda _doc, world: world.volumes_of("NAS")),
        "networkStorage": Relation(STORAGE, many=True, resolve=lambda _doc, world: list(world.volumes.values())),
        "portableStorageVolumes": Relation(many=True, resolve=lambda _doc, world: world.portable_volumes()),
        "privateBlockDeviceTemplateGroups": Relation(
            GROUP,
            many=True,
            resolve=lambda _doc, world: [one for one in world.shown_groups() if one["parentId"] is None],
        ),
        "users": Relation(many=True, resolve=lambda _doc, world: [world.user]),
        "virtualGuests": Relation(GUEST, many=True, resolve=lambda _doc, world: list(world.guests.values())),
    },
    unused=_words(
        "activeVirtualLicenses adcLoadBalancers billingInfo datacentersWithSubnetAllocations masterUser networkVlans "
        "openTickets pendingEvents reservedCapacityGroups sshKeys subnets tags tickets virtualPrivateRack"
    ),
)  # fmt: skip

SCHEMA = Schema([_GUEST, _GROUP, _DEVICE, _IMAGE, _TRANSACTION, _HOST, _STORAGE, _ACCOUNT])
"""All types. Bare metal servers are open: what they are masked with is not the sandbox's business."""


def view_of(transaction: Doc, world: World) -> Doc:
    """:returns: the transaction's reply as a method returns it, unmasked."""
    type_ = SCHEMA.type(TRANSACTION)
    return SCHEMA.render(type_, transaction_view(transaction, world), {}, world)
