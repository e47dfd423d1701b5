"""``sealift doctor`` over the sandbox: each kind of mess is really made and found, and nothing is touched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sealift.cli import main
from sealift.cli.doctor import age_words, size_words
from sealift.cos.connection import Doing
from sealift.exports.doctor import Examination, Kind, Rules, examine
from sealift.exports.exporting import forget_claim
from sealift.exports.plan import Outcome
from sealift.sandbox import Sandbox
from tests.cli.steps import Steps

READS = {"GetObject", "HeadObject", "ListObjectsV2", "ListMultipartUploads", "ListParts", "token"}


class Messy(Steps):
    """… and left in a mess."""

    def begin_upload(self, key: str) -> None:
        """Begin a multipart upload, send one part, and go away."""
        call = self.cos._connection.call
        doing = Doing(what="make a mess", endpoint=self.cos.endpoint_url, bucket=self.bucket, key=key)
        begun = call("create_multipart_upload", doing, Bucket=self.bucket, Key=key)
        upload = {"Bucket": self.bucket, "Key": key, "UploadId": begun["UploadId"]}
        call("upload_part", doing, **upload, PartNumber=1, Body=b"x" * 5000)

    def examine(self, *, hours: float = 3, **changes: Any) -> Examination:
        given: dict[str, Any] = {
            "classic": self.classic,
            "cos": self.cos,
            "bucket": self.bucket,
            "prefix": "sealift",
            "now": datetime.now(UTC) + timedelta(hours=hours),
            "slots": self.place,
        }
        return examine(**(given | changes))

    def state(self) -> tuple[Any, ...]:
        """Everything in the bucket and the account, and every write that was ever made."""
        objects = [dataclasses.asdict(one) for one in self.cos.list(self.bucket, "")]
        uploads = [dataclasses.asdict(one) for one in self.cos.list_multipart_uploads(self.bucket, "")]
        return objects, uploads, self.sandbox.templates(), self.sandbox.writes()


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Messy]:
    """Exports of five servers, each left in another state."""
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), scenario="demo", speed=3000.0) as sandbox:
        made = Messy(sandbox)
        make_messes(made)
        yield made
        made.close()


def make_messes(made: Messy) -> None:
    plan = made.plan("plan-1", "20261123T0200Z")
    items = sorted(plan.items_with(Outcome.EXPORT), key=lambda one: len(one.disks))
    lost, replaced, twice, broken, half = items
    assert len(half.disks) >= 2

    made.sandbox.set_fault("empty_template", times=1)
    made.capture(broken)
    made.idle()
    templates = {item.guest_id: made.capture(item) for item in (lost, replaced, twice, half)}
    made.idle()
    made.classic.capture(
        twice.guest_id,
        name=twice.template_name,
        block_device_ids=[disk.block_device_id for disk in twice.disks],
        note="made by hand",
    )
    made.classic.capture(
        lost.guest_id, name="sealift-golden", block_device_ids=[lost.disks[0].block_device_id], note="somebody's own"
    )
    for item in (lost, replaced, half):
        made.export(item, templates[item.guest_id])
    made.idle()
    for item in (lost, replaced):
        made.prove(item, templates[item.guest_id])
    forget_claim(cos=made.cos, item=lost, settings=made.settings)

    made.cos.delete(made.bucket, lost.disk_keys[-1])
    made.cos.put(made.bucket, replaced.disk_keys[0], b"other bytes")
    made.cos.delete(made.bucket, half.disk_keys[0])
    made.begin_upload(half.disk_keys[0])
    made.cos.put(made.bucket, "sealift/images/notes.txt", b"whose is this?")
    made.cos.put(made.bucket, "sealift/plans/plan-0/report.json", b"{")

    killed = made.plan("plan-2", "20261130T0200Z").items_with(Outcome.EXPORT)[0]
    with made.gate.admit(made.classic, killed) as admission:
        admission.submitting()  # and the worker is gone: what it may have sent is not known


@pytest.fixture
def connections(messy: Messy, tmp_path: Path) -> Path:
    """The sandbox's connections, as Airflow exports them."""
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(messy.sandbox.connections()))
    return path


@pytest.fixture
def doctor(connections: Path) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        return CliRunner().invoke(main, ["doctor", "--connections", str(connections), *words])

    return call


