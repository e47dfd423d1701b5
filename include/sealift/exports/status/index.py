"""A slot's rows as one object, so that nobody has to read thousands of manifests to say what was proven.

``index/<period>.json`` holds a column for each field of a row. It is a cache: the ledger decides what is exported, and
what the index says of a manifest counts only while that manifest has the ETag that the index names. It may be deleted
at any time; the report of the next run of its slot, or ``sealift status --write-index``, writes it anew.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealift.exports import names
from sealift.exports.jsontext import compact_json
from sealift.exports.status.rows import Row, Rows, State
from sealift.exports.versions import reads_up_to

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

ROOM: Final = "index"

_INDEX_FILE = re.compile(rf"({names.PERIOD_PATTERN})\.json")
_COLUMNS: Final = tuple(field for field in Row._fields if field not in ("tags", "words"))


def index_key(*, prefix: str, period: str) -> str:
    """Return the key of a slot's index.

    :param prefix: what all keys begin with; may be empty.
    :param period: the scheduled slot or manual run.
    :returns: as ``index/20261123T0200Z.json``.
    """
    return f"{names.room_prefix(prefix, ROOM)}{period}.json"


def parse_index_file(rest: str) -> str | None:
    """Say which slot's index lies at a key below ``index/``.

    :param rest: the key behind :func:`sealift.exports.names.room_prefix`.
    :returns: the period, or None where nothing of ours would be written there.
    """
    match = _INDEX_FILE.fullmatch(rest)
    return None if match is None else match[1]


class IndexModel(BaseModel):
    """Base of the index's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IndexedPlan(IndexModel):
    """A plan whose outcomes stand in the index."""

    plan_id: str = Field(description="The plan")
    etag: str = Field(description="ETag of the plan")
    report_etag: str = Field(description="ETag of its run's report")


class IndexColumns(IndexModel):
    """The rows, a list for each field; all lists are equally long."""

    number: list[int] = Field(description="Id of the virtual server; of a bare metal server with a minus")
    hostname: list[str] = Field(description="Its host name")
    domain: list[str] = Field(description="Its domain")
    datacenter: list[str] = Field(description="Its data center")
    state: list[State] = Field(description="What became of it in this slot")
    etag: list[str] = Field(description="The manifest's ETag; empty where there is none")
    read: list[bool] = Field(description="Whether the manifest was read for this index")
    level: list[str] = Field(description="How deep the export was proven, later proofs included")
    proofs: list[int] = Field(description="How many later proofs were read for the level")
    done_at: list[float] = Field(description="When the manifest was written, in seconds since 1970; 0: never")
    bytes: list[int] = Field(description="Bytes of all images")
    disks: list[int] = Field(description="Disks proven")
    capacity: list[int] = Field(description="Capacity of the captured disks in bytes, as planned")
    capture_seconds: list[float] = Field(description="How long the capture took; 0: not measured")
    export_seconds: list[float] = Field(description="How long the export took; 0: not measured")
    plan_id: list[str] = Field(description="The last plan that spoke of the server in this slot")
    wave: list[int] = Field(description="Number of the wave in that plan; -1: none")
    rule: list[str] = Field(description="The rule that refused it")
    task: list[str] = Field(description="The task that failed")
    failed_at: list[float] = Field(description="When a report first said that it failed; 0: never")
    tags: list[int] = Field(description="Its tags: a place in tag_sets")
    words: list[int] = Field(description="Why it was refused or failed: a place in sentences")

    @model_validator(mode="after")
    def _equally_long(self) -> IndexColumns:
        lengths = {len(getattr(self, name)) for name in type(self).model_fields}
        if len(lengths) > 1:
            raise ValueError("the columns are not equally long")
        return self


class PeriodIndex(IndexModel):
    """All servers of a slot."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    period: str = Field(description="The scheduled slot or manual run")
    written_at: AwareDatetime = Field(description="When the index was written")
    plans: list[IndexedPlan] = Field(description="The plans whose outcomes are taken into account")
    tag_sets: list[list[str]] = Field(description="The sets of tags that servers have")
    sentences: list[str] = Field(description="The sentences that rows point to; the first one is empty")
    columns: IndexColumns = Field(description="The rows")

    @model_validator(mode="after")
    def _points_to_what_is_there(self) -> PeriodIndex:
        for places, things in ((self.columns.tags, self.tag_sets), (self.columns.words, self.sentences)):
            if places and not (min(places) >= 0 and max(places) < len(things)):
                raise ValueError("a row points to a set of tags or a sentence that is not there")
        return self

    def rows(self) -> Rows:
        """Give the rows.

        :returns: by number.
        """
        columns = self.columns
        tag_sets = [tuple(map(sys.intern, one)) for one in self.tag_sets]
        made = map(
            Row,
            columns.number,
            columns.hostname,
            columns.domain,
            map(sys.intern, columns.datacenter),
            (tag_sets[one] for one in columns.tags),
            columns.state,
            columns.etag,
            columns.read,
            map(sys.intern, columns.level),
            columns.proofs,
            columns.done_at,
            columns.bytes,
            columns.disks,
            columns.capacity,
            columns.capture_seconds,
            columns.export_seconds,
            map(sys.intern, columns.plan_id),
            columns.wave,
            map(sys.intern, columns.rule),
            map(sys.intern, columns.task),
            (self.sentences[one] for one in columns.words),
            columns.failed_at,
        )
        return {row.number: row for row in made}


def index_body(*, period: str, rows: Rows, plans: list[IndexedPlan], written_at: str) -> bytes:
    """Write an index as it lies in the bucket.

    :param period: the slot.
    :param rows: its rows.
    :param plans: the plans whose outcomes are in them.
    :param written_at: the present time, as ISO 8601 has it.
    :returns: the bytes: JSON on one line.
    """
    tag_sets: dict[tuple[str, ...], int] = {}
    sentences: dict[str, int] = {"": 0}
    ordered = [rows[number] for number in sorted(rows)]
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in ordered] for name in _COLUMNS}
    columns["tags"] = [tag_sets.setdefault(row.tags, len(tag_sets)) for row in ordered]
    columns["words"] = [sentences.setdefault(row.words, len(sentences)) for row in ordered]
    return compact_json(
        {
            "schema_version": SCHEMA_VERSION,
            "period": period,
            "written_at": written_at,
            "plans": [one.model_dump() for one in plans],
            "tag_sets": [list(one) for one in tag_sets],
            "sentences": list(sentences),
            "columns": columns,
        }
    )


def parse_index(body: bytes) -> PeriodIndex | None:
    """Read an index's bytes.

    :param body: the object's bytes.
    :returns: the index, or None where this version cannot read it: everything in it can be found elsewhere.
    """
    try:
        return PeriodIndex.model_validate_json(body)
    except ValidationError:
        return None
