"""Every way in which a call fails, over both transports: what it becomes, how often it is sent, and that no key shows.

The rows are those that other clients have recorded of the service: REST errors by status and JSON, XML-RPC faults in an
HTTP 200, errors inside a good status, empty replies, pages of some proxy, and connections that break.
"""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from sealift.classic.client import ClassicClient
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

Api = Any  # tests/classic/conftest.py's ScriptedApi
Make = Callable[..., ClassicClient]

COS_KEY = "PLANTED-cos/key&<2>"
LEGACY = "SoftLayer_Exception_InvalidLegacyToken"
RATE = "SoftLayer_Exception_WebService_RateLimitExceeded"
PUBLIC = "SoftLayer_Exception_Public"


def export(client: ClassicClient) -> None:
    client.export_template(5, uri="cos://us-south/b/disk.vhd", ibm_api_key=COS_KEY)


def capture(client: ClassicClient) -> None:
    client.capture(5, name="n", block_device_ids=[1], note="")


def assert_clean(error: BaseException, *secrets: str) -> None:
    """No secret in the error, in what it is chained to, or in its traceback."""
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    for secret in secrets:
        spellings = (secret, base64.b64encode(f"SL123456:{secret}".encode()).decode())
        assert not any(spelling in shown for spelling in spellings), shown
    assert error.__cause__ is None
    assert error.__context__ is None


# error, code, HTTP status over REST → what a read raises, what a write raises
ROWS: list[tuple[str, str | None, int, type[ClassicError], type[ClassicError]]] = [
    ("Invalid API token.", LEGACY, 401, ClassicAuthError, ClassicAuthError),
    ("No valid authentication headers found", None, 401, ClassicAuthError, ClassicAuthError),
    ("SoftLayer_Exception: Failed to exchange token (HTTP 500)", None, 500, ClassicAuthError, ClassicAuthError),
    ("Access Denied.", "SoftLayer_Exception_PermissionDenied", 403, ClassicPermissionError, ClassicPermissionError),
    (
        "Unable to find object with id of '5'.",
        "SoftLayer_Exception_ObjectNotFound",
        404,
        ClassicNotFoundError,
        ClassicNotFoundError,
    ),
    (
        "There is currently an active transaction.",
        None,
        500,
        ClassicActiveTransactionError,
        ClassicActiveTransactionError,
    ),
    (
        "Rate limit of 50 requests for every 1 second(s) exceeded.",
        RATE,
        500,
        ClassicRateLimitedError,
        ClassicRateLimitedError,
    ),
    (
        "Access token validation failed.",
        "SoftLayer_Exception_Account_Authentication_AccessTokenValidation",
        500,
        ClassicTransientError,
        ClassicTransientError,
    ),
    ("Internal Error", PUBLIC, 500, ClassicTransientError, ClassicOutcomeUnknownError),
    ("WSDL: SOAP-ERROR: Parsing Schema: can't import", None, 500, ClassicTransientError, ClassicOutcomeUnknownError),
    ("Only 3 image captures may run at once.", "SoftLayer_Exception", 500, ClassicError, ClassicLoadError),
    ("Too many concurrent transactions in this datacenter", PUBLIC, 500, ClassicError, ClassicLoadError),
    ("The maximum number of image exports has been reached.", None, 500, ClassicError, ClassicLoadError),
    ("The disk exceeds the maximum size of an image.", PUBLIC, 500, ClassicError, ClassicError),
    ("Invalid value provided for 'uri'.", "SoftLayer_Exception_InvalidValue", 500, ClassicError, ClassicError),
    (
        "Function is not a valid method",
        "SoftLayer_Exception_WebService_NotImplemented",
        400,
        ClassicError,
        ClassicError,
    ),
]


