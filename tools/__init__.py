"""Small programs behind the Makefile's targets. None of them is part of the installed package."""

from __future__ import annotations
