"""IBM's own Aspera client, the SDK's ``AsperaTransferManager``, as the judge of the sandbox's IAM, COS and ATS.

The SDK needs IBM's closed module ``cos_aspera.faspmanager2`` for one thing: to start ascp by a transfer spec and to
hand on what it reports. A few lines here do that, with the sandbox's stand-in for ascp. Everything before it, from the
token over the bucket's access key to the transfer spec, and everything after it, from progress to success or failure,
is the SDK's.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealift.sandbox import Sandbox

pytestmark = pytest.mark.conformance

MIB = 2**20


class FaspManager(types.ModuleType):
    """Starts a program named ascp in the place of IBM's closed module."""

    class ITransferListener:
        """What the SDK's listener is made from."""

    def __init__(self, ascp: Path, folder: Path) -> None:
        super().__init__("cos_aspera.faspmanager2")
        self.__file__ = str(ascp)
        self._ascp, self._folder = ascp, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def configureAsperaLocation(self, place: str) -> None:
        assert Path(place, "ascp").exists()

    def configureLogLocation(self, place: str) -> None:
        assert Path(place).is_dir()

    def startTransfer(self, number: str, _config: None, text: str, listener: Any) -> None:
        spec = json.loads(text)
        (pair,) = spec["paths"]
        pairs = self._folder / f"{number}.pairs"
        pairs.write_text(f"{pair['source']}\n{pair['destination']}\n")
        server = socket.create_server(("127.0.0.1", 0))
        tags = base64.b64encode(json.dumps(spec["tags"]).encode()).decode()
        words = ["-M", str(server.getsockname()[1]), "--mode", "recv", "-q", "-d", "-k", "2"]
        words += ["--host", spec["remote_host"], "--user", spec["remote_user"], "-P", str(spec["wss_port"])]
        words += ["--ws-connect", "-l", str(spec["target_rate_kbps"]), "-c", spec["cipher"].replace("-", "")]
        words += ["--tags64", tags, f"--file-pair-list={pairs}", "--dest64"]
        words.append(base64.b64encode(spec["destination_root"].encode()).decode())
        environment = os.environ | {"ASPERA_SCP_TOKEN": spec["token"]}
        self._running[number] = subprocess.Popen([self._ascp, *words], env=environment)
        threading.Thread(target=self._listen, args=(number, server, listener), daemon=True).start()

    def _listen(self, number: str, server: socket.socket, listener: Any) -> None:
        connection, _ = server.accept()
        server.close()
        with connection.makefile("rb") as lines:
            frame = b""
            for line in lines:
                frame += line
                if line == b"\n":
                    listener.transferReporter(number, frame.decode())
                    frame = b""
        connection.close()
        self._running[number].wait()

    def isRunning(self, number: str) -> bool:
        return number in self._running and self._running[number].poll() is None

    def stopTransfer(self, number: str) -> bool:
        if self.isRunning(number):
            self._running[number].terminate()
            self._running[number].wait(20)
        return True

    def modifyTransfer(self, *_: Any) -> bool:
        return False


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), servers=1) as running:
        yield running


