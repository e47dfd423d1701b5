"""The transfer spec: read leniently, never believed where it could do harm, and never in a text."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealift.transfer.aspera.errors import AsperaError
from sealift.transfer.aspera.spec import LARGEST_TAGS, TransferSpec

# The form of a recorded answer of a node (issue 31 of IBM/aspera-connect-sdk-js), with other values.
RECORDED: dict[str, Any] = {
    "paths": [{"source": "test.json"}],
    "source_root": "/test/",
    "destination_root": "",
    "token": "PLANTED-transfer-token",
    "direction": "receive",
    "cipher": "aes-128",
    "tags": None,
    "rate_policy_allowed": "fixed",
    "rate_policy": "fair",
    "target_rate_kbps": 10000,
    "min_rate_kbps": 0,
    "remote_host": "192.0.2.240",
    "remote_user": "test",
    "sshfp": None,
    "ssh_port": 33001,
    "fasp_port": 33001,
    "http_fallback": True,
    "a_field_that_nobody_knows": {"deep": [1, 2]},
}
CREDENTIALS = {"type": "token", "token": {"delegated_refresh_token": "PLANTED-delegated"}}
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
NAMES = st.sampled_from(sorted(RECORDED)) | st.text(max_size=8)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20
)


def decoded(tags64: str) -> Any:
    return json.loads(base64.b64decode(tags64))


def test_a_recorded_answer_is_read() -> None:
    spec = TransferSpec.read(RECORDED)
    assert (spec.remote_host, spec.remote_user, spec.ssh_port, spec.fasp_port) == ("192.0.2.240", "test", 33001, 33001)
    assert spec.token is not None
    assert spec.token.get_secret_value() == "PLANTED-transfer-token"
    assert (spec.encryption, spec.resume, spec.by_websocket, spec.sshfp) == ("aes-128", 2, False, None)
    assert [one.source for one in spec.paths] == ["test.json"]


def test_no_text_made_of_a_spec_has_a_secret() -> None:
    more = {"remote_password": "PLANTED-password", "cookie": "PLANTED-cookie"}
    spec = TransferSpec.read(RECORDED | more | {"tags": {"aspera": {"node": {"storage_credentials": CREDENTIALS}}}})
    assert "PLANTED" not in f"{spec!r} {spec}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("remote_host", "-oProxyCommand=x"),
        ("remote_host", "host\n--mode=send"),
        ("remote_host", ""),
        ("remote_host", None),
        ("remote_user", "-i"),
        ("remote_user", "a b"),
        ("ssh_port", 0),
        ("ssh_port", 65536),
        ("ssh_port", "many"),
        ("sshfp", "--help"),
        ("source_root", "a\nb"),
        ("paths", [{"source": "a\nb"}]),
        ("paths", [{}]),
        ("target_rate_kbps", -1),
        ("tags", "text"),
        ("token", {"a": "PLANTED"}),
    ],
)
def test_what_could_become_another_argument_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(AsperaError, match=field) as caught:
        TransferSpec.read(RECORDED | {field: value})
    assert "PLANTED" not in str(caught.value)
    assert caught.value.__context__ is None, "pydantic's own error holds what came"


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
def test_any_document_is_a_spec_or_refused_in_words(document: Any) -> None:
    try:
        spec = TransferSpec.read(RECORDED | document if isinstance(document, dict) else document)
    except AsperaError:
        return
    assert spec.resume in (1, 2, 3)


@pytest.mark.parametrize(
    ("named", "demanded"),
    [
        (None, "aes-128"),
        ("", "aes-128"),
        ("none", "aes-128"),
        ("aes-128", "aes-128"),
        ("aes128", "aes-128"),
        ("AES-256-GCM", "aes-256-gcm"),
        ("aes-192-cfb", "aes-192-cfb"),
    ],
)
def test_bytes_are_encrypted_whatever_the_spec_says(named: str | None, demanded: str) -> None:
    assert TransferSpec.read(RECORDED | {"cipher": named}).encryption == demanded


def test_a_cipher_that_nobody_knows_is_refused() -> None:
    with pytest.raises(AsperaError, match="cipher"):
        assert TransferSpec.read(RECORDED | {"cipher": "rot13"}).encryption


@pytest.mark.parametrize(
    ("policy", "number"),
    [("none", 2), ("attrs", 1), ("attributes", 1), ("sparse_csum", 2), ("full_csum", 3), ("x", 2), (None, 2)],
)
def test_a_transfer_always_resumes(policy: str | None, number: int) -> None:
    assert TransferSpec.read(RECORDED | {"resume_policy": policy}).resume == number


def test_websockets_need_a_port_of_their_own() -> None:
    assert not TransferSpec.read(RECORDED | {"wss_enabled": True}).by_websocket
    assert TransferSpec.read(RECORDED | {"wss_enabled": True, "wss_port": 443}).by_websocket


def test_tags_carry_the_transfer_s_id_and_no_credentials() -> None:
    tags = {"aspera": {"node": {"storage_credentials": CREDENTIALS, "access_key": "a"}, "x": 1}, "mine": "y"}
    spec = TransferSpec.read(RECORDED | {"tags": tags})
    made = decoded(spec.tags64(transfer_id="t-1", with_credentials=False, secrets=["PLANTED-delegated"]))
    assert made == {"aspera": {"node": {"access_key": "a"}, "x": 1, "xfer_id": "t-1"}, "mine": "y"}
    assert spec.tags == tags, "the spec itself stays as it is"
    with_them = spec.tags64(transfer_id="t-1", with_credentials=True, secrets=["PLANTED-delegated"])
    assert decoded(with_them)["aspera"]["node"]["storage_credentials"] == CREDENTIALS
    without = TransferSpec.read(RECORDED).tags64(transfer_id="t-1", with_credentials=False, secrets=[])
    assert decoded(without) == {"aspera": {"xfer_id": "t-1"}}


def test_a_secret_anywhere_else_in_the_tags_is_refused() -> None:
    spec = TransferSpec.read(RECORDED | {"tags": {"aspera": {"elsewhere": ["PLANTED-delegated"]}}})
    with pytest.raises(AsperaError, match="arguments") as caught:
        spec.tags64(transfer_id="t-1", with_credentials=False, secrets=["PLANTED-delegated"])
    assert "PLANTED" not in str(caught.value)


def test_tags_that_no_argument_can_hold_are_refused() -> None:
    spec = TransferSpec.read(RECORDED | {"tags": {"much": "x" * LARGEST_TAGS}})
    with pytest.raises(AsperaError, match="no argument"):
        spec.tags64(transfer_id="t-1", with_credentials=False, secrets=[])
