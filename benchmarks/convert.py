"""Conversions of one large image in a bucket into another format in the bucket: Sealift's stream, and qemu-img.

``make bench-convert`` serves a dynamic VHD of a disk of 1 GiB, then one of 10 GiB, by the sandbox's store. A third of
the disk is random, a third is text, a third is zeros, in stretches of 1 to 5 MiB. It is converted into a
streamOptimized VMDK and into a compressed qcow2, which end up in the same bucket, by:

- ``sealift``: one program that reads by ranges, converts and uploads as it goes, with no file on disk;
- ``qemu-sdk``: one program that downloads with ``download_file`` of ibm-cos-sdk, runs qemu-img, and uploads with
  ``upload_file``;
- ``qemu-aws``: ``aws s3 cp``, qemu-img, ``aws s3 cp``.

Each is measured from its start to its end; rounds alternate; a figure is made of the medians of the rounds, and of the
faster of the two ways with qemu-img. Server and client share the machine's cores. In the first round every result is
brought back and compared with the source by ``qemu-img compare``, outside of what is measured. How fast the libraries
compress, and how well, on this machine and these data, is measured before.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from benchmarks import results_file
from benchmarks.download import (
    ACCESS_KEY,
    API_KEY,
    BUCKET,
    GIB,
    INSTANCE,
    KEY,
    MEMORY,
    MIB,
    SECRET_KEY,
    STORE,
    Measured,
    Stage,
    aws_environment,
    run,
)
from benchmarks.world import run_program, say
from sealift.cos.client import CosClient
from sealift.images.convert.deflate import LIBRARIES, Deflate
from sealift.images.vhd_writer import write_dynamic_vhd

NAME: Final = "bench-convert"
TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "vmdk": ("-O", "vmdk", "-o", "subformat=streamOptimized"),
    "qcow2": ("-O", "qcow2", "-c"),
}
WAYS: Final = ("sealift", "qemu-sdk", "qemu-aws")
_PIECES: Final = 32 * MIB

SEALIFT = """
import json, sys
from sealift.cos.client import CosClient
from sealift.cos.source import ObjectSource
from sealift.images.convert.formats import TargetFormat, identity_of, writer_for
from sealift.images.convert.run import convert
from sealift.images.virtual_disk import open_disk
from sealift.transfer.upload import Upload
from sealift.transfer.upload_targets import CosTarget
given = json.loads(sys.stdin.read())
client = CosClient(region="us-south", endpoint_url=given["url"], **given["keys"])
bucket, key = given["bucket"], given["key"]
info = client.head(bucket, key)
disk = open_disk(ObjectSource(client=client, bucket=bucket, key=key, info=info))
target = TargetFormat(given["format"])
writer = writer_for(target, size=disk.size, identity=identity_of(key, info.etag, target))
upload = Upload(target=CosTarget(client=client, bucket=bucket, key=given["into"]))
convert(disk, writer=writer, sink=upload)
print(upload.result.sha256)
"""

QEMU = """
import json, os, subprocess, sys
import ibm_boto3.session
from ibm_botocore.config import Config
given = json.loads(sys.stdin.read())
client = ibm_boto3.session.Session().client(
    "s3",
    endpoint_url=given["url"],
    region_name="us-south",
    ibm_api_key_id=given["keys"]["api_key"],
    ibm_service_instance_id=given["keys"]["service_instance_id"],
    ibm_auth_endpoint=given["keys"]["iam_endpoint"],
    config=Config(signature_version="oauth", s3={"addressing_style": "path"}, proxies={}),
)
client.download_file(given["bucket"], given["key"], given["target"])
made = given["target"] + ".made"
subprocess.run(["qemu-img", "convert", "-f", "vpc", *given["options"], given["target"], made], check=True)
os.unlink(given["target"])
client.upload_file(made, given["bucket"], given["into"])
os.unlink(made)
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A served image, and where a program with qemu-img keeps its files."""

    stage: Stage
    cos: CosClient

    @property
    def keys(self) -> dict[str, str]:
        """Give the key that both programs with IBM's SDK use. (The aws CLI takes the HMAC key.)"""
        iam = f"{self.stage.url}/identity/token"
        return {"api_key": API_KEY, "service_instance_id": INSTANCE, "iam_endpoint": iam}

    def into(self, target: str) -> str:
        """Say what a result is called."""
        return f"converted/disk-0.{target}"


def sealift(place: Place, target: str) -> Measured:
    """Convert with Sealift's stream."""
    told = place.stage.told(keys=place.keys, format=target, into=place.into(target))
    return run([sys.executable, "-c", SEALIFT], told=told)


def qemu_sdk(place: Place, target: str) -> Measured:
    """Download and upload with the SDK's own methods, and run qemu-img in between."""
    told = place.stage.told(keys=place.keys, options=list(TARGETS[target]), into=place.into(target))
    return run([sys.executable, "-c", QEMU], told=told)


