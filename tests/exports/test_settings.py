"""Settings take what a form sends and say which of them to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sealift.exports.errors import SettingsError
from sealift.exports.settings import PlanSettings


def test_settings_have_defaults_and_take_none_for_not_given(make_settings: Callable[..., PlanSettings]) -> None:
    settings = make_settings(prefix=None, window="", format="VHD", bucket=" Sealift-Exports ", wave_size=None)

    assert settings.prefix == ""
    assert settings.window is None
    assert settings.format == "vhd"
    assert settings.bucket == "sealift-exports"
    assert settings.wave_size is None
    assert PlanSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "vdi"}, "format: the format 'vdi' is not supported; use vhd, vmdk, qcow2, vhd-fixed or raw"),
        ({"wave_size": 0}, "wave_size"),
        ({"wave_size": 101}, "wave_size"),
        ({"max_offline": 0}, "max_offline"),
        ({"window": "late"}, "window: The capture window 'late' cannot be read"),
        ({"bucket": "No Bucket"}, "bucket: 'no bucket' is no bucket name"),
        ({"bucket": "a..b"}, "no bucket name"),
        ({"region": "us-south-standard"}, "region: 'us-south-standard' is no region"),
        ({"prefix": "a//b"}, "prefix"),
        ({"waive": ["bare-metal"]}, "the rule 'bare-metal' cannot be waived; these can: third-party-software"),
        ({"outside_window": "perhaps"}, "outside_window"),
        ({"api_key": "x"}, "api_key"),
        ({"classic_conn_id": ""}, "classic_conn_id"),
        ({"stuck_minutes": 0}, "stuck_minutes"),
    ],
)
def test_each_wrong_setting_is_named(
    make_settings: Callable[..., PlanSettings], change: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        make_settings(**change)
    assert says in caught.value.message


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        PlanSettings.from_params({"bucket": "b", "format": "x"})
    for name in ("classic_conn_id", "cos_conn_id", "region", "bucket", "format"):
        assert f"{name}:" in caught.value.message


def test_waived_rules_are_sorted_and_named_once(make_settings: Callable[..., PlanSettings]) -> None:
    settings = make_settings(waive=["third-party-software", "disk-too-large", "third-party-software"])

    assert settings.waive == ["disk-too-large", "third-party-software"]