@pytest.fixture
def sdk(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The SDK's package, which takes the module above for IBM's."""
    stand_in = FaspManager(box.ascp, tmp_path)
    package = types.ModuleType("cos_aspera")
    package.faspmanager2 = stand_in  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cos_aspera", package)
    monkeypatch.setitem(sys.modules, "cos_aspera.faspmanager2", stand_in)
    for name in [one for one in sys.modules if one.startswith("ibm_s3transfer.aspera")]:
        monkeypatch.delitem(sys.modules, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # IBM's deprecation of all of it
        manager = importlib.import_module("ibm_s3transfer.aspera.manager")
    yield manager
    for name in [one for one in sys.modules if one.startswith("ibm_s3transfer.aspera")]:
        del sys.modules[name]
    box.faults.clear()


@pytest.fixture
def manager(box: Sandbox, sdk: Any) -> Iterator[Any]:
    import ibm_boto3.session
    from ibm_botocore.config import Config

    client = ibm_boto3.session.Session().client(
        "s3",
        ibm_api_key_id=box.cos_api_key,
        ibm_service_instance_id=box.cos_service_instance_id,
        ibm_auth_endpoint=box.iam_url,
        config=Config(signature_version="oauth", s3={"addressing_style": "path"}),
        endpoint_url=box.cos_url,
        region_name=box.region,
    )
    with sdk.AsperaTransferManager(client) as made:
        yield made


def put(box: Sandbox, size: int) -> bytes:
    data = random.Random(1).randbytes(size)
    box.store.put_bytes(bucket=box.bucket, key="images/disk-0.vhd", data=data)
    return data


def test_the_sdk_downloads_an_object(box: Sandbox, manager: Any, tmp_path: Path) -> None:
    data = put(box, 3 * MIB)
    seen = len(box.history())
    future = manager.download(box.bucket, "images/disk-0.vhd", str(tmp_path / "disk.vhd"))
    future.result()
    assert future.is_success()
    assert (tmp_path / "disk.vhd").read_bytes() == data
    asked = [(one["service"], one["method"]) for one in box.history(after=seen) if one["kind"] == "request"]
    assert ("cos", "GetBucketFaspConnectionInfo") in asked
    assert asked[-1] == ("ats", "download_setup")
    assert asked.count(("iam", "token")) >= 1


def test_the_sdk_tells_of_progress(box: Sandbox, sdk: Any, manager: Any, tmp_path: Path) -> None:
    put(box, 2 * MIB)
    base = importlib.import_module("ibm_s3transfer.aspera.subscribers").AsperaBaseSubscriber
    told: list[int] = []

    class Subscriber(base):  # type: ignore[misc,valid-type]
        def on_progress(self, future: Any, bytes_transferred: int, **_: Any) -> None:
            told.append(bytes_transferred)

    config = sdk.AsperaConfig(target_rate_mbps=16)
    manager.download(
        box.bucket, "images/disk-0.vhd", str(tmp_path / "d"), transfer_config=config, subscribers=[Subscriber()]
    ).result()
    assert told == sorted(told)
    assert told[-1] == 2 * MIB
    assert len(told) > 1


def test_the_sdk_is_told_of_a_missing_object(box: Sandbox, sdk: Any, manager: Any, tmp_path: Path) -> None:
    future = manager.download(box.bucket, "images/nothing.vhd", str(tmp_path / "d"))
    with pytest.raises(Exception) as caught:
        future.result()
    assert type(caught.value).__name__ in {"AsperaTransferSpecError", "AsperaTransferFailedError"}
    assert future.is_error()


def test_the_sdk_is_told_of_a_transfer_that_fails(box: Sandbox, manager: Any, tmp_path: Path) -> None:
    put(box, MIB)
    box.set_fault("ascp_error", times=1)
    future = manager.download(box.bucket, "images/disk-0.vhd", str(tmp_path / "d"))
    with pytest.raises(Exception, match="as the sandbox was told") as caught:
        future.result()
    assert type(caught.value).__name__ == "AsperaTransferFailedError"


def test_the_sdk_can_cancel(box: Sandbox, sdk: Any, manager: Any, tmp_path: Path) -> None:
    put(box, 4 * MIB)
    config = sdk.AsperaConfig(target_rate_mbps=4)
    started = threading.Event()
    base = importlib.import_module("ibm_s3transfer.aspera.subscribers").AsperaBaseSubscriber

    class Subscriber(base):  # type: ignore[misc,valid-type]
        def on_progress(self, **_: Any) -> None:
            started.set()

    future = manager.download(
        box.bucket, "images/disk-0.vhd", str(tmp_path / "d"), transfer_config=config, subscribers=[Subscriber()]
    )
    assert started.wait(20)
    future.cancel()
    with pytest.raises(Exception) as caught:
        future.result()
    assert type(caught.value).__name__ == "CancelledError"
