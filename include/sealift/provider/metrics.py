"""What Sealift counts and times, through Airflow's own metrics: each name, its tags and its meaning stand here alone.

Airflow 3.3 sends metrics by StatsD, DogStatsD or OpenTelemetry, as ``[metrics]`` says, and nowhere by default. What
cannot be sent is lost and said once: no metric ever fails a task, a trigger or a poll.

Plain StatsD knows no tags. There the values of the tags stand behind the name, in the order declared here, as
``sealift.exports.exported.dal13``. Tags have few values: no host names and no ids.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from sealift.provider.errors import WaitEnded

if TYPE_CHECKING:
    from sealift.exports.manifest import Manifest
    from sealift.exports.retention.models import Outcome

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What Airflow does with a metric."""

    COUNTER = "counter"
    TIMER = "timer"


OTHER: Final = "other"
"""The value of a tag that has none of those that are declared."""

UNKNOWN: Final = "unknown"
"""The value of a tag that nothing is known for."""

DATACENTER: Final = re.compile(r"[a-z]{2,4}[0-9]{1,3}")
"""Short names of data centers, as dal13."""

FAULT: Final = re.compile(r"[A-Z][A-Za-z]{2,50}|[a-z]+(-[a-z]+){0,6}")
"""Classes of Sealift's own errors, and reasons of waits that ended badly, as stuck."""

STEPS: Final = (
    "capture",
    "wait_for_template",
    "wait_for_export",
    "plan",
    "deliver",
    "prove",
    "retention",
    "examine",
    "drill",
)
OUTCOMES: Final = ("exported", "already-exported", "not-exportable", "failed")
LEVELS: Final = ("L0", "L1", "L2", "L3", "L4")

