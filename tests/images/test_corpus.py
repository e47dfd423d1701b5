"""No good image is refused, by whichever producer, and each damage is refused at the level that the corpus states."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from sealift.images.proof import KnownDigests, ProofFailed, ProofLevel, prove_image
from sealift.images.source import BytesSource
from tests.images import corpus as corpus_module
from tests.images.corpus import DISK, PRODUCERS, Corpus, Damage, cases

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


def test_the_script_writes_all_of_it(tmp_path: Path) -> None:
    corpus_module.main(tmp_path / "corpus")
    index = json.loads((tmp_path / "corpus" / "index.json").read_text())
    assert len(index) == len(PRODUCERS) + len(list(cases()))
    assert all((tmp_path / "corpus" / one["file"]).exists() for one in index)
    assert {one["level"] for one in index if one["damage"]} == {"L1", "L2"}
