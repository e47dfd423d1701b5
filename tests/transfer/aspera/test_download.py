"""One object into one file by the stand-in for ascp, against a running sandbox: whole, resumed, checked, or refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sealift.cos.client import CosClient
from sealift.cos.retrying import Retries
from sealift.sandbox import Sandbox
from sealift.transfer.aspera import download as module
from sealift.transfer.aspera.command import PASSED_ON
from sealift.transfer.aspera.download import AsperaDownload, begun
from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.aspera.finding import Ascp
from sealift.transfer.aspera.session import Patience
from sealift.transfer.errors import (
    DigestError,
    EngineUnavailableError,
    InUseError,
    NoSpaceError,
    ReplacedError,
    Stopped,
    TransferError,
)
from sealift.transfer.pace import Pace
from sealift.transfer.reading import Remote

MIB = 2**20
PIECE = 256 * 1024
QUICK = Patience(connect=20, progress=1.0, leave=10, terminate=2)
RETENTION = "<ProtectionConfiguration><Status>Retention</Status></ProtectionConfiguration>"

World = Any  # tests/transfer/conftest.py's AsperaWorld


def download(world: World, remote: Remote, target: Path, **more: Any) -> AsperaDownload:
    given: dict[str, Any] = {
        "client": world.cos,
        "ascp": world.ascp,
        "retries": Retries(max_attempts=4, max_wait=0.01, rng=random.Random(1)),
    }
    return AsperaDownload(remote=remote, target=target, **(given | more))


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


class Running:
    """A download in a thread of its own, slow enough to be looked at."""

    def __init__(self, world: World, remote: Remote, target: Path, *, rate: float, **more: Any) -> None:
        self.arrived: list[int] = []
        self.fetch = download(
            world, remote, target, pace=Pace(bytes_per_second=rate), arrived=self.arrived.append, **more
        )
        self.outcome: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self.fetch.run()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.outcome = error

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            assert self.outcome is None, self.outcome
            time.sleep(0.01)

    def wait_for_bytes(self, count: int) -> None:
        self.wait_for(lambda: sum(self.arrived) >= count)

    def ascp(self) -> int:
        """The process of the stand-in."""
        return next(iter(children()))

    def end(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def children(of: int | None = None) -> list[int]:
    """The processes that a process has started and that have not ended."""
    parent = of or os.getpid()
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                fields = (one / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z" and "stand_in.py" in (one / "cmdline").read_text():
                found.append(int(one.name))
    return found


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * MIB + 5])
def test_a_file_arrives_whole(aspera: World, tmp_path: Path, size: int) -> None:
    data, remote = aspera.put(size)
    arrived: list[int] = []
    target = tmp_path / "deep" / "disk-0.vhd"
    done = download(aspera, remote, target, arrived=arrived.append).run()
    assert target.read_bytes() == data
    assert (done.path, done.size, done.resumed) == (target, size, 0)
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    assert sum(arrived) == size
    assert names(target.parent) == ["disk-0.vhd"], "nothing else is left"
    assert aspera.setups == (1 if size else 0)


def test_a_file_that_is_there_is_replaced_once_the_new_one_is_whole(aspera: World, tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_bytes(b"old")
    _, remote = aspera.put(1000)
    with pytest.raises(EngineUnavailableError):
        download(aspera, remote, target, ascp=Ascp(path=tmp_path / "nowhere")).run()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["f"], "a failure that brought nothing leaves nothing"
    data, remote = aspera.put(1000, seed=2)
    download(aspera, remote, target).run()
    assert target.read_bytes() == data


def test_names_that_a_shell_or_an_option_would_trip_over(aspera: World, tmp_path: Path) -> None:
    data, remote = aspera.put(1000, key="images/-rf $(x) 'q' ü;/disk 0.vhd")
    target = tmp_path / "-M 'odd' $(name) ü" / "--help"
    download(aspera, remote, target).run()
    assert target.read_bytes() == data


def test_no_argument_of_the_running_program_holds_a_secret(
    aspera: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_IBM_COS_DEFAULT", "PLANTED-connection")
    tokens: list[str] = []

    class Client:
        """The client, with its tokens remembered."""

        head, fasp_connection = aspera.cos.head, aspera.cos.fasp_connection

        def delegated_token(self) -> Any:
            token = aspera.cos.delegated_token()
            tokens.append(token.get_secret_value())
            return token

    _, remote = aspera.put(MIB)
    running = Running(aspera, remote, tmp_path / "f", rate=MIB / 2, client=Client())
    running.wait_for_bytes(1)
    process = Path(f"/proc/{running.ascp()}")
    words = (process / "cmdline").read_bytes().decode().split("\0")
    environment = dict(one.split("=", 1) for one in (process / "environ").read_bytes().decode().split("\0") if one)
    (pairs,) = (one.partition("=")[2] for one in words if one.startswith("--file-pair-list="))
    assert Path(pairs).stat().st_mode & 0o777 == 0o600
    assert Path(pairs).parent.stat().st_mode & 0o777 == 0o700
    assert Path(pairs).read_text() == f"{remote.key}\nf\n"
    running.end()

    secret = aspera.cos.fasp_connection(remote.bucket).access_key_secret.get_secret_value()
    transfer = environment["ASPERA_SCP_TOKEN"]
    hidden = [*tokens, secret, transfer, aspera.box.cos_api_key, "PLANTED"]
    assert len(tokens) == 1
    text = "\n".join([*words, *(decoded(one.partition("=")[2] or one) for one in words)])
    assert "xfer_id" in text, "what is in base64 is looked at too"
    assert [one for one in hidden if one in text] == []
    assert set(environment) - {"ASPERA_SCP_TOKEN"} <= set(PASSED_ON) | {"PWD", "SHLVL", "_", "OLDPWD"}
    assert not Path(pairs).exists()


def decoded(word: str) -> str:
    try:
        return base64.b64decode(word, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""


def test_credentials_in_the_tags_are_there_for_who_says_so(aspera: World, tmp_path: Path) -> None:
    aspera.box.switches.set("ats_needs_tags", True)
    data, remote = aspera.put(1000)
    with pytest.raises(AsperaError, match="no delegated refresh token") as caught:
        download(aspera, remote, tmp_path / "f").run()
    assert aspera.setups == 2, "once more, with a new token"
    assert caught.value.refused
    download(aspera, remote, tmp_path / "f", credentials_in_tags=True).run()
    assert (tmp_path / "f").read_bytes() == data


def test_a_program_that_is_killed_half_way_is_followed_by_one_that_goes_on(aspera: World, tmp_path: Path) -> None:
    data, remote = aspera.put(2 * MIB)
    running = Running(aspera, remote, tmp_path / "f", rate=2 * MIB)
    running.wait_for_bytes(MIB)
    os.kill(running.ascp(), signal.SIGKILL)
    done = running.end()
    assert (tmp_path / "f").read_bytes() == data
    assert done.resumed == 0, "no earlier download has brought anything"
    assert sum(running.arrived) == len(data)
    assert aspera.setups == 2
    assert aspera.box.ats.bytes_served <= len(data) + PIECE, "what was there was not brought again"


def test_a_download_that_is_stopped_goes_on_where_it_stopped(aspera: World, tmp_path: Path) -> None:
    data, remote = aspera.put(2 * MIB)
    running = Running(aspera, remote, tmp_path / "f", rate=2 * MIB)
    running.wait_for_bytes(MIB)
    running.fetch.stop()
    with pytest.raises(Stopped, match="goes on"):
        running.end()
    assert children() == []
    assert not (tmp_path / "f").exists()
    assert begun(tmp_path / "f") >= MIB

    arrived: list[int] = []
    done = download(aspera, remote, tmp_path / "f", arrived=arrived.append).run()
    assert done.resumed >= MIB
    assert arrived[0] >= done.resumed
    assert sum(arrived) == len(data)
    assert (tmp_path / "f").read_bytes() == data
    assert aspera.box.ats.bytes_served <= len(data) + PIECE
    assert names(tmp_path) == ["f"]


def test_an_object_that_is_another_one_by_now_begins_anew(aspera: World, tmp_path: Path) -> None:
    _, remote = aspera.put(MIB)
    running = Running(aspera, remote, tmp_path / "f", rate=MIB)
    running.wait_for_bytes(PIECE)
    running.fetch.stop()
    with pytest.raises(Stopped):
        running.end()
    data, newer = aspera.put(MIB, seed=2)
    with pytest.raises(EngineUnavailableError):
        download(aspera, newer, tmp_path / "f", ascp=Ascp(path=tmp_path / "nowhere")).run()
    assert names(tmp_path) == [], "what was of the other one is gone, whatever ascp would make of it"
    done = download(aspera, newer, tmp_path / "f").run()
    assert done.resumed == 0
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize(("code", "at"), [(16, 0), (14, MIB), (40, 2 * MIB - 1), (61, PIECE)])
def test_what_may_pass_by_itself_is_tried_again(aspera: World, tmp_path: Path, code: int, at: int) -> None:
    aspera.box.switches.set("ascp_fault_code", code)
    aspera.box.switches.set("ascp_fault_at", at)
    aspera.box.set_fault("ascp_error", times=1)
    data, remote = aspera.put(2 * MIB)
    download(aspera, remote, tmp_path / "f").run()
    assert (tmp_path / "f").read_bytes() == data
    assert aspera.setups == 2
    assert aspera.box.ats.bytes_served == len(data), "nothing was brought twice"


@pytest.mark.parametrize("code", [1, 4, 8, 29, 51, 68])
def test_what_does_not_pass_by_itself_ends_it_at_once(aspera: World, tmp_path: Path, code: int) -> None:
    aspera.box.switches.set("ascp_fault_code", code)
    aspera.box.set_fault("ascp_error", rate=1.0)
    _, remote = aspera.put(MIB)
    with pytest.raises(AsperaError, match=f"error {code}") as caught:
        download(aspera, remote, tmp_path / "f").run()
    assert (caught.value.code, caught.value.retryable) == (code, False)
    assert aspera.setups == 1


def test_what_does_not_pass_ends_it_after_so_many_tries(aspera: World, tmp_path: Path) -> None:
    aspera.box.switches.set("ascp_fault_code", 15)
    aspera.box.set_fault("ascp_error", rate=1.0)
    _, remote = aspera.put(MIB)
    with pytest.raises(AsperaError, match=r"UDP.*4 sessions in a row brought nothing") as caught:
        download(aspera, remote, tmp_path / "f").run()
    assert caught.value.retryable
    assert aspera.setups == 4


def test_tries_count_anew_with_every_byte(aspera: World, tmp_path: Path) -> None:
    data, remote = aspera.put(6 * PIECE)
    aspera.box.set_fault("ascp_error", rate=1.0)
    fetch = download(aspera, remote, tmp_path / "f")
    places = iter(range(PIECE, 7 * PIECE, PIECE))

    class Moving:
        """A client whose bucket's sessions get one piece further each time."""

        head, fasp_connection = aspera.cos.head, aspera.cos.fasp_connection

        def delegated_token(self) -> Any:
            aspera.box.switches.set("ascp_fault_at", next(places))
            if aspera.setups >= 5:
                aspera.box.faults.clear()
            return aspera.cos.delegated_token()

    fetch._client = Moving()
    fetch.run()
    assert (tmp_path / "f").read_bytes() == data
    assert aspera.setups == 6, "more than four tries, as each brought something"


