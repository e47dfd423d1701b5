"""No good image is refused, by whichever producer, and each damage is refused at the level that the corpus states."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.images.content.content_proof import ContentProof, prove_content
from sealift.images.proof import KnownDigests, ProofFailed, ProofLevel, prove_image
from sealift.images.source import BytesSource
from sealift.images.virtual_disk import open_disk
from tests.images import corpus as corpus_module
from tests.images.corpus import DISK, Corpus, Damage, cases
from tests.images.producers import PRODUCERS
from tests.images.server_corpus import KINDS
from tests.images.server_damage import DAMAGE, ServerDamage, server_cases

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed (qemu-utils)")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


def prove(data: bytes, *, level: str, known: KnownDigests | None = None) -> None:
    prove_image(
        BytesSource(data),
        expected_capacity_bytes=DISK.capacity_bytes,
        boot_disk=True,
        level=ProofLevel(level),
        known=known,
    )


@pytest.mark.parametrize("producer", PRODUCERS)
def test_no_good_image_is_refused(corpus: Corpus, producer: str) -> None:
    good = corpus.good[producer]
    prove(good, level="L1")
    prove(good, level="L2")
    prove(good, level="L2", known=KnownDigests(sha256=hashlib.sha256(good).hexdigest()))


@pytest.mark.parametrize(("producer", "damage"), [pytest.param(*one, id=f"{one[1].name}, {one[0]}") for one in cases()])
def test_each_damage_is_refused_at_its_level(corpus: Corpus, producer: str, damage: Damage) -> None:
    damaged = corpus.damaged(producer, damage)
    assert damaged != corpus.good[producer]
    if damage.level == "L1":
        with pytest.raises(ProofFailed) as failure:
            prove(damaged, level="L1")
        assert failure.value.detail
        return
    # What a lower level lets through is stated too: who reads the table should be able to rely on it.
    prove(damaged, level="L1")
    if damage.needs_digest:
        prove(damaged, level="L2")
    known = KnownDigests(sha256=hashlib.sha256(corpus.good[producer]).hexdigest()) if damage.needs_digest else None
    with pytest.raises(ProofFailed) as failure:
        prove(damaged, level="L2", known=known)
    assert failure.value.detail


@dataclasses.dataclass(frozen=True)
class Written:
    """The whole corpus as the script writes it."""

    folder: Path
    index: list[dict[str, Any]]

    def server(self, kind: str, producer: str, damage: str | None) -> list[bytes]:
        wanted = (kind, producer, damage)
        (files,) = [one["files"] for one in self.index if wanted == (one.get("server"), one["producer"], one["damage"])]
        return [(self.folder / name).read_bytes() for name in files]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    folder = tmp_path_factory.mktemp("written") / "corpus"
    corpus_module.main(folder)
    yield Written(folder, json.loads((folder / "index.json").read_text()))
    shutil.rmtree(folder)


def prove_files(images: list[bytes]) -> None:
    for number, image in enumerate(images):
        prove_image(BytesSource(image), expected_capacity_bytes=None, boot_disk=number == 0, level=ProofLevel.L1)


def prove_server(images: list[bytes]) -> ContentProof:
    return prove_content([open_disk(BytesSource(image)) for image in images])


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_good_server_is_refused(written: Written, kind: str, producer: str) -> None:
    images = written.server(kind, producer, None)
    prove_files(images)
    proof = prove_server(images)
    assert all(check.passed for check in proof.checks)
    assert {remark.id for remark in proof.remarks} == {"boot.drivers"}
    assert "KVM" not in " ".join(remark.detail for remark in proof.remarks)


@pytest.mark.parametrize(
    ("producer", "kind", "damage"),
    server_cases(),
    ids=[f"{kind}-{damage.name}-{producer}".replace(" ", "-") for producer, kind, damage in server_cases()],
)
def test_each_damage_to_a_server_is_seen_at_its_level(
    written: Written, producer: str, kind: str, damage: ServerDamage
) -> None:
    images = written.server(kind, producer, damage.name)
    if damage.level == "L1":
        with pytest.raises(ProofFailed) as early:
            prove_files(images)
        assert early.value.check_id == damage.check
    else:
        prove_files(images)  # that the files are whole says nothing of what is in them
    if damage.remark:
        said = [one.detail for one in prove_server(images).remarks if one.id == damage.check]
        assert any(damage.says in detail for detail in said)
        return
    with pytest.raises(ProofFailed) as failure:
        prove_server(images)
    said = [check.detail for check in failure.value.checks if not check.passed and check.id == damage.check]
    assert any(damage.says in detail for detail in said), str(failure.value)


def test_each_damage_to_servers_has_images_of_many_producers() -> None:
    of_producers = [(damage.name, kind, producer) for producer, kind, damage in server_cases()]
    assert len(set(of_producers)) == len(of_producers)
    assert {producer for _, _, producer in of_producers} == set(PRODUCERS)
    assert all(len({one for name, _, one in of_producers if name == damage.name}) >= 4 for damage in DAMAGE)


def test_the_script_writes_all_of_it(written: Written) -> None:
    files = [one for one in written.index if "file" in one]
    assert len(files) == len(PRODUCERS) + len(list(cases()))
    assert all((written.folder / one["file"]).exists() for one in files)
    assert {one["level"] for one in files if one["damage"]} == {"L1", "L2"}
    of_servers = [one for one in written.index if "files" in one]
    assert len(of_servers) == len(PRODUCERS) * len(KINDS) + len(server_cases())
    assert all((written.folder / name).exists() for one in of_servers for name in one["files"])
    assert {one["level"] for one in of_servers if one["damage"]} == {"L1", "L3"}
