"""Command line tools against the store: the aws CLI, rclone and s5cmd, each as a person would run it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.conformance

MIB = 2**20
TEXT = '{"what": "a configuration record"}'
Run = Callable[..., subprocess.CompletedProcess[str]]


def program(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{name} is not beside the interpreter: install requirements-dev.lock"
    return str(path)


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    def call(*command: object, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(word) for word in command],
            env={**environment, "HOME": str(tmp_path), **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture
def aws(run: Run, endpoint: Any) -> Run:
    options = ["--endpoint-url", endpoint.url, "--region", "us-east-1", "--output", "json"]
    options += ["--ca-bundle", str(endpoint.ca)] if endpoint.ca else []
    keys = {"AWS_ACCESS_KEY_ID": endpoint.access_key, "AWS_SECRET_ACCESS_KEY": endpoint.secret_key}
    return lambda *words, **more: run(program("aws"), *options, *words, **keys, **more)


@pytest.fixture
def rclone(run: Run, endpoint: Any) -> Run:
    settings = {
        "RCLONE_CONFIG_S_TYPE": "s3",
        "RCLONE_CONFIG_S_PROVIDER": "IBMCOS" if endpoint.ours else "Ceph",
        "RCLONE_CONFIG_S_ENDPOINT": endpoint.url,
        "RCLONE_CONFIG_S_ACCESS_KEY_ID": endpoint.access_key,
        "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": endpoint.secret_key,
        "RCLONE_CONFIG_S_FORCE_PATH_STYLE": "true",
        "RCLONE_CONFIG_S_UPLOAD_CUTOFF": "8M",
        "RCLONE_CONFIG_S_CHUNK_SIZE": "5M",
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_RETRIES": "1",
        "RCLONE_LOW_LEVEL_RETRIES": "1",
    }
    if endpoint.ours:
        settings["RCLONE_CONFIG_S_LOCATION_CONSTRAINT"] = "us-south-standard"
    if endpoint.ca:
        settings["RCLONE_CA_CERT"] = str(endpoint.ca)
    return lambda *words, **more: run(program("rclone"), *words, **settings, **more)


@pytest.fixture
def s5cmd(run: Run, endpoint: Any) -> Run:
    options = ["--endpoint-url", endpoint.url, "--retry-count", "0"]
    options += ["--no-verify-ssl"] if endpoint.ca else []  # it has no way to name an authority
    keys = {
        "AWS_ACCESS_KEY_ID": endpoint.access_key,
        "AWS_SECRET_ACCESS_KEY": endpoint.secret_key,
        "AWS_REGION": "us-east-1",
    }
    return lambda *words, **more: run(program("s5cmd"), *options, *words, **keys, **more)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with files that make a tool take each of its ways: none, small, many, in parts."""
    choose, folder = random.Random(11), tmp_path / "tree"
    for name, size in {"empty": 0, "small.json": 100, "deep/er/ü b.txt": 5000, "disk.vhd": 21 * MIB + 5}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(choose.randbytes(size))
    (folder / "small.json").write_text(TEXT)
    for number in range(30):
        (folder / f"many-{number}").write_bytes(choose.randbytes(number))
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_aws_copies_a_tree_both_ways(aws: Run, bucket_name: str, tree: Path, tmp_path: Path) -> None:
    aws("s3", "mb", f"s3://{bucket_name}")
    aws("s3", "cp", "--recursive", tree, f"s3://{bucket_name}/a")
    aws("s3", "sync", f"s3://{bucket_name}/a", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)
    assert aws("s3", "sync", tree, f"s3://{bucket_name}/a", "--size-only").stdout == ""
    listed = aws("s3", "ls", f"s3://{bucket_name}/a/").stdout
    assert "PRE deep/" in listed
    assert f"{21 * MIB + 5} disk.vhd" in listed
    aws("s3", "mv", f"s3://{bucket_name}/a/small.json", f"s3://{bucket_name}/b/moved.json")
    keys = json.loads(aws("s3api", "list-objects-v2", "--bucket", bucket_name, "--prefix", "b/").stdout)["Contents"]
    assert [one["Key"] for one in keys] == ["b/moved.json"]
    aws("s3", "rb", "--force", f"s3://{bucket_name}")
    assert aws("s3", "ls", f"s3://{bucket_name}", check=False).returncode != 0