@pytest.mark.parametrize(("words", "code", "status", "read", "write"), ROWS)
def test_each_refusal(
    api: Api,
    make_client: Make,
    secret: str,
    sleeps: list[float],
    words: str,
    code: str | None,
    status: int,
    read: type[ClassicError],
    write: type[ClassicError],
) -> None:
    api.answers(api.fault(words, code, status=status))
    client = make_client(max_attempts=3)
    with pytest.raises(ClassicError) as caught:
        client.guest_detail(5)
    error = caught.value
    assert type(error) is read
    assert words in str(error)
    assert str(error).startswith("SoftLayer_Virtual_Guest::getObject: ")
    if code is not None:
        assert error.fault_code == code, "neither transport may lose the API's code"
    assert_clean(error, secret)
    assert len(api.seen) == (3 if error.retryable else 1)
    assert len(sleeps) == len(api.seen) - 1

    for action in (capture, export):
        api.seen.clear()
        with pytest.raises(ClassicError) as caught:
            action(client)
        assert type(caught.value) is write
        assert len(api.seen) == 1, "a write is sent once, whatever comes back"
        assert_clean(caught.value, secret, COS_KEY)


@pytest.mark.parametrize(
    ("status", "read", "write"),
    [
        (401, ClassicAuthError, ClassicAuthError),
        (403, ClassicPermissionError, ClassicPermissionError),
        (404, ClassicBadReplyError, ClassicBadReplyError),
        (408, ClassicTransientError, ClassicOutcomeUnknownError),
        (429, ClassicRateLimitedError, ClassicRateLimitedError),
        (500, ClassicTransientError, ClassicOutcomeUnknownError),
        (502, ClassicTransientError, ClassicOutcomeUnknownError),
        (503, ClassicTransientError, ClassicOutcomeUnknownError),
        (504, ClassicTransientError, ClassicOutcomeUnknownError),
        (599, ClassicTransientError, ClassicOutcomeUnknownError),
    ],
)
@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b'{"message":"no"}', b"[1]"])
def test_a_status_with_some_other_body(
    api: Api, make_client: Make, status: int, body: bytes, read: type[ClassicError], write: type[ClassicError]
) -> None:
    api.answers(api.Answer(status=status, raw=body))
    client = make_client(max_attempts=2)
    for action, kind in ((ClassicClient.account_id, read), (export, write)):
        api.seen.clear()
        with pytest.raises(ClassicError) as caught:
            action(client)
        assert type(caught.value) is kind
        assert caught.value.status == status
        assert len(api.seen) == (2 if caught.value.retryable and action is not export else 1)


@pytest.mark.parametrize(("write", "times"), [(False, 3), (True, 1)])
@pytest.mark.parametrize("how", ["close", "truncate", "empty", "blank"])
def test_lost_replies(api: Api, make_client: Make, secret: str, how: str, write: bool, times: int) -> None:
    """The server reads the whole request and then breaks off: a write is seen exactly once."""
    answer = {
        "close": api.Answer(close=True),
        "truncate": api.Answer(value=True, truncate=True),
        "empty": api.Answer(raw=b""),
        "blank": api.Answer(raw=b" \n"),
    }[how]
    api.answers(answer)
    client = make_client(max_attempts=3)
    with pytest.raises(ClassicError) as caught:
        export(client) if write else client.account_id()
    assert type(caught.value) is (ClassicOutcomeUnknownError if write else ClassicTransientError)
    assert len(api.seen) == times
    assert_clean(caught.value, secret, COS_KEY)
    if write:
        assert "look before" in str(caught.value)


@pytest.mark.parametrize("write", [False, True])
def test_no_reply_in_time(api: Api, make_client: Make, write: bool) -> None:
    api.answers(api.Answer(hang=True))
    client = make_client(max_attempts=2, timeout=0.2)
    with pytest.raises(ClassicError, match="no reply came in time") as caught:
        export(client) if write else client.account_id()
    assert type(caught.value) is (ClassicOutcomeUnknownError if write else ClassicTransientError)
    assert len(api.seen) == (1 if write else 2)


