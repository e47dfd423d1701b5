"""Sees to the Debian packages that the tests need: installs them when it may, else names the exact apt line.

The demo needs none of them. It uses the standard library only, since it runs before the test environment is complete.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Debian package → a program of it, and what the tests want it for.
NEEDED: Mapping[str, tuple[str, str]] = {
    "qemu-utils": ("qemu-img", "judges the disk images that Sealift writes"),
    "qemu-system-x86": ("qemu-system-x86_64", "starts images in an emulated machine"),
    "e2fsprogs": ("mke2fs", "makes and checks the file systems inside them"),
    "xfsprogs": ("mkfs.xfs", "makes and checks those of XFS"),
    "libvirt-clients": ("virt-xml-validate", "judges the domains that kits describe"),
    "libxml2-utils": ("xmllint", "reads them against libvirt's schema"),
    "shellcheck": ("shellcheck", "judges the scripts of kits"),
    "chromium": ("chromium", "shows Airflow's pages as a person sees them"),
    "curl": ("curl", "asks the store in IBM's procedure, beside which Sealift is measured"),
    "postgresql": ("initdb", "holds the metadata of an Airflow with two schedulers"),
    "redis-server": ("redis-server", "holds the tasks that wait for one of Celery's workers"),
}
# Where Debian keeps such programs, whether or not an ordinary user's PATH names them.
PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin", "/usr/lib/postgresql/*/bin")

# PostgreSQL's package makes a server of its own and starts it with the machine, unless this file says otherwise.
POSTGRES_CONF = "/etc/postgresql-common/createcluster.conf"
_NO_SERVER = "create_main_cluster = false # until these packages are installed"
_SAY_NO = f"""printf '%s\\n' '{_NO_SERVER}' >> {POSTGRES_CONF}"""
_TAKE_BACK = f"sed -i '/^{_NO_SERVER}$/d' {POSTGRES_CONF}"
# Redis' package starts its server, now and with the machine. Debian asks this program first whether services may be
# started; afterwards the service is told not to start with the machine either.
POLICY = "/usr/sbin/policy-rc.d"
_NO_SERVICES = f"printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}"
_SERVICES_AGAIN = f"rm -f {POLICY}; update-rc.d redis-server disable"


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
    """Install Debian packages. Those of PostgreSQL and Redis start no server of their own: the tests start theirs.

    :param packages: their names.
    :param prefix: what goes before ``apt-get``.
    :returns: the end of apt's output if it failed, else an empty text.
    """
    quiet = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
    wanted = ["install", "--no-install-recommends"]
    silent = "postgresql" in packages and not Path(POSTGRES_CONF).exists()
    _run([*quiet, "update"])
    if silent:
        _run([*quiet, *wanted, "postgresql-common"])
        _run([*prefix, "sh", "-c", _SAY_NO])
    no_redis = "redis-server" in packages and not Path(POLICY).exists()
    if no_redis:
        _run([*prefix, "sh", "-c", _NO_SERVICES])
    done = _run([*quiet, *wanted, *packages])
    if no_redis:
        _run([*prefix, "sh", "-c", _SERVICES_AGAIN])
    if silent:
        _run([*prefix, "sh", "-c", _TAKE_BACK])
    return "" if done.returncode == 0 else "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])


def search_path() -> str:
    """Give the folders to look for programs in.

    :returns: as PATH writes them.
    """
    found = [folder for place in PLACES for folder in sorted(glob.glob(place))]
    return os.pathsep.join((os.environ.get("PATH", ""), *found))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(names: Sequence[str] = ()) -> int:
    """Check, install if possible, and say in words what is still missing.

    :param names: the packages that are wanted; all of them if none is named.
    :returns: the exit status: 0 if every program is there.
    """
    needed = {name: NEEDED[name] for name in names or NEEDED}
    packages = missing(needed, path=search_path())
    if not packages:
        return 0
    prefix = apt_prefix()
    trouble = ""
    if prefix is not None:
        print(f"set-up: installing {' '.join(packages)} by apt-get", file=sys.stderr, flush=True)
        trouble = install(packages, prefix)
        packages = missing(needed, path=search_path())
        if not packages:
            return 0
    for package in packages:
        print(f"{package} is missing: {NEEDED[package][0]} {NEEDED[package][1]}.", file=sys.stderr)
    if trouble:
        print(trouble, file=sys.stderr)
    line = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    print(f"Install what is missing as root, then run make again:\n    {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
