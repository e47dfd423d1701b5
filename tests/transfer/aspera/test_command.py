"""The command line of ascp: what the spec demands, nothing that it could smuggle in, and no secret."""

from __future__ import annotations

import argparse
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sealift.sandbox.aspera.stand_in import parse
from sealift.transfer.aspera.command import PASSED_ON, Command, Wishes, ascp_command, pair_list
from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.aspera.finding import Ascp
from sealift.transfer.aspera.spec import TransferSpec
from sealift.transfer.errors import EngineUnavailableError

KEY = Path("/opt/ibm/aspera_bypass_rsa.pem")
ASCP = Ascp(path=Path("/opt/ibm/ascp"), keys=(KEY, Path("/opt/ibm/aspera_bypass_dsa.pem")))
WISHES = Wishes(
    folder=Path("/srv/images/-odd name"),
    port=45001,
    pairs=Path("/srv/pairs"),
    transfer_id="t-1",
    delegated=SecretStr("PLANTED-delegated"),
)
BASE: dict[str, Any] = {"remote_host": "ats.example.com", "token": "PLANTED-transfer", "cipher": "aes-256"}


def command(
    more: dict[str, Any], *, ascp: Ascp = ASCP, environment: dict[str, str] | None = None, **wishes: Any
) -> Command:
    return ascp_command(TransferSpec.read(BASE | more), ascp, replace(WISHES, **wishes), environment=environment or {})


def options(more: dict[str, Any], **wishes: Any) -> argparse.Namespace:
    """The command line as the stand-in reads it: by a parser that this module has not written."""
    return parse(command(more, **wishes).argv[1:])


def test_a_spec_becomes_options() -> None:
    more = {
        "remote_user": "xfer",
        "ssh_port": 33001,
        "fasp_port": 33002,
        "sshfp": "0123456789abcdef0123",
        "rate_policy": "fair",
        "target_rate_kbps": 500_000,
        "min_rate_kbps": 100,
        "resume_policy": "full_csum",
        "source_root": "/bucket",
    }
    read = options(more)
    assert (read.mode, read.host, read.user, read.P, read.O) == ("recv", "ats.example.com", "xfer", 33001, 33002)
    assert (read.c, read.k, read.l, read.m, read.policy) == ("aes256", 3, 500_000, 100, "fair")
    assert (read.M, read.i, read.check_sshfp, read.ws_connect) == (45001, [str(KEY)], "0123456789abcdef0123", False)
    assert (read.d, read.q, read.file_pair_list) == (True, True, "/srv/pairs")
    assert base64.b64decode(read.source_prefix64) == b"/bucket"
    assert base64.b64decode(read.destination) == b"/srv/images/-odd name"
    argv = command(more).argv
    assert argv[0] == "/opt/ibm/ascp"
    assert argv[-2] == "--dest64", "the destination is the last one"
    assert "-T" not in argv


def test_websockets_take_the_place_of_ssh_and_its_key() -> None:
    more = {"wss_enabled": True, "wss_port": 443, "sshfp": "0123456789abcdef0123"}
    read = options(more, verify="/etc/ca.pem")
    assert (read.ws_connect, read.P, read.i, read.check_sshfp) == (True, 443, ["/etc/ca.pem"], None)
    assert str(KEY) not in command(more).argv
    assert "-O" not in command(more).argv


def test_a_server_that_takes_ssh_only_needs_a_key_or_a_password() -> None:
    bare = Ascp(path=Path("/opt/ibm/ascp"))
    with pytest.raises(EngineUnavailableError, match=r"takes SSH only.*aspera_bypass_rsa\.pem.*HTTPS"):
        command({}, ascp=bare)
    made = command({"remote_password": "PLANTED-password"}, ascp=bare)
    assert "-i" not in made.argv
    assert made.environment["ASPERA_SCP_PASS"] == "PLANTED-password"


@pytest.mark.parametrize(
    ("target", "limit", "rate"),
    [
        (None, None, 0),
        (1000, None, 1000),
        (None, 1_000_000, 8000),
        (1000, 1_000_000, 1000),
        (100_000, 1_000_000, 8000),
        (0, 10, 1),
    ],
)
def test_the_lower_of_two_rates_counts(target: int | None, limit: float | None, rate: int) -> None:
    assert options({"target_rate_kbps": target}, bytes_per_second=limit).l == rate


def test_a_least_rate_above_the_limit_is_left_out() -> None:
    assert options({"min_rate_kbps": 50_000}, bytes_per_second=1000).m == 0


def test_a_policy_that_nobody_knows_is_left_out() -> None:
    assert options({"rate_policy": "--mode=send"}).policy is None


def test_secrets_go_by_the_environment_and_nothing_else_of_ours_does() -> None:
    ours = {"PATH": "/bin", "HOME": "/root", "AIRFLOW_CONN_IBM_COS_DEFAULT": "PLANTED", "ASPERA_SCP_KEY": "PLANTED"}
    more = {"cookie": "PLANTED-cookie", "remote_password": "PLANTED-password"}
    made = command(more, environment=ours)
    assert made.environment == {
        "PATH": "/bin",
        "HOME": "/root",
        "ASPERA_SCP_TOKEN": "PLANTED-transfer",
        "ASPERA_SCP_PASS": "PLANTED-password",
        "ASPERA_SCP_COOKIE": "PLANTED-cookie",
    }
    assert set(made.environment) - {"ASPERA_SCP_TOKEN", "ASPERA_SCP_PASS", "ASPERA_SCP_COOKIE"} <= set(PASSED_ON)
    assert "PLANTED" not in " ".join(made.argv)
    assert "PLANTED" not in repr(made)
    assert "PLANTED" not in repr(WISHES)


@pytest.mark.parametrize("field", ["remote_user", "remote_host"])
def test_a_secret_that_a_spec_puts_elsewhere_stops_everything(field: str) -> None:
    with pytest.raises(AsperaError, match="argument of ascp") as caught:
        command({field: "PLANTED-transfer"})
    assert "PLANTED" not in str(caught.value)


def test_a_secret_that_no_environment_can_hold_is_refused() -> None:
    with pytest.raises(AsperaError, match="no program can be given"):
        command({"token": "a\0b"})


def test_the_pair_is_what_the_server_calls_the_object_and_what_we_call_the_file() -> None:
    named = TransferSpec.read(BASE | {"paths": [{"source": "/b/key", "destination": "/etc/passwd"}]})
    assert pair_list(named, key="key", name="disk-0.vhd") == "/b/key\ndisk-0.vhd\n"
    assert pair_list(TransferSpec.read(BASE), key="key", name="disk-0.vhd") == "key\ndisk-0.vhd\n"


@pytest.mark.parametrize(("key", "name"), [("a\nb", "c"), ("a", "b\nc"), ("a\rb", "c")])
def test_names_with_line_breaks_are_refused(key: str, name: str) -> None:
    with pytest.raises(AsperaError, match="line break"):
        pair_list(TransferSpec.read(BASE), key=key, name=name)