def test_a_lost_reply_on_a_connection_that_was_good_before(api: Api, make_client: Make) -> None:
    """urllib3 must not resend on a fresh connection what broke on a kept one."""
    client = make_client()
    api.answers(api.ok({"id": 1}), api.Answer(close=True))
    client.account_id()
    with pytest.raises(ClassicOutcomeUnknownError):
        export(client)
    assert [seen.method for seen in api.seen] == ["getObject", "copyToIcos"]


@pytest.mark.parametrize("action", [ClassicClient.account_id, capture, export])
def test_a_refused_connection_was_never_sent(
    make_client: Make, transport: str, action: Callable[[ClassicClient], Any], secret: str
) -> None:
    client = make_client(endpoint_url="http://127.0.0.1:1", transport=transport, max_attempts=2)
    with pytest.raises(
        ClassicUnreachableError, match=r"127\.0\.0\.1:1 cannot be reached: the connection was refused"
    ) as caught:
        action(client)
    assert_clean(caught.value, secret, COS_KEY)


@pytest.mark.parametrize("action", [ClassicClient.account_id, export])
def test_no_such_host(make_client: Make, transport: str, action: Callable[[ClassicClient], Any]) -> None:
    client = make_client(endpoint_url="https://classic.invalid", transport=transport, max_attempts=1)
    with pytest.raises(ClassicUnreachableError, match=r"classic\.invalid cannot be reached"):
        action(client)


@pytest.mark.parametrize("action", [ClassicClient.account_id, export])
def test_tls_that_the_other_side_does_not_speak(
    api: Api, make_client: Make, action: Callable[[ClassicClient], Any]
) -> None:
    client = make_client(endpoint_url=api.url.replace("http:", "https:"), max_attempts=1)
    with pytest.raises(ClassicUnreachableError, match="no TLS connection"):
        action(client)


def test_an_error_inside_a_good_status(api: Api, make_client: Make, secret: str) -> None:
    client = make_client(max_attempts=2)
    api.answers(api.ok({"error": "Internal Error", "code": PUBLIC}))
    with pytest.raises(ClassicTransientError) as caught:
        client.account_id()
    assert len(api.seen) == 2
    with pytest.raises(ClassicOutcomeUnknownError):
        export(client)
    assert len(api.seen) == 3
    api.answers(api.ok({"error": "The bucket does not exist in the selected location."}))
    with pytest.raises(ClassicError, match="does not exist in the selected") as final:
        export(client)
    assert type(final.value) is ClassicError
    for error in (caught.value, final.value):
        assert_clean(error, secret, COS_KEY)


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"{", b"<?xml version='1.0'?><methodResponse/>", b"\xff\xfe"]
)
def test_a_reply_in_another_language(api: Api, make_client: Make, body: bytes) -> None:
    api.answers(api.Answer(raw=body))
    client = make_client()
    with pytest.raises(ClassicBadReplyError, match="is 127"):
        client.account_id()
    assert len(api.seen) == 1
    with pytest.raises(ClassicOutcomeUnknownError, match="look before"):
        export(client)
    assert len(api.seen) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(api: Api, make_client: Make, status: int) -> None:
    """Following one would send a write twice, and its key to another host."""
    api.answers(api.Answer(status=status, raw=b"", headers={"Location": "https://elsewhere.example/"}))
    client = make_client()
    for action in (ClassicClient.account_id, export):
        api.seen.clear()
        with pytest.raises(ClassicBadReplyError, match="elsewhere"):
            action(client)
        assert len(api.seen) == 1


@pytest.mark.parametrize("code", ["-32601", -32601, "-32602"])
def test_xmlrpc_faults_with_numbers(make_client: Make, transport: str, api: Api, code: Any) -> None:
    if transport == "rest":
        code = str(code)
    api.answers(api.fault("Method not found", code))
    with pytest.raises(ClassicError, match="Method not found") as caught:
        make_client().account_id()
    assert type(caught.value) is ClassicError
    assert caught.value.fault_code == str(code)


