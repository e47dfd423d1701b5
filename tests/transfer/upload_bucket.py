"""A bucket that is uploaded to, by IBM's SDK and by boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from sealift.cos.client import CosClient
from sealift.sandbox.faults import Faults
from sealift.sandbox.iam import Identity
from sealift.sandbox.store.objects import ObjectStore
from sealift.sandbox.store.server import serve_store
from sealift.transfer.s3_bucket import S3Bucket
from sealift.transfer.upload_targets import CosTarget, S3Target, UploadTarget

HMAC = {"access_key_id": "PLANTEDACCESSKEYID", "secret_access_key": "PLANTED-hmac-secret"}
KEY = "images/disk-0.vmdk"


@dataclass
class Bucket:
    """A bucket on a server, its clients, and how an object in it is named."""

    objects: ObjectStore
    faults: Faults
    cos: CosClient
    s3: Any
    kind: str

    def target(self, key: str = KEY) -> UploadTarget:
        if self.kind == "cos":
            return CosTarget(client=self.cos, bucket="exports", key=key, metadata={"sealift-source": "a"})
        return S3Target(place=S3Bucket(client=self.s3, bucket="exports"), key=key, metadata={"sealift-source": "a"})

    def uploads(self) -> list[str]:
        return [one.upload_id for one in self.cos.list_multipart_uploads("exports", "")]


@contextmanager
def open_bucket(kind: str, folder: Path) -> Iterator[Bucket]:
    """Serve a bucket.

    :param kind: ``cos`` or ``s3``: who uploads.
    :param folder: where the store keeps its files.
    """
    objects = ObjectStore(root=folder / "store")
    faults = Faults()
    identity = Identity(path=folder / "iam.json", faults=faults)
    identity.add_hmac(**HMAC, roles={"*": "Manager"})
    objects.create_bucket("exports", location_constraint="us-south-standard", service_instance="crn")
    server = serve_store(store=objects, identity=identity, faults=faults)
    cos = CosClient(region="us-south", endpoint_url=server.url, sleep=lambda _seconds: None, **HMAC)
    s3 = boto3.session.Session().client(
        "s3",
        endpoint_url=server.url,
        region_name="us-south",
        aws_access_key_id=HMAC["access_key_id"],
        aws_secret_access_key=HMAC["secret_access_key"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
    )
    yield Bucket(objects, faults, cos, s3, kind)
    cos.close()
    s3.close()
    server.close()
    objects.close()
