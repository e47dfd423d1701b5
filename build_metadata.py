"""Hatch metadata hook: the package's dependencies are the lines of requirements.txt, so that they stand in one place."""

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
        metadata["dependencies"] = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
