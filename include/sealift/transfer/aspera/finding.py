"""Where ascp is, and the key that it shows to a server that takes SSH. IBM ships both; Sealift does not.

The places are those of IBM/aspera-cli's ``products`` and of IBM Cloud's command line (``ASPERA_SDK_PATH``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealift.transfer.errors import EngineUnavailableError

_IN_HOME: Final = (
    ".aspera/sdk",  # aspera-cli: ascli config transferd install
    ".aspera/sdk/bin",
    ".aspera/ascli/sdk",
    ".aspera/cli/bin",
    ".aspera/connect/bin",
)
_ELSEWHERE: Final = ("/opt/aspera/bin",)

# Those without a pass phrase. Which one a server takes is the server's choice; newer ones take no DSA.
_KEYS: Final = ("aspera_bypass_rsa.pem", "aspera_bypass_dsa.pem", "asperaweb_id_dsa.openssh")
_KEY_FOLDERS: Final = (".", "../etc", "../etc/aspera", "../client", "../var")

GET_IT: Final = (
    "It comes with IBM's Aspera Transfer SDK (https://ibm.biz/sdk_location) or with IBM's aspera-cli (ascli config "
    "transferd install); IBM's licence goes with it."
)


@dataclass(frozen=True, kw_only=True)
class Ascp:
    """The program, and what it needs beside a transfer spec.

    :param path: the program.
    :param keys: private keys for SSH, the best one first; none where none was found.
    """

    path: Path
    keys: tuple[Path, ...] = ()


def find_ascp(
    explicit: Path | None = None, *, key: Path | None = None, environment: Mapping[str, str] | None = None
) -> Ascp:
    """Find ascp: where somebody says, on the PATH, or in the usual places of IBM's products.

    :param explicit: the program, or the folder that it is in; nothing else is looked at then.
    :param key: the private key for SSH; not given: the ones that IBM's products have beside ascp.
    :param environment: where ``PATH``, ``HOME`` and ``ASPERA_SDK_PATH`` stand; not given: the process's.
    :returns: the program and its keys.
    :raises EngineUnavailableError: there is none, or it cannot be run.
    """
    known = os.environ if environment is None else environment
    if explicit is not None:
        path = (explicit / "ascp" if explicit.is_dir() else explicit).absolute()
        if not _runs(path):
            raise EngineUnavailableError(
                f"There is no program {path} that can be run. Name the file ascp, or take HTTPS, which needs none. "
                f"{GET_IT}"
            )
        return Ascp(path=path, keys=_keys(path, key))
    for path in _candidates(known):
        if _runs(path):
            return Ascp(path=path, keys=_keys(path, key))
    raise EngineUnavailableError(
        f"IBM's program ascp was not found, on the PATH or where IBM's products put it. {GET_IT} "
        "Or take HTTPS, which needs no ascp."
    )


def _candidates(known: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("ascp", path=known.get("PATH", os.defpath))
    if on_path:
        yield Path(on_path).absolute()
    if sdk := known.get("ASPERA_SDK_PATH"):
        yield Path(sdk) / "bin" / "ascp"
        yield Path(sdk) / "ascp"
    if home := known.get("HOME"):
        for folder in _IN_HOME:
            yield Path(home) / folder / "ascp"
    for folder in _ELSEWHERE:
        yield Path(folder) / "ascp"


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _keys(ascp: Path, key: Path | None) -> tuple[Path, ...]:
    if key is not None:
        if not key.is_file():
            raise EngineUnavailableError(f"There is no file {key} with a private key for ascp.")
        return (key,)
    folder = ascp.resolve().parent
    found = (folder / place / name for name in _KEYS for place in _KEY_FOLDERS)
    return tuple(one.resolve() for one in found if one.is_file())
