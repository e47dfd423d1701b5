"""The files of every kit, held against what the target's own tools and models read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from botocore.model import ServiceModel
from botocore.session import Session
from botocore.validate import ParamValidator

from sealift.exports.kits import DriverPlace, GuestSystem, Kit, Target, build_kits
from sealift.exports.kits.rules import ibm_vpc
from sealift.exports.kits.rules import vmware as vmware_rules
from sealift.exports.kits.targets import aws, azure, google, libvirt, openstack, vmware
from sealift.exports.kits.text import hcl, plain
from tests.exports.kits.world import (
    ALL_CONVERTED,
    GIB,
    GPT_EFI,
    HOSTILE,
    READY,
    TWO,
    case,
    converted,
    disk,
    drivers,
    hostile_kits,
    inside,
    interface,
    manifest,
    record,
)

WORLDS: dict[str, Any] = {
    "nothing known": lambda: build_kits(manifest(TWO), record(maxCpu=None, maxMemory=None, networkComponents=None)),
    "ready": lambda: build_kits(manifest(TWO), record(), READY, ALL_CONVERTED),
    "by UEFI": lambda: build_kits(
        manifest([disk(partition_table="gpt: 2 partitions", partitions=GPT_EFI)]), record(), inside(firmware="efi")
    ),
    "Windows": lambda: build_kits(manifest(), record(), inside(os_id="windows", os_version="2019")),
    **{f"hostile {number}": lambda value=value: hostile_kits(value) for number, value in enumerate(HOSTILE)},
    "hostile, converted": lambda: hostile_kits(HOSTILE[2], ALL_CONVERTED),
}


@pytest.fixture(scope="module", params=WORLDS, ids=list(WORLDS))
def kits(request: pytest.FixtureRequest) -> list[Kit]:
    made: list[Kit] = WORLDS[request.param]()
    return made


def kit_of(target: Target, one: Any = None, **changes: Any) -> Kit:
    [kit] = build_kits(manifest(**changes), record(), READY if one is None else one, (), [target])
    return kit


def test_there_is_a_kit_for_every_target_with_a_page_and_a_fit_report(kits: list[Kit]) -> None:
    assert [kit.target for kit in kits] == list(Target)
    for kit in kits:
        assert {"README.md", "fit.json", "fit.md"} < set(kit.files)
        assert list(kit.files) == sorted(kit.files)
        for name, body in kit.files.items():
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
            text = body.decode()
            assert text.endswith("\n")
            assert not text.endswith("\n\n"), name
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u202e]", text), name


def test_the_same_export_has_the_same_kits() -> None:
    for make in WORLDS.values():
        assert [kit.files for kit in make()] == [kit.files for kit in make()]


def test_every_script_can_be_read_by_bash(kits: list[Kit], tmp_path: Path) -> None:
    for kit in kits:
        for name, body in kit.files.items():
            if name.endswith(".sh"):
                script = tmp_path / f"{kit.target}-{name}"
                script.write_bytes(body)
                done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
                assert (done.returncode, done.stderr) == (0, "")
                assert body.startswith(b"#!/usr/bin/env bash\n")
                assert b"\nset -euo pipefail\n" in body


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_the_scripts(kits: list[Kit], tmp_path: Path) -> None:
    scripts = []
    for kit in kits:
        for name, body in kit.files.items():
            if name.endswith(".sh"):
                script = tmp_path / f"{kit.target}-{name}"
                script.write_bytes(body)
                scripts.append(str(script))
    done = subprocess.run(
        ["shellcheck", "--severity=warning", "--shell=bash", *scripts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_json_and_xml_file_parses(kits: list[Kit]) -> None:
    for kit in kits:
        for name, body in kit.files.items():
            if name.endswith(".json"):
                json.loads(body)
            elif name.endswith((".xml", ".ovf")):
                ET.fromstring(body)


def test_no_value_breaks_out_of_a_page(kits: list[Kit]) -> None:
    for kit in kits:
        for name in ("README.md", "fit.md"):
            page = kit.files[name].decode()
            assert page.count("```") % 2 == 0
            outside = re.sub(r"`[^`\n]+`", "", re.sub(r"```.*?```", "", page, flags=re.DOTALL).replace("\\\\", ""))
            shown = re.sub(r"\\.", "", outside)
            assert not re.search(r"<(?!https://)", shown), shown
            assert "](http" not in shown
            table = [row for row in page.replace("\\|", "").splitlines() if row.startswith("|")]
            assert {row.count("|") for row in table} <= {4, 5, 7}


# IBM Cloud VPC


def hcl_of(kit: Kit) -> dict[str, Any]:
    hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not installed")
    parsed: dict[str, Any] = {}
    for name, body in kit.files.items():
        if name.endswith((".tf", ".example")):
            for key, value in hcl2.loads(body.decode()).items():
                if isinstance(value, list):
                    parsed.setdefault(key, []).extend(value)
                else:
                    parsed[key] = value
    return parsed


def bare(value: Any) -> Any:
    """Newer versions of python-hcl2 keep the quotes of names and texts."""
    return value.strip('"') if isinstance(value, str) else value


def test_terraform_files_parse_and_declare_what_they_use(kits: list[Kit]) -> None:
    kit = kits[0]
    declared = {bare(name) for one in hcl_of(kit)["variable"] for name in one}
    blocks = [pair for one in hcl_of(kit)["resource"] for pair in one.items()]
    resources = {(bare(type_), bare(name)) for type_, ones in blocks for name in ones}

    text = b"".join(body for name, body in kit.files.items() if name.endswith(".tf")).decode()
    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared
    used = set(re.findall(r"\b(ibm_\w+)\.(\w+)\.", text)) | set(re.findall(r"\b(ibm_\w+)\.(\w+)\[", text))
    assert used <= resources
    filled = set(re.findall(r"^(\w+) +=", kit.files["terraform.tfvars.example"].decode(), re.MULTILINE))
    assert filled < declared


needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


def terraform(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run Terraform without asking anybody for anything."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    return subprocess.run(
        ["terraform", *arguments],
        cwd=folder,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@needs_terraform
def test_terraform_reads_the_files_and_would_write_them_the_same(kits: list[Kit], tmp_path: Path) -> None:
    for name, body in kits[0].files.items():
        if name.endswith((".tf", ".tfvars.example")):
            (tmp_path / name.removesuffix(".example")).write_bytes(body)

    done = terraform(tmp_path, "fmt", "-check", "-diff")

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@needs_terraform
def test_terraform_takes_hostile_words_for_words(tmp_path: Path) -> None:
    words = [*HOSTILE, "$${x} %%{y}", "\\${x}"]
    blocks = [f'variable "v{number}" {{\n  default = {hcl(value)}\n}}\n' for number, value in enumerate(words)]
    (tmp_path / "variables.tf").write_text("".join(blocks))

    done = terraform(tmp_path, "console", typed=f"jsonencode([{', '.join(f'var.v{n}' for n in range(len(words)))}])\n")

    assert done.returncode == 0, done.stderr
    assert json.loads(json.loads(done.stdout)) == [plain(value) for value in words]


def variable_default(kit: Kit, name: str) -> str | None:
    block = re.search(rf'variable "{name}" \{{\n(.*?)\n\}}', kit.files["variables.tf"].decode(), re.DOTALL)
    assert block is not None
    found = re.search(r"^  default +=(.*)$", block[1], re.MULTILINE)
    return None if found is None else found[1].strip()


def test_terraform_gets_image_name_system_and_profile_of_the_export() -> None:
    [kit] = build_kits(manifest(TWO), record(), READY, (), [Target.IBM_VPC])

    assert variable_default(kit, "image_href") == (
        '"cos://eu-de/exports-eu/nightly/images/web101-101/101-20261123T0200Z/disk-0.vhd"'
    )
    assert variable_default(kit, "operating_system") == '"debian-12-amd64"'
    assert variable_default(kit, "profile") == '"cx2-2x4"'
    assert variable_default(kit, "data_volumes") == '{ "data-01" = 108 }'
    assert variable_default(kit, "tags") == '["prod"]'
    assert variable_default(kit, "zone") is None
    [converted_kit] = build_kits(manifest(), record(), READY, [converted("qcow2")], [Target.IBM_VPC])
    assert (variable_default(converted_kit, "image_href") or "").endswith('/disk-0.qcow2"')


@pytest.mark.parametrize(
    ("vcpus", "memory", "profile"),
    [
        (1, 1024, "cx2-2x4"),
        (2, 4096, "cx2-2x4"),
        (2, 4097, "bx2-2x8"),
        (2, 8193, "mx2-2x16"),
        (2, 16385, "mx2-4x32"),
        (3, 8192, "cx2-4x8"),
        (16, 65536, "bx2-16x64"),
        (56, 242 * 1024, "bx2-64x256"),
        (128, 1024 * 1024, "mx2-128x1024"),
    ],
)
def test_the_profile_is_the_smallest_that_holds_the_server(vcpus: int, memory: int, profile: str) -> None:
    assert ibm_vpc.profile(case(about={"maxCpu": vcpus, "maxMemory": memory})) == profile


# AWS


@pytest.fixture(scope="module")
def ec2() -> ServiceModel:
    return Session().get_service_model("ec2")


def check_request(model: ServiceModel, operation: str, request: dict[str, Any]) -> None:
    report = ParamValidator().validate(request, model.operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()


def test_ec2_s_own_model_takes_the_requests(kits: list[Kit], ec2: ServiceModel) -> None:
    files = kits[1].files
    containers = json.loads(files["containers.json"])

    check_request(ec2, "ImportImage", {"DiskContainers": containers, "ClientToken": "x", "BootMode": "uefi"})
    for one in containers:
        check_request(ec2, "ImportSnapshot", {"DiskContainer": one})
    check_request(ec2, "GetInstanceTypesFromInstanceRequirements", json.loads(files["instance-requirements.json"]))


def test_ec2_s_model_refuses_what_is_wrong(ec2: ServiceModel) -> None:
    with pytest.raises(AssertionError, match="Unknown parameter"):
        check_request(ec2, "ImportImage", {"DiskContainers": [{"Url": "x", "Bucket": "b"}]})


def test_all_disks_go_into_one_import_the_boot_disk_first() -> None:
    [kit] = build_kits(manifest([disk(0, device="2"), disk(1, device="0")]), record(), READY, (), [Target.AWS])

    containers = json.loads(kit.files["containers.json"])
    assert [one["UserBucket"]["S3Key"] for one in containers] == ["@S3_PREFIX@disk-1.vhd", "@S3_PREFIX@disk-0.vhd"]
    assert {one["Format"] for one in containers} == {"VHD"}


def test_the_role_may_be_taken_by_the_service_alone_and_reads_one_bucket() -> None:
    files = kit_of(Target.AWS).files
    trust, role = json.loads(files["trust-policy.json"]), json.loads(files["role-policy.json"])

    assert trust["Statement"][0]["Principal"] == {"Service": "vmie.amazonaws.com"}
    assert trust["Statement"][0]["Condition"] == {"StringEquals": {"sts:Externalid": "vmimport"}}
    [reads] = [one for one in role["Statement"] if "s3:GetObject" in one["Action"]]
    assert reads["Resource"] == ["arn:aws:s3:::@S3_BUCKET@", "arn:aws:s3:::@S3_BUCKET@/*"]
    assert not any("Put" in action or "Delete" in action for one in role["Statement"] for action in one["Action"])


def test_aws_is_asked_for_types_as_large_as_the_server() -> None:
    asked = aws.instance_requirements(case(about={"maxCpu": 8, "maxMemory": 32768}))

    assert asked["InstanceRequirements"] == {"VCpuCount": {"Min": 8}, "MemoryMiB": {"Min": 32768}}


# Google Cloud


@pytest.mark.parametrize(
    ("vcpus", "memory", "type_"),
    [
        (1, 1024, "n2-standard-2"),
        (2, 8192, "n2-standard-2"),
        (2, 8193, "n2-highmem-2"),
        (5, 4096, "n2-standard-8"),
        (81, 4096, "n2-highmem-80"),
        (None, None, "n2-standard-2"),
    ],
)
def test_a_machine_type_is_chosen(vcpus: int | None, memory: int | None, type_: str) -> None:
    assert google.machine_type(case(about={"maxCpu": vcpus, "maxMemory": memory})) == type_


# Azure


def test_the_template_attaches_the_disks_that_are_uploaded(kits: list[Kit]) -> None:
    files = kits[3].files
    template = json.loads(files["server.json"])

    [machine] = [one for one in template["resources"] if one["type"] == "Microsoft.Compute/virtualMachines"]
    storage = machine["properties"]["storageProfile"]
    attached = [storage["osDisk"], *storage["dataDisks"]]
    ids = [one["managedDisk"]["id"] for one in attached]
    uploaded = re.findall(r"^upload \S+ \d+ (\S+) (?:boot|data)$", files["import.sh"].decode(), re.MULTILINE)
    assert ids == [f"[resourceId('Microsoft.Compute/disks', '{name}')]" for name in uploaded]
    assert {one["createOption"] for one in attached} == {"Attach"}
    assert [one["lun"] for one in storage["dataDisks"]] == list(range(len(storage["dataDisks"])))
    used = set(re.findall(r"parameters\('(\w+)'\)", files["server.json"].decode()))
    assert used == set(template["parameters"])


def test_uploads_have_whole_mib_and_a_footer() -> None:
    text = build_kits(manifest(TWO), record(), None, (), [Target.AZURE])[0].files["import.sh"].decode()

    sizes = [int(size) for size in re.findall(r"^upload \S+ (\d+)", text, re.MULTILINE)]
    assert sizes == [25 * GIB + 512, 100 * GIB + 2**20 + 512]


@pytest.mark.parametrize(
    ("vcpus", "memory", "size"),
    [(2, 8192, "Standard_D2s_v5"), (2, 8193, "Standard_E2s_v5"), (96, 672 * 1024, "Standard_E96s_v5")],
)
def test_a_size_is_chosen(vcpus: int, memory: int, size: str) -> None:
    assert azure.vm_size(case(about={"maxCpu": vcpus, "maxMemory": memory})) == size


# OpenStack


def test_the_stack_names_only_what_it_has(kits: list[Kit]) -> None:
    stack = json.loads(kits[4].files["stack.json"])

    assert stack["heat_template_version"] == "2018-08-31"
    text = json.dumps(stack)
    assert set(re.findall(r'"get_param": "(\w+)"', text)) == set(stack["parameters"])
    assert set(re.findall(r'"get_resource": "(\w+)"', text)) == set(stack["resources"])
    mapping = stack["resources"]["server"]["properties"]["block_device_mapping_v2"]
    assert [one["boot_index"] for one in mapping] == [0, *[-1] * (len(mapping) - 1)]
    uploaded = re.findall(r"^import \S+ (\S+) \S+ (\d+)", kits[4].files["import.sh"].decode(), re.MULTILINE)
    images = {one["default"] for name, one in stack["parameters"].items() if "image" in name}
    assert {name for name, _ in uploaded} == images


@pytest.mark.parametrize(
    ("system", "wanted"),
    [
        (READY, {"hw_disk_bus": "virtio", "hw_vif_model": "virtio", "os_distro": "debian", "os_version": "12"}),
        (drivers(virtio_blk="absent"), {"hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"}),
        (drivers(virtio_pci="absent"), {"hw_disk_bus": "sata", "hw_machine_type": "q35"}),
        (drivers(virtio_net="absent"), {"hw_vif_model": "e1000"}),
        (inside(firmware="efi"), {"hw_firmware_type": "uefi", "hw_machine_type": "q35"}),
        (inside(os_id="windows", os_version="2019"), {"os_type": "windows", "os_distro": "windows"}),
        (inside(os_id="--property", os_version="x y"), {"os_type": "linux"}),
    ],
)
def test_properties_follow_what_is_known(system: GuestSystem, wanted: dict[str, str]) -> None:
    found = openstack.properties(case(inside=system))

    assert wanted.items() <= found.items()
    assert "--property" not in found.values()


# libvirt


def attributes(element: ET.Element, path: str) -> dict[str, str]:
    found = element.find(path)
    assert found is not None
    return dict(found.attrib)


@pytest.mark.skipif(shutil.which("virt-xml-validate") is None, reason="virt-xml-validate is not installed")
def test_libvirt_s_schema_takes_domain_and_networks(kits: list[Kit], tmp_path: Path) -> None:
    for name, body in kits[5].files.items():
        if name.endswith(".xml"):
            file = tmp_path / name
            file.write_bytes(body)
            done = subprocess.run(["virt-xml-validate", str(file)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_the_domain_is_the_recorded_server() -> None:
    [kit] = build_kits(manifest(TWO), record(), READY, [], [Target.LIBVIRT])
    domain = ET.fromstring(kit.files["domain.xml"])

    assert (domain.findtext("name"), domain.findtext("memory"), domain.findtext("vcpu")) == ("web101-101", "4096", "2")
    disks = [(attributes(one, "source")["file"], attributes(one, "target")) for one in domain.iter("disk")]
    assert disks == [
        ("/var/lib/libvirt/images/web101-101/disk-0.qcow2", {"dev": "vda", "bus": "virtio"}),
        ("/var/lib/libvirt/images/web101-101/disk-1.qcow2", {"dev": "vdb", "bus": "virtio"}),
    ]
    macs = [one.get("address") for one in domain.iter("mac")]
    assert macs == ["06:f9:65:9b:23:65", "06:11:22:33:44:55"]
    networks = [attributes(one, "source")["network"] for one in domain.iter("interface")]
    assert networks == ["web101-101-eth0", "web101-101-eth1"]
    network = ET.fromstring(kit.files["network-eth0.xml"])
    assert attributes(network, "ip") == {"address": "10.240.142.1", "netmask": "255.255.255.192"}
    assert network.find("forward") is None, "it must not meet the server that it was made of"


def test_a_domain_without_recorded_networks_has_none() -> None:
    [kit] = build_kits(manifest(), record(networkComponents=None), READY, [], [Target.LIBVIRT])

    assert b"<interface" not in kit.files["domain.xml"]
    assert not any(name.startswith("network-") for name in kit.files)


def test_two_interfaces_in_one_subnet_share_no_network_with_one_address() -> None:
    same = [interface("eth", port, f"06:00:00:00:00:0{port}", "10.0.0.9", "10.0.0.1", "PRIVATE") for port in (0, 1)]
    [kit] = build_kits(manifest(), record(networkComponents=same), READY, [], [Target.LIBVIRT])

    assert [name for name in kit.files if name.startswith("network-")] == ["network-eth0.xml"]
    networks = re.findall(r'network="([^"]+)"', kit.files["domain.xml"].decode())
    assert networks == ["web101-101-eth0", "default"]


@pytest.mark.parametrize(
    ("system", "bus", "first"),
    [
        (drivers(virtio_blk="module"), "scsi", "sda"),
        (drivers(virtio_pci="absent"), "sata", "sda"),
        (None, "virtio", "vda"),
    ],
)
def test_the_bus_is_one_that_the_kernel_knows(system: GuestSystem | None, bus: str, first: str) -> None:
    [kit] = build_kits(manifest(), record(), system, [], [Target.LIBVIRT])
    domain = ET.fromstring(kit.files["domain.xml"])

    assert attributes(domain, "devices/disk/target") == {"dev": first, "bus": bus}
    assert (domain.find("devices/controller") is not None) == (bus == "scsi")


def test_disks_are_named_as_linux_names_them() -> None:
    assert [libvirt.target_name(one, "vd") for one in (0, 25, 26, 27, 701, 702)] == [
        "vda",
        "vdz",
        "vdaa",
        "vdab",
        "vdzz",
        "vdaaa",
    ]


# VMware

OVF = f"{{{vmware.OVF}}}"
RASD = f"{{{vmware.RASD}}}"


def test_the_descriptor_refers_only_to_what_it_has(kits: list[Kit]) -> None:
    envelope = ET.fromstring(kits[6].files["server.ovf"])

    files = {one.get(f"{OVF}id"): one.get(f"{OVF}href") for one in envelope.iter(f"{OVF}File")}
    disks = {one.get(f"{OVF}diskId"): one for one in envelope.iter(f"{OVF}Disk")}
    items = list(envelope.iter(f"{OVF}Item"))
    ids = [one.findtext(f"{RASD}InstanceID") for one in items]
    assert len(ids) == len(set(ids))
    assert {one.get(f"{OVF}fileRef") for one in disks.values()} == set(files)
    assert all(int(one.get(f"{OVF}capacity", "0")) % 512 == 0 for one in disks.values())
    used = [one.findtext(f"{RASD}HostResource") for one in items if one.findtext(f"{RASD}ResourceType") == "17"]
    assert used == [f"ovf:/disk/{name}" for name in disks]
    parents = {one.findtext(f"{RASD}Parent") for one in items} - {None}
    assert parents <= set(ids)
    networks = {one.get(f"{OVF}name") for one in envelope.iter(f"{OVF}Network")}
    assert {one.findtext(f"{RASD}Connection") for one in items} - {None} == networks
    for one in items:
        names = [part.tag for part in one]
        assert names == sorted(names), "the schema wants the parts in this order"


def test_the_descriptor_is_the_recorded_server() -> None:
    [kit] = build_kits(manifest(TWO), record(), READY, ALL_CONVERTED, [Target.VMWARE])
    envelope = ET.fromstring(kit.files["server.ovf"])

    items = list(envelope.iter(f"{OVF}Item"))
    quantity = {one.findtext(f"{RASD}ResourceType"): one.findtext(f"{RASD}VirtualQuantity") for one in items}
    assert (quantity["3"], quantity["4"]) == ("2", "4096")
    capacities = [one.get(f"{OVF}capacity") for one in envelope.iter(f"{OVF}Disk")]
    assert capacities == [str(25 * GIB), str(100 * GIB + 512)]
    assert [one.get(f"{OVF}size") for one in envelope.iter(f"{OVF}File")] == ["31000000", "31000000"]
    assert b'vmw:key="firmware" vmw:value="bios"' in kit.files["server.ovf"]


def test_the_manifest_holds_the_digest_of_every_file() -> None:
    [kit] = build_kits(manifest(TWO), record(), READY, ALL_CONVERTED, [Target.VMWARE])

    assert kit.files["server.mf"].decode().splitlines() == [
        f"SHA256(server.ovf)= {hashlib.sha256(kit.files['server.ovf']).hexdigest()}",
        f"SHA256(disk-0.vmdk)= {'b' * 64}",
        f"SHA256(disk-1.vmdk)= {'b' * 64}",
    ]
    assert "server.mf" not in kit_of(Target.VMWARE).files, "a digest of a file that does not exist yet"


@pytest.mark.parametrize("count", [7, 8, 15, 16, 30])
@pytest.mark.parametrize("ahci", [False, True])
def test_no_two_disks_share_a_place(count: int, ahci: bool) -> None:
    places = drivers(vmw_pvscsi="absent", mptspi="absent") if ahci else READY
    [kit] = build_kits(manifest([disk(number) for number in range(count)]), record(), places, (), [Target.VMWARE])
    envelope = ET.fromstring(kit.files["server.ovf"])

    at = [
        (one.findtext(f"{RASD}Parent"), one.findtext(f"{RASD}AddressOnParent"))
        for one in envelope.iter(f"{OVF}Item")
        if one.findtext(f"{RASD}ResourceType") == "17"
    ]
    assert len(set(at)) == count
    assert ahci or all(place != "7" for _, place in at)
    assert all(int(place or 0) <= 15 for _, place in at)


@pytest.mark.parametrize(
    ("system", "number", "name"),
    [
        (READY, "96", "otherLinux64Guest"),
        (inside(os_id="debian", os_version="11"), "96", "debian11_64Guest"),
        (inside(os_id="ubuntu", os_version="22.04"), "94", "ubuntu64Guest"),
        (inside(os_id="windows", os_version="2019"), "103", "windows2019srv_64Guest"),
        (inside(os_id="gentoo", os_version="2"), "101", "otherLinux64Guest"),
        (GuestSystem(os_id="", os_version=""), "102", "otherGuest64"),
    ],
)
def test_vsphere_is_told_which_system_it_is(system: GuestSystem, number: str, name: str) -> None:
    assert vmware.guest(case(inside=system)) == (number, name)


def test_adapters_follow_the_drivers() -> None:
    assert vmware_rules.adapter(case()) == "VmxNet3"
    e1000 = inside(drivers={"vmxnet3": DriverPlace.ABSENT, "e1000": DriverPlace.MODULE})
    assert vmware_rules.adapter(case(inside=e1000)) == "E1000"


def test_hostile_words_stay_words() -> None:
    for value in HOSTILE:
        kits = hostile_kits(value)
        domain = ET.fromstring(kits[5].files["domain.xml"])
        assert domain.findtext("title") == plain(value)
        assert domain.find("evil") is None
        envelope = ET.fromstring(kits[6].files["server.ovf"])
        assert envelope.findtext(f".//{OVF}OperatingSystemSection/{OVF}Description") == plain(value)
        summary = json.loads(kits[0].files["fit.json"])
        assert summary["hostname"] == plain(value)
