"""The benchmark of conversions: its figures follow from its runs, and it runs from end to end on a small disk."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from benchmarks import convert

MIB = 2**20


def way(seconds: float, size: int, memory: float = 100.0) -> dict[str, Any]:
    return {"seconds": seconds, "cpu_seconds": seconds, "memory_mib": memory, "size": size}


def size_run(name: str, ours: float, peer: float, *, size: int = 100, memory: float = 100.0) -> dict[str, Any]:
    ways = {"sealift": way(ours, size, memory), "qemu-sdk": way(peer, 100), "qemu-aws": way(peer + 3, 100)}
    return {
        "name": name,
        "targets": {"vmdk": ways, "qcow2": ways},
        "rounds": {target: {one: [taken] for one, taken in ways.items()} for target in ("vmdk", "qcow2")},
    }


def test_figures_are_the_worst_of_all_sizes() -> None:
    runs = [
        {"name": "libraries", "libraries": []},
        size_run("1 GiB", 4.0, 20.0, memory=120.0),
        size_run("10 GiB", 50.0, 150.0, size=104),
    ]
    found = convert.figures(runs)
    assert found["speedup_vmdk"] == found["speedup_qcow2"] == found["speedup_vmdk_10gib"] == 3.0
    assert found["speedup_vmdk_1gib"] == 5.0
    assert (found["size_ratio"], found["memory_mib"]) == (1.04, 120.0)
    assert set(convert.figures([]).values()) == {None}
    runs[1]["targets"] = {"vmdk": {"sealift": way(1.0, 1)}}
    assert convert.figures(runs[:2])["speedup_vmdk"] is None


def test_the_disk_is_a_third_of_each_and_the_same_each_time(tmp_path: Path) -> None:
    one = convert.make_image(tmp_path, 24 * MIB).read_bytes()
    assert convert.make_image(tmp_path, 24 * MIB).read_bytes() == one
    assert 24 * MIB * 0.5 < len(one) < 24 * MIB * 0.95
    sample = convert.text(200_000, seed=1)
    assert 0.3 < len(zlib.compress(sample)) / len(sample) < 0.6


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "convert.json"
    assert convert.main(["--sizes=0.0625", "--rounds=1", f"--out={out}"]) == 0
    content = json.loads(out.read_text())
    assert set(content) == {"figures", "settings", "runs"}
    assert content["figures"]["size_ratio"] < 1.05
    assert content["figures"]["memory_mib"] < 256
    assert content["figures"]["speedup_vmdk"] > 0
    assert {run["name"] for run in content["runs"]} == {"libraries", "0.0625 GiB"}
