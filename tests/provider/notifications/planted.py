"""Secrets of the connections, good for searching."""

from __future__ import annotations

from typing import Final

PASSWORD: Final = "PLANTED-mail-password"
AUTHORIZATION: Final = "Bearer PLANTED-webhook-token"
