"""Puts the stand-in for ascp where a client can start it: a file named ``ascp`` that runs it with this Python."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

_TEXT = """\
#!/bin/sh
# Sealift's stand-in for IBM's ascp. It moves bytes over HTTP out of the sandbox that made this file, and knows no FASP.
exec {python} -I -B {module} "$@"
"""


def write_program(folder: Path) -> Path:
    """Write the program.

    :param folder: made if missing.
    :returns: the file, which can be run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, fresh = folder / "ascp", folder / "ascp.new"
    module = Path(__file__).with_name("stand_in.py")
    text = _TEXT.format(python=shlex.quote(sys.executable), module=shlex.quote(str(module)))
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o755)
    os.replace(fresh, path)
    return path
