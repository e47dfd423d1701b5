"""Downloads of one large object, each with its SHA-256: Sealift's, what people use, and the machine's limits.

``make bench-download`` serves an object of 2 GiB, then one of 10 GiB, by the sandbox's store, and downloads it with:

- ``sealift-iam``, ``sealift-hmac``: Sealift's engine, which hashes while it writes, flushes to disk and renames;
- ``download_file`` of ibm-cos-sdk, ``aws s3 cp``, ``s5cmd``, ``rclone``: each followed by the SHA-256 of the file, by
  one core of hashlib, since none of them gives one.

Each is a program of its own, from its start to its end; rounds alternate. The limits are what no download that hashes
one file can beat on this machine: the SHA-256 alone, a copy of the file, and the same bytes over loopback to nowhere.
Server and client share the machine's cores. A figure is made of the medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import results_file
from benchmarks.world import run_program, say

NAME = "bench-download"
MIB, GIB = 2**20, 2**30
BUCKET, KEY = "benchmark", "images/disk-0.vhd"
API_KEY, ACCESS_KEY, SECRET_KEY = "benchmark-api-key", "BENCHMARK", "benchmark-secret"
INSTANCE = "crn:v1:bluemix:public:cloud-object-storage:global:a/1:benchmark::"
OURS: Final = ("sealift-iam", "sealift-hmac")
PEERS: Final = ("download_file", "aws", "s5cmd", "rclone")
LIMITS: Final = ("sha256", "copy", "loopback")
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system in memory; folders of our own are made in it

STORE = """
import sys
from pathlib import Path
from sealift.sandbox.iam import Identity
from sealift.sandbox.store import ObjectStore, serve_store
root, bucket, key, instance, api_key, access_key, secret_key, source = sys.argv[1:]
identity = Identity(path=Path(root) / "identity.json")
identity.add_api_key(key=api_key, name="benchmark", roles={"*": "Manager"})
identity.add_hmac(access_key_id=access_key, secret_access_key=secret_key, roles={"*": "Manager"})
store = ObjectStore(root=Path(root) / "store")
store.create_bucket(bucket, location_constraint="us-south-standard", service_instance=instance)
store.put_file(bucket=bucket, key=key, source=Path(source))
server = serve_store(store=store, identity=identity)
print(server.url, flush=True)
sys.stdin.read()
"""

SEALIFT = """
import json, sys
from pathlib import Path
from sealift.cos.client import CosClient
from sealift.transfer.download import Download
from sealift.transfer.reading import Remote
given = json.loads(sys.stdin.read())
client = CosClient(region="us-south", endpoint_url=given["url"], **given["keys"])
info = client.head(given["bucket"], given["key"])
remote = Remote(bucket=given["bucket"], key=given["key"], size=info.size, etag=info.etag)
done = Download(client=client, remote=remote, target=Path(given["target"])).run()
print(done.sha256)
"""

DOWNLOAD_FILE = """
import json, sys
import ibm_boto3.session
from ibm_botocore.config import Config
given = json.loads(sys.stdin.read())
client = ibm_boto3.session.Session().client(
    "s3",
    endpoint_url=given["url"],
    region_name="us-south",
    aws_access_key_id=given["access_key"],
    aws_secret_access_key=given["secret_key"],
    config=Config(s3={"addressing_style": "path"}, proxies={}),
)
client.download_file(given["bucket"], given["key"], given["target"])
"""

SHA256 = """
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb", buffering=0) as file:
    while data := file.read(1048576):
        digest.update(data)
print(digest.hexdigest())
"""


@dataclass(kw_only=True)
class Measured:
    """What one program, or two after each other, took."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_mib: float = 0.0
    sha256: str = ""


