"""JSON Schemas of what Sealift writes to the bucket, and of what webhooks are told, published under docs/schemas.

``python -m sealift.exports.schemas docs/schemas`` writes them; ``--check`` before the folder only says whether they are
current (exit status 1 if not).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel

from sealift.exports.converting import Conversion
from sealift.exports.delivery_images import DeliveredConversion
from sealift.exports.doctor_models import Examination
from sealift.exports.drills.models import Rehearsal
from sealift.exports.kits.models import FitReport
from sealift.exports.manifest import Manifest
from sealift.exports.messages.message import Message
from sealift.exports.plan import Plan, WaveSlice
from sealift.exports.proofs import LaterProof
from sealift.exports.record import ConfigurationRecord
from sealift.exports.report import RunReport, WaveReport
from sealift.exports.retention.models import DryRun, Result
from sealift.exports.retention.rules import RetentionRules
from sealift.exports.status.index import PeriodIndex

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

MODELS: Final[dict[str, tuple[type[BaseModel], str]]] = {
    "manifest": (Manifest, "Manifest of an export"),
    "configuration-record": (ConfigurationRecord, "Configuration record of a virtual server (server.json)"),
    "plan": (Plan, "Plan of a run"),
    "wave": (WaveSlice, "One wave's slice of a plan"),
    "report": (RunReport, "Report of a run"),
    "wave-report": (WaveReport, "Report of a wave"),
    "proof": (LaterProof, "A later proof of an export"),
    "conversion": (Conversion, "An export's images in another format"),
    "delivered-conversion": (DeliveredConversion, "Images that were delivered in another format (conversion.json)"),
    "rehearsal": (Rehearsal, "What came of rehearsing the restore of an export"),
    "examination": (Examination, "Report of the doctor"),
    "retention-rules": (RetentionRules, "Rules of retention"),
    "retention": (DryRun, "Dry run of retention: what would go, and why"),
    "retention-result": (Result, "What came of a dry run of retention"),
    "index": (PeriodIndex, "All servers of a slot"),
    "message": (Message, "What webhooks are told"),
    "fit": (FitReport, "How an export fits the targets that it can be taken to"),
}

_LEFT_OUT_WHERE_EMPTY: Final = ("plan", "wave")


def schema_text(name: str) -> str:
    """Return the text of one schema's file.

    :param name: one of :data:`MODELS`.
    :returns: JSON, indented, with a line end.
    :raises KeyError: there is no such schema.
    """
    model, title = MODELS[name]
    # Plans and waves leave out what is empty, and so hold what it takes to read them, not all that there is.
    mode: Literal["validation", "serialization"] = "validation" if name in _LEFT_OUT_WHERE_EMPTY else "serialization"
    schema = {"$schema": DIALECT, **model.model_json_schema(mode=mode), "title": title}
    return json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into a folder and return the files.

    :param folder: made where there is none.
    :returns: the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in MODELS:
        path = folder / f"{name}.schema.json"
        path.write_text(schema_text(name), encoding="utf-8")
        written.append(path)
    return written


def outdated(folder: Path) -> list[str]:
    """Name the schema files of a folder that are missing, differ from the models, or belong to no model.

    :param folder: the folder.
    :returns: the files' names, sorted; empty where all are current.
    """
    wanted = {f"{name}.schema.json": schema_text(name) for name in MODELS}
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.schema.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: Sequence[str]) -> int:
    """Write or check the schemas; see the module's first lines.

    :param arguments: the command line's, without the program's name.
    :returns: the exit status: 0, 1 where schemas are not current, or 2 where the arguments cannot be read.
    """
    check = "--check" in arguments
    folders = [one for one in arguments if one != "--check"]
    if len(folders) != 1:
        sys.stderr.write("usage: python -m sealift.exports.schemas [--check] <folder>\n")
        return 2
    folder = Path(folders[0])
    if not check:
        write_schemas(folder)
        return 0
    old = outdated(folder)
    if old:
        sys.stderr.write(f"not current: {', '.join(old)}; run python -m sealift.exports.schemas {folder}\n")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
