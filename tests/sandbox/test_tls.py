"""The sandbox's certificates, judged by the standard library's TLS."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from sealift.sandbox.tls import TlsFiles, make_tls


def handshake(files: TlsFiles, *, name: str, trust: Path | None) -> str:
    """Connect to a server that has the files.

    :returns: the protocol's version.
    """
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(files.cert, files.key)
    client_side = ssl.create_default_context(cafile=trust)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server_side.wrap_socket(theirs, server_side=True) as served:
                served.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_side.wrap_socket(ours, server_hostname=name) as secured:
            return secured.version() or ""
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1"])
def test_who_trusts_the_authority_is_served(tmp_path: Path, name: str) -> None:
    files = make_tls(tmp_path / "tls")
    assert handshake(files, name=name, trust=files.ca) == "TLSv1.3"


def test_another_name_or_no_trust_is_an_error(tmp_path: Path) -> None:
    files = make_tls(tmp_path / "tls")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"doesn't match|mismatch"):
        handshake(files, name="elsewhere.example", trust=files.ca)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, name="localhost", trust=make_tls(tmp_path / "other").ca)


def test_the_files_are_kept_and_the_key_is_private(tmp_path: Path) -> None:
    files = make_tls(tmp_path / "tls")
    before = files.cert.read_bytes(), files.key.read_bytes(), files.ca.read_bytes()
    assert make_tls(tmp_path / "tls") == files
    assert before == (files.cert.read_bytes(), files.key.read_bytes(), files.ca.read_bytes())
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600


def test_other_hosts_need_another_certificate(tmp_path: Path) -> None:
    first = make_tls(tmp_path / "tls").cert.read_bytes()
    files = make_tls(tmp_path / "tls", hosts=("sandbox.example", "127.0.0.1"))
    assert files.cert.read_bytes() != first
    assert handshake(files, name="sandbox.example", trust=files.ca)
