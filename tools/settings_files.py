"""Reads the settings that Sealift ships for each engine, ``deploy/settings/*.env``, with the reason of each.

The files are what Docker's ``env_file`` takes: ``NAME=value`` lines, and comments on lines of their own. Every setting
has its reason in the comment right above it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "settings"
ENGINES = ("sqlite", "postgresql", "celery")
_NAME = re.compile(r"AIRFLOW__[A-Z0-9_]+?__[A-Z0-9_]+")


class SettingsFileError(ValueError):
    """A settings file is not as it must be; the message names the line."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    :param name: ``AIRFLOW__SECTION__KEY``.
    :param value: as Airflow reads it.
    :param reason: why it has this value.
    """

    name: str
    value: str
    reason: str

    @property
    def section(self) -> str:
        """The section of Airflow's configuration, in small letters."""
        return self.name.split("__")[1].lower()

    @property
    def key(self) -> str:
        """The option in the section, in small letters."""
        return self.name.split("__", 2)[2].lower()


def read(text: str, *, where: str = "settings") -> list[Setting]:
    """Read the text of a settings file.

    :param text: its text.
    :param where: its name, for messages.
    :returns: its settings, in their order.
    :raises SettingsFileError: if a line is neither a comment nor a setting, a setting comes twice or has no reason, or a
        value has quotes or a comment behind it, which not everything that reads such files takes off.
    """
    found: dict[str, Setting] = {}
    reason: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        here = f"{where}, line {number}"
        if not line.strip():
            reason = []
            continue
        if line.startswith("#"):
            reason.append(line.lstrip("# ").rstrip())
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise SettingsFileError(f"{here}: not AIRFLOW__SECTION__KEY=value: {line}")
        if not value or value != value.strip() or value[0] in "'\"" or " #" in value:
            raise SettingsFileError(f"{here}: a value without quotes, spaces around it or a comment behind it: {line}")
        if name in found:
            raise SettingsFileError(f"{here}: {name} comes twice.")
        if not reason:
            raise SettingsFileError(f"{here}: {name} has no reason in a comment right above it.")
        found[name] = Setting(name, value, " ".join(reason))
        reason = []
    return list(found.values())


def settings(*, engine: str) -> list[Setting]:
    """Read what is shipped for an engine.

    :param engine: ``sqlite``, ``postgresql`` or ``celery``.
    :returns: its settings.
    :raises SettingsFileError: if the file is not as it must be.
    """
    path = FOLDER / f"{engine}.env"
    return read(path.read_text(), where=path.name)


def shipped(*, engine: str) -> dict[str, str]:
    """Read what is shipped for an engine, for an environment.

    :param engine: ``sqlite``, ``postgresql`` or ``celery``.
    :returns: name → value.
    """
    return {each.name: each.value for each in settings(engine=engine)}
