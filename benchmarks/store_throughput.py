"""How fast the sandbox's store moves bytes, beside ``rclone serve s3`` on the same machine in the same run.

Each server runs in a process of its own over a fresh folder. One client, written here over plain sockets, signs every
request and measures: a put of one stream, a multipart upload by four threads, a get of one stream, range gets of 8 MiB
by four threads, and the mean time of small range gets. Answers are counted, not kept. Rounds alternate between the
servers; a figure is the median of the rounds, and every round is in the output.

Run: ``.venv/bin/python benchmarks/store_throughput.py`` (writes benchmarks/results/store-throughput.json).
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

MIB = 2**20
ACCESS_KEY, SECRET_KEY, BUCKET = "BENCHMARK", "benchmark-secret", "benchmark"
PART, THREADS, SMALL = 8 * MIB, 4, 64 * 1024

_STORE = """
import sys
from pathlib import Path
from sealift.sandbox.iam import Identity
from sealift.sandbox.store import ObjectStore, serve_store
root = Path(sys.argv[1])
identity = Identity(path=root / "identity.json")
identity.add_hmac(access_key_id=sys.argv[2], secret_access_key=sys.argv[3], roles={"*": "Manager"})
server = serve_store(store=ObjectStore(root=root / "store"), identity=identity)
print(server.url, flush=True)
sys.stdin.read()
"""


class Client:
    """One kept-alive connection that signs with Signature Version 4 and leaves the payload unsigned."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(MIB))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(
        self, method: str, key: str, query: str = "", body: bytes | memoryview = b"", repeat: int = 1, span: str = ""
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send a request and take in its answer.

        :param repeat: send the body so many times, one behind the other.
        :param span: a Range header's value.
        :returns: status, the body's beginning (up to 1 MiB), headers by lower-case name.
        """
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path, scope = f"/{BUCKET}" + (f"/{quote(key)}" if key else ""), f"{now[:8]}/us-east-1/s3/aws4_request"
        canonical = (
            f"{method}\n{path}\n{query}\nhost:{self._host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{now}\n\n"
            "host;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"
        )
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signing = f"AWS4{SECRET_KEY}".encode()
        for piece in scope.split("/"):
            signing = hmac.digest(signing, piece.encode(), "sha256")
        head = (
            f"{method} {path}{'?' + query if query else ''} HTTP/1.1\r\nHost: {self._host}\r\nx-amz-date: {now}\r\n"
            f"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nContent-Length: {len(body) * repeat}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},"
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
            f"Signature={hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()}\r\n"
            + (f"Range: {span}\r\n" if span else "")
            + "\r\n"
        )
        self._socket.sendall(head.encode())
        for _ in range(repeat if body else 0):
            self._socket.sendall(body)
        return self._answer()

    def _answer(self) -> tuple[int, bytes, dict[str, str]]:
        received = b""
        while b"\r\n\r\n" not in received:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("the server closed the connection")
            received += more
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        left, begin = int(headers.get("content-length", "0")) - len(rest), bytearray(rest)
        while left > 0:
            count = self._socket.recv_into(self._buffer[: min(left, MIB)])
            if not count:
                raise ConnectionError("the server closed the connection")
            if len(begin) < MIB:
                begin += self._buffer[:count]
            left -= count
        return int(lines[0].split()[1]), bytes(begin), headers

    def need(self, method: str, key: str, query: str = "", **more: object) -> tuple[bytes, dict[str, str]]:
        """Call, and stop the benchmark on an answer that is not a success."""
        status, begin, headers = self.call(method, key, query, **more)  # type: ignore[arg-type]
        if status >= 300:
            raise RuntimeError(f"{method} {key}?{query}: {status} {begin[:500]!r}")
        return begin, headers


@contextmanager
def sealift_store(folder: Path) -> Iterator[str]:
    """Run the sandbox's store."""
    command = [sys.executable, "-c", _STORE, str(folder), ACCESS_KEY, SECRET_KEY]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@contextmanager
