"""What the operators of a wave share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator

from sealift.provider.rendering import QuickTemplates
from sealift.provider.wave_access import WAVE_FIELDS, WaveAccess


class WaveTaskOperator(WaveAccess, QuickTemplates, BaseOperator):
    """A task of a run that carries out a wave.

    :param wave_key: key of the wave in the bucket, templated.
    :param bucket: bucket of the plan, templated.
    :param cos_conn_id: connection of the type ``ibm_cos``, templated.
    :param region: the bucket's region, templated.
    """

    template_fields: Sequence[str] = WAVE_FIELDS
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        wave_key: str = "{{ params.wave.key }}",
        bucket: str = "{{ params.wave.bucket }}",
        cos_conn_id: str = "{{ params.wave.cos_conn_id }}",
        region: str = "{{ params.wave.region }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wave_key = wave_key
        self.bucket = bucket
        self.cos_conn_id = cos_conn_id
        self.region = region
