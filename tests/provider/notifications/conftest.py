"""A mail server and a webhook's receiver, and Airflow connections to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.provider.notifications.planted import AUTHORIZATION, PASSWORD
from tools.receivers import Mail, Post, Receiver, mail_sink, webhook_sink


@pytest.fixture
def mails() -> Iterator[Receiver[Mail]]:
    with mail_sink() as sink:
        yield sink


@pytest.fixture
def posts() -> Iterator[Receiver[Post]]:
    with webhook_sink() as sink:
        yield sink


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have Airflow know a connection."""

    def add(conn_id: str, **fields: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return add


@pytest.fixture
def told_everywhere(
    monkeypatch: pytest.MonkeyPatch, connect: Callable[..., None], mails: Receiver[Mail], posts: Receiver[Post]
) -> None:
    """Both ways, as a deployment sets them."""
    extra = {"from_email": "sealift@example.com", "disable_ssl": True, "disable_tls": True, "retry_limit": 0}
    connect(
        "mail",
        conn_type="smtp",
        host="127.0.0.1",
        port=mails.port,
        login="sealift",
        password=PASSWORD,
        extra=extra,
    )
    connect(
        "hook", conn_type="http", host=f"http://127.0.0.1:{posts.port}/chat", extra={"Authorization": AUTHORIZATION}
    )
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_SMTP_CONN_ID", "mail")
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_TO", "one@example.com, two@example.com")
    monkeypatch.setenv("AIRFLOW__SEALIFT__NOTIFY_HTTP_CONN_ID", "hook")