DUE = {
    Kind.ORPHAN_TEMPLATE: 1,
    Kind.BROKEN_TEMPLATE: 1,
    Kind.DUPLICATE_TEMPLATES: 1,
    Kind.STRANGE_TEMPLATE: 1,
    Kind.HALF_EXPORT: 1,
    Kind.MANIFEST_WITHOUT_OBJECTS: 1,
    Kind.OBJECTS_CHANGED: 1,
    Kind.UNFINISHED_UPLOAD: 1,
    Kind.STRANGE_OBJECTS: 1,
    Kind.UNREADABLE: 2,
    Kind.STALE_CLAIM: 1,
    Kind.STALE_SLOT: 1,
}


@pytest.mark.slow
class TestMesses:
    """One sandbox for all."""

    def test_each_mess_is_found_and_nothing_is_touched(self, messy: Messy) -> None:
        before, last = messy.state(), messy.sandbox.history()[-1]["seq"]
        found = messy.examine(rules=Rules(over=["plan-1", "plan-2"]))
        events = messy.sandbox.history(after=last)
        assert messy.state() == before
        assert {event["kind"] for event in events} == {"request"}
        methods = {event["method"] for event in events}
        assert {one for one in methods if "::" not in one} <= READS
        assert {one.partition("::get")[1] for one in methods if "::" in one} == {"::get"}
        assert found.counts == DUE

    def test_what_is_found_of_the_half_export(self, messy: Messy) -> None:
        found = messy.examine(rules=Rules(over=["plan-1"])).findings
        (half,) = [one for one in found if one.kind is Kind.HALF_EXPORT]
        (upload,) = [one for one in found if one.kind is Kind.UNFINISHED_UPLOAD]
        (orphan,) = [one for one in found if one.kind is Kind.ORPHAN_TEMPLATE]
        assert half.missing == upload.keys
        assert upload.bytes == 5000
        assert half.template_ids == orphan.template_ids
        assert half.hostname == orphan.hostname == upload.hostname
        assert orphan.age_seconds is not None
        assert 3 * 3600 <= orphan.age_seconds < 4 * 3600
        assert (orphan.bytes or 0) > 0

    def test_an_unfinished_plan_keeps_its_own_at_work(self, messy: Messy) -> None:
        found = messy.examine()
        assert [plan.plan_id for plan in found.at_work] == ["plan-1", "plan-2"]
        assert found.counts == {
            Kind.DUPLICATE_TEMPLATES: 1,
            Kind.STRANGE_TEMPLATE: 1,
            Kind.MANIFEST_WITHOUT_OBJECTS: 1,
            Kind.OBJECTS_CHANGED: 1,
            Kind.STRANGE_OBJECTS: 1,
            Kind.UNREADABLE: 2,
        }

    def test_a_fortnight_later_nothing_counts_as_at_work(self, messy: Messy) -> None:
        found = messy.examine(hours=24 * 14 + 1)
        assert found.at_work == []
        assert found.counts == DUE

    def test_the_table(self, doctor: Callable[..., Result], messy: Messy) -> None:
        before = messy.state()
        done = doctor("--over", "plan-1", "--over", "plan-2", "--settled", "0")
        assert done.exit_code == 1, done.output
        assert messy.state() == before
        assert max(map(len, done.stdout.splitlines())) <= 100
        assert "Looked at sealift-exports/sealift: 2 manifests" in done.stdout
        for kind in DUE:
            assert kind.value in done.stdout or kind is Kind.STALE_SLOT, "a young slot is at work"
        words = " ".join(done.stdout.split())
        assert "findings: 1 orphan-template, 1 broken-template, 1 duplicate-templates" in words
        assert messy.sandbox.cos_api_key not in done.output
        assert messy.sandbox.api_key not in done.output

    def test_the_table_says_what_is_at_work(self, doctor: Callable[..., Result]) -> None:
        words = " ".join(doctor("--bucket", "sealift-exports").stdout.split())
        assert "At work, and left alone: 5 exports of the plan plan-1" in words
        assert "--over plan-1" in words

    def test_a_key_that_may_only_read_is_enough(
        self, doctor: Callable[..., Result], messy: Messy, connections: Path
    ) -> None:
        made = messy.sandbox.connections()
        made["ibm_cos_default"]["password"] = messy.sandbox.read_only_cos_api_key
        connections.write_text(json.dumps(made))
        found = Examination.model_validate_json(doctor("--json", "--settled", "0", "--over", "plan-1").stdout)
        (upload,) = [one for one in found.findings if one.kind is Kind.UNFINISHED_UPLOAD]
        assert upload.bytes is None
        assert "does not tell its size to this key" in upload.what

    def test_json(self, doctor: Callable[..., Result]) -> None:
        done = doctor("--json", "--over", "plan-1")
        assert done.exit_code == 1
        found = Examination.model_validate_json(done.stdout)
        assert found.counts[Kind.MANIFEST_WITHOUT_OBJECTS] == 1

    def test_what_belongs_to_another_prefix_is_only_counted(self, doctor: Callable[..., Result]) -> None:
        done = doctor("--prefix", "weekly")
        last = done.stdout.splitlines()[-1]
        assert last == "1 finding: 1 strange-template.", "a name that is none of ours belongs to every prefix"
        assert "Elsewhere: 5 image templates went to sealift-exports/sealift" in " ".join(done.stdout.split())