def test_a_full_disk_is_said_to_be_full(aspera: World, tmp_path: Path) -> None:
    aspera.box.switches.set("ascp_fault_code", 25)
    aspera.box.switches.set("ascp_fault_at", PIECE)
    aspera.box.set_fault("ascp_error", rate=1.0)
    _, remote = aspera.put(MIB)
    with pytest.raises(NoSpaceError, match="full"):
        download(aspera, remote, tmp_path / "f").run()
    assert aspera.setups == 1


def test_a_disk_that_is_too_small_is_found_out_first(
    aspera: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, remote = aspera.put(MIB)
    usage = type("Usage", (), {"free": MIB - 1})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(NoSpaceError, match=f"needs {MIB} bytes more, but only {MIB - 1}"):
        download(aspera, remote, tmp_path / "f").run()
    assert aspera.setups == 0
    assert names(tmp_path) == []


def test_a_program_that_stands_still_is_ended_and_followed_by_another(aspera: World, tmp_path: Path) -> None:
    aspera.box.switches.set("ascp_fault_at", PIECE)
    aspera.box.set_fault("ascp_stalls", times=1)
    data, remote = aspera.put(MIB)
    download(aspera, remote, tmp_path / "f", patience=QUICK).run()
    assert (tmp_path / "f").read_bytes() == data
    assert aspera.setups == 2
    assert children() == []


def test_a_program_that_ends_without_a_word_is_followed_by_another(aspera: World, tmp_path: Path) -> None:
    aspera.box.switches.set("ascp_fault_at", PIECE)
    aspera.box.set_fault("ascp_dies", times=1)
    data, remote = aspera.put(MIB)
    download(aspera, remote, tmp_path / "f").run()
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize("fault", ["ats_expired_token", "ats_transfer_token", "ats_unavailable", "iam_unavailable"])
def test_tokens_are_made_anew_and_services_asked_again(aspera: World, tmp_path: Path, fault: str) -> None:
    aspera.cos.fasp_connection(aspera.box.bucket)  # the access token is there
    aspera.box.switches.set("ascp_fault_at", PIECE)
    aspera.box.set_fault(fault, times=1)
    data, remote = aspera.put(MIB)
    download(aspera, remote, tmp_path / "f").run()
    assert (tmp_path / "f").read_bytes() == data


def test_a_token_that_is_refused_after_another_failure_is_made_anew_too(aspera: World, tmp_path: Path) -> None:
    aspera.box.set_fault("ats_unavailable", times=1)
    aspera.box.set_fault("ats_expired_token", times=1)
    data, remote = aspera.put(1000)
    download(aspera, remote, tmp_path / "f").run()
    assert (tmp_path / "f").read_bytes() == data
    assert aspera.setups == 3


@pytest.mark.parametrize(("fault", "words"), [("ats_expired_token", "ATS at"), ("ats_transfer_token", "ascp reports")])
def test_a_token_that_is_refused_twice_in_a_row_ends_it(aspera: World, tmp_path: Path, fault: str, words: str) -> None:
    aspera.box.set_fault(fault, rate=1.0)
    _, remote = aspera.put(MIB)
    with pytest.raises(AsperaError, match=words) as caught:
        download(aspera, remote, tmp_path / "f").run()
    assert caught.value.refused
    assert aspera.setups == 2


def test_a_wrong_byte_is_found_and_nothing_is_kept(aspera: World, tmp_path: Path) -> None:
    aspera.box.set_fault("ascp_wrong_byte", rate=1.0)
    data, remote = aspera.put(MIB)
    with pytest.raises(DigestError, match=remote.sha256):
        download(aspera, remote, tmp_path / "f").run()
    assert names(tmp_path) == []
    unknown = replace(remote, sha256=None)
    done = download(aspera, unknown, tmp_path / "f").run()
    assert done.sha256 != hashlib.sha256(data).hexdigest(), "without an earlier digest, ours is that of what is there"


def test_a_file_that_is_too_short_is_not_taken_for_whole(aspera: World, tmp_path: Path) -> None:
    aspera.box.set_fault("ascp_short", rate=1.0)
    _, remote = aspera.put(MIB)
    with pytest.raises(AsperaError, match=f"the file has {MIB - 1}"):
        download(aspera, remote, tmp_path / "f").run()
    assert names(tmp_path) == []


@pytest.mark.parametrize("change", ["replaced", "deleted"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_object_that_changed_is_not_brought(aspera: World, tmp_path: Path, change: str, when: str) -> None:
    _, remote = aspera.put(MIB, key=f"images/{change}-{when}.vhd")

    def spoil(_count: int = 0) -> None:
        if change == "replaced":
            aspera.put(MIB, key=remote.key, seed=9)
        elif aspera.box.store.head(remote.bucket, remote.key):
            aspera.box.store.delete(remote.bucket, remote.key)

    if when == "before":
        spoil()
    fetch = download(aspera, remote, tmp_path / "f", **({"arrived": spoil} if when == "meanwhile" else {}))
    with pytest.raises(ReplacedError, match=change):
        fetch.run()
    assert names(tmp_path) == []


def test_bytes_in_plain_are_refused(aspera: World, tmp_path: Path) -> None:
    aspera.box.set_fault("ascp_plain", rate=1.0)
    _, remote = aspera.put(MIB)
    with pytest.raises(AsperaError, match="without encryption"):
        download(aspera, remote, tmp_path / "f").run()
    assert children() == []
    assert aspera.setups == 1


@pytest.mark.parametrize("cipher", ["none", "aes-256-gcm"])
def test_encryption_is_demanded_whatever_the_spec_says(aspera: World, tmp_path: Path, cipher: str) -> None:
    aspera.box.switches.set("ats_cipher", cipher)
    data, remote = aspera.put(1000)
    download(aspera, remote, tmp_path / "f").run()
    assert (tmp_path / "f").read_bytes() == data


def test_a_server_that_takes_ssh_only_wants_a_key(aspera: World, tmp_path: Path) -> None:
    aspera.box.switches.set("ats_websockets", False)
    data, remote = aspera.put(1000)
    with pytest.raises(EngineUnavailableError, match="takes SSH only"):
        download(aspera, remote, tmp_path / "f").run()
    key = tmp_path / "aspera_bypass_rsa.pem"
    key.write_text("a key")
    download(aspera, remote, tmp_path / "f", ascp=replace(aspera.ascp, keys=(key,))).run()
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("immutable", "Immutable Object Storage policy"),
        ("no region", r"offers no Aspera for bucket .*certain regions only"),
        ("hmac", "IBM Cloud API key"),
        ("no right", "may not"),
    ],
)
def test_where_aspera_cannot_be_used_it_says_why_and_what_works(
    aspera: World, tmp_path: Path, why: str, words: str
) -> None:
    client: CosClient = aspera.cos
    _, remote = aspera.put(1000)
    if why == "immutable":
        aspera.box.store.set_document(remote.bucket, "protection", RETENTION)
    elif why == "no region":
        aspera.box.switches.set("ats_offered", False)
    elif why == "hmac":
        client = aspera.client(
            access_key_id=aspera.box.hmac_access_key_id, secret_access_key=aspera.box.hmac_secret_access_key
        )
    else:
        aspera.box.identity.add_api_key(key="only-objects", name="only-objects", roles={"*": "ObjectReader"})
        client = aspera.client(api_key="only-objects")
    with pytest.raises(EngineUnavailableError, match=words) as caught:
        download(aspera, remote, tmp_path / "f", client=client).run()
    assert "HTTPS" in str(caught.value) or why == "no right"
    assert aspera.setups == 0
    assert names(tmp_path) == []


def test_two_downloads_into_one_file_are_refused(aspera: World, tmp_path: Path) -> None:
    _, remote = aspera.put(MIB)
    running = Running(aspera, remote, tmp_path / "f", rate=MIB)
    running.wait_for_bytes(1)
    with pytest.raises(InUseError, match="Another process"):
        download(aspera, remote, tmp_path / "f").run()
    running.end()
    assert names(tmp_path) == ["f"]


def in_a_process(world: World, remote: Remote, target: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Begin a download, a MiB a second, in a process of its own: that, and its ascp."""
    box = world.box
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from sealift.cos.client import CosClient
        from sealift.transfer.aspera.download import AsperaDownload
        from sealift.transfer.aspera.finding import Ascp
        from sealift.transfer.pace import Pace
        from sealift.transfer.reading import Remote

        cos = CosClient(region="us-south", endpoint_url={box.cos_url!r}, api_key={box.cos_api_key!r},
            iam_endpoint={box.iam_url!r}, service_instance_id={box.cos_service_instance_id!r})
        AsperaDownload(client=cos, remote=Remote(bucket={remote.bucket!r}, key={remote.key!r}, size={remote.size},
            etag={remote.etag!r}), target=Path({str(target)!r}), ascp=Ascp(path=Path({str(box.ascp)!r})),
            pace=Pace(bytes_per_second={MIB})).run()
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (running := children(parent.pid)) or begun(target) < PIECE:
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.01)
    return parent, running[0]


def test_ctrl_c_ends_ascp_too_and_keeps_what_has_arrived(aspera: World, tmp_path: Path) -> None:
    data, remote = aspera.put(4 * MIB)
    parent, ascp = in_a_process(aspera, remote, tmp_path / "f")
    parent.send_signal(signal.SIGINT)
    assert parent.wait(30) == -signal.SIGINT
    assert not Path(f"/proc/{ascp}").exists()
    done = download(aspera, remote, tmp_path / "f").run()
    assert done.resumed > 0
    assert (tmp_path / "f").read_bytes() == data


def test_an_ascp_that_outlives_its_parent_keeps_others_away_until_it_has_ended(aspera: World, tmp_path: Path) -> None:
    data, remote = aspera.put(4 * MIB)
    parent, orphan = in_a_process(aspera, remote, tmp_path / "f")
    parent.kill()
    parent.wait()
    with pytest.raises(InUseError, match="left behind"):
        download(aspera, remote, tmp_path / "f").run()
    os.kill(orphan, signal.SIGKILL)
    done, deadline = None, time.monotonic() + 20
    while done is None:
        try:
            done = download(aspera, remote, tmp_path / "f").run()
        except InUseError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert (tmp_path / "f").read_bytes() == data
    assert done.resumed > 0
    assert names(tmp_path) == ["f"]


def test_a_folder_that_cannot_be_written_is_said_to_be_so(aspera: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    _, remote = aspera.put(1000)
    with pytest.raises(TransferError, match="cannot be used"):
        download(aspera, remote, tmp_path / "file" / "f").run()


def test_over_tls(tmp_path: Path, aspera: World) -> None:
    with Sandbox(root=tmp_path / "box", servers=1, tls=True) as box:
        world = type(aspera)(box)
        data, remote = world.put(MIB)
        download(world, remote, tmp_path / "f").run()
        assert (tmp_path / "f").read_bytes() == data
        for client in world.clients:
            client.close()


def test_the_note_of_what_is_brought_holds_no_secret(aspera: World, tmp_path: Path) -> None:
    _, remote = aspera.put(MIB)
    running = Running(aspera, remote, tmp_path / "f", rate=MIB)
    running.wait_for_bytes(1)
    running.fetch.stop()
    with pytest.raises(Stopped):
        running.end()
    left = {one.name: one for one in (tmp_path / "f.aspera").rglob("*") if one.is_file()}
    assert json.loads(left["subject.json"].read_text())["etag"] == remote.etag
    assert not any(one.startswith("pairs-") for one in left)
    running.fetch.discard()
    assert names(tmp_path) == []
