"""Sees to the Debian packages that the tests need: installs them when it may, else names the exact apt line.

The demo needs none of them. It uses the standard library only, since it runs before the test environment is complete.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

# Debian package → a program of it, and what the tests want it for.
NEEDED: Mapping[str, tuple[str, str]] = {
    "qemu-utils": ("qemu-img", "judges the disk images that Sealift writes"),
    "e2fsprogs": ("mke2fs", "makes and checks the file systems inside them"),
    "chromium": ("chromium", "shows Airflow's pages as a person sees them"),
}
# Where Debian keeps such programs, whether or not an ordinary user's PATH names them.
PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin")


def missing(needed: Mapping[str, tuple[str, str]], *, path: str) -> list[str]:
    """Tell which packages' programs are not there.

    :param needed: package → (program, what for).
    :param path: the folders to look in, as PATH writes them.
    :returns: names of packages, sorted.
    """
    return sorted(package for package, (program, _) in needed.items() if shutil.which(program, path=path) is None)


def apt_prefix() -> list[str] | None:
    """Find out how apt-get may be run here without asking anybody.

    :returns: what goes before ``apt-get``: nothing for root, ``sudo -n`` where that works, None if it may not be run.
    """
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def install(packages: Sequence[str], prefix: Sequence[str]) -> str:
    """Install Debian packages.

    :param packages: their names.
    :param prefix: what goes before ``apt-get``.
    :returns: the end of apt's output if it failed, else an empty text.
    """
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
    for command in (["update"], ["install", "--no-install-recommends", *packages]):
        done = subprocess.run([*prefix, *quiet, *command], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])


def main() -> int:
    """Check, install if possible, and say in words what is still missing.

    :returns: the exit status: 0 if every program is there.
    """
    path = os.pathsep.join((os.environ.get("PATH", ""), *PLACES))
    packages = missing(NEEDED, path=path)
    if not packages:
        return 0
    prefix = apt_prefix()
    trouble = ""
    if prefix is not None:
        print(f"set-up: installing {' '.join(packages)} by apt-get", file=sys.stderr, flush=True)
        trouble = install(packages, prefix)
        packages = missing(NEEDED, path=path)
        if not packages:
            return 0
    for package in packages:
        print(f"{package} is missing: {NEEDED[package][0]} {NEEDED[package][1]}.", file=sys.stderr)
    if trouble:
        print(trouble, file=sys.stderr)
    line = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    print(f"Install what is missing as root, then run make test again:\n    {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