def qemu_aws(place: Place, target: str) -> Measured:
    """Download and upload with the aws CLI, and run qemu-img in between."""
    stage = place.stage
    made = stage.folder / "made"
    aws: list[str | Path] = [stage.tool("aws"), "--endpoint-url", stage.url, "s3", "cp", "--only-show-errors"]
    env = aws_environment(stage)
    taken = [run([*aws, f"s3://{BUCKET}/{KEY}", stage.target], env=env)]
    taken.append(run(["qemu-img", "convert", "-f", "vpc", *TARGETS[target], stage.target, made]))
    stage.target.unlink()
    taken.append(run([*aws, made, f"s3://{BUCKET}/{place.into(target)}"], env=env))
    made.unlink()
    return Measured(
        seconds=sum(one.seconds for one in taken),
        cpu_seconds=sum(one.cpu_seconds for one in taken),
        memory_mib=max(one.memory_mib for one in taken),
    )


RUNS: Final[Mapping[str, Callable[[Place, str], Measured]]] = {
    "sealift": sealift,
    "qemu-sdk": qemu_sdk,
    "qemu-aws": qemu_aws,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convert", description=__doc__)
    parser.add_argument("--sizes", default="1,10", help="GiB of the disk, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--memory", type=Path, default=MEMORY, help="files of qemu-img go here while they fit")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="and here otherwise")
    parser.add_argument("--out", type=Path, default=results_file.RESULTS / f"{NAME}.json")
    return parser.parse_args(arguments)


