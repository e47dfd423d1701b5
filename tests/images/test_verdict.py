"""Failures carry their checks, also into another process."""

from __future__ import annotations

import pickle

import pytest

from sealift.images.verdict import Check, Checks, ProofFailed


def test_failure_names_all_that_failed_and_keeps_what_passed() -> None:
    checks = Checks()
    assert checks.record("one", True, "fine")
    checks.raise_if_failed()
    assert not checks.record("two", False, "broken")
    assert not checks.record("three", False, "also broken")
    with pytest.raises(ProofFailed) as failure:
        checks.raise_if_failed()
    assert failure.value.check_id == "two"
    assert failure.value.detail == "broken; also broken"
    assert str(failure.value) == "two: broken; also broken"
    assert [check.passed for check in failure.value.checks] == [True, False, False]


def test_fatal_failure_keeps_the_first() -> None:
    checks = Checks()
    checks.record("one", False, "broken")
    error = checks.fail("two", "no way on")
    assert (error.check_id, error.detail) == ("one", "broken; no way on")


def test_failure_survives_pickling() -> None:
    error = ProofFailed("one", "broken", [Check(id="one", passed=False, detail="broken")])
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.check_id, copy.detail, copy.checks) == (error.check_id, error.detail, error.checks)
