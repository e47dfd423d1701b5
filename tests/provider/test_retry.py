"""The retry policy tells errors that pass from errors that stay."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.module_loading import import_string

from sealift.classic import errors as classic
from sealift.cos import errors as cos
from sealift.exports import errors as exports
from sealift.provider.errors import ConnectionProblem, ServersFailed, WaitFailed, WaitFailedForGood
from sealift.provider.retry import FINAL, PASSING, api_retry_policy

pytestmark = pytest.mark.airflow

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("path", [*FINAL, *PASSING])
def test_every_class_that_the_policy_names_exists(path: str) -> None:
    assert issubclass(import_string(path), Exception)


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (classic.ClassicTransientError("x"), RetryAction.RETRY, MINUTE),
        (classic.ClassicRateLimitedError("x"), RetryAction.RETRY, 3 * MINUTE),
        (classic.ClassicUnreachableError("x"), RetryAction.RETRY, MINUTE),
        (classic.ClassicOutcomeUnknownError("x"), RetryAction.RETRY, MINUTE),
        (classic.ClassicActiveTransactionError("x"), RetryAction.RETRY, MINUTE),
        (classic.ClassicLoadError("x"), RetryAction.RETRY, MINUTE),
        (classic.ClassicAuthError("x"), RetryAction.FAIL, None),
        (classic.ClassicPermissionError("x"), RetryAction.FAIL, None),
        (classic.ClassicNotFoundError("x"), RetryAction.FAIL, None),
        (cos.CosTransientError("x"), RetryAction.RETRY, MINUTE),
        (cos.CosAuthError("x"), RetryAction.FAIL, None),
        (cos.CosRegionError("x"), RetryAction.FAIL, None),
        (exports.SelectionError("x"), RetryAction.FAIL, None),
        (exports.ServerBusyError("x"), RetryAction.RETRY, MINUTE),
        (exports.OutcomeUnknownError("x"), RetryAction.RETRY, MINUTE),
        (exports.DuplicateTemplatesError("x", template_ids=[1, 2]), RetryAction.FAIL, None),
        (exports.ProofError("x", check_id="footer", key="k"), RetryAction.FAIL, None),
        (ConnectionProblem("x"), RetryAction.FAIL, None),
        (ServersFailed("x"), RetryAction.FAIL, None),
        (WaitFailed("x", reason="slow"), RetryAction.RETRY, MINUTE),
        (WaitFailedForGood("x", reason="zero-size"), RetryAction.FAIL, None),
        (RuntimeError("x"), RetryAction.DEFAULT, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_is_tried_again(error: Exception, action: RetryAction, delay: timedelta | None) -> None:
    decision = api_retry_policy(delay=MINUTE).evaluate(error, 1, 3)
    assert decision.action is action
    assert decision.retry_delay == delay