_Allowed = tuple[str, ...] | re.Pattern[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """One metric.

    :param name: its name, without the prefix that Airflow adds (``airflow.``).
    :param kind: counter or timer.
    :param unit: what is counted; timers are handed over in milliseconds, as Airflow does it everywhere.
    :param tags: its tags in order, and the values that each may have.
    :param meaning: what it tells, in a sentence.
    """

    name: str
    kind: Kind
    unit: str
    tags: Mapping[str, _Allowed]
    meaning: str


def _counter(name: str, unit: str, meaning: str, **tags: _Allowed) -> Metric:
    return Metric(name=f"sealift.{name}", kind=Kind.COUNTER, unit=unit, tags=tags, meaning=meaning)


def _timer(name: str, meaning: str, **tags: _Allowed) -> Metric:
    return Metric(name=f"sealift.{name}", kind=Kind.TIMER, unit="milliseconds", tags=tags, meaning=meaning)


EXPORTS: Final = _counter("exports", "servers", "How selected servers ended.", outcome=OUTCOMES, datacenter=DATACENTER)
EXPORT_BYTES: Final = _counter(
    "export_bytes", "bytes", "Images that were proven and recorded in a manifest.", datacenter=DATACENTER
)
SUBMISSIONS: Final = _counter(
    "submissions",
    "submissions",
    "Captures and exports that were submitted to the account, or found there and taken up.",
    step=("capture", "export"),
    outcome=("submitted", "adopted"),
    datacenter=DATACENTER,
)
CAPTURE_DURATION: Final = _timer(
    "capture_duration", "From a template's creation to the first poll that saw it whole.", datacenter=DATACENTER
)
EXPORT_DURATION: Final = _timer(
    "export_duration", "From an export's submission to its last object's completion.", datacenter=DATACENTER
)
SERVER_DURATION: Final = _timer(
    "server_duration", "From a capture's begin to the end of the proof: a server's whole way.", datacenter=DATACENTER
)
WAIT_DURATION: Final = _timer(
    "wait_duration",
    "How long a step waited without a worker.",
    what=("slot", "window", "template", "turn", "export", "moment"),
    outcome=("done", "failed"),
)
POLL_DURATION: Final = _timer(
    "poll_duration", "One look at the account and the bucket for all that wait.", outcome=("answered", "failed")
)
RETRIES: Final = _counter(
    "retries", "calls", "Calls that were tried again after a passing fault.", api=("classic", "cos"), fault=FAULT
)
FAULTS: Final = _counter("faults", "tries", "Tries of tasks that ended with an error.", step=STEPS, fault=FAULT)
PROOFS: Final = _counter(
    "proofs",
    "exports",
    "Exports that were proven, or were not what they should be.",
    level=LEVELS,
    outcome=("proven", "failed"),
)
PROOF_DURATION: Final = _timer("proof_duration", "How long a proof took.", level=LEVELS, outcome=("proven", "failed"))
DELIVERIES: Final = _counter(
    "deliveries",
    "exports",
    "Exports that were brought to their place, or were not.",
    to=("folder", "s3"),
    outcome=("delivered", "failed"),
)
DELIVERY_DURATION: Final = _timer(
    "delivery_duration", "How long a delivery took.", to=("folder", "s3"), outcome=("delivered", "failed")
)
DELIVERY_BYTES: Final = _counter(
    "delivery_bytes", "bytes", "Bytes that came out of the bucket for a delivery.", to=("folder", "s3")
)
REMOVALS: Final = _counter(
    "removals",
    "removals",
    "What came of exports, image templates and unfinished uploads that were to go.",
    what=("export", "template", "upload"),
    outcome=("removed", "gone", "taken-back", "kept-now", "changed", "protected", "refused", "unfinished"),
)
REMOVED_BYTES: Final = _counter(
    "removed_bytes", "bytes", "Bytes of objects that retention deleted.", what=("export", "template", "upload")
)
DRILLS: Final = _counter("drills", "exports", "Restore drills.", outcome=("restored", "failed"))
DRILL_DURATION: Final = _timer(
    "drill_duration", "How long a restore drill took: the time to recover.", outcome=("restored", "failed")
)

METRICS: Final = (
    EXPORTS,
    EXPORT_BYTES,
    SUBMISSIONS,
    CAPTURE_DURATION,
    EXPORT_DURATION,
    SERVER_DURATION,
    WAIT_DURATION,
    POLL_DURATION,
    RETRIES,
    FAULTS,
    PROOFS,
    PROOF_DURATION,
    DELIVERIES,
    DELIVERY_DURATION,
    DELIVERY_BYTES,
    REMOVALS,
    REMOVED_BYTES,
    DRILLS,
    DRILL_DURATION,
)
"""Every metric there is."""

_told: set[type[Exception]] = set()


def tags_travel() -> bool:
    """Say whether tags reach where Airflow sends metrics to: they do not with plain StatsD.

    :returns: whether they do; also where Airflow sends nothing.
    """
    if conf.getboolean("metrics", "statsd_datadog_enabled", fallback=False):
        return True
    if conf.getboolean("metrics", "statsd_on", fallback=False):
        return bool(conf.getboolean("metrics", "statsd_influxdb_enabled", fallback=False))
    return True


def send(metric: Metric, value: float, **tags: str | None) -> None:
    """Count or time something. Never raises.

    :param metric: one of :data:`METRICS`.
    :param value: how many, or how many seconds.
    :param tags: the values of its tags; what is not one of those declared is told as ``other``.
    """
    try:
        told = {name: _value(allowed, tags.get(name)) for name, allowed in metric.tags.items()}
        name, stats = metric.name, _stats()
        if not tags_travel():
            name, told = ".".join((name, *told.values())), {}
        if metric.kind is Kind.COUNTER:
            stats.incr(name, round(value), tags=told)
        else:
            stats.timing(name, value * 1000, tags=told)
    except Exception as error:  # noqa: BLE001 - whatever a metrics backend raises, the export goes on; it is logged
        if type(error) not in _told:
            _told.add(type(error))
            log.warning("The metric %s could not be sent: %s: %s", metric.name, type(error).__name__, error)


def _value(allowed: _Allowed, value: str | None) -> str:
    if not value:
        return UNKNOWN
    known = value in allowed if isinstance(allowed, tuple) else allowed.fullmatch(value)
    return value if known else OTHER


def _stats() -> Any:
    """Give the functions that send.

    Airflow 3.3 has them twice, each with a state of its own. Those of the SDK are ready in the process of a task, and
    wherever its serialization was imported, as in the triggerer; Airflow's own are ready in its components, and in
    tasks' processes that are forks of one. The SDK's go first, so that nothing is sent twice.
    """
    from airflow.sdk.observability import stats as of_tasks

    # Nothing public says whether they are ready; those that are not count into nothing.
    if getattr(sys.modules[of_tasks.incr.__module__], "_factory", None) is not None:
        return of_tasks
    from airflow.observability import stats as of_components

    return of_components


def fault_of(error: BaseException) -> str:
    """Name an error for a tag: the reason of a wait that ended badly, or else its class where that is Sealift's own.

    :param error: the error.
    :returns: the name.
    """
    if isinstance(error, WaitEnded):
        return error.reason
    return type(error).__name__ if type(error).__module__.startswith("sealift.") else OTHER


@contextmanager
def counting_faults(step: str) -> Iterator[None]:
    """Count what ends a try with an error.

    :param step: one of :data:`STEPS`.
    :raises Exception: whatever was raised inside.
    """
    try:
        yield
    except (TaskDeferred, AirflowSkipException):
        raise
    except Exception as error:
        send(FAULTS, 1, step=step, fault=fault_of(error))
        raise


def count_server(outcome: str, *, datacenter: str | None) -> None:
    """Count how a selected server ended.

    :param outcome: one of :data:`OUTCOMES`; a space stands for a dash.
    :param datacenter: its data center, if that is known.
    """
    send(EXPORTS, 1, outcome=outcome.replace(" ", "-"), datacenter=datacenter)


def count_submission(step: str, *, adopted: bool, datacenter: str | None) -> None:
    """Count a capture or an export that was submitted, or found.

    :param step: ``capture`` or ``export``.
    :param adopted: whether it was found.
    :param datacenter: the server's data center, if that is known.
    """
    send(SUBMISSIONS, 1, step=step, outcome="adopted" if adopted else "submitted", datacenter=datacenter)


def count_export(manifest: Manifest) -> None:
    """Count an export that is done, with its bytes and how long it took.

    :param manifest: its manifest, which was just written.
    """
    datacenter = manifest.guest.datacenter
    count_server("exported", datacenter=datacenter)
    send(EXPORT_BYTES, manifest.total_bytes, datacenter=datacenter)
    timing = manifest.timing
    if timing is not None and timing.capture is not None:
        send(CAPTURE_DURATION, timing.capture.seconds, datacenter=datacenter)
    if timing is not None and timing.export is not None:
        send(EXPORT_DURATION, timing.export.seconds, datacenter=datacenter)
    seconds = (manifest.proven_at - manifest.captured_at).total_seconds()
    send(SERVER_DURATION, max(0.0, seconds), datacenter=datacenter)


def count_wait(what: str, seconds: float, *, failed: bool = False) -> None:
    """Time a wait that is over.

    :param what: what was waited for.
    :param seconds: how long.
    :param failed: whether it ended badly.
    """
    send(WAIT_DURATION, max(0.0, seconds), what=what, outcome="failed" if failed else "done")


def count_poll(seconds: float, *, failed: bool) -> None:
    """Time a look at the account and the bucket.

    :param seconds: how long it took.
    :param failed: whether something could not be looked at.
    """
    send(POLL_DURATION, seconds, outcome="failed" if failed else "answered")


def count_classic_retry(error: Exception) -> None:
    """Count a call of the Classic API that is tried again.

    :param error: why.
    """
    send(RETRIES, 1, api="classic", fault=fault_of(error))


def count_cos_retry(error: Exception) -> None:
    """Count a call of the object store that is tried again.

    :param error: why.
    """
    send(RETRIES, 1, api="cos", fault=fault_of(error))


@contextmanager
def timing_proof(level: str) -> Iterator[Proof]:
    """Count and time a proof; one that is begun and found to be done already is left out, see :class:`Proof`.

    :param level: the level that is asked for.
    :returns: what takes note of the level that was reached.
    :raises Exception: whatever was raised inside; counted as failed where an image is not what it should be.
    """
    from sealift.exports.errors import ProofError, UnsettledProofError

    proof, began = Proof(level), time.monotonic()
    try:
        yield proof
    except ProofError as error:
        if not isinstance(error, UnsettledProofError):
            proof.send("failed", time.monotonic() - began)
        raise
    if not proof.done_before:
        proof.send("proven", time.monotonic() - began)


class Proof:
    """A proof that is being counted.

    :param level: the level that is asked for; set it to the one that was reached.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        self.done_before = False

    def send(self, outcome: str, seconds: float) -> None:
        """Count and time it.

        :param outcome: ``proven`` or ``failed``.
        :param seconds: how long it took.
        """
        send(PROOFS, 1, level=self.level, outcome=outcome)
        send(PROOF_DURATION, seconds, level=self.level, outcome=outcome)


@contextmanager
def timing_delivery(to: str) -> Iterator[None]:
    """Count and time the delivery of one export.

    :param to: the place, a folder or ``s3://…``.
    :raises Exception: whatever was raised inside.
    """
    began, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "delivered"
    finally:
        send(DELIVERIES, 1, to=place_of(to), outcome=outcome)
        send(DELIVERY_DURATION, time.monotonic() - began, to=place_of(to), outcome=outcome)


def place_of(to: str) -> str:
    """Say what kind of place exports are delivered to.

    :param to: a folder or ``s3://…``.
    :returns: ``folder`` or ``s3``.
    """
    return "s3" if to.startswith("s3://") else "folder"


def count_removal(outcome: Outcome) -> None:
    """Count what came of something that was to go.

    :param outcome: what came of it.
    """
    what = "upload" if outcome.upload_id else "template" if outcome.template_id else "export"
    send(REMOVALS, 1, what=what, outcome=outcome.done.value)
    if outcome.bytes:
        send(REMOVED_BYTES, outcome.bytes, what=what)


def count_drill(outcome: str, seconds: float) -> None:
    """Count a restore drill, and time how long it took to recover.

    :param outcome: ``restored`` or ``failed``.
    :param seconds: how long it took.
    """
    send(DRILLS, 1, outcome=outcome)
    send(DRILL_DURATION, max(0.0, seconds), outcome=outcome)
