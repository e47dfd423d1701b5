"""The shape of each schema, kept for every version: what a document holds, without the words about it.

``python -m tests.exports.shapes`` writes the shape of each version that has none yet. It changes no shape that is kept:
where a schema was changed, its version is raised first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from sealift.exports.caps import LearnedCap
from sealift.exports.registers import Entry
from sealift.exports.remembering import CaptureNote
from sealift.exports.retention.holds import Hold
from sealift.exports.retention.models import RemovalNote
from sealift.exports.schemas import MODELS
from sealift.exports.status.prices import Prices
from sealift.exports.terms import WaitTerms
from sealift.exports.versions import FIELD

FIXTURES: Final = Path(__file__).resolve().parents[1] / "fixtures"
SHAPES: Final = FIXTURES / "shapes"

UNPUBLISHED: Final[dict[str, type[BaseModel]]] = {
    "hold": Hold,
    "removal-note": RemovalNote,
    "capture-note": CaptureNote,
    "register-entry": Entry,
    "learned-cap": LearnedCap,
    "wait-terms": WaitTerms,
    "prices": Prices,
}

KINDS: Final[dict[str, type[BaseModel]]] = {
    # What people write has no version: the rules of retention.
    **{name: model for name, (model, _) in MODELS.items() if FIELD in model.model_fields},
    **UNPUBLISHED,
}
"""Everything that Sealift writes and reads again, by name."""

_WORDS: Final = ("description", "title")


def version_of(kind: str) -> int:
    """Say which version of a kind of document is written now."""
    return int(KINDS[kind].model_fields[FIELD].default)


def shape_of(kind: str) -> dict[str, Any]:
    """Give the shape of a kind of document: its JSON Schema without titles and descriptions."""
    found: dict[str, Any] = _without_words(KINDS[kind].model_json_schema(mode="serialization"))
    return found


def _without_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_words(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for name, value in schema.items():
        if name in ("properties", "$defs"):  # what stands there are names of fields and models, not words
            kept[name] = {field: _without_words(one) for field, one in value.items()}
        elif name not in _WORDS:
            kept[name] = value if name in ("default", "enum", "const", "required") else _without_words(value)
    return kept


def shape_text(kind: str) -> str:
    """Give the shape as its file holds it."""
    return json.dumps(shape_of(kind), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def shape_file(kind: str, version: int) -> Path:
    """Say which file keeps the shape of a version."""
    return SHAPES / f"{kind}.v{version}.json"


def main() -> None:
    """Keep the shapes of versions that have none."""
    SHAPES.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path = shape_file(kind, version_of(kind))
        if not path.exists():
            path.write_text(shape_text(kind), encoding="utf-8")
            sys.stdout.write(f"kept {path.name}\n")


if __name__ == "__main__":
    main()
