"""What a proof reads and costs: level L1 of large disks in the bucket, level L2 against the SHA-256 of the same bytes.

``make bench-proof`` makes dynamic VHDs of 100 GB and of 2 TB whose block tables have their full length and of which a
gibibyte is stored, serves them by the sandbox's store, and proves them there:

- **L1**: the bytes and requests that the proof counted, which are those that the store was asked for, and the seconds;
- **L2**: the CPU-seconds of a process that reads every byte in the bucket, and of one that reads the file, against
  those of one that computes nothing but the SHA-256 of as many bytes in its memory.

Each is a program of its own; rounds alternate, and a figure is made of the medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from benchmarks import results_file
from benchmarks.download import ACCESS_KEY, BUCKET, GIB, KEY, MIB, SECRET_KEY, run, serve
from benchmarks.world import run_program, say
from sealift.images import vhd

NAME = "bench-proof"
DISKS: Final[Mapping[str, int]] = {"100gb": 100 * 10**9, "2tb": 2 * 10**12}

L1 = """
import json, sys, time
from sealift.cos.client import CosClient
from sealift.cos.source import ObjectSource
from sealift.images.proof import prove_vhd
given = json.loads(sys.stdin.read())
client = CosClient(region="us-south", endpoint_url=given["url"], **given["keys"])
info = client.head(given["bucket"], given["key"])
source = ObjectSource(client=client, bucket=given["bucket"], key=given["key"], info=info)
began = time.monotonic()
proof = prove_vhd(source, expected_capacity_bytes=given["capacity"], boot_disk=True)
print(json.dumps({"bytes": source.bytes_read, "requests": source.requests, "seconds": time.monotonic() - began}))
"""

L2 = """
import json, sys, time
from pathlib import Path
from sealift.cos.client import CosClient
from sealift.cos.source import ObjectSource
from sealift.images.proof import KnownDigests, ProofLevel, prove_image
from sealift.images.source import FileSource
given = json.loads(sys.stdin.read())
if given.get("file"):
    source, known = FileSource(Path(given["file"])), KnownDigests()
else:
    client = CosClient(region="us-south", endpoint_url=given["url"], **given["keys"])
    info = client.head(given["bucket"], given["key"])
    source = ObjectSource(client=client, bucket=given["bucket"], key=given["key"], info=info)
    known = KnownDigests(crc64nvme=info.crc64nvme)
