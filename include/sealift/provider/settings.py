"""The ``[sealift]`` section of Airflow's configuration, typed. DAG files read it while they are parsed: no I/O here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from airflow.configuration import conf

SECTION = "sealift"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a deployment sets once for all runs; get_provider_info.py describes each field."""

    schedule: str | None
    examine_schedule: str | None
    retention_schedule: str | None
    retention_rules: Any
    drill_schedule: str | None
    drill_folder: str
    drill_pool: str
    drills: int
    deliver_to: str
    deliver_aws_conn_id: str
    deliveries: int
    ascp: str
    default_params: dict[str, Any]
    approve_tags: tuple[str, ...]
    owner: str
    poll_interval: float
    max_offline: int
    max_offline_per_datacenter: int
    max_exports: int
    max_exports_per_datacenter: int
    active_waves: int
    start_in_triggerer: bool
    retries: int
    retry_delay: float
    slots_bucket: str
    slots_region: str
    slots_prefix: str
    ui_places: str
    prices: str


def settings() -> Settings:
    """Read the section.

    :returns: the settings in force.
    :raises ValueError: if ``default_params`` is not a JSON object, or a number is out of range.
    """
    text = conf.get(SECTION, "default_params", fallback="") or "{}"
    try:
        params = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"[{SECTION}] default_params is not JSON: {error}") from error
    if not isinstance(params, dict):
        raise ValueError(f'[{SECTION}] default_params must be a JSON object such as {{"all": true}}')  # noqa: TRY004
    made = Settings(
        schedule=conf.get(SECTION, "schedule", fallback="") or None,
        examine_schedule=conf.get(SECTION, "examine_schedule", fallback="") or None,
        retention_schedule=conf.get(SECTION, "retention_schedule", fallback="") or None,
        retention_rules=_json("retention_rules"),
        drill_schedule=conf.get(SECTION, "drill_schedule", fallback="") or None,
        drill_folder=(conf.get(SECTION, "drill_folder", fallback="") or "").strip(),
        drill_pool=(conf.get(SECTION, "drill_pool", fallback="") or "").strip() or "default_pool",
        drills=conf.getint(SECTION, "drills", fallback=1),
        deliver_to=(conf.get(SECTION, "deliver_to", fallback="") or "").strip(),
        deliver_aws_conn_id=conf.get(SECTION, "deliver_aws_conn_id", fallback="aws_default"),
        deliveries=conf.getint(SECTION, "deliveries", fallback=2),
        ascp=(conf.get(SECTION, "ascp", fallback="") or "").strip(),
        default_params=params,
        approve_tags=tuple(
            tag.strip() for tag in conf.get(SECTION, "approve_tags", fallback="production").split(",") if tag.strip()
        ),
        owner=conf.get(SECTION, "owner", fallback="data-platform"),
        poll_interval=conf.getfloat(SECTION, "poll_interval", fallback=15.0),
        max_offline=conf.getint(SECTION, "max_offline", fallback=20),
        max_offline_per_datacenter=conf.getint(SECTION, "max_offline_per_datacenter", fallback=0),
        max_exports=conf.getint(SECTION, "max_exports", fallback=40),
        max_exports_per_datacenter=conf.getint(SECTION, "max_exports_per_datacenter", fallback=0),
        active_waves=conf.getint(SECTION, "active_waves", fallback=1),
        start_in_triggerer=conf.getboolean(SECTION, "start_in_triggerer", fallback=True),
        retries=conf.getint(SECTION, "retries", fallback=3),
        retry_delay=conf.getfloat(SECTION, "retry_delay", fallback=60.0),
        slots_bucket=(conf.get(SECTION, "slots_bucket", fallback="") or "").strip(),
        slots_region=(conf.get(SECTION, "slots_region", fallback="") or "").strip(),
        slots_prefix=(conf.get(SECTION, "slots_prefix", fallback="") or "").strip("/ "),
        ui_places=(conf.get(SECTION, "ui_places", fallback="") or "").strip(),
        prices=(conf.get(SECTION, "prices", fallback="") or "").strip(),
    )
    # A poll without a pause would spin, and tasks of which none may run would wait for ever without a word.
    least = {
        "poll_interval": 0.1,
        "max_offline": 1,
        "max_offline_per_datacenter": 0,
        "max_exports": 0,
        "max_exports_per_datacenter": 0,
        "active_waves": 1,
        "deliveries": 1,
        "drills": 1,
        "retries": 0,
        "retry_delay": 0,
    }
    for name, smallest in least.items():
        if getattr(made, name) < smallest:
            raise ValueError(f"[{SECTION}] {name} is {getattr(made, name)}: it must be at least {smallest}")
    return made


def _json(name: str) -> Any:
    text = (conf.get(SECTION, name, fallback="") or "").strip()
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError as error:
        raise ValueError(f"[{SECTION}] {name} is not JSON: {error}") from error
