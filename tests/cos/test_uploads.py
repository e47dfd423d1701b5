"""How much of an unfinished upload the store holds."""

from __future__ import annotations

from typing import Any

import pytest

from sealift.cos.client import CosClient
from sealift.cos.connection import Doing
from sealift.cos.errors import CosNotFoundError
from sealift.cos.models import MultipartUpload


def begin(client: CosClient, key: str, *sizes: int) -> MultipartUpload:
    """Begin an upload and send its parts."""
    doing = Doing(what="begin an upload", endpoint=client.endpoint_url, bucket="exports", key=key)
    about: dict[str, Any] = {"Bucket": "exports", "Key": key}
    begun = client._connection.call("create_multipart_upload", doing, **about)
    about["UploadId"] = begun["UploadId"]
    for number, size in enumerate(sizes, 1):
        client._connection.call("upload_part", doing, **about, PartNumber=number, Body=b"x" * size)
    return MultipartUpload(key=key, upload_id=begun["UploadId"])


def test_parts_and_bytes(store: Any, key_kind: str) -> None:
    client = store.client(key_kind)
    upload = begin(client, "a/disk-0.vhd", 10, 20, 5)
    (listed,) = client.list_multipart_uploads("exports", "a/")
    assert listed.initiated is not None
    assert client.upload_size("exports", listed) == (3, 35)
    empty = begin(client, "b")
    assert client.upload_size("exports", empty) == (0, 0)
    client._abort("exports", upload)
    with pytest.raises(CosNotFoundError):
        client.upload_size("exports", upload)


def test_parts_over_several_pages(fake: Any) -> None:
    def page(numbers: range, *, more: bool) -> bytes:
        parts = "".join(f"<Part><PartNumber>{n}</PartNumber><Size>100</Size></Part>" for n in numbers)
        marker = f"<NextPartNumberMarker>{numbers[-1]}</NextPartNumberMarker>"
        rest = f"<IsTruncated>{str(more).lower()}</IsTruncated>{marker}{parts}"
        return f"<ListPartsResult>{rest}</ListPartsResult>".encode()

    def respond(request: Any) -> Any:
        first = "part-number-marker=1000" not in request.path
        body = page(range(1, 1001), more=True) if first else page(range(1001, 1301), more=False)
        return fake.Reply(body=body, headers={"x-amz-request-id": "1"})

    fake.respond = respond
    size = fake.client().upload_size("exports", MultipartUpload(key="k", upload_id="u"))
    assert size == (1300, 130_000)
    assert len(fake.seen) == 2
