"""Values stay values wherever they are put."""

from __future__ import annotations

import json
import re
import shlex

from hypothesis import given
from hypothesis import strategies as st

from sealift.exports.kits.text import gib, hcl, lines, markdown, plain, quoted, shell, slug, up

anything = st.text(max_size=300) | st.text(alphabet='${}%`\x27"\\\\<>|*_ \n\x1bA1-', max_size=30)


@given(anything)
def test_plain_text_is_one_bounded_line_of_printable_characters(value: str) -> None:
    text = plain(value)

    assert text.isprintable()
    assert len(text) <= 200
    assert plain(text) == text
    text.encode()


@given(anything)
def test_a_shell_reads_one_word_and_nothing_else(value: str) -> None:
    for word in (shell(value), quoted(value)):
        assert shlex.split(word) == [plain(value, limit=2048)]
    assert quoted(value).startswith("'")


@given(anything)
def test_terraform_reads_a_literal_without_templates(value: str) -> None:
    literal = hcl(value)

    assert "${" not in literal
    assert "%{" not in literal
    assert json.loads(literal) == plain(value, limit=2048)


@given(anything)
def test_markdown_shows_the_text_as_it_is(value: str) -> None:
    escaped = markdown(value)

    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped) == plain(value)
    assert not re.search(r"(?<!\\)[<>|`*\[\]&~$]|(?<![A-Za-z0-9\\])_|://", escaped.replace("\\\\", "x"))


@given(anything, st.integers(min_value=8, max_value=63))
def test_names_are_what_every_target_takes(value: str, limit: int) -> None:
    name = slug(value, limit=limit)

    assert re.fullmatch(r"[a-z](?:[a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= limit
    assert slug(name, limit=limit) == name


def test_a_long_name_keeps_its_end() -> None:
    assert slug("x" * 80 + "-12345678", limit=20) == "x" * 11 + "-12345678"
    assert slug("Web 3.example.com-7", limit=50) == "web-3-example-com-7"
    assert slug("", limit=10) == "s"
    assert slug("1234", limit=50) == "s-1234"


def test_sizes_and_lines() -> None:
    assert (gib(25 * 2**30), gib(10**10)) == ("25 GiB", "9.3 GiB")
    assert (up(1, 10), up(10, 10), up(11, 10)) == (1, 1, 2)
    assert lines("a", "b\n\n") == b"a\nb\n"
