"""Endpoints for clients that we did not write: the store over HTTP and TLS and, where it can run, Ceph's radosgw.

radosgw knows nothing of these tests, so what passes against both says that the tests are fair and that the store
behaves like S3. It runs where Debian's packages are installed; a server that runs already can take its place:
``S3_CROSSCHECK=<url>,<access key>,<secret key>``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sealift.sandbox.iam import Identity
from sealift.sandbox.store import ObjectStore, StoreServer, serve_store
from sealift.sandbox.tls import TlsFiles, make_tls

APT_LINE = "apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr ceph-common"
_CEPH = ("radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph", "radosgw-admin", "monmaptool", "ceph-authtool")
# What a machine sets for its own certificates or accounts must not reach the clients under test.
_CLEARED = ("AWS_", "RCLONE_", "S3_ENDPOINT", "IBM_", "SSL_CERT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CLEARED_ALSO = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a client finds an S3 service.

    :param ours: whether it is the sandbox's store.
    :param ca: the authority to trust, for TLS.
    """

    name: str
    url: str
    access_key: str
    secret_key: str
    ours: bool
    ca: Path | None = None
    api_key: str = ""


@dataclass(frozen=True, kw_only=True)
class Running:
    """The store, served twice: over HTTP and over TLS."""

    store: ObjectStore
    plain: StoreServer
    tls: StoreServer
    files: TlsFiles


def clean_environment() -> dict[str, str]:
    """Give the environment without what could redirect a client."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_CLEARED) and name not in _CLEARED_ALSO
    } | {"AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Clean this process's environment, and give it for others."""
    clean = clean_environment()
    for name in set(os.environ) - set(clean):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return clean


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve a store for the whole session."""
    root = tmp_path_factory.mktemp("store")
    identity = Identity(path=root / "identity.json")
    identity.add_api_key(key="conformance-api-key", name="conformance", roles={"*": "Manager"})
    identity.add_hmac(access_key_id="CONFORMANCE", secret_access_key="conformance/secret+key", roles={"*": "Manager"})
    store, files = ObjectStore(root=root / "store"), make_tls(root / "tls")
    plain = serve_store(store=store, identity=identity)
    tls = serve_store(store=store, identity=identity, tls=files)
    yield Running(store=store, plain=plain, tls=tls, files=files)
    plain.close()
    tls.close()
    store.close()


@pytest.fixture(scope="session")
def store_http(running: Running) -> Endpoint:
    """The store over HTTP."""
    return Endpoint(
        name="store-http",
        url=running.plain.url,
        access_key="CONFORMANCE",
        secret_key="conformance/secret+key",
        ours=True,
        api_key="conformance-api-key",
    )


@pytest.fixture(scope="session")
def store_tls(running: Running) -> Endpoint:
    """The store over TLS."""
    return Endpoint(
        name="store-tls",
        url=running.tls.url,
        access_key="CONFORMANCE",
        secret_key="conformance/secret+key",
        ours=True,
        ca=running.files.ca,
        api_key="conformance-api-key",
    )


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Ceph's S3 service in the store's place."""
    if given := os.environ.get("S3_CROSSCHECK"):
        url, access_key, secret_key = given.split(",")
        yield Endpoint(name="given", url=url, access_key=access_key, secret_key=secret_key, ours=False)
        return
    if missing := [program for program in _CEPH if not shutil.which(program)]:
        pytest.skip(f"{missing[0]} is not installed; the cross-check needs: {APT_LINE}")
    with Ceph(tmp_path_factory.mktemp("ceph")) as ceph:
        yield ceph.endpoint


