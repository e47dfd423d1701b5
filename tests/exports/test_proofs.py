"""Later proofs of an export: added with the next number, read back, and compared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sealift.exports.errors import DeliveryError, LedgerError
from sealift.exports.proofs import (
    LaterProof,
    ProvenBytes,
    add_proof,
    known_digests,
    proof_level,
    proven_bytes,
    read_proofs,
)

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
ONE, TWO = "1" * 64, "2" * 64


class Disk:
    def __init__(self, key: str, etag: str = "e", sha256: str | None = None) -> None:
        self.key, self.etag, self.sha256, self.size = key, etag, sha256, 7
        self.proof_level = "L1"


class Manifest:
    """As much of a manifest as is needed here."""

    def __init__(self, *disks: Disk) -> None:
        self.disks = list(disks)
        self.bucket, self.export_id, self.period = "b", "7-20261123T0200Z", "20261123T0200Z"
        self.guest = type("Guest", (), {"id": 7})()


def proof(**digests: str) -> LaterProof:
    disks = [ProvenBytes(key=key, etag="e", size=7, sha256=sha256) for key, sha256 in digests.items()]
    return LaterProof(export_id="7-20261123T0200Z", made_at=AT, made_by="a test", disks=disks)


@pytest.fixture
def add(cos: Any) -> Callable[..., str]:
    def made(one: LaterProof, prefix: str = "weekly") -> str:
        return add_proof(cos, one, bucket="b", prefix=prefix, manifest=Manifest(Disk("a")))  # type: ignore[arg-type]

    return made


def read(cos: Any, prefix: str = "weekly") -> list[LaterProof]:
    return read_proofs(cos, bucket="b", prefix=prefix, manifest=Manifest(Disk("a")))  # type: ignore[arg-type]


def known(manifest: Manifest, *proofs: LaterProof) -> dict[str, str]:
    return known_digests(manifest, proofs)  # type: ignore[arg-type]


def test_each_proof_has_the_next_number_and_none_is_overwritten(cos: Any, add: Callable[..., str]) -> None:
    root = "weekly/proofs/7/20261123T0200Z"
    assert add(proof(a=ONE)) == f"{root}/0001.json"
    assert add(proof(a=TWO)) == f"{root}/0002.json"
    assert [one.disks[0].sha256 for one in read(cos)] == [ONE, TWO]
    assert read(cos, prefix="other") == []
    assert add(proof(a=ONE), prefix="") == "proofs/7/20261123T0200Z/0001.json"


def test_one_that_is_added_at_the_same_moment_takes_another_number(cos: Any, add: Callable[..., str]) -> None:
    put = cos.put_if_absent

    def late(bucket: str, key: str, body: bytes, **more: Any) -> Any:
        cos.put_if_absent = put
        cos.store(key, b"somebody was quicker")
        return put(bucket, key, body, **more)

    cos.put_if_absent = late
    assert add(proof(a=ONE)) == "weekly/proofs/7/20261123T0200Z/0002.json"


def test_the_same_proof_twice_is_one(cos: Any, add: Callable[..., str]) -> None:
    put = cos.put_if_absent

    def twice(*given: Any, **more: Any) -> Any:
        put(*given, **more)
        return put(*given, **more)

    cos.put_if_absent = twice
    assert add(proof(a=ONE)).endswith("/0001.json")
    assert len(read(cos)) == 1


def test_what_is_strange_is_passed_over_and_what_is_broken_is_named(cos: Any, add: Callable[..., str]) -> None:
    cos.store("weekly/proofs/7/20261123T0200Z/notes.txt", b"mine")
    assert add(proof(a=ONE)).endswith("/0001.json")
    assert len(read(cos)) == 1
    cos.store("weekly/proofs/7/20261123T0200Z/0009.json", b"{}")
    with pytest.raises(LedgerError, match=r"0009\.json is not a proof"):
        read(cos)
    assert add(proof(a=ONE)).endswith("/0010.json")


def test_digests_count_for_the_object_that_they_are_about() -> None:
    assert known(Manifest(Disk("a"), Disk("b")), proof(a=ONE), proof(b=TWO, c=ONE)) == {"a": ONE, "b": TWO}
    assert known(Manifest(Disk("a", etag="new")), proof(a=ONE)) == {}
    assert known(Manifest(Disk("a", sha256=TWO))) == {"a": TWO}
    assert known(Manifest(Disk("a")), proof(a=ONE), proof(a=ONE)) == {"a": ONE}


def test_readings_that_contradict_each_other_are_not_passed_over() -> None:
    with pytest.raises(DeliveryError, match="two digests"):
        known(Manifest(Disk("a")), proof(a=ONE), proof(a=TWO))
    with pytest.raises(DeliveryError, match="two digests"):
        known(Manifest(Disk("a", sha256=ONE)), proof(a=TWO))


def level(manifest: Manifest, *proofs: LaterProof) -> str:
    return proof_level(manifest, proofs)  # type: ignore[arg-type]


def test_an_export_is_proven_as_deep_as_the_least_proven_of_its_disks() -> None:
    both = Manifest(Disk("a"), Disk("b"))
    assert level(both) == "L1"
    assert level(both, proof(a=ONE)) == "L1"
    assert level(both, proof(a=ONE), proof(b=ONE)) == "L2"
    assert level(Manifest(Disk("a", etag="another")), proof(a=ONE)) == "L1", "that object was replaced since"
    assert level(Manifest(Disk("a")), proof(a=ONE).model_copy(update={"proof_level": "L3"}), proof(a=ONE)) == "L3"


def test_what_is_told_of_bytes_names_the_object_that_was_read() -> None:
    found = proven_bytes(Disk("a"), sha256=ONE, crc64nvme="AAAAAAAAAAA=")  # type: ignore[arg-type]
    assert (found.key, found.etag, found.size, found.sha256, found.crc64nvme) == ("a", "e", 7, ONE, "AAAAAAAAAAA=")
