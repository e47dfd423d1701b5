"""From a transfer spec to a command line of ascp. What is secret goes by the environment, and nothing else does.

Which field becomes which option is in IBM/aspera-cli's ``transfer/spec.schema.yaml`` and ``transfer/parameters.rb``;
what an option means is in IBM's "Ascp command reference". Left out on purpose: ``-T`` and ``-c none`` (bytes in plain),
``-y`` (a fallback to HTTP that has no advantage over our own), ``-C`` (several sessions split a large file only where
ascp does not resume).
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.aspera.finding import Ascp
from sealift.transfer.aspera.spec import POLICIES, TransferSpec
from sealift.transfer.errors import EngineUnavailableError

PASSED_ON: Final = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
)
"""What ascp gets of our environment. The rest is none of its business: Airflow keeps connections there."""

_SHORTEST_SECRET = 4


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program, ready to be run.

    :param argv: the program and its arguments; no secret is among them.
    :param environment: all of it, with the secrets.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is wanted of a transfer beside its spec.

    :param folder: where the file goes.
    :param port: the management port that ascp connects to.
    :param pairs: the file with the pairs of source and destination.
    :param transfer_id: names the transfer over all its sessions.
    :param bytes_per_second: the rate that must not be passed; None for that of the spec.
    :param verify: False, True, or the path of a CA bundle for WebSockets.
    :param credentials_in_tags: leave the storage's credentials in the tags, which are an argument.
    :param delegated: the delegated token, which must be in no other argument.
    """

    folder: Path
    port: int
    pairs: Path
    transfer_id: str
    bytes_per_second: float | None = None
    verify: bool | str = True
    credentials_in_tags: bool = False
    delegated: SecretStr = field(default=SecretStr(""), repr=False)


def ascp_command(
    spec: TransferSpec, ascp: Ascp, wishes: Wishes, *, environment: Mapping[str, str] | None = None
) -> Command:
    """Make the command line for a download.

    :param spec: the transfer spec.
    :param ascp: the program.
    :param wishes: what is wanted beside.
    :param environment: ours; not given: the process's.
    :returns: the command.
    :raises EngineUnavailableError: the server takes SSH only, and there is no key for it.
    :raises AsperaError: the spec demands what must not be done.
    """
    secrets = _secrets(spec)
    words = [str(ascp.path), "-M", str(wishes.port), "-q", "--mode=recv"]
    words += _reach(spec, ascp, wishes)
    words += ["-c", spec.encryption.replace("-", ""), "-k", str(spec.resume), "-d", *_rates(spec, wishes)]
    if spec.source_root:
        words.append(f"--source-prefix64={_base64(spec.source_root.encode())}")
    hidden = [one.get_secret_value() for one in (spec.token, spec.remote_password, wishes.delegated) if one is not None]
    hidden = [one for one in hidden if len(one) >= _SHORTEST_SECRET]
    tags = spec.tags64(transfer_id=wishes.transfer_id, with_credentials=wishes.credentials_in_tags, secrets=hidden)
    words += [f"--tags64={tags}", f"--file-pair-list={wishes.pairs}", "--dest64", _base64(os.fsencode(wishes.folder))]
    _refuse_secrets(words, hidden)
    ours = os.environ if environment is None else environment
    passed = {name: ours[name] for name in PASSED_ON if name in ours}
    return Command(argv=tuple(words), environment=passed | secrets)


def pair_list(spec: TransferSpec, *, key: str, name: str) -> str:
    """Write down what is brought and what its file is called, as ``--file-pair-list`` reads it.

    :param spec: the transfer spec; where it names one path, that is the source.
    :param key: the object, which is the source otherwise.
    :param name: the file's name in its folder.
    :returns: two lines.
    :raises AsperaError: a name has a line break in it.
    """
    source = spec.paths[0].source if len(spec.paths) == 1 else key
    if any(one in text for text in (source, name) for one in "\r\n"):
        raise AsperaError(f"Aspera cannot bring the object {key!r}: its name has a line break. Bring it over HTTPS.")
    return f"{source}\n{name}\n"


def _reach(spec: TransferSpec, ascp: Ascp, wishes: Wishes) -> list[str]:
    """Say how the server is reached, and by which key."""
    words = [f"--host={spec.remote_host}", f"--user={spec.remote_user}"]
    if spec.by_websocket:
        # With WebSockets, -i names the authorities that the server's certificate is checked by.
        bundle = wishes.verify if isinstance(wishes.verify, str) else ssl.get_default_verify_paths().cafile
        words += ["--ws-connect", "-P", str(spec.wss_port), *(["-i", bundle] if bundle else [])]
        return words
    words += ["-P", str(spec.ssh_port), "-O", str(spec.fasp_port)]
    if spec.sshfp:
        words.append(f"--check-sshfp={spec.sshfp}")
    if ascp.keys:
        words += ["-i", str(ascp.keys[0])]
    elif spec.remote_password is None:
        raise EngineUnavailableError(
            f"The transfer server {spec.remote_host} takes SSH only, and beside {ascp.path} there is no key of "
            "IBM's for it (aspera_bypass_rsa.pem). Name the file, or take HTTPS."
        )
    return words


def _rates(spec: TransferSpec, wishes: Wishes) -> list[str]:
    words = [f"--policy={spec.rate_policy}"] if spec.rate_policy in POLICIES else []
    target = spec.target_rate_kbps or None
    if wishes.bytes_per_second is not None:
        limit = max(1, int(wishes.bytes_per_second * 8 / 1000))
        target = min(target or limit, limit)
    if target is not None:
        words += ["-l", str(target)]
    if spec.min_rate_kbps and (target is None or spec.min_rate_kbps <= target):
        words += ["-m", str(spec.min_rate_kbps)]
    return words


def _secrets(spec: TransferSpec) -> dict[str, str]:
    named = {
        "ASPERA_SCP_TOKEN": spec.token,
        "ASPERA_SCP_PASS": spec.remote_password,
        "ASPERA_SCP_COOKIE": spec.cookie,
    }
    found = {name: one.get_secret_value() for name, one in named.items() if one is not None}
    if any("\0" in value for value in found.values()):
        raise AsperaError("ATS sent a token that no program can be given. Bring the bytes over HTTPS.")
    return {name: value for name, value in found.items() if value}


def _refuse_secrets(words: Sequence[str], secrets: Sequence[str]) -> None:
    """The last look: whatever a spec holds, no argument holds a secret."""
    for secret in secrets:
        if any(secret in word for word in words):
            raise AsperaError(
                "ATS names one and the same text as a secret and as an argument of ascp, which every process of this "
                "machine can read. Bring the bytes over HTTPS."
            )


def _base64(text: bytes) -> str:
    return base64.b64encode(text).decode("ascii")