@pytest.mark.parametrize("code", ["-32300", "-32400", "-32500", "-32603"])
def test_xmlrpc_faults_of_a_failing_server_are_retried(make_client: Make, api: Api, code: str) -> None:
    api.answers(api.fault("server error", code), api.ok({"id": 3}))
    assert make_client().account_id() == 3
    api.answers(api.fault("server error", code))
    with pytest.raises(ClassicOutcomeUnknownError):
        export(make_client())


def test_a_fault_in_an_http_500_keeps_its_code(make_client: Make, api: Api) -> None:
    body = (
        b"<?xml version='1.0'?><methodResponse><fault><value><struct><member><name>faultCode</name><value><string>"
        + RATE.encode()
        + b"</string></value></member><member><name>faultString</name><value><string>Rate limit of 50 requests"
        b"</string></value></member></struct></value></fault></methodResponse>"
    )
    api.answers(api.Answer(status=500, raw=body))
    with pytest.raises(ClassicRateLimitedError) as caught:
        make_client(max_attempts=1).account_id()
    assert caught.value.fault_code == RATE


def test_a_read_goes_through_once_the_trouble_has_passed(api: Api, client: ClassicClient, sleeps: list[float]) -> None:
    api.answers(
        api.fault("Rate limit of 50 requests for every 1 second(s) exceeded.", RATE),
        api.Answer(close=True),
        api.Answer(status=503, raw=b"", headers={"Retry-After": "7"}),
        api.fault("Internal Error", PUBLIC),
        api.ok({"id": 42}),
    )
    assert client.account_id() == 42
    assert len(api.seen) == 5
    first, second, third, fourth = sleeps
    assert 0 <= first <= 0.5
    assert 0 <= second <= 1
    assert 7 <= third <= 9, "a server's Retry-After is added to the jitter"
    assert 0 <= fourth <= 4
    assert len({*sleeps}) == 4


def test_the_wait_has_a_ceiling(api: Api, make_client: Make, sleeps: list[float]) -> None:
    api.answers(api.Answer(close=True))
    with pytest.raises(ClassicTransientError):
        make_client(max_attempts=12, retry_max_wait=2.0).account_id()
    assert len(sleeps) == 11
    assert max(sleeps) <= 2.0
    assert max(sleeps[3:]) > 1.0, "full jitter spreads over the whole ceiling"
    assert min(sleeps[3:]) < 1.0


@pytest.mark.parametrize("echo", ["key {} is bad", "a%20{}", "{}"])
def test_a_key_that_the_api_echoes_is_taken_out(api: Api, make_client: Make, secret: str, echo: str) -> None:
    from urllib.parse import quote_plus

    for key in (COS_KEY, secret):
        for spelling in (key, quote_plus(key)):
            api.answers(api.fault(echo.format(spelling), f"SoftLayer_Exception_{spelling}"))
            with pytest.raises(ClassicError) as caught:
                export(make_client())
            assert "***" in str(caught.value)
            assert_clean(caught.value, spelling)


def test_no_secret_in_repr_or_log(api: Api, make_client: Make, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    api.answers(api.ok(True))
    client = make_client(username="apikey")
    export(client)
    shown = repr(client) + repr(client._wire) + repr(client._redact) + caplog.text
    assert caplog.records
    for key in (secret, COS_KEY):
        assert key not in shown
        assert base64.b64encode(f"apikey:{key}".encode()).decode() not in shown


def test_many_threads_share_a_client(api: Api, make_client: Make) -> None:
    from concurrent.futures import ThreadPoolExecutor

    api.respond = lambda seen: api.ok({"id": seen.identifier, "hostname": f"h{seen.identifier}"})
    client = make_client()
    with ThreadPoolExecutor(12) as pool:
        details = list(pool.map(client.guest_detail, range(1, 121)))
    assert [one["hostname"] for one in details] == [f"h{number}" for number in range(1, 121)]
    assert len(api.seen) == 120
