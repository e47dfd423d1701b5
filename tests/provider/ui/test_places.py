"""Which places may be asked about, and what becomes of them when a connection changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sealift.provider.errors import ConnectionProblem
from sealift.provider.ui.places import Place, Places, places_of


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, **changes: Any) -> None:
    fields = {"conn_type": "ibm_cos", "password": "key", "extra": {"bucket": "images", "region": "eu-de"}, **changes}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def test_the_first_place_is_where_plans_export_to_by_themselves() -> None:
    assert places_of({}, "") == {"default": Place(name="default")}
    params = {"bucket": "b", "region": "us-east", "prefix": "a/b/", "cos_conn_id": "cos", "tags": ["x"]}
    more = (
        '[{"name": "monthly", "prefix": "monthly"}, {"name": "old", "cos_conn_id": "o", "bucket": "c", "prefix": ""}]'
    )
    assert places_of(params, more) == {
        "default": Place(name="default", cos_conn_id="cos", bucket="b", region="us-east", prefix="a/b"),
        "monthly": Place(name="monthly", cos_conn_id="cos", bucket="b", region="us-east", prefix="monthly"),
        "old": Place(name="old", cos_conn_id="o", bucket="c", region="us-east", prefix=""),
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[", "is not JSON"),
        ("{}", "must be a JSON list"),
        ("[1]", "knows no something"),
        ('[{"bucket": "b"}]', "a name of its own"),
        ('[{"name": "default"}]', "a name of its own"),
        ('[{"name": "x", "password": "s3cret"}]', "knows no password"),
    ],
)
def test_a_list_of_places_that_is_none_is_refused(more: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        places_of({}, more)


def test_books_are_kept_until_the_connection_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "cos")
    clock = [0.0]
    places = Places(places_of({"cos_conn_id": "cos"}, ""), monotonic=lambda: clock[0])
    first = places.open("default")
    assert (first.bucket, first.region, first.books.prefix) == ("images", "eu-de", "sealift")
    connect(monkeypatch, "cos", password="another key")
    assert places.open("default") is first, "a connection is trusted for a while"
    clock[0] = 121.0
    second = places.open("default")
    assert second.books is not first.books
    clock[0] = 242.0
    assert places.open("default") is second


def test_what_is_wrong_with_a_place_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(places_of({"cos_conn_id": "nowhere"}, ""))
    with pytest.raises(ConnectionProblem, match="There is no connection 'nowhere'"):
        places.open("default")
    connect(monkeypatch, "cos", extra={})
    with pytest.raises(ConnectionProblem, match="No bucket is named"):
        Places(places_of({"cos_conn_id": "cos"}, "")).open("default")
    with pytest.raises(KeyError):
        Places(places_of({}, "")).open("elsewhere")
    with pytest.raises(ConnectionProblem, match="not JSON"):
        Places({}, problem="ui_places is not JSON").open("default")
