"""Which template a capture made, for later tries of the same plan.

A template is found by its name. What is kept here answers one question more: whether a name that does not show was
there before. Then it was deleted, or does not show for a while, and nothing is captured anew. It is kept in the bucket,
since a capture may end in a worker or in a triggerer, and Airflow lets only workers keep something beyond a try.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sealift.exports import names
from sealift.exports.errors import LedgerError
from sealift.exports.jsontext import canonical_json
from sealift.exports.plan import PlanItem
from sealift.exports.ports import CosApi
from sealift.exports.settings import PlanSettings
from sealift.exports.versions import newer_words, reads_up_to

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]


class CaptureNote(BaseModel):
    """What is kept of a capture.

    :param template_id: the template.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: SchemaVersion = SCHEMA_VERSION
    template_id: int


class CaptureMemory:
    """What one export's captures leave for later tries.

    :param cos: the object store.
    :param item: the server, as the plan has it.
    :param settings: the plan's settings: bucket, prefix.
    :param plan_id: the plan; another one knows nothing of this one's captures.
    """

    def __init__(self, *, cos: CosApi, item: PlanItem, settings: PlanSettings, plan_id: str) -> None:
        self._cos = cos
        self._bucket = settings.bucket
        self._key = names.captured_key(prefix=settings.prefix, plan_id=plan_id, export=item.export_id)

    def recall(self) -> int | None:
        """Give the template's id.

        :returns: None where no capture has ended yet. What cannot be read counts as that: the name still holds.
        :raises LedgerError: a newer Sealift wrote it.
        :raises sealift.cos.errors.CosError: the object store did not answer.
        """
        body = self._cos.read(self._bucket, self._key)
        if body is None:
            return None
        try:
            return CaptureNote.model_validate_json(body).template_id
        except ValidationError as error:
            if (newer := newer_words(error)) is not None:
                raise LedgerError(f"{self._bucket}/{self._key} {newer}") from error
            return None

    def keep(self, template_id: int) -> None:
        """Keep the template's id.

        :param template_id: what the account named the capture's template.
        :raises sealift.cos.errors.CosError: the object store did not answer.
        """
        self._cos.put(self._bucket, self._key, canonical_json(CaptureNote(template_id=template_id)))

    def forget(self) -> None:
        """Keep nothing any more: the manifest names the template.

        :raises sealift.cos.errors.CosError: the object store did not answer; what stays does no harm.
        """
        self._cos.delete(self._bucket, self._key)
