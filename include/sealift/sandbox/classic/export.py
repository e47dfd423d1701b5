"""Exports: what ``copyToIcos`` accepts.

That bucket, location and key are checked is documented; the texts of the refusals are invented throughout.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic.errors import ApiError, active_transaction, bad_request, invalid_value, permission_denied

if TYPE_CHECKING:
    from sealift.sandbox.classic.transactions import Engine
    from sealift.sandbox.iam import Identity, Principal
    from sealift.sandbox.store import ObjectStore
    from sealift.sandbox.world import World

Doc = dict[str, Any]

_URI = re.compile(r"^cos://(?P<region>[^/]+)/(?P<bucket>[^/]+)/(?P<stem>.+)(?P<ext>\.[A-Za-z0-9]+)$")


def export(world: World, engine: Engine, store: ObjectStore, identity: Identity, group: Doc, configuration: Any) -> Doc:
    """Check an export and begin it.

    :param configuration: what the client sent: ``uri`` and ``ibmApiKey``.
    :returns: the transaction.
    :raises ApiError: where it is refused; nothing has begun then.
    """
    if not isinstance(configuration, dict) or not isinstance(configuration.get("uri"), str):
        raise bad_request("A configuration with a uri is needed.")
    if group["parentId"] is not None:
        raise invalid_value("Only a parent image template can be exported.")
    if group["accountId"] != world.account["id"]:
        raise permission_denied("This image template belongs to another account.")
    busy = [group["transactionId"], *(child["transactionId"] for child in world.children(group["id"]))]
    if any(busy):
        raise active_transaction()
    if not world.children(group["id"]) or not group["_source"]:
        raise ApiError("The image template has no disks.")
    match = _URI.match(configuration["uri"])
    if match is None:
        raise invalid_value("The uri must have the form cos://<region>/<bucket>/<path>.vhd.")
    _check_extension(world, match["ext"].lower())
    principal = _principal(world, identity, configuration)
    bucket = store.bucket(match["bucket"])
    if bucket is None or bucket.region != match["region"]:
        raise invalid_value(f"Bucket {match['bucket']} does not exist in location {match['region']}.")
    if not identity.may(principal, "write", bucket.name):
        raise permission_denied(f"The API key may not write to bucket {bucket.name}.")
    objects = _objects(world, group, bucket.name, match["stem"], match["ext"])
    if not world.switches.export_overwrites:
        for target in objects:
            if store.head(bucket.name, target["key"]) is not None:
                raise invalid_value(f"Object {target['key']} exists already.")
    limit = world.switches.exports_at_once
    if limit and sum(one["kind"] == "export" for one in world.running.values()) >= limit:
        raise ApiError(f"Only {limit} image exports may run at once.")
    return engine.start_export(group, objects)


def _check_extension(world: World, extension: str) -> None:
    if extension == ".vhd" or (extension == ".vmdk" and world.switches.export_vmdk == "write-vhd"):
        return
    if extension == ".vmdk":
        raise invalid_value("An image template that was not imported as VMDK can be exported as VHD only.")
    raise invalid_value("The uri must end in .vhd.")


def _principal(world: World, identity: Identity, configuration: Doc) -> Principal:
    key = configuration.get("ibmApiKey")
    if isinstance(key, str) and key:
        principal = identity.principal_for_api_key(key)
        if principal is None:
            raise permission_denied("The IBM Cloud API key is not valid.")
        return principal
    pair = (configuration.get("ibmAccessKey"), configuration.get("ibmSecretKey"))
    if world.switches.export_accepts_hmac and all(isinstance(one, str) and one for one in pair):
        known = identity.hmac_secret(str(pair[0]))
        if known is not None and known[0] == pair[1]:
            return known[1]
        raise permission_denied("The access key or secret key is not valid.")
    raise bad_request("An IBM Cloud API key is needed.")


def _objects(world: World, group: Doc, bucket: str, stem: str, extension: str) -> list[Doc]:
    """The objects to come: ``<stem>-<n><ext>``, counted over the captured disks, swap left out unless switched."""
    disks = sorted(group["_source"], key=lambda disk: int(disk["device"]))
    numbers = list(range(len(disks)))
    if world.switches.export_swap_takes_index:  # swap is device 1: whatever comes after it moves up
        numbers = [n if disk["device"] == "0" else n + 1 for n, disk in enumerate(disks)]
    return [
        {"bucket": bucket, "key": f"{stem}-{number}{extension}", "disk": disk}
        for number, disk in zip(numbers, disks, strict=True)
    ]
