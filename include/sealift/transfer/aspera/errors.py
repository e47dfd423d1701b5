"""How a transfer by Aspera fails: ascp's error numbers, which of them may pass by themselves, what to do about others.

Which numbers are worth another try is what IBM/aspera-cli's test of its class ``Management`` lists as its vendor's own
``as_mgmt_err_is_retryable`` (numbers 0 to 69); what a number means is its ``transfer/error_info.rb``. Neither has been
seen from a real ascp here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sealift.transfer.errors import TransferError

RETRYABLE: Final = frozenset({12, 13, 14, 15, 16, 17, 18, 23, 32, 33, 35, 36, 37, 39, 40, 44, 45, 47, 61, 69})
"""Numbers that may pass by themselves."""

REFUSED: Final = frozenset({19, 34, 37})
"""Numbers that say that whoever asks may not: where a token was good before, a new one may help."""

NO_SPACE: Final = 25
"""The disk is full."""

_LICENCE = "its licence does not allow this: look at the file aspera-license that belongs to ascp"
_TCP = "no connection to the transfer server: allow TCP to its port (33001, or 443 for WebSockets) outward"
_UDP = "the data did not get through: allow UDP to port 33001 of the transfer server outward, and its answers"
_REFUSED = "the transfer server refused the token or the key that ascp showed"

_MEANINGS: Final[Mapping[int, str]] = {
    4: "the transfer server does not find the object",
    5: "the transfer server may not read the object, or ascp may not write the file",
    8: "this ascp does not know an option that Sealift gives it: take a newer one",
    9: _LICENCE,
    10: _LICENCE,
    12: _TCP,
    13: _TCP,
    14: _UDP,
    15: _UDP,
    16: "the connection was lost",
    17: _UDP,
    18: _UDP,
    19: _REFUSED,
    NO_SPACE: "the disk is full",
    26: "the file system can only be read",
    28: "it was cancelled",
    29: _LICENCE,
    30: _LICENCE,
    34: _REFUSED,
    35: "the transfer server cannot read the object for now",
    36: "ascp cannot write to the disk",
    37: _REFUSED,
    38: _LICENCE,
    39: "the transfer server ended the session",
    40: "no more bytes came",
    41: "the transfer server does not serve this path",
    44: _UDP,
    51: "the transfer server is not the one whose fingerprint ATS named",
    65: "this ascp may not use the cipher that ATS demands",
    66: "the transfer server may not use the cipher",
}
_LONGEST_QUOTE = 300


class AsperaError(TransferError):
    """A transfer by Aspera failed.

    :param message: what happened and what to do, without any secret.
    :param code: ascp's number for it, where there is one.
    :param retryable: it may pass by itself.
    :param refused: a token or key was not taken: a new token may help.
    """

    def __init__(
        self, message: str, *, code: int | None = None, retryable: bool = False, refused: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.refused = refused


def reported(code: int | None, description: str) -> AsperaError:
    """Make the error for what ascp reports.

    :param code: ascp's number; None where it gave none.
    :param description: ascp's words, without any secret.
    :returns: the error, with its meaning where it is known.
    """
    words = one_line(description) or "no words"
    told = f'"{words}"' if code is None else f'"{words}", error {code}'
    meaning = _MEANINGS.get(code) if code is not None else None
    said = f"ascp reports {told}" + (f": {meaning}." if meaning else ".")
    about_token = "token" in words.lower() and any(one in words.lower() for one in ("bearer", "expired", "refresh"))
    return AsperaError(said, code=code, retryable=code in RETRYABLE, refused=code in REFUSED or about_token)


def one_line(text: str) -> str:
    """Cut what another program says to a length for a message.

    :param text: its words.
    :returns: one line of them, without what a terminal would act on.
    """
    plain = "".join(one if one.isprintable() else " " for one in text)
    return " ".join(plain.split())[:_LONGEST_QUOTE]
