"""What every earlier Sealift wrote is read, and goes on; what a newer one wrote is refused in words.

``tests/fixtures/buckets`` holds what real earlier versions left in a bucket in the middle of a run: a plan of three
waves, of which the first is exported, proven and reported. ``tests/fixtures/documents`` holds a document of each other
kind and version, ``tests/fixtures/shapes`` the shape of each version of each schema.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import sealift.exports
from sealift.exports import caps, ledger, names
from sealift.exports.converting import read_conversion
from sealift.exports.doctor import examine
from sealift.exports.doctor_models import Kind
from sealift.exports.errors import ExportsError, LedgerError, PlanError, SettingsError
from sealift.exports.handing import HANDED_ON, check_handed_on, stamped
from sealift.exports.manifest import Manifest, is_marked, read_manifest
from sealift.exports.plan import Outcome, Plan, WaveSlice, complete_plan, plan_body, read_plan, read_wave, wave_keys
from sealift.exports.proofs import LaterProof, read_proofs
from sealift.exports.record import parse_record
from sealift.exports.registers import Register
from sealift.exports.remembering import CaptureMemory
from sealift.exports.report import (
    make_run_report,
    make_wave_report,
    read_run_report,
    read_wave_reports,
    write_run_report,
    write_wave_report,
)
from sealift.exports.retention.applying import read_result
from sealift.exports.retention.dry_run import read_dry_run
from sealift.exports.retention.holds import list_holds
from sealift.exports.status.index import PeriodIndex, index_body, parse_index
from sealift.exports.status.prices import read_prices
from sealift.exports.steps import ensure_captured, ensure_export_started, prove_and_record
from sealift.exports.versions import FIELD, NEWER
from sealift.images.convert.formats import TargetFormat
from tests.exports.shapes import FIXTURES, KINDS, shape_file, shape_text, version_of

BUCKET, PREFIX, PERIOD = "sealift-exports", "nightly", "20261123T0200Z"
BUCKETS = sorted(path for path in (FIXTURES / "buckets").iterdir())
DOCUMENTS = sorted((FIXTURES / "documents").glob("*.json"))
HOW = (
    "Raise the version beside the model, keep the shape (python -m tests.exports.shapes) and a document of the new "
    "version under tests/fixtures/documents, and have the model make the present shape of what earlier ones wrote."
)
_IN_BUCKET = {
    "manifest": re.compile(r"/manifests/"),
    "configuration-record": re.compile(r"/server\.json$"),
    "wave-report": re.compile(r"/plans/.*wave.*report"),
    "wave": re.compile(r"/plans/.*wave-\d+\.json$"),
    "plan": re.compile(r"/plans/[^/]+\.json$"),
}


def kept() -> list[tuple[str, Path]]:
    """All documents that are kept, with their kinds."""
    found = [(path.name.partition(".")[0], path) for path in DOCUMENTS]
    for bucket in BUCKETS:
        for path in sorted(bucket.rglob("*.json")):
            key = f"/{path.relative_to(bucket)}"
            kinds = [kind for kind, pattern in _IN_BUCKET.items() if pattern.search(key)]
            found += [(kind, path) for kind in kinds[:1]]
    return found


KEPT = kept()


def label(one: Any) -> str:
    return str(one.relative_to(FIXTURES)) if isinstance(one, Path) else str(one)


def version_in(path: Path) -> int:
    return int(json.loads(path.read_bytes()).get(FIELD, 1))


def written(model: BaseModel) -> Any:
    """What is written of a document today, as JSON has it."""
    if isinstance(model, Plan | WaveSlice):
        return json.loads(plan_body(model))
    if isinstance(model, PeriodIndex):
        at = model.written_at.isoformat()
        return json.loads(index_body(period=model.period, rows=model.rows(), plans=model.plans, written_at=at))
    return model.model_dump(mode="json")


# Schemas


def test_everything_that_carries_a_version_is_watched() -> None:
    found = set()
    for module in pkgutil.walk_packages(sealift.exports.__path__, "sealift.exports."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and issubclass(one, BaseModel) and FIELD in one.model_fields:
                found.add(one)
    # The doctor and the page read a part of a plan or a report, by the versions of the whole.
    parts = {one for one in found if one.__name__.startswith("_")}
    assert found - parts == set(KINDS.values())
    assert {one.__name__ for one in parts} == {"_LeanPlan", "_LeanSlice", "_LeanReport", "_Plan", "_Report"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_shape_changes_only_with_its_version(kind: str) -> None:
    path = shape_file(kind, version_of(kind))
    assert path.exists(), f"{kind} has a new version without a shape. {HOW}"
    assert path.read_text(encoding="utf-8") == shape_text(kind), f"The schema of {kind} was changed. {HOW}"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_version_has_its_shape_and_a_document(kind: str) -> None:
    versions = range(1, version_of(kind) + 1)
    assert [number for number in versions if not shape_file(kind, number).exists()] == [], HOW
    documents = {version_in(path) for its, path in KEPT if its == kind}
    assert documents == set(versions), HOW


@pytest.mark.parametrize(("kind", "path"), KEPT, ids=label)
def test_a_document_of_every_version_is_read_as_one_of_today(kind: str, path: Path) -> None:
    raw = json.loads(path.read_bytes())

    read = KINDS[kind].model_validate_json(path.read_bytes())

    now = read.model_dump(mode="json")
    assert now[FIELD] == version_of(kind)
    told = {name: value for name, value in raw.items() if name != FIELD and isinstance(value, str | int | None)}
    same = {name: now[name] for name in told}
    for name, value in told.items():
        if isinstance(value, str) and value.endswith(("Z", "+00:00")) and name.endswith("_at"):
            assert datetime.fromisoformat(same.pop(name)) == datetime.fromisoformat(value)
        else:
            assert same.pop(name) == value
    assert KINDS[kind].model_validate(written(read)) == read, "and written again it is the same"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_written_today_is_among_what_is_kept(kind: str) -> None:
    """A default that changes, or a field that comes, shows here even where a reader would not mind."""
    of_today = [path for its, path in KEPT if its == kind and version_in(path) == version_of(kind)]
    same = [
        path
        for path in of_today
        if written(KINDS[kind].model_validate_json(path.read_bytes())) == json.loads(path.read_bytes())
    ]
    assert same, f"No document of {kind} is as Sealift writes it now. {HOW}"


# What a newer Sealift wrote


def newer(kind: str, **changes: Any) -> bytes:
    path = next(path for its, path in KEPT if its == kind and version_in(path) == version_of(kind))
    later = {FIELD: version_of(kind) + 1, "of_tomorrow": {"what": "nobody knows"}}
    return json.dumps({**json.loads(path.read_bytes()), **later, **changes}).encode()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_document_of_a_newer_version_is_refused_for_its_version(kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        KINDS[kind].model_validate_json(newer(kind))
    first = caught.value.errors()[0]
    assert (first["type"], first["loc"]) == (NEWER, (FIELD,))


class Readers:
    """Reads each kind of document as Sealift does, out of a bucket that holds one of a newer version."""

    def __init__(self, cos: Any) -> None:
        self.cos = cos
        self.manifest = Manifest.model_validate_json(
            (BUCKETS[-1] / f"{PREFIX}/manifests/101/{PERIOD}.json").read_bytes()
        )
        self.where: dict[str, Any] = {"bucket": BUCKET, "prefix": PREFIX}

    def put(self, kind: str, key: str) -> str:
        self.cos.store(key, newer(kind))
        return key

    def read_manifest(self) -> Any:
        return read_manifest(self.cos, bucket=BUCKET, key=self.put("manifest", "m.json"))

    def read_plan(self) -> Any:
        return read_plan(self.cos, bucket=BUCKET, key=self.put("plan", "p.json"))

    def read_wave(self) -> Any:
        return read_wave(self.cos, bucket=BUCKET, key=self.put("wave", "w.json"))

    def read_run_report(self) -> Any:
        return read_run_report(self.cos, bucket=BUCKET, key=self.put("report", "r.json"))

    def read_record(self) -> Any:
        return parse_record(newer("configuration-record"), bucket=BUCKET, key="server.json")

    def read_proof(self) -> Any:
        self.put("proof", names.proof_key(prefix=PREFIX, guest_id=101, period=PERIOD, number=1))
        return read_proofs(self.cos, manifest=self.manifest, **self.where)

    def read_conversion(self) -> Any:
        images = self.manifest.disks[0].key.rpartition("/")[0]
        self.put("conversion", f"{images}/converted/qcow2/conversion.json")
        return read_conversion(self.cos, bucket=BUCKET, images=images, format_=TargetFormat.QCOW2)

    def read_dry_run(self) -> Any:
        self.put("retention", f"{PREFIX}/retention/r-1.json")
        return read_dry_run(self.cos, retention_id="r-1", **self.where)

    def read_result(self) -> Any:
        self.put("retention-result", f"{PREFIX}/retention/r-1.result.json")
        return read_result(self.cos, retention_id="r-1", **self.where)

    def read_hold(self) -> Any:
        self.put("hold", f"{PREFIX}/retention/holds/101/{PERIOD}.json")
        return list_holds(self.cos, **self.where)

    def read_slot(self) -> Any:
        self.put("register-entry", "slots/1/00000001.json")
        return Register(cos=self.cos, bucket=BUCKET, root="slots/1").look()


READERS = [name for name in vars(Readers) if name.startswith("read_")]


@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_what_a_newer_sealift_wrote_says_so_and_what_to_do(reader: str, cos: Any) -> None:
    with pytest.raises((LedgerError, PlanError)) as caught:
        getattr(Readers(cos), reader)()
    assert re.search(
        r"was written by a newer Sealift \(version \d+ of its schema; this one reads up to", str(caught.value)
    )
    assert str(caught.value).endswith("Upgrade Sealift here.")
    assert "delete" not in str(caught.value)


def test_prices_of_a_newer_version_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_bytes(newer("prices"))
    with pytest.raises(SettingsError, match=r"prices\.json was written by a newer Sealift"):
        read_prices(tmp_path / "prices.json")


def test_an_index_of_a_newer_version_is_no_index_as_it_is_a_cache() -> None:
    assert parse_index(newer("index")) is None


def test_a_cap_that_a_newer_sealift_learned_counts_for_nothing_and_nobody_is_told_to_delete_it(
    cos: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cos.store("root/caps/capture-account.json", newer("learned-cap"))
    found = caps.read_caps(cos, bucket=BUCKET, root="root", listed=cos.list(BUCKET, "root/"))
    assert [one.cap for one in found.notes.values()] == [None]
    assert "newer Sealift" in caplog.text
    assert "Delete" not in caplog.text


def test_a_capture_that_a_newer_sealift_noted_is_not_captured_anew(
    cos: Any, item_of: Callable[..., Any], make_guest: Callable[..., Any], make_settings: Callable[..., Any]
) -> None:
    item, settings = item_of(make_guest(101)), make_settings()
    memory = CaptureMemory(cos=cos, item=item, settings=settings, plan_id="plan-1")
    cos.store(names.captured_key(prefix=PREFIX, plan_id="plan-1", export=item.export_id), newer("capture-note"))
    with pytest.raises(LedgerError, match="newer Sealift"):
        memory.recall()


def test_a_mark_of_a_newer_version_is_a_mark() -> None:
    """Whatever else its manifest says, an export that is being removed is no export."""
    assert is_marked(newer("manifest", removal={"of": "tomorrow"}))


def test_what_is_handed_on_carries_its_version_and_a_newer_one_is_refused() -> None:
    told = stamped({"guest_id": 7})
    assert told == {FIELD: HANDED_ON, "guest_id": 7}
    for fine in (told, {"guest_id": 7}, {FIELD: "x"}, None, [], "text"):
        check_handed_on(fine, by="the plan")
    with pytest.raises(
        ExportsError, match=r"What the plan handed on is of a newer Sealift .* every worker and triggerer"
    ):
        check_handed_on({**told, FIELD: HANDED_ON + 1}, by="the plan")


# What was read before, in the details


def test_a_proof_of_before_it_said_what_a_start_proves_is_read() -> None:
    path = FIXTURES / "documents" / "proof.v1.boot-without-proves.json"
    raw = json.loads(path.read_bytes())
    assert "proves" not in raw["boot"]
    tries = raw["boot"]["tries"]

    def proves(**changes: Any) -> str:
        changed = {**raw, "boot": {**raw["boot"], "tries": [{**one, **changes} for one in tries]}}
        boot = LaterProof.model_validate(changed).boot
        assert boot is not None
        return boot.proves

    assert proves() == "the server"
    assert proves(how="kernel") == "its kernel and root file system"
    assert proves(login=False) == "nothing"


# A run that is upgraded between two waves


@pytest.fixture(params=BUCKETS, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, cos: Any, now: datetime, vhd_bytes: bytes) -> Any:
    """The bucket as an earlier Sealift left it."""
    for path in sorted(request.param.rglob("*.json")):
        cos.store(str(path.relative_to(request.param)), path.read_bytes(), at=now + timedelta(minutes=31))
    manifest = json.loads((request.param / f"{PREFIX}/manifests/101/{PERIOD}.json").read_bytes())
    for disk in manifest["disks"]:
        cos.store(disk["key"], vhd_bytes, at=now + timedelta(minutes=30), etag=disk["etag"])
    return cos


@pytest.fixture
def account(make_classic: Any, make_guest: Callable[..., Any], make_transaction: Callable[..., Any]) -> Any:
    return make_classic(
        guests=[
            make_guest(101),
            make_guest(102, data_disks=1),
            make_guest(103),
            make_guest(104, activeTransaction=make_transaction()),
        ]
    )


def plan_in(cos: Any) -> Plan:
    return read_plan(cos, bucket=BUCKET, key=names.plan_key(prefix=PREFIX, plan_id="plan-1"))


def test_a_run_goes_on_with_its_next_wave_after_an_upgrade(
    old: Any, account: Any, time: Any, gate_of: Callable[..., Any], vhd_bytes: bytes
) -> None:
    plan = plan_in(old)
    first = read_manifest(old, bucket=BUCKET, key=names.manifest_key(prefix=PREFIX, guest_id=101, period=PERIOD))
    assert first is not None
    before = dict(old.objects)

    for key in wave_keys(plan)[1:]:
        wave = read_wave(old, bucket=BUCKET, key=key)
        (item,) = wave.items
        its = {"classic": account, "cos": old, "item": item, "settings": wave.settings}
        captured = ensure_captured(**its, gate=gate_of(), clock=time.clock, sleep=time.sleep)
        assert not captured.adopted
        time.sleep(900)
        ensure_export_started(
            **its,
            template_id=captured.template_id,
            ibm_api_key="PLANTED",
            clock=time.clock,
            monotonic=time.monotonic,
            sleep=time.sleep,
        )
        for disk in item.disk_keys:
            old.store(disk, vhd_bytes)
        prove_and_record(
            **its,
            template_id=captured.template_id,
            dag_id="export_servers",
            run_id=names.wave_run_id(plan_id=plan.plan_id, number=wave.number),
            try_number=1,
            plan_id=plan.plan_id,
            clock=time.clock,
            sleep=time.sleep,
        )
        report = make_wave_report(cos=old, wave=wave, failures={}, run_id="w", now=time.clock())
        write_wave_report(old, report, bucket=BUCKET, prefix=PREFIX)

    waves = read_wave_reports(old, plan)
    assert sorted(waves) == [0, 1, 2]
    report = make_run_report(cos=old, plan=plan, waves=waves, now=time.clock())
    write_run_report(old, report, prefix=PREFIX)
    assert report.summary == "3 exported, 4 disks proven, 2 not exportable, 0 failed"
    assert account.count("capture") == 2, "what the earlier version exported is not captured again"
    assert {key: old.objects[key] for key in before} == before, "nothing that it wrote was changed"
    exported = ledger.exported_guests(old, bucket=BUCKET, prefix=PREFIX, period=PERIOD, guest_ids=[101, 102, 103, 104])
    assert exported == {101, 102, 103}


def test_what_an_earlier_version_exported_is_proven_again_to_the_same_manifest(
    old: Any, account: Any, time: Any
) -> None:
    """A task that is cleared after the upgrade finds its own work."""
    wave = plan_in(old).slice(0)
    template = account.add_template(wave.items[0].template_name)
    key = names.manifest_key(prefix=PREFIX, guest_id=101, period=PERIOD)
    body = old.objects[key]
    recorded = prove_and_record(
        classic=account,
        cos=old,
        item=wave.items[0],
        settings=wave.settings,
        template_id=template.id,
        dag_id="export_servers",
        run_id="again",
        try_number=2,
        plan_id="plan-1",
        clock=time.clock,
        sleep=time.sleep,
    )
    assert recorded.already
    assert old.objects[key] == body


def test_slices_that_an_earlier_version_did_not_come_to_are_written_of_its_plan(old: Any) -> None:
    plan = plan_in(old)
    last = wave_keys(plan)[-1]
    its = read_wave(old, bucket=BUCKET, key=last)
    del old.objects[last]
    complete_plan(old, plan)
    again = read_wave(old, bucket=BUCKET, key=last)
    assert again == its
    assert [item.outcome for item in again.items] == [Outcome.EXPORT]


def test_the_doctor_reads_all_that_earlier_versions_wrote(old: Any, account: Any, now: datetime) -> None:
    old.list_multipart_uploads = lambda *_, **__: []
    found = examine(classic=account, cos=old, bucket=BUCKET, prefix=PREFIX, now=now + timedelta(hours=1), thorough=True)
    assert [one for one in found.findings if one.kind is Kind.UNREADABLE] == []
    assert [plan.plan_id for plan in found.at_work] == ["plan-1"]
