"""Hatch metadata hook: requirements.txt is the one place where the package's dependencies are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsMetadataHook(MetadataHookInterface):
    """Reads the direct dependencies from requirements.txt beside this file."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put them into the project's metadata.

        :param metadata: the project table as hatch read it; changed in place.
        """
        lines = (Path(self.root) / "requirements.txt").read_text().splitlines()
        wanted = (line.strip() for line in lines)
        metadata["dependencies"] = [line for line in wanted if line and not line.startswith("#")]
