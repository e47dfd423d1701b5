"""A manifest comes back from the bucket as it was written, and foreign files do not pass for one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sealift.exports.errors import LedgerError
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest, read_manifest

RAW: dict[str, Any] = {
    "export_id": "101-20261123T0200Z",
    "period": "20261123T0200Z",
    "guest": {"id": 101, "hostname": "web101"},
    "template": {"id": 900, "name": "sealift-101-20261123T0200Z"},
    "captured_at": "2026-11-23T02:01:00Z",
    "exported_at": "2026-11-23T02:30:00Z",
    "proven_at": "2026-11-23T02:31:00Z",
    "bucket": "b",
    "region": "us-south",
    "format": "vhd",
    "proof_level": "L1",
    "disks": [
        {
            "index": 0,
            "device": "0",
            "key": "i/disk-0.vhd",
            "size": 5,
            "virtual_size": 10**9,
            "capacity": 1,
            "units": "GB",
            "format": "vhd-dynamic",
            "etag": "e-1",
            "uploaded_at": "2026-11-23T02:30:00Z",
            "footer_uuid": "u",
            "creator": "c",
            "partition_table": "mbr: 1 partition",
            "proof_level": "L1",
            "checks": [],
            "proof_bytes_read": 1,
            "proof_requests": 1,
        }
    ],
    "record": {"key": "i/server.json", "size": 2, "digest": "sha256:" + "0" * 64},
    "run": {"dag_id": "d", "run_id": "r", "try_number": 1, "sealift_version": "0"},
}


def test_a_manifest_comes_back_as_it_was_written(cos: Any) -> None:
    manifest = Manifest.model_validate(RAW)
    cos.store("m.json", canonical_json(manifest))

    assert read_manifest(cos, bucket="b", key="m.json") == manifest
    assert read_manifest(cos, bucket="b", key="none.json") is None
    assert manifest.total_bytes == 5


@pytest.mark.parametrize("body", [b"", b"{}", b"not json", b'{"schema_version": 0}', b'{"schema_version": "1"}'])
def test_what_is_no_manifest_is_refused(cos: Any, body: bytes) -> None:
    cos.store("m.json", body)

    with pytest.raises(LedgerError, match=r"b/m.json is not a manifest"):
        read_manifest(cos, bucket="b", key="m.json")


@pytest.mark.parametrize(
    "change",
    [
        {"disks": []},
        {"captured_at": "2026-11-23T02:01:00"},
        {"unknown": 1},
        {"schema_version": 2},
        {"record": {**RAW["record"], "digest": "md5:0"}},
    ],
)
def test_a_manifest_without_what_it_must_hold_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate({**RAW, **change})


def test_two_manifests_speak_of_the_same_export_whoever_proved_it() -> None:
    one = Manifest.model_validate(RAW)
    later = one.model_copy(
        update={"proven_at": one.captured_at, "run": one.run.model_copy(update={"run_id": "other", "try_number": 2})}
    )
    other = one.model_copy(update={"disks": [one.disks[0].model_copy(update={"etag": "f-1"})]})

    assert one.same_export(later)
    assert not one.same_export(other)
    assert not one.same_export(one.model_copy(update={"template": one.template.model_copy(update={"id": 901})}))
