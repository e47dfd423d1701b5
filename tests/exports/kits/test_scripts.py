"""The scripts of the kits, run against stand-ins of the targets' command lines that note what they are asked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sealift.exports.kits import Kit, Target, build_kits, write_kits_to_folder
from tests.exports.kits.world import (
    ALL_CONVERTED,
    HOSTILE,
    READY,
    TWO,
    converted,
    disk,
    hostile_kits,
    manifest,
    record,
)

RunBare = Callable[[Path], subprocess.CompletedProcess[str]]

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")


class Desk:
    """A folder with a delivery and a kit, and stand-ins of some programs before all others on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "an export"
        self.folder.mkdir()
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.log = folder / "asked"
        self.tool("sleep", "")

    def tool(self, name: str, body: str) -> None:
        """Put a program there that notes its arguments, each on a line, and then does what ``body`` says."""
        path = self.tools / name
        path.write_text(
            f'#!/bin/bash\n{{ printf "%s" {name}; printf "\\x1f%s" "$@"; printf "\\x1e"; }} >>"$ASKED"\n{body}\n'
        )
        path.chmod(0o755)

    def kit(self, kit: Kit) -> Path:
        write_kits_to_folder(self.folder, kits=[kit])
        return self.folder / "kits" / kit.target

    def run(self, script: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return subprocess.run(
            [str(script)],
            env={
                "PATH": f"{self.tools}:{os.environ['PATH']}",
                "ASKED": str(self.log),
                "HERE": str(self.folder.parent),
                "HOME": str(self.folder.parent),
                "TMPDIR": str(self.folder.parent),
                **environment,
            },
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    @property
    def asked(self) -> list[list[str]]:
        return [one.split("\x1f") for one in self.log.read_text().split("\x1e") if one]

    def asked_for(self, *words: str) -> list[list[str]]:
        return [one for one in self.asked if one[: len(words)] == list(words)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def after(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


AWS_WORKS = """\
case "$1 $2" in
  "s3api head-object") echo "${SIZE:-46000000}"; exit "${HEAD:-0}" ;;
  "iam get-role") exit 1 ;;
  "iam put-role-policy") for one; do [ "${one#file://}" = "$one" ] || cp "${one#file://}" "$HERE/policy.json"; done ;;
  "ec2 import-image") for one; do [ "${one#file://}" = "$one" ] || cp "${one#file://}" "$HERE/containers.json"; done
    echo import-ami-1 ;;
  "ec2 describe-import-image-tasks")
    [ -e "$HERE/looked" ] && printf '%b\\n' "$ANSWER" || printf 'active\\tNone\\t20\\tconverting\\n'
    touch "$HERE/looked" ;;
esac"""


class TestAws:
    def kit(self, **changes: object) -> Kit:
        [kit] = build_kits(manifest(**changes), record(), READY, (), [Target.AWS])  # type: ignore[arg-type]
        return kit

    def test_one_task_is_submitted_with_a_token_and_waited_for(self, desk: Desk, tmp_path: Path) -> None:
        desk.tool("aws", AWS_WORKS)
        script = desk.kit(self.kit()) / "import.sh"

        done = desk.run(script, S3_BUCKET="my-bucket", ANSWER="completed\\tami-7\\t100\\tdone")

        assert (done.returncode, done.stderr) == (0, "")
        assert "The image is ami-7." in done.stdout
        [call] = desk.asked_for("aws", "ec2", "import-image")
        assert after(call, "--client-token") == "web101-101-20261123t0200z"
        assert after(call, "--boot-mode") == "legacy-bios"
        assert after(call, "--platform") == "Linux"
        [container] = json.loads((tmp_path / "containers.json").read_text())
        assert container["UserBucket"] == {"S3Bucket": "my-bucket", "S3Key": "web101-101/101-20261123T0200Z/disk-0.vhd"}
        assert len(desk.asked_for("sleep")) == 1

    @pytest.mark.parametrize(
        ("environment", "code", "words"),
        [
            ({"SIZE": "1"}, 65, "has 1 bytes, not 46000000"),
            ({"HEAD": "1"}, 66, "is not there"),
            ({"S3_BUCKET": "B|x"}, 64, "not the name of a bucket"),
            ({"S3_PREFIX": "a b|c"}, 64, "not a prefix"),
            ({"S3_BUCKET": ""}, 1, "S3_BUCKET"),
        ],
    )
    def test_nothing_is_imported_that_is_not_as_it_should_be(
        self, desk: Desk, environment: dict[str, str], code: int, words: str
    ) -> None:
        desk.tool("aws", AWS_WORKS)
        script = desk.kit(self.kit()) / "import.sh"

        done = desk.run(script, **{"S3_BUCKET": "my-bucket", **environment})

        assert done.returncode == code or (code == 1 and done.returncode > 0)
        assert words in done.stderr
        assert desk.asked_for("aws", "ec2", "import-image") == []

    def test_a_task_that_fails_says_why(self, desk: Desk) -> None:
        desk.tool("aws", AWS_WORKS)
        answer = "deleted\\tNone\\tNone\\tClientError: Unsupported kernel version"
        done = desk.run(desk.kit(self.kit()) / "import.sh", S3_BUCKET="my-bucket", ANSWER=answer)

        assert done.returncode == 1
        assert "Unsupported kernel version" in done.stderr
        assert "name a new CLIENT_TOKEN" in done.stderr
        script, answer = desk.folder / "kits/aws/import.sh", "completed\\tami-8\\t100\\tx"
        again = desk.run(script, S3_BUCKET="my-bucket", ANSWER=answer, CLIENT_TOKEN="two")
        assert again.returncode == 0, again.stderr
        assert after(desk.asked_for("aws", "ec2", "import-image")[0], "--client-token") == "two"

    def test_waiting_ends(self, desk: Desk) -> None:
        desk.tool("aws", AWS_WORKS)
        answer = "active\\tNone\\t20\\tconverting"
        done = desk.run(desk.kit(self.kit()) / "import.sh", S3_BUCKET="my-bucket", ANSWER=answer, WAIT_SECONDS="-1")

        assert done.returncode == 75
        assert "run this again" in done.stderr

    def test_the_role_is_made_for_one_bucket(self, desk: Desk, tmp_path: Path) -> None:
        desk.tool("aws", AWS_WORKS)
        done = desk.run(desk.kit(self.kit()) / "role.sh", S3_BUCKET="my-bucket")

        assert done.returncode == 0, done.stderr
        assert len(desk.asked_for("aws", "iam", "create-role")) == 1
        [call] = desk.asked_for("aws", "iam", "put-role-policy")
        assert after(call, "--policy-name") == "sealift-my-bucket"
        policy = json.loads((tmp_path / "policy.json").read_text())
        assert policy["Statement"][0]["Resource"] == ["arn:aws:s3:::my-bucket", "arn:aws:s3:::my-bucket/*"]


IBM_WORKS = """\
case "$1 $2" in
  "is image-create") touch "$HERE/made" ;;
  "is image")
    [ -e "$HERE/made" ] || exit 1
    if [ -e "$HERE/looked" ]; then printf '%s' "$ANSWER"; else echo '{"status": "pending"}'; fi
    touch "$HERE/looked" ;;
esac"""


@needs_jq
class TestIbmVpc:
    def run(self, desk: Desk, answer: dict[str, object], **environment: str) -> subprocess.CompletedProcess[str]:
        desk.tool("ibmcloud", IBM_WORKS)
        [kit] = build_kits(manifest(), record(), READY, (), [Target.IBM_VPC])
        return desk.run(desk.kit(kit) / "import.sh", ANSWER=json.dumps(answer), **environment)

    def test_the_image_is_made_from_the_bucket_and_compared(self, desk: Desk) -> None:
        done = self.run(desk, {"status": "available", "file": {"checksums": {"sha256": "a" * 64}}})

        assert (done.returncode, done.stderr) == (0, "")
        [call] = desk.asked_for("ibmcloud", "is", "image-create")
        assert call[3] == "web101-101-20261123t0200z"
        assert after(call, "--file") == "cos://eu-de/exports-eu/nightly/images/web101-101/101-20261123T0200Z/disk-0.vhd"
        assert after(call, "--os-name") == "debian-12-amd64"
        assert desk.asked_for("ibmcloud", "target") == [["ibmcloud", "target", "-r", "eu-de"]]

    def test_another_checksum_is_a_failure(self, desk: Desk) -> None:
        done = self.run(desk, {"status": "available", "file": {"checksums": {"sha256": "c" * 64}}})

        assert done.returncode == 1
        assert "not what was exported" in done.stderr

    def test_a_failed_image_says_why(self, desk: Desk) -> None:
        done = self.run(desk, {"status": "failed", "status_reasons": [{"code": "image_too_large"}]})

        assert done.returncode == 1
        assert "image_too_large" in done.stderr

    def test_an_image_that_is_there_is_not_made_again(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "made").touch()
        done = self.run(desk, {"status": "available"}, REGION="us-east")

        assert done.returncode == 0, done.stderr
        assert desk.asked_for("ibmcloud", "is", "image-create") == []
        assert desk.asked_for("ibmcloud", "target") == [["ibmcloud", "target", "-r", "us-east"]]


class TestGoogle:
    GCLOUD = """\
case "$*" in
  "compute images describe"*"value(status)"*) echo READY ;;
  *"images describe"* | *"image-imports describe"*) exit 1 ;;
esac"""

    def test_each_disk_is_copied_and_imported_the_boot_disk_alone_adapted(self, desk: Desk) -> None:
        desk.tool("gcloud", self.GCLOUD)
        [kit] = build_kits(manifest(TWO), record(), READY, (), [Target.GOOGLE])
        done = desk.run(desk.kit(kit) / "import.sh", PROJECT="p", LOCATION="us-central1", GCS_BUCKET="b")

        assert (done.returncode, done.stderr) == (0, "")
        boot, data = desk.asked_for("gcloud", "migration", "vms", "image-imports", "create")
        assert "--skip-os-adaptation" not in boot
        assert "--skip-os-adaptation" in data
        assert "--source-file=gs://b/web101-101/101-20261123T0200Z/disk-0.vhd" in boot
        assert "--target-project=projects/p/locations/global/targetProjects/p" in boot
        copies = desk.asked_for("gcloud", "storage", "cp")
        assert [one[-2] for one in copies] == [f"{desk.folder}/disk-0.vhd", f"{desk.folder}/disk-1.vhd"]

    def test_the_machine_gets_all_disks(self, desk: Desk) -> None:
        desk.tool("gcloud", '[[ "$*" != *describe* ]]')
        [kit] = build_kits(manifest(TWO), record(), READY, (), [Target.GOOGLE])
        done = desk.run(desk.kit(kit) / "server.sh", PROJECT="p", ZONE="us-central1-a", SUBNET="s")

        assert (done.returncode, done.stderr) == (0, "")
        [made] = desk.asked_for("gcloud", "compute", "disks", "create")
        assert made[4] == "web101-101-d1"
        [call] = desk.asked_for("gcloud", "compute", "instances", "create")
        wanted = {"--machine-type=n2-standard-2", "--disk=name=web101-101-d1,device-name=disk-1", "--subnet=s"}
        assert wanted < set(call)

    @pytest.mark.parametrize("script", ["import.sh", "server.sh"])
    def test_what_is_not_named_is_asked_for(self, desk: Desk, script: str) -> None:
        desk.tool("gcloud", "")
        [kit] = build_kits(manifest(), record(), READY, (), [Target.GOOGLE])
        done = desk.run(desk.kit(kit) / script)

        assert done.returncode != 0
        assert "in PROJECT" in done.stderr or "in ZONE" in done.stderr
        assert desk.asked == []


class TestAzure:
    AZ = """\
case "$1 $2" in
  "disk show") printf '%s' "${STATE:-}"; [ -n "${STATE:-}" ] ;;
  "disk grant-access") echo 'https://md-x.blob/abcd?sig=s' ;;
esac"""

    def run(self, desk: Desk, *, size: int = 1049088, **environment: str) -> subprocess.CompletedProcess[str]:
        desk.tool("az", self.AZ)
        desk.tool("azcopy", 'exit "${COPY:-0}"')
        image = converted("vhd-fixed", size=2**20)
        [kit] = build_kits(manifest([disk(size=2**20)]), record(), READY, [image], [Target.AZURE])
        (desk.folder / "disk-0.fixed.vhd").write_bytes(bytes(size))
        return desk.run(desk.kit(kit) / "import.sh", RESOURCE_GROUP="g", LOCATION="westeurope", **environment)

    def test_a_disk_is_made_written_and_closed(self, desk: Desk) -> None:
        done = self.run(desk)

        assert (done.returncode, done.stderr) == (0, "")
        [made] = desk.asked_for("az", "disk", "create")
        assert after(made, "--upload-size-bytes") == str(2**20 + 512)
        assert after(made, "--hyper-v-generation") == "V1"
        [copied] = desk.asked_for("azcopy", "copy")
        assert copied[2:4] == [f"{desk.folder}/disk-0.fixed.vhd", "https://md-x.blob/abcd?sig=s"]
        assert len(desk.asked_for("az", "disk", "revoke-access")) == 1
        assert "sig=" not in done.stdout + done.stderr

    def test_access_is_revoked_when_the_copy_breaks(self, desk: Desk) -> None:
        done = self.run(desk, COPY="1")

        assert done.returncode == 1
        assert len(desk.asked_for("az", "disk", "revoke-access")) == 1

    def test_a_file_of_another_size_is_not_sent(self, desk: Desk) -> None:
        done = self.run(desk, size=1048576)

        assert done.returncode == 65
        assert "1049088 bytes of a fixed VHD" in done.stderr
        assert desk.asked == []

    @pytest.mark.parametrize(("state", "copies"), [("ReadyToUpload", 1), ("ActiveUpload", 1), ("Unattached", 0)])
    def test_a_disk_that_is_there_is_not_made_again(self, desk: Desk, state: str, copies: int) -> None:
        done = self.run(desk, STATE=state)

        assert done.returncode == 0, done.stderr
        assert desk.asked_for("az", "disk", "create") == []
        assert len(desk.asked_for("azcopy")) == copies


class TestOpenstack:
    def test_images_are_uploaded_with_their_properties(self, desk: Desk) -> None:
        desk.tool("openstack", '[ "$1 $2" != "image show" ]')
        [kit] = build_kits(manifest(TWO), record(), READY, ALL_CONVERTED, [Target.OPENSTACK])
        done = desk.run(desk.kit(kit) / "import.sh")

        assert (done.returncode, done.stderr) == (0, "")
        boot, data = desk.asked_for("openstack", "image", "create")
        assert after(boot, "--file") == f"{desk.folder}/disk-0.qcow2"
        assert (after(boot, "--min-disk"), after(data, "--min-disk")) == ("25", "101")
        assert {"hw_disk_bus=virtio", "os_distro=debian", "os_version=12"} < set(boot)
        assert "--property" not in data

    def test_an_image_that_is_there_is_left_alone(self, desk: Desk) -> None:
        desk.tool("openstack", "")
        [kit] = build_kits(manifest(), record(), READY, ALL_CONVERTED[:1], [Target.OPENSTACK])
        done = desk.run(desk.kit(kit) / "import.sh")

        assert done.returncode == 0, done.stderr
        assert desk.asked_for("openstack", "image", "create") == []


class TestLibvirt:
    VIRSH = """\
case "$1" in
  net-info) [ -n "${NETWORKS:-}" ] ;;
  net-list) [ -z "${NETWORKS:-}" ] || printf '%s\\n' web101-101-eth0 web101-101-eth1 ;;
  define) cp "$2" "$HERE/defined.xml" ;;
esac"""

    def run(self, desk: Desk, **environment: str) -> subprocess.CompletedProcess[str]:
        desk.tool("virsh", self.VIRSH)
        [kit] = build_kits(manifest(), record(), READY, ALL_CONVERTED[:1], [Target.LIBVIRT])
        (desk.folder / "disk-0.qcow2").write_bytes(b"disk")
        return desk.run(desk.kit(kit) / "import.sh", **environment)

    def test_disks_networks_and_domain_are_put_in_place(self, desk: Desk, tmp_path: Path) -> None:
        pool = tmp_path / "pool"
        done = self.run(desk, TARGET_DIR=str(pool))

        assert (done.returncode, done.stderr) == (0, "")
        assert (pool / "disk-0.qcow2").read_bytes() == b"disk"
        assert f'<source file="{pool}/disk-0.qcow2" />' in (tmp_path / "defined.xml").read_text()
        assert [one[2] for one in desk.asked_for("virsh", "net-start")] == ["web101-101-eth0", "web101-101-eth1"]
        assert len(desk.asked_for("virsh", "net-define")) == 2

    def test_what_is_there_is_left_alone(self, desk: Desk, tmp_path: Path) -> None:
        pool = tmp_path / "pool"
        pool.mkdir()
        (pool / "disk-0.qcow2").write_bytes(b"in use")
        done = self.run(desk, TARGET_DIR=str(pool), NETWORKS="there")

        assert done.returncode == 0, done.stderr
        assert (pool / "disk-0.qcow2").read_bytes() == b"in use"
        assert desk.asked_for("virsh", "net-define") == desk.asked_for("virsh", "net-start") == []

    def test_a_folder_that_would_break_the_description_is_refused(self, desk: Desk) -> None:
        done = self.run(desk, TARGET_DIR="/a|b & c")

        assert done.returncode == 64
        assert desk.asked == []


class TestVmware:
    def put(self, desk: Desk, body: bytes, *, known: str | None) -> Path:
        image = converted("vmdk-stream", sha256=known)
        [kit] = build_kits(manifest(), record(), READY, [image], [Target.VMWARE])
        (desk.folder / "disk-0.vmdk").write_bytes(body)
        return desk.kit(kit) / "package.sh"

    SHA_OF_DISK = hashlib.sha256(b"buffer").hexdigest()

    @pytest.mark.parametrize("known", [None, SHA_OF_DISK])
    def test_descriptor_and_manifest_lie_beside_the_disk(self, desk: Desk, known: str | None) -> None:
        done = desk.run(self.put(desk, b"buffer", known=known))

        assert (done.returncode, done.stderr) == (0, "")
        lines = (desk.folder / "server.mf").read_text().splitlines()
        assert lines[1] == f"SHA256(disk-0.vmdk)= {self.SHA_OF_DISK}"
        assert (desk.folder / "server.ovf").read_bytes() == (desk.folder / "kits/vmware/server.ovf").read_bytes()
        sums = {line[7:].partition(")= ")[0]: line.partition(")= ")[2] for line in lines}
        check = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        subprocess.run(["sha256sum", "--check", "--quiet"], input=check, text=True, cwd=desk.folder, check=True)

    def test_a_disk_that_is_another_is_refused(self, desk: Desk) -> None:
        done = desk.run(self.put(desk, b"other", known=self.SHA_OF_DISK))

        assert done.returncode == 65
        assert "not what the kit was made for" in done.stderr
        assert not (desk.folder / "server.mf").exists()

    def test_a_disk_that_is_missing_is_named(self, desk: Desk) -> None:
        script = self.put(desk, b"", known=None)
        (desk.folder / "disk-0.vmdk").unlink()
        done = desk.run(script)

        assert done.returncode == 66
        assert "disk-0.vmdk is not there" in done.stderr


@pytest.mark.parametrize("value", HOSTILE)
def test_no_word_of_an_export_is_ever_run(desk: Desk, tmp_path: Path, value: str) -> None:
    for tool in ("aws", "ibmcloud", "jq", "gcloud", "az", "azcopy", "openstack", "virsh", "qemu-img", "touch", "rm"):
        desk.tool(tool, 'if [ "${0##*/}" = touch ] || [[ "$*" = *" /" ]]; then : >"$HERE/PWNED"; fi; exit 3')
    names = {"S3_BUCKET": "bbb", "PROJECT": "p", "LOCATION": "l", "GCS_BUCKET": "b", "ZONE": "z", "RESOURCE_GROUP": "g"}
    ran = 0
    for kit in hostile_kits(value, ALL_CONVERTED if value == HOSTILE[0] else None):
        place = desk.kit(kit)
        for script in place.glob("*.sh"):
            desk.run(script, **names)
            ran += 1
    assert ran >= 9
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize(
    ("target", "tool"),
    [(Target.AWS, "aws"), (Target.AZURE, "az"), (Target.LIBVIRT, "virsh"), (Target.GOOGLE, "gcloud")],
)
def test_a_missing_program_is_named(tmp_path: Path, run_bare: RunBare, target: Target, tool: str) -> None:
    write_kits_to_folder(tmp_path, kits=build_kits(manifest(), record(), READY, (), [target]))
    done = run_bare(tmp_path / "kits" / target / "import.sh")

    assert done.returncode == 69
    assert done.stderr == f"{tool} is not installed: see README.md.\n"


@pytest.fixture
def run_bare(tmp_path: Path) -> RunBare:
    """Run a script with bash and nothing else on the path."""
    bare = tmp_path / "bare"
    bare.mkdir()
    bash = shutil.which("bash")
    assert bash is not None
    (bare / "bash").symlink_to(bash)

    def run(script: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [bash, str(script)], env={"PATH": str(bare)}, capture_output=True, text=True, check=False, timeout=30
        )

    return run
