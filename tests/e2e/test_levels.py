"""A plan that asks for level L4: real Airflow processes read the sandbox's servers in the bucket, and start them."""

from __future__ import annotations

from typing import Any

from sealift.exports import names


def test_servers_are_read_and_started_before_their_exports_are_done(house: Any) -> None:
    ran = house.plan(hostnames=["web-*", "db-*", "win-*"], proof_level="L4")
    assert ran.state == "success", ran.outcomes()
    manifests = ran.manifests()
    levels = {hostname: one["proof_level"] for hostname, one in manifests.items()}
    # Windows shows no prompt that a program can see: that it was not started is said, not passed over.
    assert levels == {"web-01": "L4", "db-01": "L4", "win-01": "L3"}
    assert {name: one["proof_level"] for name, one in ran.outcomes().items() if name in levels} == levels
    for hostname, manifest in manifests.items():
        guest_id = manifest["guest"]["id"]
        key = names.proof_key(prefix=ran.prefix, guest_id=guest_id, period=manifest["period"], number=1)
        proof = house.read_json(ran.bucket, key)
        assert proof["export_id"] == manifest["export_id"]
        assert [one["sha256"] for one in proof["disks"]] == [one["sha256"] for one in manifest["disks"]]
        assert all(one["sha256"] for one in proof["disks"])
        if hostname == "win-01":
            assert proof["boot"]["tries"] == []
            assert proof["boot"]["checks"][0]["detail"].startswith("not started")
            continue
        assert proof["content"]["system"]["hostname"] == hostname
        assert [one["login"] for one in proof["boot"]["tries"]][-1:] == [True]
        picture = house.sandbox.store.path_of(ran.bucket, proof["boot"]["screenshot"])
        assert picture is not None
        assert picture.read_bytes().startswith(b"\x89PNG")
