"""Connections on the command line mean what they mean to Airflow, and no message shows what is secret in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.cli.connections import Connections, ReadConnection, read_file
from sealift.connections import ConnectionProblem

SECRET = "PLANTED-secret"

# So short that Airflow does not take them for secrets to hide in the logs of all other tests.
words = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=4)
hosts = st.one_of(
    st.just(""),
    st.sampled_from(["api.example.org", "127.0.0.1", "http://127.0.0.1", "https://s3.example.org", "proxy/rest/v3.1"]),
)
connections = st.fixed_dictionaries(
    {
        "conn_type": st.sampled_from(["ibm_classic", "ibm_cos"]),
        "host": hosts,
        "login": words,
        "password": words,
        "port": st.one_of(st.none(), st.integers(1, 65535)),
        "extra": st.dictionaries(st.sampled_from(["region", "verify", "timeout"]), st.one_of(words, st.integers(1, 9))),
    }
)


def fields(connection: Any) -> dict[str, Any]:
    """What Sealift reads of a connection; an empty field is none."""
    names = ("conn_type", "host", "port", "login", "password")
    return {name: getattr(connection, name) or None for name in names} | {"extra": connection.extra_dejson}


@pytest.mark.airflow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(drawn=connections)
def test_both_forms_are_read_as_airflow_reads_them(drawn: dict[str, Any]) -> None:
    from airflow.sdk import Connection

    extra = json.dumps(drawn["extra"]) if drawn["extra"] else None
    written = Connection(conn_id="c", **{**drawn, "extra": extra})
    uri = written.get_uri()
    assert fields(ReadConnection.of_text(uri, where="it")) == fields(Connection.from_uri(uri, conn_id="c"))
    text = written.as_json()
    read = ReadConnection.of_text(text, where="it")
    assert fields(read) == fields(Connection.from_json(text, conn_id="c")) == fields(written)


def test_a_uri_by_hand() -> None:
    read = ReadConnection.of_text("ibm-cos://:key%2F1@?region=eu-de&bucket=images", where="it")
    assert (read.conn_type, read.host, read.login, read.password) == ("ibm_cos", None, None, "key/1")
    assert read.extra_dejson == {"region": "eu-de", "bucket": "images"}
    read = ReadConnection.of_text("ibm-classic://http://me:key@127.0.0.1:7480/", where="it")
    assert (read.host, read.port, read.login, read.password) == ("http://127.0.0.1", 7480, "me", "key")


@pytest.mark.parametrize(
    "text",
    [
        f"{{not json {SECRET}",
        f'["{SECRET}"]',
        SECRET,
        f"ibm-cos://a:{SECRET}@http://host",
        f"ibm-cos://:{SECRET}@host:port",
        json.dumps({"conn_type": "ibm_cos", "password": SECRET, "extra": f"{SECRET}"}),
        json.dumps({"conn_type": "ibm_cos", "password": SECRET, "extra": [SECRET]}),
        json.dumps({"conn_type": "ibm_cos", "password": SECRET, "port": SECRET}),
        json.dumps({"conn_type": "other", "password": SECRET}),
        f"other://:{SECRET}@host",
    ],
)
def test_what_cannot_be_read_is_said_without_what_is_secret(text: str) -> None:
    given = Connections(environment={"AIRFLOW_CONN_IBM_COS_DEFAULT": text})
    with pytest.raises(ConnectionProblem) as raised:
        given.find("ibm_cos_default", "ibm_cos")
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    assert SECRET not in repr(ReadConnection.of_fields({"conn_type": "x", "password": SECRET}, where="it"))


FILE = {
    "ibm_cos_default": {
        "conn_type": "ibm_cos",
        "description": "",
        "login": None,
        "password": SECRET,
        "host": None,
        "port": None,
        "schema": None,
        "extra": '{"region": "eu-de"}',
    },
    "other": {"conn_type": "http", "password": SECRET},
}


@pytest.mark.parametrize("form", ["json", "lines of JSON", "lines of URIs"])
def test_a_file_as_airflow_exports_it(tmp_path: Path, form: str) -> None:
    path = tmp_path / "connections"
    if form == "json":
        path.write_text(json.dumps(FILE, indent=2))
    elif form == "lines of JSON":
        path.write_text("# exported\n\n" + "".join(f"{name}={json.dumps(one)}\n" for name, one in FILE.items()))
    else:
        path.write_text(f"ibm_cos_default=ibm-cos://:{SECRET}@/?region=eu-de\nother=http://:{SECRET}@\n")
    read = read_file(path).find("ibm_cos_default", "ibm_cos")
    assert (read.password, read.extra_dejson, read.host) == (SECRET, {"region": "eu-de"}, None)
    with pytest.raises(ConnectionProblem, match=r"no connection 'mine' in .*It holds: ibm_cos_default, other"):
        read_file(path).find("mine", "ibm_cos")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "{", f"{SECRET}\n", f"={SECRET}", "a=\n", "- a: b\n"])
def test_a_file_that_holds_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "connections.json"
    path.write_text(text)
    with pytest.raises(ConnectionProblem, match="holds no connections") as raised:
        read_file(path)
    assert SECRET not in str(raised.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConnectionProblem, match="No such file"):
        read_file(tmp_path / "nowhere")
    with pytest.raises(ConnectionProblem, match="Is a directory"):
        read_file(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConnectionProblem, match="no text"):
        read_file(tmp_path / "binary")
