"""Takes calls from the transports: who asks, how often, what goes wrong on purpose, and then the answer."""

from __future__ import annotations

import hmac
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic.calls import Call, Reply
from sealift.sandbox.classic.errors import (
    ApiError,
    expired_token,
    internal,
    rate_limited,
    refused_after,
    unauthenticated,
)
from sealift.sandbox.classic.services import WRITES, Services
from sealift.sandbox.classic.values import api_time, whole
from sealift.sandbox.history import OFF, History, Outcome, without_secrets
from sealift.sandbox.iam import TokenError

if TYPE_CHECKING:
    from sealift.sandbox.classic.transactions import Engine
    from sealift.sandbox.faults import Faults
    from sealift.sandbox.iam import Identity
    from sealift.sandbox.world import World

Doc = dict[str, Any]

_SECOND_REPLY = 0.5
"""How often a call that was carried out twice is answered by its second outcome."""

_TOLD_NOTHING = frozenset({"setUserMetadata"})
"""Methods whose parameters are the user's own secrets."""

_SOAP_ERROR = "WSDL: SOAP-ERROR: Parsing Schema: can't import schema from 'http://127.0.0.1/wsdl'"


@dataclass(kw_only=True)
class Credentials:
    """What a request carries to say who asks: a user name with a key, or a bearer token."""

    username: str = ""
    key: str = ""
    token: str = ""


