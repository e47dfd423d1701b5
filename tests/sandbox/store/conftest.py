"""What tests of the store share: a store in a folder of its own, a clock that stands where it is put, a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealift.sandbox.iam import Identity
from sealift.sandbox.store import ObjectStore, StoreServer, serve_store

BUCKET = "exports"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **delta: float) -> None:
        self.now += timedelta(**delta)


class OnceFault:
    """A fault source that lets one named fault happen once."""

    def __init__(self, *names: str) -> None:
        self.left = list(names)

    def hit(self, name: str) -> bool:
        if name in self.left:
            self.left.remove(name)
            return True
        return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[ObjectStore]:
    made = ObjectStore(root=tmp_path / "store", clock=clock)
    made.create_bucket(BUCKET)
    yield made
    made.close()


@pytest.fixture
def faults() -> OnceFault:
    return OnceFault()


@pytest.fixture
def identity(tmp_path: Path, faults: OnceFault) -> Identity:
    made = Identity(path=tmp_path / "identity.json", faults=faults)
    made.add_api_key(key="manager-key", name="manager", roles={"*": "Manager"})
    made.add_hmac(access_key_id="AKMANAGER", secret_access_key="manager-secret", roles={"*": "Manager"})
    return made


@pytest.fixture
def server(store: ObjectStore, identity: Identity, faults: OnceFault) -> Iterator[StoreServer]:
    with serve_store(store=store, identity=identity, faults=faults) as running:
        yield running


_CHILD = """
import json, sys
from pathlib import Path
from sealift.sandbox.iam import Identity
from sealift.sandbox.store import ObjectStore, serve_store
from sealift.sandbox.tls import make_tls
root = Path(sys.argv[1])
store = ObjectStore(root=root / "store")
identity = Identity(path=root / "identity.json")
tls = make_tls(root / "tls") if sys.argv[2] == "tls" else None
server = serve_store(store=store, identity=identity, tls=tls)
def peak():
    # Not getrusage: its peak begins with that of the process which forked this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
before = peak()
print(server.url, flush=True)
for line in sys.stdin:
    print(json.dumps({"before": before, "peak": peak()}), flush=True)
"""


class ChildStore:
    """A store in a process of its own, to be killed and to be measured."""

    def __init__(self, root: Path, *, tls: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(root), "tls" if tls else "plain"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the store's process did not start"
        self.ca = root / "tls" / "ca.pem"

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def memory(self) -> dict[str, int]:
        """Ask for the resident set in KiB: when serving began, and its peak so far."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def child_store(tmp_path: Path) -> Iterator[Callable[..., ChildStore]]:
    """Start stores in processes of their own over one folder; all are gone at the end."""
    identity = Identity(path=tmp_path / "identity.json")
    identity.add_api_key(key="manager-key", name="manager", roles={"*": "Manager"})
    identity.add_hmac(access_key_id="AKMANAGER", secret_access_key="manager-secret", roles={"*": "Manager"})
    started: list[ChildStore] = []

    def start(**options: bool) -> ChildStore:
        started.append(ChildStore(tmp_path, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


@pytest.fixture
def token(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A bearer token of the manager."""
    if "identity" in request.fixturenames:
        return request.getfixturevalue("identity").token_for_api_key("manager-key")
    request.getfixturevalue("child_store")
    return Identity(path=tmp_path / "identity.json").token_for_api_key("manager-key")
