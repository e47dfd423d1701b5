"""The Aspera Transfer Service of the sandbox: who gets a transfer spec, who does not, what the history tells of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.aspera.ats_client import GRANT, Client

RETENTION = "<ProtectionConfiguration><Status>Retention</Status></ProtectionConfiguration>"


@pytest.fixture
def client(make_sandbox: Any) -> Client:
    return Client(make_sandbox(servers=1))


def test_a_transfer_spec_has_what_ascp_needs(client: Client) -> None:
    spec = client.spec()
    assert spec["paths"] == [{"source": "a/disk.vhd", "destination": "/somewhere/disk.vhd"}]
    assert (spec["remote_user"], spec["cipher"], spec["direction"]) == ("xfer", "aes-128", "receive")
    assert f"http://{spec['remote_host']}:{spec['ssh_port']}" == client.box.api_url == client.box.ats.url
    assert (spec["wss_enabled"], spec["wss_port"]) == (True, spec["ssh_port"])
    assert spec["tags"]["aspera"]["node"]["storage_credentials"]["type"] == "token"
    client.box.switches.set("ats_websockets", False)
    client.box.switches.set("ats_cipher", "aes-256")
    spec = client.spec()
    assert spec["cipher"] == "aes-256"
    assert "wss_enabled" not in spec


def test_the_token_of_a_spec_opens_one_object_by_pieces(client: Client) -> None:
    token = client.spec()["token"]
    assert client.bytes(token, "bytes=2-5").content == b"2345"
    assert client.bytes(token, "bytes=2-5").status_code == 206
    for span in ("bytes=5-10", "bytes=6-5", "bytes=-1", "", "bytes=0-99999999"):
        assert client.bytes(token, span).status_code == 416, span
    assert client.bytes("another", "bytes=0-1").status_code == 401
    assert client.bytes(token, "", what="nothing").status_code == 404
    assert client.box.ats.bytes_served == 8
    client.box.store.delete(client.box.bucket, "a/disk.vhd")
    assert client.bytes(token, "bytes=2-5").status_code == 404


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"auth": ("ats-sealift-exports", "wrong")}, 401),
        ({"auth": ("ats-nowhere", "wrong")}, 401),
        ({"auth": ("", "")}, 401),
        ({"headers": {}}, 401),
        ({"headers": {"X-Aspera-Storage-Credentials": "no JSON"}}, 401),
        ({"token": "no.token.ofours"}, 401),
        ({"paths": [{"source": "a/nothing.vhd"}]}, 404),
        ({"paths": []}, 400),
        ({"paths": [{"source": "a"}, {"source": "b"}]}, 400),
        ({"body": {"transfer_requests": []}}, 400),
        ({"body": [1]}, 400),
        ({"path": "/files/upload_setup"}, 404),
    ],
)
def test_who_gets_no_spec(client: Client, how: dict[str, Any], status: int) -> None:
    reply = client.setup(**how)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert error["code"] == status
    assert error["reason"]
    assert error["user_message"]


def test_a_token_must_be_made_for_ats_by_who_may_read(client: Client) -> None:
    box = client.box
    access = client.session.post(box.iam_url, data={"grant_type": GRANT, "apikey": box.cos_api_key}).json()
    for token in (access["access_token"], access["refresh_token"], client.token(receiver_client_ids="other")):
        assert client.setup(token=token).status_code == 401
    box.identity.add_api_key(key="writes-only", name="writes-only", roles={"*": "ObjectWriter"})
    assert client.setup(token=client.token("writes-only")).status_code == 403
    assert client.setup(token=client.token(box.read_only_cos_api_key)).status_code == 200


def test_iam_wants_to_know_who_a_delegated_token_is_for(client: Client) -> None:
    form = {"grant_type": GRANT, "apikey": client.box.cos_api_key, "response_type": "delegated_refresh_token"}
    reply = client.session.post(client.box.iam_url, data=form)
    assert (reply.status_code, reply.json()["errorCode"]) == (400, "BXNIM0109E")


def test_access_keys_differ_by_bucket_and_outlive_a_restart(client: Client) -> None:
    box = client.box
    box.store.create_bucket("another-one")
    keys = {box.ats.access_key("another-one"), box.ats.access_key(box.bucket)}
    assert len({secret for _, secret in keys}) == 2
    assert client.setup(auth=box.ats.access_key("another-one")).status_code == 404, "it opens its own bucket only"
    key = box.ats.access_key(box.bucket)
    box.stop()
    box.start()
    assert box.ats.access_key(box.bucket) == key


@pytest.mark.parametrize("who", ["store", "node"])
def test_an_immutable_bucket_is_refused_by_the_one_or_the_other(client: Client, who: str) -> None:
    box = client.box
    box.switches.set("ats_immutable", who)
    box.store.set_document(box.bucket, "protection", RETENTION)
    form = {"grant_type": GRANT, "apikey": box.cos_api_key}
    access = client.session.post(box.iam_url, data=form).json()["access_token"]
    head = {"Authorization": f"Bearer {access}"}
    asked = client.session.get(f"{box.cos_url}/{box.bucket}?faspConnectionInfo", headers=head)
    assert asked.status_code == (400 if who == "store" else 200)
    assert client.setup().status_code == (200 if who == "store" else 403)


def test_faults_of_ats(client: Client) -> None:
    box = client.box
    box.set_fault("ats_unavailable", times=1)
    assert client.setup().status_code == 503
    box.set_fault("ats_expired_token", times=1)
    assert client.setup().status_code == 401
    box.set_fault("ascp_stalls", times=1)
    box.switches.set("ascp_fault_at", 5)
    session = client.bytes(client.spec()["token"], "", what="session").json()
    assert (session["script"], session["fault_at"], session["size"]) == (["ascp_stalls"], 5, 10)
    assert client.bytes(client.spec()["token"], "", what="session").json()["script"] == []


def test_the_history_tells_of_each_setup_and_of_no_secret(client: Client) -> None:
    token = client.spec()["token"]
    client.setup(token="no.token.ofours")
    client.bytes(token, "bytes=0-5")
    setups = [one for one in client.box.history() if one.get("service") == "ats"]
    assert [(one["method"], one["outcome"], one["status"]) for one in setups] == [
        ("download_setup", "ok", 200),
        ("download_setup", "refused", 401),
    ]
    assert (setups[0]["bucket"], setups[0]["key"]) == (client.box.bucket, "a/disk.vhd")
    text = (client.box.root / "history.jsonl").read_text()
    for secret in (token, client.box.ats.access_key(client.box.bucket)[1], 'delegated_refresh_token":'):
        assert secret not in text
