"""The transfer spec: what the node API says that ascp needs for one transfer. Input from outside, with secrets in it.

Field names and meanings are those of IBM/aspera-cli's ``transfer/spec.schema.yaml``. What a spec says of local paths is
never read: where a file is written is our own business.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from sealift.transfer.aspera.errors import AsperaError

SSH_PORT: Final = 33001
"""IBM Cloud docs, "Using Aspera high-speed transfer": TCP and UDP 33001 unless the server says otherwise."""

CIPHER: Final = "aes-128"
"""What is demanded where the spec demands nothing: a disk image never goes over the line in plain."""

CIPHERS: Final = frozenset(f"aes-{bits}{mode}" for bits in (128, 192, 256) for mode in ("", "-cfb", "-gcm"))
LARGEST_TAGS: Final = 64 * 1024
"""Bytes of JSON; Linux takes no argument beyond 128 KiB."""

POLICIES: Final = frozenset({"fixed", "high", "fair", "low"})
RESUME: Final = {
    "attrs": 1,
    "attributes": 1,
    "sparse_csum": 2,
    "sparse_checksum": 2,
    "full_csum": 3,
    "full_checksum": 3,
}
"""How ascp (option ``-k``) finds out that a file that is there in part is one of the same object."""


def _or_none(value: Any) -> Any:
    """Take an empty text for none: the node API has both."""
    return None if value == "" else value


# No text here may become an option of its own, or a second line.
_Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]{0,252}$")]
_User = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}$")]
_Hex = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f:]{16,256}$")]
_Path = Annotated[str, StringConstraints(pattern=r"^[^\x00\r\n]{1,4096}$")]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Rate = Annotated[int, Field(ge=0, le=10**12)]


class SpecPath(BaseModel):
    """One object of a transfer.

    :param source: its path on the transfer server.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: _Path


class TransferSpec(BaseModel):
    """What ascp needs. Fields that are not named here are passed over; secrets are in no text made of this.

    :param remote_host: the transfer server.
    :param remote_user: the user there; ``xfer`` is the node API's standard.
    :param ssh_port: its TCP port.
    :param fasp_port: its UDP port.
    :param wss_enabled: it takes WebSockets over TLS in the place of SSH.
    :param wss_port: the TCP port for that.
    :param token: what the transfer is allowed by.
    :param remote_password: for SSH, where there is one.
    :param cookie: what the server wants to recognise the transfer by.
    :param cipher: how bytes are encrypted on the way, as ``aes-128``.
    :param rate_policy: how the line is shared.
    :param target_rate_kbps: the rate to aim at, in kilobits a second.
    :param min_rate_kbps: the least rate.
    :param resume_policy: how a part of a file is recognised.
    :param sshfp: the fingerprint of the server's SSH key.
    :param source_root: what all sources begin with.
    :param paths: the objects.
    :param tags: what the server wants to hear again; may hold the storage's credentials.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    remote_host: _Host
    remote_user: _User = "xfer"
    ssh_port: _Port = SSH_PORT
    fasp_port: _Port = SSH_PORT
    wss_enabled: bool = False
    wss_port: _Port | None = None
    token: SecretStr | None = None
    remote_password: SecretStr | None = None
    cookie: SecretStr | None = None
    cipher: Annotated[str | None, BeforeValidator(_or_none)] = None
    rate_policy: Annotated[str | None, BeforeValidator(_or_none)] = None
    target_rate_kbps: _Rate | None = None
    min_rate_kbps: _Rate | None = None
    resume_policy: Annotated[str | None, BeforeValidator(_or_none)] = None
    sshfp: Annotated[_Hex | None, BeforeValidator(_or_none)] = None
    source_root: Annotated[_Path | None, BeforeValidator(_or_none)] = None
    paths: tuple[SpecPath, ...] = ()
    tags: dict[str, Any] | None = Field(default=None, repr=False)

    @classmethod
    def read(cls, document: object) -> Self:
        """Read a spec.

        :param document: the node API's, decoded.
        :returns: the spec.
        :raises AsperaError: it is none. The message names fields and never what is in them.
        """
        try:
            # What the node API has no value for, it sends as null.
            fields = document if isinstance(document, dict) else {}
            return cls.model_validate({name: one for name, one in fields.items() if one is not None})
        except ValidationError as error:
            wrong = sorted({".".join(str(part) for part in one["loc"]) for one in error.errors(include_input=False)})
        raise AsperaError(
            f"ATS sent a transfer spec that cannot be used; look at its fields {', '.join(wrong)[:200]}. Bring the "
            "bytes over HTTPS."
        )

    @property
    def by_websocket(self) -> bool:
        """Whether ascp is to make its control connection by WebSockets, which needs no SSH key."""
        return self.wss_enabled and self.wss_port is not None

    @property
    def encryption(self) -> str:
        """The cipher that is demanded of ascp, as ``aes-128``.

        :raises AsperaError: the spec names a cipher that is none.
        """
        named = self.cipher if self.cipher not in (None, "none") else CIPHER
        spelled = (named or "").lower()
        for one in CIPHERS:
            if spelled.replace("-", "") == one.replace("-", ""):
                return one
        raise AsperaError("ATS demands a cipher that Sealift does not know. Bring the bytes over HTTPS.")

    @property
    def resume(self) -> int:
        """The number for ascp's option ``-k``: by size, time and sparse checksum where the spec says nothing."""
        return RESUME.get(self.resume_policy or "", 2)

    def tags64(self, *, transfer_id: str, with_credentials: bool, secrets: Collection[str]) -> str:
        """Make the tags for ascp, which takes them as an argument only: every process of the machine can read them.

        :param transfer_id: names the transfer over all its sessions.
        :param with_credentials: leave the storage's credentials in.
        :param secrets: what must not be in them; where credentials are left in, they may hold it after all.
        :returns: the spec's tags with the transfer's id, as JSON in base64.
        :raises AsperaError: they are too large for an argument, or hold a secret where none belongs.
        """
        tags = dict(self.tags or {})
        aspera = dict(tags["aspera"]) if isinstance(tags.get("aspera"), dict) else {}
        if isinstance(aspera.get("node"), dict) and not with_credentials:
            aspera["node"] = {name: one for name, one in aspera["node"].items() if name != "storage_credentials"}
        tags["aspera"] = aspera | {"xfer_id": transfer_id}
        try:
            text = json.dumps(tags)
        except RecursionError:
            text = ""
        if not text or len(text) > LARGEST_TAGS:
            raise AsperaError("ATS sent tags that no argument of a program can hold. Bring the bytes over HTTPS.")
        if not with_credentials and any(json.dumps(one)[1:-1] in text for one in secrets):
            raise AsperaError(
                "ATS wants a secret in ascp's arguments, which every process of this machine can read. Bring the bytes "
                "over HTTPS."
            )
        return base64.b64encode(text.encode()).decode("ascii")