def text(size: int, *, seed: int) -> bytes:
    """Make lines of words as often as words come, and numbers: zlib makes about two fifths of them."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, no secret
    letters = "eeeeetttaaoinnshrdlucmfwypvbgkjqxz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))).encode() for _ in range(4000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    drawn = chance.choices(words, weights, k=200_000)
    lines: list[bytes] = []
    length = 0
    while length < size:
        at = chance.randrange(len(drawn) - 12)
        count = chance.randint(3, 12)
        chance.shuffle(order := list(range(at, at + count)))
        lines.append(
            b"%d %s %x\n" % (chance.randrange(10**6), b" ".join(drawn[i] for i in order), chance.getrandbits(24))
        )
        length += len(lines[-1])
    return b"".join(lines)[:size]


def make_image(folder: Path, size: int) -> Path:
    """Make a dynamic VHD of a disk of mixed data, the same for the same size.

    Stretches are cut out of 32 MiB of each kind: no format looks back further than 32 KiB, so nobody profits from what
    comes again.
    """
    chance = random.Random(20261127)  # noqa: S311 - repeatable, no secret
    kinds = [chance.randbytes(_PIECES), text(_PIECES, seed=5), b""]
    raw = folder / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(size)
        at = number = 0
        while at < size:
            length = min(chance.randint(1, 5) * MIB + chance.randrange(64) * 4096, size - at)
            pool = kinds[number % 3]
            if pool:
                start = chance.randrange((len(pool) - length) // 512) * 512
                file.seek(at)
                file.write(pool[start : start + length])
            at += length
            number += 1
    image = folder / "disk.vhd"
    write_dynamic_vhd(raw=raw, out=image, uuid=UUID(int=20261127), timestamp=datetime(2026, 11, 27, tzinfo=UTC))
    raw.unlink()
    return image


def measure_libraries() -> list[dict[str, Any]]:
    """Measure how fast grains of text and of random bytes are compressed by one thread, and how small."""
    found = []
    samples = {"text": text(4 * MIB, seed=6), "random": random.Random(6).randbytes(4 * MIB)}  # noqa: S311
    for library in LIBRARIES:
        try:
            deflate = Deflate(library=library)  # type: ignore[arg-type]  # it is one of the names
        except ModuleNotFoundError:
            continue
        for kind, data in samples.items():
            for form, pack in (
                ("vmdk", deflate.stream),
                ("qcow2", lambda grain: deflate.raw(grain, window_bits=12)),  # noqa: B023 - called at once
            ):
                began = time.monotonic()
                packed = sum(len(pack(data[at : at + 65536])) for at in range(0, len(data), 65536))
                seconds = time.monotonic() - began
                found.append(
                    {
                        "library": library,
                        "level": deflate.level,
                        "data": kind,
                        "format": form,
                        "mb_per_second": round(len(data) / seconds / 1e6, 1),
                        "of_size": round(packed / len(data), 4),
                        "zlib_of_size": round(
                            sum(len(zlib.compress(data[at : at + 65536])) for at in range(0, len(data), 65536))
                            / len(data),
                            4,
                        ),
                    }
                )
    return found


def compared(place: Place, target: str, image: Path, size: int) -> None:
    """Bring a result back and let QEMU compare it with the source.

    :raises RuntimeError: they differ.
    """
    back = place.stage.folder / "back"
    with back.open("wb") as file:
        for at in range(0, size, 8 * MIB):
            length = min(8 * MIB, size - at)
            file.write(place.cos.read_range(BUCKET, place.into(target), start=at, length=length))
    said = subprocess.run(
        ["qemu-img", "compare", "-f", "vpc", "-F", target, image, back], capture_output=True, text=True, check=False
    )
    back.unlink()
    if said.returncode:
        raise RuntimeError(f"the {target} is not the disk that was served: {said.stdout}{said.stderr}")


def measure(given: argparse.Namespace, gib: float) -> dict[str, Any]:
    """Measure all ways at one size."""
    size = int(gib * GIB) // MIB * MIB
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealift-bench-", dir=given.disk)))
        image = make_image(base, size)
        stored = image.stat().st_size
        # What is downloaded and what is made of it; the store's files are on disk, and in the page cache.
        roomy = shutil.disk_usage(given.memory).free > 2.5 * stored and _free_memory() > 5 * stored
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="sealift-bench-", dir=given.memory if roomy else given.disk)
            )
        )
        told = [base / "served", BUCKET, KEY, INSTANCE, API_KEY, ACCESS_KEY, SECRET_KEY, image]
        (base / "served").mkdir()
        server = subprocess.Popen(
            [sys.executable, "-c", STORE, *(str(one) for one in told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        stack.callback(server.wait)
        stack.callback(server.terminate)
        assert server.stdout is not None
        url = server.stdout.readline().decode().strip()
        cos = CosClient(region="us-south", endpoint_url=url, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)
        stack.callback(cos.close)
        place = Place(stage=Stage(url=url, folder=folder, source=image), cos=cos)
        rounds: dict[str, dict[str, list[dict[str, Any]]]] = {
            target: {way: [] for way in given.ways} for target in given.targets
        }
        for number in range(given.rounds):
            for target in given.targets:
                for way in given.ways:
                    taken = RUNS[way](place, target)
                    info = cos.head(BUCKET, place.into(target))
                    assert info is not None
                    if number == 0:
                        compared(place, target, image, info.size)
                    cos.delete(BUCKET, place.into(target))
                    rounds[target][way].append(
                        {
                            "seconds": round(taken.seconds, 3),
                            "cpu_seconds": round(taken.cpu_seconds, 3),
                            "memory_mib": round(taken.memory_mib, 1),
                            "size": info.size,
                        }
                    )
                    say(f"  round {number + 1}, {target} by {way}: {taken.seconds:.2f} s, {info.size / MIB:.1f} MiB")
    return {
        "name": f"{gib:g} GiB",
        "bytes": size,
        "image_bytes": stored,
        "qemu_files_on": "memory (tmpfs)" if roomy else "disk",
        "targets": {
            target: {
                way: {name: round(statistics.median(one[name] for one in taken), 3) for name in taken[0]}
                for way, taken in ways.items()
            }
            for target, ways in rounds.items()
        },
        "rounds": rounds,
    }


def figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Make the figures of whatever sizes there are; of several, the worst counts.

    ``speedup_<format>``: seconds of the faster way with qemu-img, over Sealift's. ``size_ratio``: Sealift's result over
    qemu-img's. ``memory_mib``: the most that Sealift's program had resident.
    """
    names = (*(f"speedup_{target}" for target in TARGETS), "size_ratio", "memory_mib")
    found: dict[str, float | None] = dict.fromkeys(names)

    def keep(name: str, value: float, worst: Callable[[float, float], float]) -> None:
        before = found.get(name)
        found[name] = value if before is None else worst(before, value)

    for run_ in runs:
        for target, ways in (run_.get("targets") or {}).items():
            ours = ways.get("sealift")
            peers = [ways[way] for way in WAYS[1:] if way in ways]
            if ours is None:
                continue
            keep("memory_mib", max(one["memory_mib"] for one in run_["rounds"][target]["sealift"]), max)
            if peers:
                speedup = min(one["seconds"] for one in peers) / ours["seconds"]
                found[f"speedup_{target}_{run_['name'].replace(' ', '').lower()}"] = speedup
                keep(f"speedup_{target}", speedup, min)
                keep("size_ratio", ours["size"] / min(one["size"] for one in peers), max)
    return found


def _free_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def main(arguments: Sequence[str]) -> int:
    """Measure every size and write the figures.

    :param arguments: see ``--help``.
    :returns: the exit status.
    """
    given = parse(arguments)
    settings = {"rounds": given.rounds, "command": f"make {NAME}", **results_file.machine()}
    libraries = measure_libraries()
    for one in libraries:
        say(f"  {one['library']}, {one['data']} for {one['format']}: {one['mb_per_second']} MB/s, {one['of_size']:.1%}")
    results_file.put_run(given.out, {"name": "libraries", "libraries": libraries}, settings)
    for gib in (float(one) for one in given.sizes.split(",")):
        say(f"{gib:g} GiB: begins")
        taken = measure(given, gib)
        content = results_file.put_run(given.out, taken, settings)
        results_file.put_figures(given.out, figures(content["runs"]))
    for name, value in results_file.read(given.out)["figures"].items():
        say(f"{name} = {value}")
    return 0


if __name__ == "__main__":
    run_program(main)