class ClassicApi:
    """The Classic API behind both transports.

    :param username: the account's one user.
    :param api_key: that user's classic API key.
    :param history: where every call is recorded.
    """

    def __init__(
        self,
        *,
        world: World,
        engine: Engine,
        services: Services,
        identity: Identity,
        faults: Faults,
        username: str,
        api_key: str,
        history: History = OFF,
    ) -> None:
        self._history = history
        self._world = world
        self._engine = engine
        self._services = services
        self._identity = identity
        self._faults = faults
        self._username = username
        self._api_key = api_key
        self._lock = threading.Lock()
        self._recent: deque[float] = deque()
        self.peak = 0
        self.counts: Counter[str] = Counter()

    def handle(self, call: Call, credentials: Credentials | None) -> Reply:
        """Answer a call, whatever becomes of it.

        :returns: a value, an error or a misbehaviour of the wire.
        """
        self._history.begin()
        reply: Reply | None = None
        try:
            reply = self._handle(call, credentials)
        finally:
            if self._history.on:
                self._tell(call, reply)
        return reply

    def _handle(self, call: Call, credentials: Credentials | None) -> Reply:
        try:
            call.user = self._authenticate(credentials, call.method)
            self._count(call)
            broken = self._before(call.method)
            if broken is not None:
                return broken
            self._engine.tick()
            return self._after(call.method, self._answer(call))
        except ApiError as error:
            return self._refusal(error)

    def _before(self, method: str) -> Reply | None:
        """Faults that come before anything is done."""
        faults = self._faults
        if faults.hit("lost_request", method=method):
            return Reply(wire="drop")
        if faults.hit("rate_limit", method=method):
            raise rate_limited(self._world.switches.requests_per_second or 50)
        if faults.hit("transient_500", method=method):
            return Reply(error=ApiError(_SOAP_ERROR, code="SoftLayer_Exception"), wire="http_500")
        if faults.hit("error_in_200", method=method):
            return Reply(error=internal(), wire="error_in_200")
        return None

    def _after(self, method: str, reply: Reply) -> Reply:
        """Faults that spoil the reply to a call that was carried out."""
        faults = self._faults
        if faults.hit("lost_reply", method=method):
            return Reply(wire="drop")
        if faults.hit("empty_200", method=method):
            return Reply(wire="empty")
        if method in WRITES and faults.hit("refused_after", method=method):
            raise refused_after()
        if reply.total is not None and faults.hit("missing_total", method=method):
            reply.total = None
        if isinstance(reply.value, list) and len(reply.value) == 1 and faults.hit("unwrapped_single", method=method):
            reply.value = reply.value[0]
        return reply

    def _refusal(self, error: ApiError) -> Reply:
        limited = error.code.endswith("RateLimitExceeded")
        headers = {"Retry-After": "1"} if limited and self._world.switches.rate_limit_retry_after else {}
        return Reply(error=error, headers=headers)

    def _answer(self, call: Call) -> Reply:
        if call.method not in WRITES:
            return self._services.answer(call)
        reply = self._deliver(call)
        if self._faults.hit("twice", method=call.method):
            again = self._deliver(call)
            if self._history.on:
                self._tell(call, again, fault="twice")
            if self._faults.draw("twice") < _SECOND_REPLY:
                reply = again
        if reply.error is not None:
            raise reply.error
        return reply

    def _deliver(self, call: Call) -> Reply:
        """Carry out a call that changes something, and keep that it was made."""
        try:
            reply = self._services.answer(call)
        except ApiError as error:
            self._record(call, error.message, None)
            return Reply(error=error)
        self._record(call, None, reply.value)
        return reply

    def _record(self, call: Call, error: str | None, value: Any) -> None:
        self._world.state.add_write(
            {
                "at": api_time(self._world.clock.now()),
                "service": call.service,
                "method": call.method,
                "id": call.init_id if whole(call.init_id) is None else whole(call.init_id),
                "args": without_secrets(call.args),
                "user": call.user.get("username"),
                "error": error,
                "resultId": value.get("id") if isinstance(value, dict) else None,
            }
        )

    def _tell(self, call: Call, reply: Reply | None, *, fault: str | None = None) -> None:
        """Put a call into the history.

        :param reply: None where the sandbox itself failed.
        :param fault: the fault by which the call came, where it did.
        """
        outcome, status, error = _outcome(reply)
        service = call.service if call.service.startswith("SoftLayer_") else f"SoftLayer_{call.service}"
        number = whole(call.init_id)
        args = {"parameters": call.args, "filter": call.filter, "limit": call.limit, "offset": call.offset}
        if call.method in _TOLD_NOTHING:
            args["parameters"] = ["***"]
        self._history.request(
            service="classic",
            method=f"{service}::{call.method}",
            id=call.init_id if number is None else number,
            status=status,
            outcome=outcome,
            args={name: value for name, value in args.items() if value},
            error=error,
            reads=call.method not in WRITES,
            fault=fault,
            delivery=2 if fault == "twice" else None,
        )

    # Who asks

    def _authenticate(self, credentials: Credentials | None, method: str) -> Doc:
        if credentials is None:
            raise unauthenticated("No valid authentication headers found.")
        if credentials.token:
            if self._faults.hit("expired_iam_token", method=method):
                raise expired_token()
            return self._by_token(credentials.token)
        if credentials.username == "apikey":
            if self._identity.principal_for_api_key(credentials.key) is None:
                raise unauthenticated()
            return self._world.user
        same_user = hmac.compare_digest(credentials.username.encode(), self._username.encode())
        if not (hmac.compare_digest(credentials.key.encode(), self._api_key.encode()) and same_user):
            raise unauthenticated()
        return self._world.user

    def _by_token(self, token: str) -> Doc:
        try:
            self._identity.principal_for_token(token)
        except TokenError as error:
            raise (expired_token() if error.expired else unauthenticated()) from error
        return self._world.user

    # How often

    def _count(self, call: Call) -> None:
        limit, now = self._world.switches.requests_per_second, time.monotonic()
        with self._lock:
            self.counts[f"{call.service}::{call.method}"] += 1
            while self._recent and self._recent[0] <= now - 1.0:
                self._recent.popleft()
            if limit and len(self._recent) >= limit:
                self.counts["refused for the rate"] += 1
                raise rate_limited(limit)
            self._recent.append(now)
            self.peak = max(self.peak, len(self._recent))


def _outcome(reply: Reply | None) -> tuple[Outcome, int | None, str | None]:
    """:returns: what became of a call, the HTTP status as REST has it, and what an error says."""
    if reply is None:
        return "broken", 501, None
    if reply.wire == "drop":
        return "dropped", None, None
    if reply.wire == "empty":
        return "empty", 200, None
    if reply.error is not None:
        return "refused", 200 if reply.wire == "error_in_200" else reply.error.status, reply.error.message
    return "ok", 200, None