def rclone_serve(folder: Path) -> Iterator[str]:
    """Run ``rclone serve s3``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    program = Path(sys.executable).with_name("rclone")
    command = [str(program), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    environment = {**os.environ, "RCLONE_CONFIG": os.devnull}
    process = subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def timed(work: Callable[[], None]) -> float:
    """Measure seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(url: str, size: int, smalls: int) -> dict[str, float]:
    """Measure one server once: MB/s (10^6), and milliseconds for small ranges."""
    block = memoryview(os.urandom(PART))
    clients = [Client(url) for _ in range(THREADS)]
    one, starts = clients[0], range(0, size, PART)
    one.need("PUT", "")

    def upload() -> None:
        begin, _ = one.need("POST", "parallel", "uploads=")
        upload_id = re.findall(r"<UploadId>(.*?)</UploadId>", begin.decode())[0]
        query = f"&uploadId={quote(upload_id, safe='')}"

        def send(worker: int) -> list[tuple[int, str]]:
            numbers = range(1 + worker, len(starts) + 1, THREADS)
            return [
                (n, clients[worker].need("PUT", "parallel", f"partNumber={n}{query}", body=block)[1]["etag"])
                for n in numbers
            ]

        parts = sorted(part for done in pool.map(send, range(THREADS)) for part in done)
        names = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in parts)
        document = f"<CompleteMultipartUpload>{names}</CompleteMultipartUpload>".encode()
        one.need("POST", "parallel", query[1:], body=document)

    def ranges() -> None:
        def fetch(worker: int) -> None:
            for at in starts[worker::THREADS]:
                span = f"bytes={at}-{at + PART - 1}"
                _, headers = clients[worker].need("GET", "single", span=span)
                if int(headers["content-length"]) != PART:
                    raise RuntimeError("a range came with another length")

        list(pool.map(fetch, range(THREADS)))

    def small() -> None:
        for number in range(smalls):
            at = number * 7919 * SMALL % (size - SMALL)
            one.need("GET", "single", span=f"bytes={at}-{at + SMALL - 1}")

    with ThreadPoolExecutor(THREADS) as pool:
        megabytes = size / 1e6
        figures = {
            "put_mb_per_s": megabytes
            / timed(lambda: one.need("PUT", "single", body=block, repeat=len(starts)) and None),
            "multipart_put_mb_per_s": megabytes / timed(upload),
            "get_mb_per_s": megabytes / timed(lambda: one.need("GET", "single") and None),
            "parallel_ranges_mb_per_s": megabytes / timed(ranges),
            "range_64k_ms": 1000 * timed(small) / smalls,
        }
    for client in clients:
        client.close()
    return figures


def main() -> None:
    """Run the rounds and write the figures."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=here / "results" / "store-throughput.json")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    size, servers = options.size_mib * MIB, {"sealift": sealift_store, "rclone serve s3": rclone_serve}
    runs: list[dict[str, object]] = []
    for number in range(options.rounds):
        for name in sorted(servers, reverse=bool(number % 2)):
            folder = Path(tempfile.mkdtemp(prefix="sealift-benchmark-"))
            try:
                with servers[name](folder) as url:
                    figures = measure(url, size, smalls=200)
            finally:
                shutil.rmtree(folder)
            runs.append({"round": number, "server": name, **{k: round(v, 2) for k, v in figures.items()}})
            sys.stdout.write(json.dumps(runs[-1]) + "\n")
    names = [key for key in runs[0] if key not in ("round", "server")]
    medians = {
        server: {
            key: statistics.median(float(str(run[key])) for run in runs if run["server"] == server) for key in names
        }
        for server in servers
    }
    settings = {
        "size_mib": options.size_mib,
        "rounds": options.rounds,
        "part_mib": PART // MIB,
        "threads": THREADS,
        "client": "plain sockets in one Python process on the same machine, SigV4, unsigned payload, HTTP",
        "cpus": os.cpu_count(),
        "load_average_before": round(load, 2),
        "python": platform.python_version(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "benchmarks/store_throughput.py",
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"figures": medians, "settings": settings, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
