"""Holds: an export that somebody holds is kept, whatever the rules say, until it is released."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sealift.exports import ledger, names
from sealift.exports.errors import LedgerError, NoSuchExportError
from sealift.exports.jsontext import canonical_json
from sealift.exports.ports import CosApi
from sealift.exports.retention import keys
from sealift.exports.versions import reads_up_to, unreadable

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]


class Hold(BaseModel):
    """Why an export is held, and since when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    export_id: str = Field(description="The export")
    reason: str = Field(description="Why it is held")
    held_at: AwareDatetime = Field(description="Since when")


def hold_export(cos: CosApi, *, bucket: str, prefix: str, export: str, reason: str, now: datetime) -> Hold:
    """Hold an export. Holding it again replaces the reason.

    :param cos: the object store.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param export: the export id.
    :param reason: why.
    :param now: the present time, with a time zone.
    :returns: the hold.
    :raises SettingsError: it is no export id.
    :raises NoSuchExportError: there is no such export, or it is being removed.
    """
    guest_id, period = names.parse_export_id(export)
    made = Hold(export_id=export, reason=reason, held_at=now)
    cos.put(bucket, keys.hold_key(prefix=prefix, guest_id=guest_id, period=period), canonical_json(made))
    # Looked at after the hold was written: a removal that marks later sees the hold, or is seen here.
    if not ledger.is_exported(cos, bucket=bucket, prefix=prefix, guest_id=guest_id, period=period):
        cos.delete(bucket, keys.hold_key(prefix=prefix, guest_id=guest_id, period=period))
        raise NoSuchExportError(f"There is no finished export {export} in {bucket}, or it is being removed.")
    return made


def release_export(cos: CosApi, *, bucket: str, prefix: str, export: str) -> bool:
    """Release an export; the parameters are those of :func:`hold_export`.

    :returns: False where nobody held it.
    :raises SettingsError: it is no export id.
    """
    guest_id, period = names.parse_export_id(export)
    key = keys.hold_key(prefix=prefix, guest_id=guest_id, period=period)
    there = cos.head(bucket, key) is not None
    cos.delete(bucket, key)
    return there


def list_holds(cos: CosApi, *, bucket: str, prefix: str) -> list[Hold]:
    """List all holds; the parameters are those of :func:`hold_export`.

    :returns: the holds, in the order of their keys.
    :raises LedgerError: one of them is not what Sealift writes there; it holds all the same.
    """
    root = keys.holds_prefix(prefix)
    found = []
    for info in cos.list(bucket, root):
        body = cos.read(bucket, info.key) if keys.parse_export_key(info.key, root) else None
        if body is None:
            continue
        try:
            found.append(Hold.model_validate_json(body))
        except ValidationError as error:
            do = "It holds all the same: release it with sealift hold --release."
            raise LedgerError(unreadable(error, where=f"{bucket}/{info.key}", what="a hold", do=do)) from error
    return found