@pytest.fixture(params=["store_http", "store_tls", "radosgw"])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """Each endpoint in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket_name() -> str:
    """A name that no bucket has."""
    return f"conformance-{secrets.token_hex(6)}"


class Ceph:
    """A Ceph cluster of one monitor, one manager, one store in memory and one radosgw, without systemd."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._processes = folder, list[subprocess.Popen[bytes]]()
        self._rgw_port = _free_port()
        self.endpoint = Endpoint(
            name="radosgw",
            url=f"http://127.0.0.1:{self._rgw_port}",
            access_key="CROSSCHECK",
            secret_key="crosschecksecret",
            ours=False,
        )

    def __enter__(self) -> Ceph:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        folder, fsid, mon = self._folder, str(uuid.uuid4()), f"127.0.0.1:{_free_port()}"
        for name in ("mon", "mgr", "osd", "run"):
            (folder / name).mkdir()
        (folder / "ceph.conf").write_text(
            f"[global]\nfsid = {fsid}\nmon_initial_members = a\nmon_host = [v2:{mon}]\n"
            "auth_cluster_required = cephx\nauth_service_required = cephx\nauth_client_required = cephx\n"
            "ms_bind_ipv4 = true\npublic_network = 127.0.0.0/8\nosd_objectstore = memstore\n"
            "memstore_device_bytes = 2147483648\nosd_pool_default_size = 1\nosd_pool_default_min_size = 1\n"
            "osd_pool_default_pg_num = 1\nosd_pool_default_pg_autoscale_mode = off\nmon_allow_pool_size_one = true\n"
            "osd_crush_chooseleaf_type = 0\nmon_max_pg_per_osd = 1000\nmon_data_avail_crit = 1\n"
            "rgw_dns_name = 127.0.0.1\n"
            f"keyring = {folder}/keyring\nmon_data = {folder}/mon\nmgr_data = {folder}/mgr\nosd_data = {folder}/osd\n"
            f"run_dir = {folder}/run\nlog_file = {folder}/run/$name.log\nadmin_socket = {folder}/run/$name.asok\n"
        )
        keyring = str(folder / "keyring")
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        caps = [word for part in ("mon", "osd", "mgr", "mds") for word in ("--cap", part, "allow *")]
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
        self._run("monmaptool", "--create", "--addv", "a", f"[v2:{mon}]", "--fsid", fsid, str(folder / "monmap"))
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"), "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a")
        self._until("the monitor", lambda: self._ceph("mon", "stat", check=False).returncode == 0)
        mgr = self._ceph("auth", "get-or-create", "mgr.x", "mon", "allow profile mgr", "osd", "allow *").stdout
        (folder / "mgr" / "keyring").write_bytes(mgr)
        self._daemon("ceph-mgr", "-i", "x", "--keyring", str(folder / "mgr" / "keyring"))
        osd_id, secret = (
            str(uuid.uuid4()),
            base64.b64encode(b"\x01\x00" + bytes(8) + b"\x10\x00" + os.urandom(16)).decode(),
        )
        (folder / "osd.json").write_text(json.dumps({"cephx_secret": secret}))
        self._ceph("osd", "new", osd_id, "-i", str(folder / "osd.json"))
        (folder / "osd" / "keyring").write_text(f"[osd.0]\n\tkey = {secret}\n")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id, "--keyring", str(folder / "osd" / "keyring"))
        self._daemon("ceph-osd", "-i", "0", "--keyring", str(folder / "osd" / "keyring"))
        self._until("the store", lambda: b"1 up" in self._ceph("osd", "stat").stdout)
        self._daemon("radosgw", "-n", "client.admin", f"--rgw_frontends=beast endpoint=127.0.0.1:{self._rgw_port}")
        self._until("radosgw", self._answers)
        self._run(
            "radosgw-admin", "user", "create", "--uid", "conformance", "--display-name", "conformance",
            "--access-key", self.endpoint.access_key, "--secret", self.endpoint.secret_key,
        )  # fmt: skip

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._rgw_port), timeout=1):
            return True
        return False

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        command = [program, "-c", str(self._folder / "ceph.conf"), *arguments]
        if program in ("ceph-authtool", "monmaptool"):
            command = [program, *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120, cwd=self._folder)
        if check and done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode()[-2000:]}")
        return done

    def _ceph(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return self._run("ceph", "--connect-timeout", "5", *arguments, check=check)

    def _daemon(self, program: str, *arguments: str) -> None:
        with (self._folder / "run" / f"{program}.out").open("wb") as out:
            command = [program, "-c", str(self._folder / "ceph.conf"), "-f", *arguments]
            self._processes.append(subprocess.Popen(command, stdout=out, stderr=out, cwd=self._folder))

    def _until(self, what: str, done: Callable[[], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if dead := [p for p in self._processes if p.poll() is not None]:
                raise RuntimeError(
                    f"{dead[0].args} ended with {dead[0].returncode}; its logs are in {self._folder}/run"
                )
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not come up in {seconds:.0f} s; logs are in {self._folder}/run")
            time.sleep(0.2)

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