began, used = time.monotonic(), time.process_time()
proof = prove_image(source, expected_capacity_bytes=given["capacity"], level=ProofLevel.L2, known=known)
seconds, cpu = time.monotonic() - began, time.process_time() - used
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "sha256": proof.sha256}))
"""

SHA256 = """
import hashlib, json, os, sys, time
given = json.loads(sys.stdin.read())
data = os.urandom(4 * 2**20)
began, used = time.monotonic(), time.process_time()
digest = hashlib.sha256()
for _ in range(given["size"] // len(data)):
    digest.update(data)
seconds, cpu = time.monotonic() - began, time.process_time() - used
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu}))
"""


def make_image(path: Path, *, disk: int, stored: int, seed: int) -> None:
    """Write a dynamic VHD: its table of full length, its stored blocks spread evenly, of random bytes.

    :param path: the file to write.
    :param disk: bytes of the virtual disk.
    :param stored: bytes of blocks to store.
    :param seed: decides the bytes.
    """
    disk = disk // vhd.SECTOR * vhd.SECTOR
    block = vhd.DEFAULT_BLOCK_SIZE
    count = vhd.blocks_for(disk, block)
    wanted = max(1, stored // block)
    chosen = {number * (count - 1) // max(1, wanted - 1) for number in range(wanted)}
    chance = random.Random(seed)  # noqa: S311 - test data, not a secret
    header = vhd.DynamicHeader(table_offset=1536, max_table_entries=count, block_size=block)
    cylinders, heads, sectors = vhd.geometry_for(disk)
    footer = vhd.VhdFooter(
        data_offset=vhd.FOOTER_SIZE,
        creator_app=b"tap\0",
        original_size=disk,
        current_size=disk,
        cylinders=cylinders,
        heads=heads,
        sectors_per_track=sectors,
        disk_type=vhd.DiskType.DYNAMIC,
        uuid=UUID(int=seed),
    ).pack()
    # A disk of 2 TB ends beyond what an MBR can say; its one partition lies within.
    last = min(disk // vhd.SECTOR, 2**32 - 1) - 2048
    first = bytes(446) + b"\x80\0\0\0\x83\0\0\0" + (2048).to_bytes(4, "little") + last.to_bytes(4, "little")
    entries = vhd.unpack_bat(b"\xff" * 4 * count)
    at = -(-(header.table_offset + count * 4) // vhd.SECTOR)
    with path.open("wb") as file:
        file.seek(at * vhd.SECTOR)
        for number in sorted(chosen):
            entries[number] = at
            data = chance.randbytes(block)
            if number == 0:
                data = first.ljust(510, b"\0") + b"\x55\xaa" + data[512:]
            file.write(b"\xff" * header.bitmap_size + data)
            at += (header.bitmap_size + block) // vhd.SECTOR
        file.write(footer)
        file.seek(0)
        file.write(footer + header.pack() + vhd.pack_bat(entries))


def measure(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure the proofs of one disk."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealift-bench-", dir=given.disk)))
        image = base / "disk.vhd"
        make_image(image, disk=DISKS[name], stored=int(given.stored * GIB), seed=7)
        size = image.stat().st_size
        url = stack.enter_context(serve(image, base / "served"))
        keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
        capacity = DISKS[name]
        bucket = {"url": url, "bucket": BUCKET, "key": KEY, "keys": keys, "capacity": capacity}
        programs = {
            "l1": (L1, bucket),
            "l2_bucket": (L2, bucket),
            "l2_file": (L2, {"file": str(image), "capacity": capacity}),
            "sha256": (SHA256, {"size": size // (4 * MIB) * (4 * MIB)}),
        }
        rounds: dict[str, list[dict[str, Any]]] = {one: [] for one in programs}
        for number in range(given.rounds):
            for one, (program, told) in programs.items():
                taken = run([sys.executable, "-c", program], told=told)
                found = {**json.loads(taken.sha256), "memory_mib": round(taken.memory_mib, 1)}
                rounds[one].append(found)
                say(f"  round {number + 1}, {one}: {found}")
    if len({one["sha256"] for way in ("l2_bucket", "l2_file") for one in rounds[way]}) != 1:
        raise RuntimeError(f"the proofs read different bytes: {rounds}")
    return {
        "name": name,
        "disk_bytes": DISKS[name],
        "image_bytes": size,
        "ways": {way: _medians(taken) for way, taken in rounds.items()},
        "rounds": rounds,
    }


def _medians(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = [name for name in rounds[0] if name != "sha256"]
    return {name: statistics.median(one[name] for one in rounds) for name in names}


def figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Make the figures of whatever disks there are; of several, the worst ratio counts."""
    found: dict[str, float | None] = {}
    ratios: dict[str, list[float]] = {"l2_ratio_of_sha256": [], "l2_ratio_of_sha256_file": []}
    for one in runs:
        ways = one["ways"]
        for name in ("bytes", "requests", "seconds"):
            found[f"l1_{name}_{one['name']}"] = ways["l1"][name]
        alone = ways["sha256"]["cpu_seconds"] / (one["image_bytes"] // (4 * MIB) * (4 * MIB))
        for name, way in (("l2_ratio_of_sha256", "l2_bucket"), ("l2_ratio_of_sha256_file", "l2_file")):
            ratios[name].append(alone * one["image_bytes"] / ways[way]["cpu_seconds"])
        found["l2_memory_mib"] = max(found.get("l2_memory_mib") or 0.0, ways["l2_bucket"]["memory_mib"])
    return found | {name: min(values) for name, values in ratios.items() if values}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=__doc__)
    parser.add_argument("--disks", nargs="+", choices=list(DISKS), default=list(DISKS))
    parser.add_argument("--stored", type=float, default=1.0, help="GiB of blocks in each image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="where images are made")
    parser.add_argument("--out", type=Path, default=results_file.RESULTS / f"{NAME}.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure every disk and write the figures.

    :param arguments: see ``--help``.
    :returns: the exit status.
    """
    given = parse(arguments)
    for name in given.disks:
        say(f"{name}: begins")
        taken = measure(name, given)
        settings = {
            "rounds": given.rounds,
            "stored_gib": given.stored,
            "command": f"make {NAME}",
            **results_file.machine(),
        }
        content = results_file.put_run(given.out, taken, settings)
        results_file.put_figures(given.out, figures(content["runs"]))
    for name, value in results_file.read(given.out)["figures"].items():
        say(f"{name} = {value}")
    return 0


if __name__ == "__main__":
    run_program(main)