def run(command: Sequence[str | Path], *, told: Any = None, env: Mapping[str, str] | None = None) -> Measured:
    """Run a program and say what it took.

    :raises RuntimeError: it failed, with what it said.
    """
    began = time.monotonic()
    program = subprocess.Popen(
        [str(one) for one in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stderr is not None
    with program.stdin as said:
        said.write(b"" if told is None else json.dumps(told).encode())
    errors: list[bytes] = []
    peaks = [0.0]
    over = threading.Event()

    def watch() -> None:
        # The kernel's own sum of a child's peak begins with what its parent had when it was forked.
        while not over.wait(0.02):
            peaks.append(_peak_memory(program.pid))

    beside = [
        threading.Thread(target=lambda: errors.append(program.stderr.read())),  # type: ignore[union-attr]
        threading.Thread(target=watch),
    ]
    for thread in beside:
        thread.start()
    output = program.stdout.read()
    _, status, used = os.wait4(program.pid, 0)
    seconds = time.monotonic() - began
    over.set()
    for thread in beside:
        thread.join()
    program.returncode = os.waitstatus_to_exitcode(status)
    program.stdout.close()
    program.stderr.close()
    if program.returncode:
        raise RuntimeError(f"{command[0]} ended with {program.returncode}: {errors[0].decode()[-2000:]}")
    return Measured(
        seconds=seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        memory_mib=max(peaks),
        sha256=output.decode().strip(),
    )


def then_hashed(first: Measured, target: Path) -> Measured:
    """Add the SHA-256 of what a program brought."""
    second = run([sys.executable, "-c", SHA256, target])
    return Measured(
        seconds=first.seconds + second.seconds,
        cpu_seconds=first.cpu_seconds + second.cpu_seconds,
        memory_mib=max(first.memory_mib, second.memory_mib),
        sha256=second.sha256,
    )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A served object and a folder to download into."""

    url: str
    folder: Path
    source: Path

    @property
    def target(self) -> Path:
        """The file to make."""
        return self.folder / "downloaded"

    def told(self, **more: Any) -> dict[str, Any]:
        """Say what a program is told of it."""
        return {"url": self.url, "bucket": BUCKET, "key": KEY, "target": str(self.target), **more}

    def tool(self, name: str) -> Path:
        """Find a program of the virtual environment."""
        return Path(sys.executable).with_name(name)


def sealift(stage: Stage, keys: Mapping[str, str]) -> Measured:
    """Download with Sealift's engine."""
    return run([sys.executable, "-c", SEALIFT], told=stage.told(keys=dict(keys)))


def download_file(stage: Stage) -> Measured:
    """Download with the SDK's own method."""
    told = stage.told(access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    return then_hashed(run([sys.executable, "-c", DOWNLOAD_FILE], told=told), stage.target)


def aws(stage: Stage) -> Measured:
    """Download with the aws CLI, as it comes."""
    command: list[str | Path] = [
        stage.tool("aws"),
        "--endpoint-url",
        stage.url,
        "s3",
        "cp",
        f"s3://{BUCKET}/{KEY}",
        stage.target,
    ]
    return then_hashed(run([*command, "--only-show-errors"], env=aws_environment(stage)), stage.target)


def s5cmd(stage: Stage) -> Measured:
    """Download with s5cmd, as it comes."""
    command: list[str | Path] = [
        stage.tool("s5cmd"),
        "--endpoint-url",
        stage.url,
        "cp",
        f"s3://{BUCKET}/{KEY}",
        stage.target,
    ]
    return then_hashed(run(command, env=aws_environment(stage)), stage.target)


def rclone(stage: Stage) -> Measured:
    """Download with rclone, as it comes."""
    env = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_COS_TYPE": "s3",
        "RCLONE_CONFIG_COS_PROVIDER": "IBMCOS",
        "RCLONE_CONFIG_COS_ENDPOINT": stage.url,
        "RCLONE_CONFIG_COS_ACCESS_KEY_ID": ACCESS_KEY,
        "RCLONE_CONFIG_COS_SECRET_ACCESS_KEY": SECRET_KEY,
        "RCLONE_CONFIG_COS_FORCE_PATH_STYLE": "true",
    }
    command: list[str | Path] = [stage.tool("rclone"), "copyto", f"cos:{BUCKET}/{KEY}", stage.target]
    return then_hashed(run(command, env=env), stage.target)


def aws_environment(stage: Stage) -> dict[str, str]:
    """Give the keys to tools that read AWS's variables."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-south",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "HOME": str(stage.folder),
    }


def loopback(stage: Stage) -> Measured:
    """Send the file over loopback to somebody who keeps nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send() -> None:
            with socket.create_connection(listener.getsockname()) as out, stage.source.open("rb") as file:
                out.sendfile(file)

        sender = threading.Thread(target=send)
        began = time.monotonic()
        sender.start()
        taken, _ = listener.accept()
        with taken:
            buffer = memoryview(bytearray(MIB))
            while taken.recv_into(buffer):
                pass
        sender.join()
    return Measured(seconds=time.monotonic() - began)


WAYS: Mapping[str, Callable[[Stage], Measured]] = {
    "sealift-iam": lambda stage: sealift(
        stage, {"api_key": API_KEY, "service_instance_id": INSTANCE, "iam_endpoint": f"{stage.url}/identity/token"}
    ),
    "sealift-hmac": lambda stage: sealift(stage, {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}),
    "download_file": download_file,
    "aws": aws,
    "s5cmd": s5cmd,
    "rclone": rclone,
    "sha256": lambda stage: run([sys.executable, "-c", SHA256, stage.source]),
    "copy": lambda stage: run(["cp", "--reflink=never", stage.source, stage.target]),
    "loopback": loopback,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.download", description=__doc__)
    parser.add_argument("--sizes", default="2,10", help="GiB, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--memory", type=Path, default=MEMORY, help="downloads go here while they fit")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="and here otherwise")
    parser.add_argument("--out", type=Path, default=results_file.RESULTS / f"{NAME}.json")
    return parser.parse_args(arguments)


def make_file(path: Path, size: int) -> None:
    """Fill a file with bytes that do not compress; the same block over and over is as good, for nobody compresses."""
    block = os.urandom(64 * MIB)
    with path.open("wb") as file:
        left = size
        while left > 0:
            file.write(block[: min(len(block), left)])
            left -= len(block)


@contextmanager
def serve(source: Path, root: Path) -> Iterator[str]:
    """Serve a file as an object, by the sandbox's store in a process of its own, on loopback.

    :param source: the file.
    :param root: where the store keeps its own; it is made.
    :returns: the store's address, as long as the ``with`` statement lasts.
    """
    root.mkdir()
    told = [root, BUCKET, KEY, INSTANCE, API_KEY, ACCESS_KEY, SECRET_KEY, source]
    server = subprocess.Popen(
        [sys.executable, "-c", STORE, *(str(one) for one in told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().decode().strip()
    finally:
        server.terminate()
        server.wait()


def measure(given: argparse.Namespace, gib: float) -> dict[str, Any]:
    """Measure all ways at one size."""
    size = int(gib * GIB)
    # The page cache holds the source as well, and everybody reads it from there.
    roomy = shutil.disk_usage(given.memory).free > 1.5 * size and _free_memory() > 2.5 * size
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealift-bench-", dir=given.disk)))
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="sealift-bench-", dir=given.memory if roomy else given.disk)
            )
        )
        source = base / "source"
        make_file(source, size)
        stage = Stage(url=stack.enter_context(serve(source, base / "served")), folder=folder, source=source)
        rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in given.ways}
        digests = set()
        for number in range(given.rounds):
            for way in given.ways:
                taken = WAYS[way](stage)
                stage.target.unlink(missing_ok=True)
                if taken.sha256:
                    digests.add(taken.sha256)
                rounds[way].append(
                    {name: round(getattr(taken, name), 3) for name in ("seconds", "cpu_seconds", "memory_mib")}
                )
                say(f"  round {number + 1}, {way}: {taken.seconds:.2f} s, {taken.memory_mib:.0f} MiB")
    if len(digests) > 1:
        raise RuntimeError(f"the downloads differ: {sorted(digests)}")
    return {
        "name": f"{gib:g} GiB",
        "bytes": size,
        "onto": "memory (tmpfs)" if roomy else "disk",
        "ways": {
            way: {
                name: round(statistics.median(one[name] for one in taken), 3)
                for name in ("seconds", "cpu_seconds", "memory_mib")
            }
            for way, taken in rounds.items()
        },
        "rounds": rounds,
    }


def figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Make the figures of whatever sizes there are; of several, the worst counts, and the worst of our two keys."""
    found: dict[str, float | None] = dict.fromkeys(("ratio_vs_best_peer", "ratio_of_lowest_limit", "memory_mib"))

    def keep(name: str, value: float, worst: Callable[[float, float], float]) -> None:
        before = found.get(name)
        found[name] = value if before is None else worst(before, value)

    for run_ in runs:
        ways, size = run_["ways"], run_["name"].replace(" ", "").lower()
        ours = [ways[way] for way in OURS if way in ways]
        peers = [ways[way]["seconds"] for way in PEERS if way in ways]
        limits = [ways[way]["seconds"] for way in LIMITS if way in ways]
        if not ours:
            continue
        slowest = max(one["seconds"] for one in ours)
        keep("memory_mib", max(one["memory_mib"] for one in ours), max)
        if peers:
            found[f"ratio_vs_best_peer_{size}"] = min(peers) / slowest
            keep("ratio_vs_best_peer", min(peers) / slowest, min)
        if limits:
            found[f"ratio_of_lowest_limit_{size}"] = max(limits) / slowest
            keep("ratio_of_lowest_limit", max(limits) / slowest, min)
    return found


def _peak_memory(pid: int) -> float:
    """Read the largest resident size that a process has had, in MiB; 0 where it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


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
    for gib in (float(one) for one in given.sizes.split(",")):
        say(f"{gib:g} GiB: begins")
        taken = measure(given, gib)
        settings = {"rounds": given.rounds, "command": f"make {NAME}", **results_file.machine()}
        content = results_file.put_run(given.out, taken, settings)
        results_file.put_figures(given.out, figures(content["runs"]))
    for name, value in results_file.read(given.out)["figures"].items():
        say(f"{name} = {value}")
    return 0


if __name__ == "__main__":
    run_program(main)
