"""A manifest is written last and once, and never without proof."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sealift.classic.errors import ClassicTransientError
from sealift.classic.models import NetworkStorage
from sealift.exports import names
from sealift.exports.errors import (
    LedgerError,
    ManifestConflictError,
    OutcomeUnknownError,
    ProofError,
    ServerGoneError,
    StepError,
    TemplateMissingError,
    UnsettledProofError,
)
from sealift.exports.jsontext import canonical_json, digest
from sealift.exports.manifest import Manifest, parse_manifest
from sealift.exports.plan import PlanItem
from sealift.exports.schemas import schema_text
from sealift.exports.steps import Recorded, prove_and_record
from sealift.exports.terms import SECOND_LOOK_SECONDS, Ended, Look
from sealift.images.convert.files import convert_file
from sealift.images.convert.formats import TargetFormat

BUCKET = "sealift-exports"
MANIFEST = "nightly/manifests/101/20261123T0200Z.json"


@pytest.fixture
def item(make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]) -> PlanItem:
    return item_of(make_guest(101, data_disks=1, dedicatedHost={"id": 77, "name": "rack"}))


@pytest.fixture
def classic(make_guest: Callable[..., Any], make_classic: Any, item: PlanItem, now: Any) -> Any:
    account = make_classic(guests=[make_guest(101, data_disks=1)])
    account.add_template(item.template_name, created=now - timedelta(hours=1))
    account.storage = [NetworkStorage(id=5, nas_type="ISCSI", capacity_gb=100, lun_id="3")]
    return account


@pytest.fixture
def bucket(cos: Any, item: PlanItem, vhd_bytes: bytes, now: Any) -> Any:
    for number, key in enumerate(item.disk_keys):
        cos.store(key, vhd_bytes, at=now - timedelta(minutes=10 - number), etag=f"etag{number}-8")
    return cos


@pytest.fixture
def prove(
    classic: Any, bucket: Any, item: PlanItem, time: Any, make_settings: Callable[..., Any]
) -> Callable[..., Recorded]:
    def run(settings: dict[str, Any] | None = None, **changes: Any) -> Recorded:
        given = {
            "item": item,
            "template_id": 900,
            "dag_id": "export_servers",
            "run_id": "run-1",
            "try_number": 1,
            "plan_id": "plan-1",
            **changes,
        }
        return prove_and_record(
            classic=classic,
            cos=bucket,
            settings=make_settings(**(settings or {})),
            clock=time.clock,
            sleep=time.sleep,
            **given,
        )

    return run


def manifest_in(cos: Any) -> Manifest:
    return parse_manifest(cos.objects[MANIFEST][0], bucket=BUCKET, key=MANIFEST)


def look_of(bucket: Any, item: PlanItem, now: Any) -> Look:
    infos = [bucket.info(key) for key in item.disk_keys]
    return Look(at=now, objects={one.key: (one.etag, one.size) for one in infos})


def test_what_the_wait_saw_is_the_first_look_and_no_worker_waits_for_a_second(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, time: Any, now: Any
) -> None:
    began = time.now
    assert prove(first_look=look_of(bucket, item, now)).disks == len(item.disk_keys)
    assert time.now == began


def test_what_was_replaced_since_the_wait_saw_it_is_not_proven(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, now: Any
) -> None:
    look = look_of(bucket, item, now)
    key = item.disk_keys[0]
    bucket.store(key, bucket.objects[key][0], etag="another")
    with pytest.raises(UnsettledProofError, match="changed between two looks"):
        prove(first_look=look)
    assert MANIFEST not in bucket.objects


def test_a_look_at_other_objects_is_no_first_look(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, time: Any, now: Any
) -> None:
    look = look_of(bucket, item, now)
    began = time.now
    prove(first_look=look.model_copy(update={"objects": {"strange": ("e", 1)}}))
    assert (time.now - began).total_seconds() == SECOND_LOOK_SECONDS


def test_a_proven_export_has_a_record_and_a_manifest_with_true_times(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, vhd_bytes: bytes, now: Any
) -> None:
    recorded = prove()

    assert recorded == Recorded(
        manifest_key=MANIFEST,
        manifest_digest=digest(bucket.objects[MANIFEST][0]),
        export_id=item.export_id,
        proof_level="L1",
        disks=2,
        bytes=2 * len(vhd_bytes),
        already=False,
        manifest=manifest_in(bucket),
    )
    assert bucket.writes == [f"{item.images}/server.json", MANIFEST]
    manifest = manifest_in(bucket)
    assert manifest.captured_at == now - timedelta(hours=1)
    assert manifest.exported_at == now - timedelta(minutes=9)
    assert manifest.proven_at == now + timedelta(seconds=5)
    assert (manifest.template.id, manifest.template.global_identifier) == (900, "gid-900")
    assert (manifest.guest.id, manifest.guest.dedicated_host_id) == (101, 77)
    assert (manifest.run.dag_id, manifest.run.run_id, manifest.run.try_number) == ("export_servers", "run-1", 1)
    assert [(one.id, one.type, one.lun_id) for one in manifest.storage_not_in_image] == [(5, "ISCSI", "3")]
    assert [one["device"] for one in manifest.left_out] == ["1", "3", "7"]
    record = bucket.objects[f"{item.images}/server.json"][0]
    assert manifest.record.digest == digest(record)
    assert manifest.record.size == len(record)
    first, second = manifest.disks
    assert (first.key, first.device, first.etag, first.parts) == (item.disk_keys[0], "0", "etag0-8", 8)
    assert (second.key, second.device, second.etag) == (item.disk_keys[1], "2", "etag1-8")
    assert first.virtual_size == 10**9
    assert (first.size, first.part_size) == (len(vhd_bytes), len(vhd_bytes))
    assert first.format == "vhd-dynamic"
    assert first.footer_uuid == "00000000-0000-0000-0000-000000000007"
    assert len(first.partitions) == 1
    assert {"object-present", "etag-stable"} < {check.id for check in first.checks}
    assert 0 < first.proof_bytes_read < 2**20


def test_manifest_and_record_are_canonical_json_and_fit_their_schemas(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem
) -> None:
    prove()

    for key, name in ((MANIFEST, "manifest"), (f"{item.images}/server.json", "configuration-record")):
        body = bucket.objects[key][0]
        assert canonical_json(json.loads(body)) == body
        Draft202012Validator(json.loads(schema_text(name))).validate(json.loads(body))


def test_running_it_again_returns_what_is_recorded(
    prove: Callable[..., Recorded], bucket: Any, classic: Any, item: PlanItem
) -> None:
    first = prove()
    body = bucket.objects[MANIFEST]
    classic.templates.clear()
    for key in item.disk_keys:
        del bucket.objects[key]

    again = prove(try_number=2, run_id="run-2")

    assert again == first.model_copy(update={"already": True})
    assert bucket.objects[MANIFEST] == body


# What must not become a manifest


def damaged(body: bytes) -> bytes:
    return body[:-512] + bytes(512)


@pytest.mark.parametrize(
    ("damage", "check", "says"),
    [
        (lambda cos, keys: cos.objects.pop(keys[1]), "object-present", "disk-1.vhd of web101 .* is missing"),
        (lambda cos, keys: cos.store(keys[0], b""), "object-present", "is empty"),
        (lambda cos, keys: cos.store(keys[0].replace("disk-0", "disk-2"), b"x"), "no-unexpected-object", "disk-2.vhd"),
        (lambda cos, keys: cos.store(keys[1], damaged(cos.objects[keys[1]][0])), None, "disk-1.vhd, disk 2 of web101"),
        (lambda cos, keys: cos.store(keys[0], cos.objects[keys[0]][0][:4096]), None, "disk-0.vhd"),
    ],
    ids=["missing", "empty", "unexpected", "damaged footer", "cut"],
)
def test_nothing_is_recorded_when_a_proof_fails(
    prove: Callable[..., Recorded],
    bucket: Any,
    item: PlanItem,
    damage: Callable[[Any, list[str]], None],
    check: str | None,
    says: str,
) -> None:
    damage(bucket, item.disk_keys)

    with pytest.raises(ProofError, match=says) as caught:
        prove()

    assert not caught.value.retryable
    assert check in {None, caught.value.check_id}
    assert bucket.writes == []


def test_a_boot_disk_must_have_partitions_and_a_data_disk_need_not(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, blank_vhd_bytes: bytes
) -> None:
    boot, data = item.disk_keys
    bucket.store(data, blank_vhd_bytes)
    assert prove().disks == 2
    assert manifest_in(bucket).disks[1].partition_table.startswith("none")

    del bucket.objects[MANIFEST]
    bucket.store(boot, blank_vhd_bytes)
    with pytest.raises(ProofError, match=r"disk-0\.vhd, disk 0 of web101"):
        prove()
    assert MANIFEST not in bucket.objects


def test_a_disk_of_the_wrong_size_is_not_recorded(prove: Callable[..., Recorded], bucket: Any, item: PlanItem) -> None:
    larger = [disk.model_copy(update={"capacity_bytes": 25 * 10**9, "capacity": 25}) for disk in item.disks]

    with pytest.raises(ProofError):
        prove(item=item.model_copy(update={"disks": larger}))
    assert bucket.writes == []


def test_an_object_that_changes_between_two_looks_is_not_recorded(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, time: Any, vhd_bytes: bytes
) -> None:
    waited = time.sleep

    def overwritten(seconds: float) -> None:
        waited(seconds)
        bucket.store(item.disk_keys[0], vhd_bytes, etag="other")

    time.sleep = overwritten

    with pytest.raises(ProofError, match="changed between two looks") as caught:
        prove()
    assert caught.value.check_id == "etag-stable"
    assert bucket.writes == []


def test_an_object_that_is_replaced_while_it_is_proven_is_not_recorded(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, vhd_bytes: bytes
) -> None:
    read = bucket.read_range

    def replaced(*args: Any, **kwargs: Any) -> bytes:
        data: bytes = read(*args, **kwargs)
        bucket.store(item.disk_keys[0], vhd_bytes, etag="other")
        return data

    bucket.read_range = replaced

    with pytest.raises(ProofError, match="replaced or deleted while it was being proven"):
        prove()
    assert bucket.writes == []


def test_an_object_that_is_replaced_after_it_was_proven_is_not_recorded(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, vhd_bytes: bytes
) -> None:
    """The first disk is written again while the second is read."""
    assert len(item.disks) > 1
    read = bucket.read_range

    def replaced(where: str, key: str, **kwargs: Any) -> bytes:
        if key == item.disk_keys[-1]:
            bucket.store(item.disk_keys[0], vhd_bytes, etag="other")
        data: bytes = read(where, key, **kwargs)
        return data

    bucket.read_range = replaced

    with pytest.raises(UnsettledProofError, match="replaced or deleted after it was proven") as caught:
        prove()
    assert caught.value.retryable
    assert MANIFEST not in bucket.objects


def test_another_exports_template_is_not_recorded(prove: Callable[..., Recorded], classic: Any, bucket: Any) -> None:
    other = classic.add_template("sealift-102-20261123T0200Z")

    with pytest.raises(StepError, match="is not the template of"):
        prove(template_id=other.id)
    assert MANIFEST not in bucket.objects
    with pytest.raises(TemplateMissingError):
        prove(template_id=4711)


def test_an_export_whose_template_was_deleted_meanwhile_is_recorded_if_the_time_is_known(
    prove: Callable[..., Recorded], classic: Any, bucket: Any, now: Any
) -> None:
    classic.templates.clear()

    prove(captured_at=now - timedelta(hours=2))

    manifest = manifest_in(bucket)
    assert manifest.captured_at == now - timedelta(hours=2)
    assert manifest.template.global_identifier is None


# Deeper than L1

L2 = {"proof_level": "L2"}


def test_a_plan_may_ask_for_every_byte(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, vhd_bytes: bytes
) -> None:
    for key in item.disk_keys:
        bucket.store(key, vhd_bytes)
    told: dict[str, int] = {}

    def progress(key: str, size: int, count: int) -> None:
        assert size == len(vhd_bytes)
        told[key] = told.get(key, 0) + count

    assert prove(settings=L2, progress=progress).proof_level == "L2"
    manifest = manifest_in(bucket)
    assert manifest.proof_level == "L2"
    for disk in manifest.disks:
        assert disk.sha256 == hashlib.sha256(vhd_bytes).hexdigest()
        assert disk.crc64nvme is not None
        assert {"bytes", "etag", "bitmaps.all"} <= {check.id for check in disk.checks}
        assert disk.proof_bytes_read >= len(vhd_bytes)
    assert told == dict.fromkeys(item.disk_keys, len(vhd_bytes))


def test_bytes_that_are_not_those_that_the_store_received_are_not_recorded(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, vhd_bytes: bytes
) -> None:
    """A bit of the payload is another one: no structure shows it, the ETag does."""
    etag = hashlib.md5(vhd_bytes).hexdigest()
    damaged = bytearray(vhd_bytes)
    damaged[vhd_bytes.index(b"sealiftsealift") + 500] ^= 1
    for key in item.disk_keys:
        bucket.store(key, bytes(damaged), etag=etag)
    with pytest.raises(ProofError, match=f"but {etag} is what the object store computed") as caught:
        prove(settings=L2)
    assert caught.value.check_id == "etag"
    assert MANIFEST not in bucket.objects


def test_of_a_share_the_same_exports_are_proven_deeper_each_time(make_settings: Callable[..., Any]) -> None:
    some = make_settings(proof_level="L2", proof_share=30)
    ids = [f"{guest}-20261123T0200Z" for guest in range(1000, 2000)]
    chosen = [one for one in ids if some.proof_level_of(one) == "L2"]
    assert chosen == [one for one in ids if some.proof_level_of(one) == "L2"]
    assert 250 < len(chosen) < 350
    later = [f"{guest}-20261130T0200Z" for guest in range(1000, 2000)]
    both = {one.split("-")[0] for one in chosen} & {
        one.split("-")[0] for one in later if some.proof_level_of(one) == "L2"
    }
    assert 50 < len(both) < 150, "in each period it is others"
    assert {make_settings(proof_level="L2", proof_share=0).proof_level_of(one) for one in ids} == {"L1"}
    assert {make_settings(proof_level="L2").proof_level_of(one) for one in ids} == {"L2"}
    assert {make_settings().proof_level_of(one) for one in ids} == {"L1"}


# The record beside it


def test_the_record_of_an_earlier_try_stays(
    prove: Callable[..., Recorded], bucket: Any, classic: Any, item: PlanItem
) -> None:
    failed = []

    def fail_once(key: str) -> None:
        if key == MANIFEST and not failed:
            failed.append(key)
            raise ClassicTransientError("The worker was killed here.")

    bucket.before_write = fail_once
    with pytest.raises(ClassicTransientError):
        prove()
    record = bucket.objects[names.record_key(item.images)][0]
    classic.details[101] = {"id": 101, "hostname": "renamed"}

    prove()

    assert bucket.objects[names.record_key(item.images)][0] == record
    assert manifest_in(bucket).record.digest == digest(record)


def test_a_server_that_is_gone_is_recorded_only_if_its_record_was_written(
    prove: Callable[..., Recorded], bucket: Any, classic: Any, item: PlanItem
) -> None:
    guests = dict(classic.guests)
    classic.guests.clear()
    with pytest.raises(ServerGoneError, match="without record there is no manifest"):
        prove()
    assert bucket.writes == []

    classic.guests.update(guests)
    prove()
    del bucket.objects[MANIFEST]
    classic.guests.clear()
    assert not prove().already


def test_a_foreign_file_at_the_records_key_is_refused(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem
) -> None:
    bucket.store(names.record_key(item.images), b"hello")

    with pytest.raises(LedgerError, match="not a configuration record"):
        prove()
    assert MANIFEST not in bucket.objects


# Two writers


def test_a_second_writer_of_the_same_export_gets_the_first_ones_manifest(
    prove: Callable[..., Recorded], bucket: Any
) -> None:
    prove()
    winner, at = bucket.objects.pop(MANIFEST)[0], bucket.objects

    def other_wins(key: str) -> None:
        if key == MANIFEST:
            bucket.store(MANIFEST, winner)

    bucket.before_write = other_wins

    recorded = prove(run_id="run-2", try_number=3)

    assert recorded.already
    assert at[MANIFEST][0] == winner


def test_a_second_writer_of_other_images_gets_a_clear_error_and_overwrites_nothing(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, vhd_bytes: bytes
) -> None:
    prove()
    winner = bucket.objects.pop(MANIFEST)[0]
    bucket.store(item.disk_keys[0], vhd_bytes, etag="another-8")
    bucket.before_write = lambda key: bucket.store(MANIFEST, winner) if key == MANIFEST else None

    with pytest.raises(ManifestConflictError, match=r"run run-1 \(try 1\) for template 900") as caught:
        prove(run_id="run-2")

    assert not caught.value.retryable
    assert bucket.objects[MANIFEST][0] == winner


def test_a_foreign_file_at_the_manifests_key_is_neither_trusted_nor_overwritten(
    prove: Callable[..., Recorded], bucket: Any
) -> None:
    bucket.store(MANIFEST, b"{}")

    with pytest.raises(LedgerError, match="neither trusts nor overwrites"):
        prove()
    assert bucket.objects[MANIFEST][0] == b"{}"


def test_the_manifest_of_another_export_at_this_ones_key_is_refused(
    prove: Callable[..., Recorded], bucket: Any
) -> None:
    prove()
    other = manifest_in(bucket).model_copy(update={"export_id": "102-20261123T0200Z"})
    bucket.store(MANIFEST, canonical_json(other))

    with pytest.raises(LedgerError, match="manifest of 102"):
        prove()


def test_a_manifest_that_comes_and_goes_is_retried(prove: Callable[..., Recorded], bucket: Any) -> None:
    put = bucket.put_if_absent

    def vanishing(where: str, key: str, body: bytes, **more: Any) -> Any:
        if key != MANIFEST:
            return put(where, key, body, **more)
        bucket.store(MANIFEST, b"x")
        outcome = put(where, key, body, **more)
        del bucket.objects[MANIFEST]
        return outcome

    bucket.put_if_absent = vanishing

    with pytest.raises(OutcomeUnknownError, match="came and went"):
        prove()


def test_what_the_waits_saw_goes_into_the_manifest_and_nothing_else(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, now: Any
) -> None:
    whole = now - timedelta(minutes=30)
    ended = Ended(template_id=900, unfinished_at=whole - timedelta(seconds=15), over_at=whole)

    prove(template_ended=ended, submitted_at=now - timedelta(minutes=25))

    timing = manifest_in(bucket).timing
    assert timing is not None
    assert timing.capacity_bytes == item.capacity_bytes == 2 * 10**9
    assert timing.capture is not None
    assert (timing.capture.began_at, timing.capture.ended_at) == (now - timedelta(hours=1), whole)
    assert timing.export is not None
    assert timing.export.seconds == 16 * 60


def test_what_was_seen_of_another_template_is_not_this_export_s(
    prove: Callable[..., Recorded], bucket: Any, now: Any
) -> None:
    whole = now - timedelta(minutes=30)

    prove(template_ended=Ended(template_id=901, unfinished_at=whole - timedelta(seconds=15), over_at=whole))

    assert manifest_in(bucket).timing is None


@pytest.fixture
def other_formats(vhd_bytes: bytes, tmp_path: Path) -> dict[str, bytes]:
    """The same disk as VMDKs and qcow2."""
    made = {"vhd": vhd_bytes}
    source = tmp_path / "disk.vhd"
    source.write_bytes(vhd_bytes)
    for into in (TargetFormat.VMDK, TargetFormat.QCOW2, TargetFormat.VMDK_SPARSE):
        target = tmp_path / f"{into}.made"
        convert_file(source, target, into=into)
        made[into.value] = target.read_bytes()
    return made


@pytest.mark.parametrize(
    ("images", "formats", "told"),
    [
        (("vhd", "vhd"), ["vhd-dynamic", "vhd-dynamic"], "vhd"),
        (("vmdk", "vmdk"), ["vmdk-stream", "vmdk-stream"], "vmdk"),
        (("vmdk", "vmdk-sparse"), ["vmdk-stream", "vmdk-sparse"], "vmdk"),
        (("qcow2", "qcow2"), ["qcow2", "qcow2"], "qcow2"),
        (("vhd", "vmdk"), ["vhd-dynamic", "vmdk-stream"], "mixed"),
    ],
)
@pytest.mark.parametrize("level", ["L1", "L2"])
def test_the_manifest_tells_the_format_that_the_proof_found(
    prove: Callable[..., Recorded],
    bucket: Any,
    item: PlanItem,
    other_formats: dict[str, bytes],
    images: tuple[str, ...],
    formats: list[str],
    told: str,
    level: str,
) -> None:
    for key, image in zip(item.disk_keys, images, strict=True):
        bucket.store(key, other_formats[image], etag=f"{image}-etag")
    assert prove({"proof_level": level}).proof_level == level
    manifest = manifest_in(bucket)
    assert [disk.format for disk in manifest.disks] == formats
    assert manifest.format == told
    assert {disk.virtual_size for disk in manifest.disks} == {manifest.disks[0].virtual_size}
    Draft202012Validator(json.loads(schema_text("manifest"))).validate(json.loads(canonical_json(manifest)))


@pytest.mark.parametrize("image", ["vmdk", "vmdk-sparse", "qcow2"])
def test_a_damaged_image_of_any_format_has_no_manifest(
    prove: Callable[..., Recorded], bucket: Any, item: PlanItem, other_formats: dict[str, bytes], image: str
) -> None:
    bucket.store(item.disk_keys[0], other_formats[image][: len(other_formats[image]) // 2], etag="cut")
    with pytest.raises(ProofError, match="is not a sound image"):
        prove()
    assert MANIFEST not in bucket.objects
