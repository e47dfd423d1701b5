"""The sensor that waits for an image template."""

from __future__ import annotations

from typing import Any

from sealift.provider.sensors.base import AccountSensor


class ImageTemplateSensor(AccountSensor):
    """Waits until a template is whole: children, sizes, and no transaction, seen on two polls in a row.

    :param captured: what :class:`~sealift.provider.operators.capture.CaptureImageOperator` returned, as
        JSON, templated.
    """

    step_name = "wait_for_template"
    trigger_path = "sealift.provider.triggers.waits.TemplateWaitTrigger"

    def __init__(self, *, captured: str, **kwargs: Any) -> None:
        super().__init__(terms=captured, **kwargs)
