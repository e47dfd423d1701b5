"""A message is one that may be shown anywhere: bounded, one line where a line is meant, text where text is meant."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.exports.jsontext import compact_json
from sealift.exports.messages.message import (
    CHAT_SERVERS_AT_MOST,
    NOTES_AT_MOST,
    SERVERS_AT_MOST,
    Message,
    MessageKind,
    MessageLink,
    MessageServer,
    one_line,
)

MOST_BYTES = 320 * 1024
HOSTILE = 'web"><script>alert(1)</script><img src=x onerror=y>&amp;{{ 7 * 7 }}'
# As long as it gets when escaped for HTML, and when encoded.
WORST = ("<&\"'" * 4000, "\U0001f6a2" * 4000, '"' * 4000)


def message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "kind": MessageKind.FAILED,
        "subject": "Sealift: 1 of 2 servers failed (20261123T0200Z)",
        "summary": "1 exported, 1 failed.",
        "at": datetime(2026, 11, 23, 4, tzinfo=UTC),
        "dag_id": "plan_exports",
        "run_id": "manual__1",
    }
    return Message.model_validate(values | changes)


class Tags(HTMLParser):
    """What a mail program would make of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@given(st.text(max_size=300), st.integers(min_value=2, max_value=80))
def test_a_line_is_bounded_and_holds_nothing_that_controls_anything(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert not [one for one in line if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}]
    assert line.encode().decode() == line
    assert one_line(line, most) == line


def test_what_was_cut_off_shows() -> None:
    assert one_line("a" * 100, 10) == "a" * 9 + "…"
    assert one_line("a" * 10, 10) == "a" * 10
    assert one_line("\0" * 1000 + "b", 10).endswith("…")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_header_can_be_put_into_a_subject(end: str) -> None:
    made = message(subject=f"Sealift: the capture of web{end}Bcc: everybody@example.com{end}{end}is stuck")
    assert len(made.subject.splitlines()) == 1
    assert made.subject == "Sealift: the capture of web Bcc: everybody@example.com is stuck"


def test_markup_stays_text_in_html() -> None:
    servers = [MessageServer(id=7, hostname=HOSTILE, state="failed", step=HOSTILE, words=HOSTILE)]
    links = [MessageLink(label=HOSTILE, url=f"https://airflow.example.com/{HOSTILE}")]
    seen = Tags(
        message(
            subject=HOSTILE,
            summary=HOSTILE,
            servers=servers,
            notes=[HOSTILE],
            next_steps=[HOSTILE],
            links=links,
            plan_id=HOSTILE,
        ).html()
    )
    plain = Tags(message(servers=[MessageServer(id=7, state="failed")], notes=["n"], next_steps=["s"]).html())
    assert seen.tags == plain.tags | {"a"}
    assert seen.attributes == plain.attributes | {"href"}
    assert not {"script", "img", "link", "iframe", "object", "form"} & seen.tags
    assert "".join(seen.words).count(HOSTILE) >= 6


@pytest.mark.parametrize("words", WORST, ids=["escaped", "wide", "quotes"])
def test_of_thousands_of_servers_a_message_of_the_longest_words_is_bounded(words: str) -> None:
    servers = [
        MessageServer(id=one, hostname=words, state=words, step=words, words=words, export_id=words)
        for one in range(SERVERS_AT_MOST)
    ]
    made = message(
        subject=words,
        summary=words,
        servers=servers,
        more=4950,
        notes=[words] * NOTES_AT_MOST,
        next_steps=[words] * NOTES_AT_MOST,
        links=[MessageLink(label=words, url=words)] * 4,
    )
    assert len(made.subject) <= 150
    for form in (made.text().encode(), made.html().encode(), compact_json(made.body()), compact_json(made.chat())):
        assert len(form) <= MOST_BYTES
    with pytest.raises(ValueError, match="at most"):
        message(servers=[*servers, servers[0]])


def test_the_text_counts_what_it_does_not_name() -> None:
    servers = [MessageServer(id=one, hostname=f"web-{one}", state="failed", words="No.") for one in range(40)]
    made = message(servers=servers, more=100, next_steps=["Look at the log."])
    assert "web-39 (virtual server 39): failed. No." in made.text()
    assert "… and 100 more" in made.text()
    chat = made.chat()["text"]
    assert f"web-{CHAT_SERVERS_AT_MOST - 1} " in chat
    assert f"web-{CHAT_SERVERS_AT_MOST} " not in chat
    assert f"… and {140 - CHAT_SERVERS_AT_MOST} more" in chat
    assert "- Look at the log." in chat


def test_the_json_reads_back_as_the_same_message() -> None:
    made = message(servers=[MessageServer(id=7, hostname="web-01", state="failed")], counts={"failed": 1})
    assert Message.model_validate_json(json.dumps(made.body())) == made
    assert message().id != message().id
