"""The bugs that can be planted, by name: what the checker must call them, and where they show soonest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BUGS: Final[Mapping[str, tuple[str, str]]] = {
    "blind": ("duplicate_captures", "lost"),
    "does-not-look": ("duplicate_captures", "users"),
    "impatient": ("duplicate_captures", "late"),
    "pool-only": ("cap_overshoots", "cap"),
    "account-only": ("cap_overshoots", "cap"),
    "frees-on-failure": ("cap_overshoots", "late"),
    "early-manifest": ("false_done", "damage"),
    "trusting": ("false_done", "damage"),
    "overwriting": ("false_done", "cap"),
    "talkative": ("leaks", "lost"),
}
"""By name: the field of the findings, and the kind of scenario."""
