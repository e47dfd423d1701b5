"""Equal things have equal bytes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealift.exports.jsontext import canonical_json, digest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(values)
def test_canonical_json_says_the_same_and_is_its_own_canon(value: object) -> None:
    body = canonical_json(value)

    assert json.loads(body) == value
    assert canonical_json(json.loads(body)) == body
    assert body.endswith(b"\n")


def test_order_and_kind_of_number_do_not_matter() -> None:
    assert canonical_json({"b": 2.0, "a": (1,)}) == canonical_json({"a": [1], "b": 2})
    assert canonical_json({"a": 0.5, "ä": "ß"}).decode() == '{\n  "a": 0.5,\n  "ä": "ß"\n}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError):
        canonical_json([value])


def test_a_digest_names_its_kind() -> None:
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
