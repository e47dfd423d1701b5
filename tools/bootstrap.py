"""Makes the virtual environment from the lock files, once, and again only when they change.

``python tools/bootstrap.py run`` installs what the demo needs, ``… dev`` what tests and linters need on top of it, and
``… lock`` makes the lock files again. It runs before anything is installed, so it uses the standard library only.
Downloads go wherever this machine's own configuration of pip and uv sends them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}
SOURCES = {"run": "requirements.txt", "dev": "requirements-dev.txt"}
OLDEST_PYTHON = (3, 11)
OLDEST_UV = (0, 8)
INSTALLER = "https://astral.sh/uv/{version}/install.sh"


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do about it."""


def say(text: str) -> None:
    """Print one line of progress at once, since the steps below can take a while."""
    print(f"set-up: {text}", file=sys.stderr, flush=True)


def run(command: Sequence[str | Path], *, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run a command that must succeed.

    :param command: program and arguments.
    :param cwd: the folder to run it in.
    :param env: the whole environment, or None for this process's own.
    :raises SetupError: with the command and the end of its output.
    """
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise SetupError(f"{' '.join(map(str, command))}\nended with status {done.returncode}:\n{tail}")


def locked_block(lock: Path, package: str) -> str:
    """Cut one package, with its version and hashes, out of a lock file.

    :param lock: a lock file as uv writes it.
    :param package: the package's normalised name.
    :returns: its lines, as a requirements file of its own.
    :raises SetupError: if the lock file does not pin the package.
    """
    match = re.search(rf"^{re.escape(package)}==\S+.*?(?=^\S|\Z)", lock.read_text(), re.MULTILINE | re.DOTALL)
    if match is None:
        raise SetupError(f"{lock.name} does not pin {package}; run `make lock`.")
    return "\n".join(line for line in match.group().splitlines() if not line.lstrip().startswith("#")) + "\n"


def pinned_version(lock: Path, package: str) -> str:
    """Tell which version of a package a lock file pins.

    :param lock: a lock file as uv writes it.
    :param package: the package's normalised name.
    :returns: for example ``0.13.9``.
    """
    return locked_block(lock, package).split("==", 1)[1].split()[0]


class UvFinder:
    """Finds uv or gets it, trying what touches the machine least first; nothing is installed outside ``.tools/``."""

    def __init__(self, *, root: Path, python: str) -> None:
        """Remember where to look.

        :param root: the project's folder.
        :param python: the Python that pip and venv are tried with.
        """
        self.root = root
        self.python = python
        self.tools = root / ".tools"
        self.lock = root / LOCKS["dev"]

    def find(self) -> Path:
        """Return a uv that is new enough.

        :returns: its path.
        :raises SetupError: if there is none and none can be had, with what was tried and the apt line that helps.
        """
        for candidate in (shutil.which("uv"), self.tools / "bin/uv", self.tools / "venv/bin/uv"):
            if candidate and self.usable(Path(candidate)):
                return Path(candidate)
        reasons: list[str] = []
        ways: list[tuple[str, Callable[[], Path]]] = [
            ("pip", self.by_pip),
            ("venv", self.by_venv),
            ("uv's own installer", self.by_installer),
        ]
        for name, way in ways:
            try:
                uv = way()
            except (SetupError, OSError) as error:
                reasons.append(f"- {name}: {str(error).strip().splitlines()[-1]}")
                continue
            if self.usable(uv):
                say(f"uv came by {name}")
                return uv
            reasons.append(f"- {name}: {uv} does not run")
        raise SetupError(
            "uv is not on PATH and could not be had:\n"
            + "\n".join(reasons)
            + "\nOn Debian and Ubuntu this helps; then run make again:\n    apt-get install -y python3-pip python3-venv"
        )

    def usable(self, uv: Path) -> bool:
        """Tell whether a file is a uv that runs here and is new enough."""
        try:
            done = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
        except OSError:
            return False
        version = re.match(r"uv (\d+)\.(\d+)", done.stdout)
        return version is not None and tuple(map(int, version.groups())) >= OLDEST_UV

    def requirement(self) -> Path:
        """Write the pinned uv, with its hashes, as a requirements file.

        :returns: the file.
        """
        self.tools.mkdir(exist_ok=True)
        path = self.tools / "uv.txt"
        path.write_text(locked_block(self.lock, "uv"))
        return path

    def by_pip(self) -> Path:
        """Install uv into ``.tools/`` by the pip of the given Python."""
        pip = [self.python, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(self.tools)]
        run([*pip, "--require-hashes", "-r", self.requirement()], cwd=self.root)
        return self.tools / "bin/uv"

    def by_venv(self) -> Path:
        """Install uv into a virtual environment of its own, for a Python that has ensurepip but no pip."""
        venv = self.tools / "venv"
        run([self.python, "-m", "venv", "--clear", venv], cwd=self.root)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet"]
        run([*pip, "--require-hashes", "-r", self.requirement()], cwd=self.root)
        return venv / "bin/uv"

    def by_installer(self) -> Path:
        """Run uv's own installer, told to leave everything outside ``.tools/bin`` alone."""
        self.tools.mkdir(exist_ok=True)
        url = INSTALLER.format(version=pinned_version(self.lock, "uv"))
        script = self.tools / "install-uv.sh"
        try:
            with urllib.request.urlopen(url, timeout=60) as reply:  # noqa: S310 - the address is ours, and https
                script.write_bytes(reply.read())
        except urllib.error.URLError as error:
            raise SetupError(f"{url} cannot be read: {error.reason}") from error
        run(["sh", script], cwd=self.root, env={**os.environ, "UV_UNMANAGED_INSTALL": str(self.tools / "bin")})
        return self.tools / "bin/uv"


class Environment:
    """The project's ``.venv`` and the note in it that says what it was made from."""

    def __init__(self, *, root: Path, python: str) -> None:
        """Remember where it is.

        :param root: the project's folder.
        :param python: the Python to make it with, if it is not there yet.
        """
        self.root = root
        self.python = python
        self.venv = root / ".venv"
        self.note = self.venv / "sealift-setup.json"

    def digest(self, kind: str) -> str:
        """Fingerprint everything that decides what is installed: the lock, and the package's own metadata.

        :param kind: ``run`` or ``dev``.
        :returns: a SHA-256 in hex.
        """
        project = tomllib.loads((self.root / "pyproject.toml").read_text())
        metadata = [project["project"], project["build-system"], project["tool"]["hatch"]]
        digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
        for name in (LOCKS[kind], SOURCES["run"], "build_metadata.py"):
            digest.update((self.root / name).read_bytes())
        digest.update(str(self.root).encode())  # the package is installed by a reference to this folder
        return digest.hexdigest()

    def noted(self) -> dict[str, str]:
        """Read what is installed, as ``{kind: digest}``; empty for an environment that was not finished."""
        try:
            note = json.loads(self.note.read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def works(self) -> bool:
        """Tell whether the environment has a Python that runs and is new enough."""
        code = f"import sys; sys.exit(sys.version_info[:2] < {OLDEST_PYTHON})"
        try:
            return subprocess.run([self.venv / "bin/python", "-c", code], check=False).returncode == 0
        except OSError:
            return False

    def ready(self, kind: str) -> bool:
        """Tell whether nothing needs to be done for this kind; ``dev`` holds all that ``run`` does."""
        noted = self.noted()
        kinds = ("dev", "run") if kind == "run" else ("dev",)
        return self.works() and any(noted.get(each) == self.digest(each) for each in kinds)

    def make(self, kind: str, uv: Path) -> None:
        """Install exactly what the lock names, then the package itself by reference.

        :param kind: ``run`` or ``dev``.
        :param uv: the uv to do it with.
        """
        # What was set up for the tests stays so: switching down for the demo would cost time and gain nothing.
        if "dev" in self.noted():
            kind = "dev"
        if not self.works():
            say(f"making .venv with {self.python}")
            run([uv, "venv", "--quiet", "--clear", "--python", self.python, self.venv], cwd=self.root)
        self.note.unlink(missing_ok=True)
        target = ["--quiet", "--python", str(self.venv / "bin/python")]
        say(f"installing {LOCKS[kind]}, each file checked against its hash")
        # Compiled once here, every process of Airflow starts in half the time.
        run([uv, "pip", "sync", *target, "--compile-bytecode", "--require-hashes", LOCKS[kind]], cwd=self.root)
        run([uv, "pip", "install", *target, "--no-deps", "--editable", "."], cwd=self.root)
        self.note.write_text(json.dumps({kind: self.digest(kind)}))
        say("done")


def make_locks(root: Path, uv: Path) -> None:
    """Resolve both lock files again; the second one follows the first.

    :param root: the project's folder.
    :param uv: the uv to do it with.
    """
    common = ["--universal", "--python-version", "3.11", "--no-emit-index-url", "--generate-hashes", "--no-header"]
    for kind, extra in (("run", []), ("dev", ["--constraints", LOCKS["run"]])):
        say(f"resolving {SOURCES[kind]}")
        target = ["--output-file", LOCKS[kind], SOURCES[kind]]
        run([uv, "pip", "compile", "--quiet", *common, *extra, *target], cwd=root)


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Let two make commands at once set up one after the other."""
    (root / ".tools").mkdir(exist_ok=True)
    with (root / ".tools/setup.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    """Do what the Makefile asks for.

    :param arguments: one word: ``run``, ``dev`` or ``lock``.
    :returns: the exit status.
    """
    if len(arguments) != 1 or arguments[0] not in (*LOCKS, "lock"):
        print("usage: bootstrap.py run|dev|lock", file=sys.stderr)
        return 2
    finder = UvFinder(root=ROOT, python=sys.executable)
    try:
        with only_one(ROOT):
            if arguments[0] == "lock":
                make_locks(ROOT, finder.find())
                return 0
            environment = Environment(root=ROOT, python=sys.executable)
            if not environment.ready(arguments[0]):
                environment.make(arguments[0], finder.find())
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