def test_nothing_to_find(tmp_path: Path) -> None:
    with Sandbox(root=tmp_path / "box", servers=0) as sandbox:
        (tmp_path / "c.json").write_text(json.dumps(sandbox.connections()))
        done = CliRunner().invoke(main, ["doctor", "--connections", str(tmp_path / "c.json")])
        assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "no findings.")
        environment = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(one) for name, one in sandbox.connections().items()}
        done = CliRunner().invoke(main, ["doctor", "--json"], env=environment)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["findings"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ibm_classic_default": None}, "There is no connection 'ibm_classic_default' in"),
        ({"ibm_classic_default": {"password": "wrong"}}, "Invalid API token"),
        ({"ibm_classic_default": {"conn_type": "http"}}, "'ibm_classic' is needed"),
        ({"ibm_cos_default": {"password": "wrong"}}, "IAM refused the API key"),
        ({"ibm_cos_default": {"host": "http://127.0.0.1:1"}}, "cannot be reached"),
        ({"ibm_cos_default": {"extra": {"bucket": ""}}}, "No bucket is named"),
        ({"bucket": "nosuch-bucket"}, "nosuch-bucket"),
        ({"prefix": "a b"}, "The prefix 'a b' cannot be used"),
    ],
)
def test_what_could_not_be_looked_at(
    tmp_path: Path, quick_sandbox: Sandbox, change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sealift.cos.retrying.Retries.wait_before", lambda *_: 0.0)
    made: dict[str, Any] = quick_sandbox.connections()
    options = []
    for name, fields in change.items():
        if name in {"bucket", "prefix"}:
            options = [f"--{name}", fields]
        elif fields is None:
            del made[name]
        else:
            extra = {**made[name]["extra"], **fields.get("extra", {})}
            made[name] = {**made[name], **fields, "extra": extra}
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(made))
    done = CliRunner().invoke(main, ["doctor", "--connections", str(path), *options])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("Could not look: ")
    assert words in done.stderr
    assert quick_sandbox.cos_api_key not in done.stderr


@pytest.fixture(scope="module")
def quick_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), servers=0) as sandbox:
        yield sandbox


def test_a_mistake_of_sealift_s_own_is_no_finding(
    quick_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("sealift.exports.doctor.examine", fails)
    path = tmp_path / "connections.json"
    path.write_text(json.dumps(quick_sandbox.connections()))
    done = CliRunner().invoke(main, ["doctor", "--connections", str(path)])
    assert done.exit_code == 2
    assert "planted" in done.stderr
    assert "Could not look" in done.stderr


def test_without_any_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(main, ["doctor"], env={"AIRFLOW_CONN_IBM_CLASSIC_DEFAULT": None})
    assert done.exit_code == 2
    assert "AIRFLOW_CONN_IBM_CLASSIC_DEFAULT" in done.stderr
    assert "--connections" in done.stderr


def test_there_is_no_option_for_a_secret() -> None:
    shown = CliRunner().invoke(main, ["doctor", "--help"]).stdout
    assert "--bucket" in shown
    assert not {"--api-key", "--password", "--login"} & set(shown.replace("=", " ").split())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200000, "2 d")],
)
def test_ages(seconds: int | None, words: str) -> None:
    assert age_words(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5_000_000_000, "5.0 GB"), (10**18, "1000.0 PB")],
)
def test_sizes(size: int | None, words: str) -> None:
    assert size_words(size) == words
