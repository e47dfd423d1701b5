"""What Airflow's own S3 tools make of an export: other DAGs read manifests and images with the Amazon provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

from sealift.sandbox import Sandbox

pytestmark = [pytest.mark.conformance, pytest.mark.airflow]

KEY = "weekly/manifests/7/20261123T0200Z.json"


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with Sandbox(root=tmp_path, servers=0) as one:
        connection = {
            "conn_type": "aws",
            "login": one.hmac_access_key_id,
            "password": one.hmac_secret_access_key,
            "extra": {
                "region_name": one.region,
                "endpoint_url": one.cos_url,
                "config_kwargs": {"s3": {"addressing_style": "path"}},
            },
        }
        monkeypatch.setenv("AIRFLOW_CONN_COS_AS_S3", json.dumps(connection))
        yield one


def test_a_manifest_is_found_and_read(sandbox: Sandbox) -> None:
    hook = S3Hook(aws_conn_id="cos_as_s3")
    assert not hook.check_for_key(KEY, bucket_name=sandbox.bucket)
    sandbox.store.put_bytes(bucket=sandbox.bucket, key=KEY, data=b'{"schema_version": 1}')
    assert hook.check_for_key(KEY, bucket_name=sandbox.bucket)
    assert json.loads(hook.read_key(KEY, bucket_name=sandbox.bucket)) == {"schema_version": 1}
    assert hook.list_keys(sandbox.bucket, prefix="weekly/manifests/7/") == [KEY]


def test_a_sensor_waits_for_a_manifest(sandbox: Sandbox) -> None:
    sensor = S3KeySensor(task_id="s", bucket_name=sandbox.bucket, bucket_key=KEY, aws_conn_id="cos_as_s3")
    assert sensor.poke({}) is False
    sandbox.store.put_bytes(bucket=sandbox.bucket, key=KEY, data=b"{}")
    assert sensor.poke({}) is True


def test_an_image_is_copied_and_downloaded(sandbox: Sandbox, tmp_path: Path) -> None:
    image = bytes(range(256)) * 4096
    source = tmp_path / "disk.vhd"
    source.write_bytes(image)
    sandbox.store.put_file(bucket=sandbox.bucket, key="weekly/images/a/disk-0.vhd", source=source)
    hook = S3Hook(aws_conn_id="cos_as_s3")
    hook.copy_object("weekly/images/a/disk-0.vhd", "delivered/disk-0.vhd", sandbox.bucket, sandbox.bucket)
    path = hook.download_file("delivered/disk-0.vhd", sandbox.bucket, local_path=str(tmp_path))
    assert Path(path).read_bytes() == image
