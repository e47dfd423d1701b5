"""Which failures are worth another try: the retry policy of every task that calls an API."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

if TYPE_CHECKING:
    from sealift.provider.settings import Settings

FINAL = (
    "sealift.classic.errors.ClassicAuthError",
    "sealift.classic.errors.ClassicPermissionError",
    "sealift.classic.errors.ClassicNotFoundError",
    "sealift.cos.errors.CosAuthError",
    "sealift.cos.errors.CosPermissionError",
    "sealift.cos.errors.CosNotFoundError",
    "sealift.cos.errors.CosRegionError",
    "sealift.exports.errors.ExportsError",
    "sealift.transfer.errors.NoSpaceError",
    "sealift.transfer.errors.ReplacedError",
    "sealift.provider.errors.ConnectionProblem",
    "sealift.provider.errors.WaitFailedForGood",
    "sealift.provider.errors.ServersFailed",
)

PASSING = (
    "sealift.classic.errors.ClassicTransientError",
    "sealift.classic.errors.ClassicActiveTransactionError",
    "sealift.classic.errors.ClassicLoadError",
    "sealift.classic.errors.ClassicOutcomeUnknownError",
    "sealift.cos.errors.CosTransientError",
    "sealift.exports.errors.RetryableStepError",
    "sealift.exports.errors.UnsettledProofError",
    "sealift.provider.errors.RetentionUnfinished",
    "sealift.provider.errors.WaitFailed",
)


def api_retry_policy(*, delay: timedelta = timedelta(minutes=1)) -> ExceptionRetryPolicy:
    """Tell errors that pass from errors that stay.

    The task's ``retries`` bound the tries; an error that neither list names is retried as Airflow does by default.
    The classes are named by their paths, so that making a DAG imports neither client.

    The first rule that matches decides: what passes stands before the families that it belongs to.

    :param delay: how long to wait before another try; three times as long after a rate limit.
    :returns: the policy, for an operator's ``retry_policy``.
    """
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception="sealift.classic.errors.ClassicRateLimitedError",
                action=RetryAction.RETRY,
                retry_delay=3 * delay,
                reason="The account's request rate was exceeded.",
            ),
            RetryRule(
                exception=list(PASSING),
                action=RetryAction.RETRY,
                retry_delay=delay,
                reason="The fault may pass; the next try looks before it does anything.",
            ),
            RetryRule(
                exception=list(FINAL),
                action=RetryAction.FAIL,
                reason="Another try would end the same way: a person has to change something first.",
            ),
        ]
    )


def task_defaults(settings: Settings) -> dict[str, Any]:
    """Say what every task of Sealift's DAGs begins with, as the deployment has set it.

    :param settings: of the deployment.
    :returns: for a DAG's ``default_args``.
    """
    delay = timedelta(seconds=settings.retry_delay)
    return {
        "owner": settings.owner,
        "retries": settings.retries,
        "retry_delay": delay,
        "retry_policy": api_retry_policy(delay=delay),
    }
