"""Which template a capture made, for later tries of the same plan.

A template is found by its name. What is kept here answers one question more: whether a name that does not show was
there before. Then it was deleted, or does not show for a while, and nothing is captured anew. It is kept in the bucket,
since a capture may end in a worker or in a triggerer, and Airflow lets only workers keep something beyond a try.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from sealift.exports import names
from sealift.exports.jsontext import canonical_json
from sealift.exports.plan import PlanItem
from sealift.exports.ports import CosApi
from sealift.exports.settings import PlanSettings


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)

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
        :raises sealift.cos.errors.CosError: the object store did not answer.
        """
        body = self._cos.read(self._bucket, self._key)
        if body is None:
            return None
        try:
            return _Kept.model_validate_json(body).template_id
        except ValidationError:
            return None

    def keep(self, template_id: int) -> None:
        """Keep the template's id.

        :param template_id: what the account named the capture's template.
        :raises sealift.cos.errors.CosError: the object store did not answer.
        """
        self._cos.put(self._bucket, self._key, canonical_json(_Kept(template_id=template_id)))

    def forget(self) -> None:
        """Keep nothing any more: the manifest names the template.

        :raises sealift.cos.errors.CosError: the object store did not answer; what stays does no harm.
        """
        self._cos.delete(self._bucket, self._key)