def test_aws_api_calls(aws: Run, endpoint: Any, bucket_name: str, tmp_path: Path) -> None:
    def api(operation: str, *words: object) -> Any:
        out = aws("s3api", operation, "--bucket", bucket_name, *words).stdout
        return json.loads(out) if out else None

    (tmp_path / "f").write_bytes(b"data")
    api("create-bucket")
    put = api("put-object", "--key", "k", "--body", tmp_path / "f", "--metadata", "guest=1", "--tagging", "a=b")
    head = api("head-object", "--key", "k")
    assert (head["ETag"], head["Metadata"], head["ContentLength"]) == (put["ETag"], {"guest": "1"}, 4)
    assert api("get-object-tagging", "--key", "k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    api("get-object", "--key", "k", "--range", "bytes=1-2", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b"at"
    refused = aws("s3api", "head-object", "--bucket", bucket_name, "--key", "none", check=False)
    assert refused.returncode != 0
    assert "404" in refused.stderr
    assert api("list-object-versions")["Versions"][0]["VersionId"] == "null"
    api("delete-object", "--key", "k")
    api("delete-bucket")
    if endpoint.ours:  # radosgw 16 looks at neither
        api("create-bucket", "--create-bucket-configuration", "LocationConstraint=eu-de-vault")
        assert api("get-bucket-location")["LocationConstraint"] == "eu-de-vault"
        api("put-object", "--key", "k", "--body", tmp_path / "f", "--if-none-match", "*")
        again = ("put-object", "--bucket", bucket_name, "--key", "k", "--body", tmp_path / "f", "--if-none-match", "*")
        assert "PreconditionFailed" in aws("s3api", *again, check=False).stderr
        api("delete-object", "--key", "k")
        api("delete-bucket")


def test_rclone_copies_and_checks_a_tree(rclone: Run, bucket_name: str, tree: Path, tmp_path: Path) -> None:
    rclone("mkdir", f"S:{bucket_name}")
    rclone("copy", tree, f"S:{bucket_name}/a")
    rclone("check", tree, f"S:{bucket_name}/a", "--download")
    listed = json.loads(rclone("lsjson", "-R", "--files-only", "--hash", f"S:{bucket_name}/a").stdout)
    assert {one["Path"]: one["Size"] for one in listed} == {
        name: (tree / name).stat().st_size for name in contents(tree)
    }
    assert rclone("copy", tree, f"S:{bucket_name}/a", "-v").stderr.count("Copied (new)") == 0
    rclone(
        "copy", f"S:{bucket_name}/a", tmp_path / "back", "--multi-thread-cutoff", "5M", "--multi-thread-streams", "4"
    )
    assert contents(tmp_path / "back") == contents(tree)
    rclone("copyto", f"S:{bucket_name}/a/disk.vhd", f"S:{bucket_name}/b/disk.vhd")
    rclone("check", f"S:{bucket_name}/b", tree, "--one-way", "--download")
    assert rclone("cat", f"S:{bucket_name}/a/small.json", "--offset", "2", "--count", "4").stdout == TEXT[2:6]
    rclone("purge", f"S:{bucket_name}")
    assert bucket_name not in rclone("lsd", "S:").stdout


def test_aws_puts_an_object_together_of_ranges_of_another(
    aws: Run, bucket_name: str, tree: Path, tmp_path: Path
) -> None:
    aws("s3api", "create-bucket", "--bucket", bucket_name)
    aws("s3", "cp", tree / "disk.vhd", f"s3://{bucket_name}/disk.vhd")
    about = ["--bucket", bucket_name, "--key", "made"]
    etag = json.loads(aws("s3api", "head-object", "--bucket", bucket_name, "--key", "disk.vhd").stdout)["ETag"]
    upload = json.loads(aws("s3api", "create-multipart-upload", *about).stdout)["UploadId"]
    size, parts = (tree / "disk.vhd").stat().st_size, []
    copy = ["s3api", "upload-part-copy", *about, "--upload-id", upload, "--copy-source", f"{bucket_name}/disk.vhd"]
    for number, start in enumerate(range(0, size, 8 * MIB), 1):
        span = f"bytes={start}-{min(start + 8 * MIB, size) - 1}"
        words = ["--part-number", str(number), "--copy-source-range", span, "--copy-source-if-match", etag]
        told = json.loads(aws(*copy, *words).stdout)["CopyPartResult"]
        parts.append({"PartNumber": number, "ETag": told["ETag"]})
    refused = aws(*copy, "--part-number", "1", "--copy-source-if-match", '"0"', check=False)
    assert "PreconditionFailed" in refused.stderr
    named = json.dumps({"Parts": parts})
    aws("s3api", "complete-multipart-upload", *about, "--upload-id", upload, "--multipart-upload", named)
    aws("s3", "cp", f"s3://{bucket_name}/made", tmp_path / "made")
    assert (tmp_path / "made").read_bytes() == (tree / "disk.vhd").read_bytes()


def test_rclone_keeps_times_and_streams(rclone: Run, bucket_name: str, tree: Path, run: Run, tmp_path: Path) -> None:
    rclone("mkdir", f"S:{bucket_name}")
    os.utime(tree / "small.json", (1_600_000_000, 1_600_000_000))
    rclone("copy", tree / "small.json", f"S:{bucket_name}")
    (one,) = json.loads(rclone("lsjson", f"S:{bucket_name}").stdout)
    assert one["ModTime"].startswith("2020-09-13T12:26:40")
    rclone("touch", "--timestamp", "2021-02-03T04:05:06", f"S:{bucket_name}/small.json")
    (one,) = json.loads(rclone("lsjson", f"S:{bucket_name}").stdout)
    assert one["ModTime"].startswith("2021-02-03T04:05:06")
    assert rclone("cat", f"S:{bucket_name}/small.json").stdout == TEXT
    rclone("purge", f"S:{bucket_name}")


def test_s5cmd_copies_a_tree_both_ways(s5cmd: Run, bucket_name: str, tree: Path, tmp_path: Path) -> None:
    s5cmd("mb", f"s3://{bucket_name}")
    s5cmd("cp", "--part-size", "5", "--concurrency", "4", f"{tree}/", f"s3://{bucket_name}/a/")
    s5cmd("cp", "--part-size", "5", "--concurrency", "4", f"s3://{bucket_name}/a/*", f"{tmp_path}/back/")
    assert contents(tmp_path / "back") == contents(tree)
    listed = [json.loads(line) for line in s5cmd("--json", "ls", f"s3://{bucket_name}/a/*").stdout.splitlines()]
    assert {one["key"].split("/a/", 1)[1]: one.get("size", 0) for one in listed} == {
        name: (tree / name).stat().st_size for name in contents(tree)
    }
    assert s5cmd("cat", f"s3://{bucket_name}/a/small.json").stdout == TEXT
    assert (
        f"{sum((tree / name).stat().st_size for name in contents(tree))} bytes"
        in s5cmd("du", f"s3://{bucket_name}/a/*").stdout
    )
    s5cmd("mv", f"s3://{bucket_name}/a/disk.vhd", f"s3://{bucket_name}/b/disk.vhd")
    s5cmd("rm", f"s3://{bucket_name}/*")
    assert s5cmd("ls", f"s3://{bucket_name}/").stdout == ""
    s5cmd("rb", f"s3://{bucket_name}")
    refused = s5cmd("ls", f"s3://{bucket_name}/", check=False)
    assert "NoSuchBucket" in refused.stderr


def test_s5cmd_with_wrong_keys_is_refused(s5cmd: Run, run: Run, endpoint: Any) -> None:
    words = ["--endpoint-url", endpoint.url, "--retry-count", "0", "--no-verify-ssl", "ls"]
    wrong = {"AWS_ACCESS_KEY_ID": endpoint.access_key, "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_REGION": "us-east-1"}
    assert "SignatureDoesNotMatch" in run(program("s5cmd"), *words, check=False, **wrong).stderr
