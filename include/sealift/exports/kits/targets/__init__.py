"""What writes the files of a kit, by target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sealift.exports.kits.fit import Case
from sealift.exports.kits.models import Target
from sealift.exports.kits.targets import aws, azure, google, ibm_vpc, libvirt, openstack, vmware

WRITERS: Final[dict[Target, Callable[[Case], dict[str, bytes]]]] = {
    Target.IBM_VPC: ibm_vpc.files,
    Target.AWS: aws.files,
    Target.GOOGLE: google.files,
    Target.AZURE: azure.files,
    Target.OPENSTACK: openstack.files,
    Target.LIBVIRT: libvirt.files,
    Target.VMWARE: vmware.files,
}
