"""The rules of all targets, as data."""

from __future__ import annotations

from typing import Final

from sealift.exports.kits.fit import Rule
from sealift.exports.kits.rules import aws, azure, google, ibm_vpc, libvirt, openstack, vmware

ALL: Final[tuple[Rule, ...]] = (
    *ibm_vpc.RULES,
    *aws.RULES,
    *google.RULES,
    *azure.RULES,
    *openstack.RULES,
    *libvirt.RULES,
    *vmware.RULES,
)
