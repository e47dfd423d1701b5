"""Turns what went wrong on the wire into the error that a caller can act on, without any secret in it.

The API's statuses tell little: rate limits, active transactions and passing troubles all arrive as HTTP 500 (REST) or
as a fault in an HTTP 200 (XML-RPC), told apart by their code where there is one, and else by their words.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicAuthError,
    ClassicBadReplyError,
    ClassicError,
    ClassicLoadError,
    ClassicNotFoundError,
    ClassicOutcomeUnknownError,
    ClassicPermissionError,
    ClassicRateLimitedError,
    ClassicTransientError,
    ClassicUnreachableError,
)
from sealift.classic.wire import Call, ProblemKind, WireProblem

LOOK_FIRST = "it may or may not have happened: look before doing anything else"


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """How to know a refusal by its status, its code or its words, and what to say of it."""

    kind: type[ClassicError]
    message: str
    status: int | None = None
    code: str | None = None
    words: str | None = None

    def fits(self, *, code: str, status: int | None, lower: str) -> bool:
        return (
            (self.status is not None and status == self.status)
            or (self.code is not None and re.search(self.code, code) is not None)
            or (self.words is not None and re.search(self.words, lower) is not None)
        )


# The first that fits holds. Codes and words as recorded from the service by softlayer-go, softlayer-python and jclouds.
_CERTAIN = (
    _Rule(
        kind=ClassicRateLimitedError,
        message="the account's request rate was exceeded ({words})",
        status=429,
        code="RateLimitExceeded",
        words="^rate limit of",
    ),
    _Rule(
        kind=ClassicTransientError,
        message="the access token has expired ({words}); the next call gets a new one",
        code="AccessTokenValidation",
    ),
    _Rule(
        kind=ClassicAuthError,
        message="{words}: the user of this key is not linked to a valid IBMid, and the account must be fixed first",
        words="failed to exchange token",
    ),
    _Rule(
        kind=ClassicAuthError,
        message="{host} refused the user name or the key ({words}): check both",
        status=401,
        code="InvalidLegacyToken|LoginFailed|Account_Authentication|Unauthenticated",
        words="invalid api token|no valid authentication headers",
    ),
    _Rule(
        kind=ClassicPermissionError,
        message="the user may not do this ({words}): check its permissions",
        status=403,
        code="PermissionDenied|AccessDenied|NotAuthorized",
        words="^access denied",
    ),
    _Rule(
        kind=ClassicNotFoundError,
        message="{words} (or the user may not see it)",
        code="ObjectNotFound",
        words="^unable to find object",
    ),
    _Rule(kind=ClassicActiveTransactionError, message="{words}", words="active transaction"),
)

# Statuses that say "not now" whatever the body says. 599 is a proxy's own for a timeout (softlayer-go retries it).
_PASSING_STATUSES = frozenset({408, 502, 503, 504, 599})
# The XML-RPC specification's codes for a server that failed, as the SoftLayer package sorts them.
_SERVER_FAILED = frozenset({"-32300", "-32400", "-32500", "-32603"})
# What a refusal of a write may say where too much is at work: guesses, for no source has recorded one. Where it meant
# something else that stays as it is, whoever waits for its end is bounded.
_LOAD = re.compile(
    r"\bat once\b|\bat the same time\b|concurren|simultaneous|too many|\btoo busy\b|overload"
    r"|\bmaximum (number|amount) of\b|\blimit (of|on|for) .*(captur|export|transaction|template)|try again later"
)
_LONGEST_QUOTE = 300
# Nothing shorter is a key, and taking it out would make a message unreadable.
_SHORTEST = 4


class Redactor:
    """Takes secrets out of a text, in all the spellings in which a service could echo them.

    :param secrets: what must not be seen.
    :param username: with it, the Basic header's spelling is known as well.
    """

    def __init__(self, secrets: Iterable[str], *, username: str = "") -> None:
        spellings: set[str] = set()
        for secret in secrets:
            if len(secret) < _SHORTEST:
                continue
            spellings |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), escape(secret)}
            spellings |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
            spellings.add(base64.b64encode(f"{username}:{secret}".encode()).decode())
        # Long ones first: a short spelling may be part of a long one.
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with ``***`` in the place of every secret."""
        for spelling in self._spellings:
            text = text.replace(spelling, "***")
        return text

    def __repr__(self) -> str:
        return f"Redactor({len(self._spellings)} spellings)"


def error_for(problem: WireProblem, *, call: Call, host: str, redact: Redactor) -> ClassicError:
    """The error to raise for a call that brought no result.

    :param problem: what happened on the wire.
    :param call: the call; for a write, everything that leaves it open whether the write happened says so.
    :param host: the API's host, for messages.
    :param redact: takes the secrets out of the API's words.
    :returns: the error, ready to raise.
    """
    words = _quoted(redact(problem.text))
    kind: type[ClassicError]
    if problem.kind is ProblemKind.NEVER_SENT:
        kind, message = ClassicUnreachableError, f"the API at {host} cannot be reached: {words}"
    elif problem.kind is ProblemKind.REDIRECT:
        kind = ClassicBadReplyError
        message = f"the API at {host} redirects to {words or 'nowhere'}: give the right address as the host"
    elif problem.kind is ProblemKind.REFUSED:
        kind, message = _refused(problem, words=words, host=host, write=call.write)
    else:
        message = {
            ProblemKind.LOST_REPLY: words,
            ProblemKind.EMPTY: "the reply was empty",
            ProblemKind.UNREADABLE: f"the reply is not what an API endpoint sends ({words}): is {host} one?",
        }[problem.kind]
        kind = ClassicBadReplyError if problem.kind is ProblemKind.UNREADABLE else ClassicTransientError
        if call.write:
            kind, message = ClassicOutcomeUnknownError, f"{message}; {LOOK_FIRST}"
    error = kind(message, call=call.name, fault_code=_code(problem, redact), status=problem.status)
    error.retry_after = problem.retry_after
    return error


def _code(problem: WireProblem, redact: Redactor) -> str | None:
    return redact(problem.code) if problem.code else None


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]} …"


def _refused(problem: WireProblem, *, words: str, host: str, write: bool) -> tuple[type[ClassicError], str]:
    code, status, lower = problem.code or "", problem.status, words.lower()
    certain = _certain_refusal(code=code, status=status, words=words, lower=lower, host=host)
    if certain is not None:
        return certain
    if _is_passing(code=code, status=status, lower=lower):
        message = words or f"HTTP {status} without an error that the API would send"
        if write:
            return ClassicOutcomeUnknownError, f"{message}; {LOOK_FIRST}"
        return ClassicTransientError, message
    if not words:
        # A page of some web server rather than the API, or a wrong path.
        return ClassicBadReplyError, f"HTTP {status} without an error that the API would send: is {host} the API?"
    if write and _LOAD.search(lower):
        return ClassicLoadError, words
    return (ClassicNotFoundError if status == 404 else ClassicError), words


def _certain_refusal(
    *, code: str, status: int | None, words: str, lower: str, host: str
) -> tuple[type[ClassicError], str] | None:
    """The refusals that are certain: nothing was done."""
    for rule in _CERTAIN:
        if rule.fits(code=code, status=status, lower=lower):
            return rule.kind, rule.message.format(words=words or "no reason given", host=host)
    return None


def _is_passing(*, code: str, status: int | None, lower: str) -> bool:
    if status in _PASSING_STATUSES or code in _SERVER_FAILED:
        return True
    if lower.startswith("internal error") or "soap-error" in lower:
        return True
    return status is not None and status >= 500 and not lower
