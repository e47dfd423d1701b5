"""``python -m sealift.cli``: the same as ``sealift``."""

from __future__ import annotations

from sealift.cli import main

main(prog_name="sealift")
