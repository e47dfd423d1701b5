"""A client of the sandbox's IAM and node API, written without Sealift."""

from __future__ import annotations

import json
from typing import Any

import requests

from sealift.sandbox import Sandbox

GRANT = "urn:ibm:params:oauth:grant-type:apikey"


class Client:
    """A client of both services, without Sealift."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.trust_env = False
        box.store.put_bytes(bucket=box.bucket, key="a/disk.vhd", data=b"0123456789")

    def token(self, key: str | None = None, **form: str) -> str:
        """A delegated token for ATS."""
        form = {
            "grant_type": GRANT,
            "apikey": key or self.box.cos_api_key,
            "response_type": "delegated_refresh_token",
            "receiver_client_ids": "aspera_ats",
        } | form
        return str(self.session.post(self.box.iam_url, data=form).json()["delegated_refresh_token"])

    def setup(self, **more: Any) -> requests.Response:
        """Ask for a download."""
        token = more.get("token") or self.token()
        credentials = {"type": "token", "token": {"delegated_refresh_token": token}}
        paths = more.get("paths", [{"source": "a/disk.vhd", "destination": "/somewhere/disk.vhd"}])
        request = {"paths": paths, "tags": {"aspera": {"node": {"storage_credentials": credentials}}}}
        return self.session.post(
            f"{self.box.ats.url}{more.get('path', '/files/download_setup')}",
            auth=more.get("auth", self.box.ats.access_key(self.box.bucket)),
            headers=more.get("headers", {"X-Aspera-Storage-Credentials": json.dumps(credentials)}),
            json=more.get("body", {"transfer_requests": [{"transfer_request": request}]}),
        )

    def spec(self, **more: Any) -> dict[str, Any]:
        reply = self.setup(**more)
        assert reply.status_code == 200, reply.text
        (one,) = reply.json()["transfer_specs"]
        return dict(one["transfer_spec"])

    def bytes(self, token: str, span: str, what: str = "bytes") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", "Range": span}
        return self.session.get(f"{self.box.ats.url}/sandbox-ats/{what}", headers=headers)
