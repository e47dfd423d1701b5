"""The sensor that waits for an export to the bucket."""

from __future__ import annotations

from typing import Any

from sealift.provider.sensors.base import AccountSensor


class ImageExportSensor(AccountSensor):
    """Waits until an export is over: no transaction left, and every expected object there with a size.

    Tells a slow export from a stuck one and from a failed one, and says which in words.

    :param started: what :class:`~sealift.provider.sensors.export_when_ready.ExportWhenReadySensor` returned, as JSON,
        templated.
    """

    step_name = "wait_for_export"
    trigger_path = "sealift.provider.triggers.waits.ExportWaitTrigger"

    def __init__(self, *, started: str, **kwargs: Any) -> None:
        super().__init__(terms=started, **kwargs)
