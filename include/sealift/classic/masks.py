"""All object masks in one place, and the allow-list that they make.

None of them names a password, user data or a credential. The API adds an object's local properties where a mask names
only relations, so every level names at least one local property; and a reply is pruned to its mask anyway, so that
nothing passes that was not asked for. Source: SLDN "Object masks"; properties as in softlayer-go's datatypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Tree = Mapping[str, "Tree"]

TRANSACTION = (
    "id,createDate,modifyDate,statusChangeDate,elapsedSeconds,"
    "transactionGroup[name],transactionStatus[name,friendlyName]"
)
SOFTWARE = "id,softwareLicense[id,softwareDescription[id,manufacturer,name,version,referenceCode]]"
BLOCK_DEVICE = (
    "id,device,mountType,mountMode,bootableFlag,hotPlugFlag,"
    "diskImage[id,capacity,units,name,description,metadataFlag,type[keyName]]"
)
TAGS = "tagReferences[id,tag[id,name]]"

# The account's own id: the cheapest call that needs a good key.
ACCOUNT_ID = "mask[id]"

DATACENTERS = "mask[id,name]"

# What selection and planning look at.
GUEST_PLANNING = (
    "mask[id,globalIdentifier,hostname,domain,fullyQualifiedDomainName,createDate,privateNetworkOnlyFlag,localDiskFlag,"
    "datacenter[id,name],status[keyName],powerState[keyName],dedicatedHost[id,name],"
    f"activeTransaction[{TRANSACTION}],blockDevices[{BLOCK_DEVICE}],{TAGS},"
    f"operatingSystem[{SOFTWARE}],softwareComponents[{SOFTWARE}]]"
)

# What the shared poll asks of a virtual server.
GUEST_STATE = (
    f"mask[id,status[keyName],powerState[keyName],activeTransaction[{TRANSACTION}],lastTransaction[id,elapsedSeconds]]"
)

# What `ibmcloud sl vs detail` shows, without the passwords and the user data that other clients fetch along.
GUEST_DETAIL = (
    "mask[id,globalIdentifier,fullyQualifiedDomainName,hostname,domain,createDate,modifyDate,provisionDate,notes,"
    "postInstallScriptUri,placementGroupId,dedicatedAccountHostOnlyFlag,transientGuestFlag,privateNetworkOnlyFlag,localDiskFlag,hourlyBillingFlag,"
    "primaryBackendIpAddress,primaryIpAddress,maxCpu,maxMemory,"
    "networkComponents[id,status,speed,maxSpeed,name,macAddress,primaryIpAddress,port,"
    "primarySubnet[id,addressSpace,networkIdentifier,cidr,gateway,netmask],"
    "securityGroupBindings[id,securityGroup[id,name]]],"
    "lastKnownPowerState[keyName,name],powerState[keyName,name],status[keyName,name],"
    "datacenter[id,name,longName],"
    "lastTransaction[id,modifyDate,transactionGroup[name],transactionStatus[name,friendlyName]],"
    "blockDeviceTemplateGroup[id,name,globalIdentifier],"
    f"operatingSystem[{SOFTWARE}],softwareComponents[{SOFTWARE}],"
    "billingItem[id,package[id,keyName],children[description,categoryCode],orderItem[id,preset[keyName]]],"
    f"{TAGS},networkVlans[id,name,vlanNumber,networkSpace],dedicatedHost[id,name],placementGroup[id,name]]"
)

BLOCK_DEVICES = f"mask[{BLOCK_DEVICE}]"
ATTRIBUTES = "mask[value,type[keyname,name]]"

# User name and password of a volume are local properties: naming others keeps them out.
NETWORK_STORAGE = "mask[id,nasType,capacityGb,serviceResourceBackendIpAddress,lunId,fileNetworkMountAddress]"

# What the shared poll asks of a template.
TEMPLATE = (
    "mask[id,accountId,parentId,name,note,globalIdentifier,createDate,statusId,transactionId,"
    f"transaction[{TRANSACTION}],"
    "children[id,transactionId,blockDevicesDiskSpaceTotal,datacenter[id,name],"
    f"transaction[{TRANSACTION}],blockDevices[id,device,diskSpace,units]]]"
)

# A template's name and age: without its copies and their transactions, most of which no longer matter.
TEMPLATE_NAME = "mask[id,accountId,parentId,name,createDate]"

# A bare metal server and what is in it; it is listed, never exported.
BARE_METAL = (
    "mask[id,globalIdentifier,hostname,domain,fullyQualifiedDomainName,provisionDate,notes,"
    "primaryIpAddress,primaryBackendIpAddress,memoryCapacity,processorPhysicalCoreAmount,"
    "datacenter[id,name],hardwareStatus[status],"
    "processors[id,hardwareComponentModel[name,manufacturer,version]],"
    "hardDrives[id,hardwareComponentModel[name,manufacturer,capacity,hardwareGenericComponentModel[capacity,units]]],"
    f"networkVlans[id,vlanNumber,networkSpace],operatingSystem[{SOFTWARE}],{TAGS}]"
)


def tree_of(mask: str) -> Tree:
    """The properties that a mask names, as a tree.

    :param mask: ``mask[a,b[c,d]]``.
    :returns: ``{"a": {}, "b": {"c": {}, "d": {}}}``.
    :raises ValueError: where brackets do not match.
    """
    root: dict[str, Any] = {}
    stack: list[dict[str, Any]] = [root]
    name = ""
    current: dict[str, Any] = {}
    for char in mask + ",":
        if char in "[],":
            if name.strip():
                current = stack[-1].setdefault(name.strip(), {})
            name = ""
            if char == "[":
                stack.append(current)
            elif char == "]":
                stack.pop()
                if not stack:
                    raise ValueError(f"the mask has a bracket too many: {mask}")
        else:
            name += char
    if len(stack) != 1:
        raise ValueError(f"the mask lacks a bracket: {mask}")
    tree: Tree = root.get("mask", root)
    return tree


def prune(value: Any, tree: Tree) -> Any:
    """What a mask asked for, of what came back: everything else is dropped, and so is every empty property.

    XML-RPC clients see null as an empty text, and REST leaves null relations out: dropping both makes them alike.

    :param value: the API's reply, or a part of it.
    :param tree: the mask's properties, from :func:`tree_of`.
    :returns: the same shape with the named properties only.
    """
    if isinstance(value, list):
        return [prune(one, tree) for one in value]
    if isinstance(value, Mapping):
        kept: dict[str, Any] = {}
        for name, below in tree.items():
            inner = value.get(name)
            if inner is None or inner == "":
                continue
            if not below and isinstance(inner, (Mapping, list)):
                continue  # a relation where the mask named a plain property: nobody vouches for what is in it
            kept[name] = prune(inner, below)
        return kept
    return value
