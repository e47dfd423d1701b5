"""Runs the linters and checks that each of them has looked at all there is: a check that looked at nothing fails.

``python -m tools.lint`` prints one line per check with what it counted.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Where code of this project can stand. A folder that does not exist yet has nothing to check.
CODE = ("include", "dags", "plugins", "tests", "tools", "benchmarks", "docs")
TYPED = ("include/sealift", "tools", "benchmarks")


class LintFailedError(Exception):
    """A check failed or did not look at everything; the message holds the tool's own words."""


@dataclass(frozen=True)
class Ran:
    """What a tool left behind."""

    status: int
    output: str

    def found(self, pattern: str) -> int:
        """Read a number out of the output.

        :param pattern: a regular expression with one group.
        :returns: the number, or 0 if the tool did not print it.
        """
        match = re.search(pattern, self.output)
        return int(match.group(1)) if match else 0


def tool(root: Path, *command: str) -> Ran:
    """Run one of the environment's programs in the project's folder."""
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=root, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout + done.stderr)


def sources(root: Path, folders: Sequence[str]) -> set[Path]:
    """List the Python files that a check has to look at, by the file system and not by the tool's own word.

    :param root: the project's folder.
    :param folders: where to look, recursively.
    :returns: absolute paths.
    """
    return {path.resolve() for folder in folders for path in (root / folder).rglob("*.py")}


def all_of(name: str, *, due: int, looked_at: int, ran: Ran) -> None:
    """Fail unless a check passed and looked at everything.

    :raises LintFailedError: if it failed, looked at nothing, or at less than was due.
    """
    if ran.status:
        raise LintFailedError(ran.output)
    if due == 0 or looked_at < due:
        raise LintFailedError(f"{name} looked at {looked_at} of {due} and must look at all.\n{ran.output}")


def check_style(root: Path) -> str:
    """Run ``ruff check``."""
    shown = tool(root, "ruff", "check", "--show-files", ".")
    seen = {Path(line).resolve() for line in shown.output.splitlines() if line.endswith(".py")}
    due = sources(root, CODE)
    ran = tool(root, "ruff", "check", "--output-format", "concise", ".")
    all_of("ruff check", due=len(due), looked_at=len(due & seen), ran=ran)
    return f"{len(seen)} files"


def check_format(root: Path) -> str:
    """Run ``ruff format --check``."""
    ran = tool(root, "ruff", "format", "--check", ".")
    count = ran.found(r"(\d+) files? already formatted")
    all_of("ruff format", due=len(sources(root, CODE)), looked_at=count, ran=ran)
    return f"{count} files"


def check_types(root: Path) -> str:
    """Run ``mypy --strict`` over the package, the tools and the benchmarks."""
    ran = tool(root, "mypy", "--strict", *(folder for folder in TYPED if (root / folder).exists()))
    count = ran.found(r"no issues found in (\d+) source files")
    all_of("mypy", due=len(sources(root, TYPED)), looked_at=count, ran=ran)
    return f"{count} files"


def check_borders(root: Path) -> str:
    """Run import-linter over the contracts between the rooms."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    ran = tool(root, "lint-imports", "--no-logo")
    kept = ran.found(r"Contracts: (\d+) kept")
    all_of("import-linter (contracts)", due=len(contracts), looked_at=kept, ran=ran)
    files = ran.found(r"Analyzed (\d+) files")
    all_of("import-linter (modules)", due=len(sources(root, ("include/sealift",))), looked_at=files, ran=ran)
    return f"{kept} contracts over {files} modules"


CHECKS: dict[str, Callable[[Path], str]] = {
    "ruff check": check_style,
    "ruff format": check_format,
    "mypy --strict": check_types,
    "import-linter": check_borders,
}


def main() -> int:
    """Run all checks, the later ones too when an earlier one fails.

    :returns: the exit status: 0 only if every check passed.
    """
    failed = 0
    for name, check in CHECKS.items():
        try:
            print(f"{name:14} ok: {check(ROOT)}", flush=True)
        except LintFailedError as error:
            failed += 1
            print(f"{name:14} FAILED\n{error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
