"""A token that the store does not take any more is renewed, whatever the store calls that, and by whomever."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sealift.cos.errors import CosPermissionError

Fake = Any  # tests/cos/conftest.py's


@dataclass
class Ageing:
    """A fake store, and an IAM, whose tokens are refused until the one with this number.

    :param refusal: status and body of what the store says to older tokens.
    """

    fake: Fake
    refusal: tuple[int, bytes]
    good: int
    issued: int = 0
    asked: list[str] = field(default_factory=list)
    at_refusal: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.fake.respond = self.respond
        self.client = self.fake.client(api_key="PLANTED-key", iam_endpoint=self.fake.url)

    def respond(self, request: Any) -> Any:
        if request.path == "/identity/token":
            self.issued += 1
            token = {"access_token": f"token-{self.issued}", "expires_in": 3600}
            return self.fake.Reply(body=json.dumps(token).encode())
        self.asked.append(request.headers["Authorization"].removeprefix("Bearer "))
        if int(self.asked[-1].removeprefix("token-")) >= self.good:
            return self.fake.Reply(
                body=b"v" if request.method == "GET" else b"",
                headers={"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
            )
        self.at_refusal()
        status, body = self.refusal
        return self.fake.Reply(status=status, body=b"" if request.method == "HEAD" else body)


OLD_TOKENS = {
    "expired": (400, b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"),
    "denied": (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
    "nameless": (401, b""),
}


@pytest.mark.parametrize("refusal", OLD_TOKENS.values(), ids=OLD_TOKENS)
@pytest.mark.parametrize("ask", ["head", "read", "put_if_absent"])
def test_whatever_the_store_says_to_an_old_token_a_new_one_is_tried(
    fake: Fake, refusal: tuple[int, bytes], ask: str
) -> None:
    store = Ageing(fake=fake, refusal=refusal, good=2)
    getattr(store.client, ask)("exports", "k", *([b"v"] if ask == "put_if_absent" else []))
    # To a HEAD's 400 the SDK asks by itself whether the bucket is elsewhere, with the same token.
    assert list(dict.fromkeys(store.asked)) == ["token-1", "token-2"]
    assert store.asked.count("token-2") == 1
    assert fake.sleeps == []


def test_a_key_that_may_not_is_not_asked_about_for_ever(fake: Fake) -> None:
    store = Ageing(fake=fake, refusal=OLD_TOKENS["denied"], good=99)
    for _ in range(3):
        with pytest.raises(CosPermissionError) as caught:
            store.client.read("exports", "k")
        assert "PLANTED" not in str(caught.value)
        assert caught.value.__context__ is None
    assert store.asked == ["token-1", "token-2", "token-2", "token-2"]
    assert store.issued == 2


def test_a_token_that_somebody_else_renewed_meanwhile_is_used(fake: Fake) -> None:
    store = Ageing(fake=fake, refusal=OLD_TOKENS["expired"], good=2)
    tokens = store.client._connection._tokens
    assert tokens.get_token() == "token-1"

    def renew() -> None:
        tokens.drop("token-1")
        assert tokens.get_token() == "token-2"

    store.at_refusal = renew
    assert store.client.read("exports", "k") == b"v"
    assert store.issued == 2
