"""What metrics arrive at: a StatsD server and an OpenTelemetry collector on loopback, and a process's metrics set up as
Airflow sets them up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from sealift.provider.metrics import METRICS, Metric

PREFIX = "airflow."


class StatsdServer:
    """Receives lines over UDP and keeps them; a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port: int = self._socket.getsockname()[1]
        self._lines: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                datagram = self._socket.recv(65536)
            except TimeoutError:
                continue
            self._lines += datagram.decode().splitlines()

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's settings that send here."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
        }

    def lines(self) -> list[str]:
        """Sealift's own lines, so far."""
        return [one for one in self._lines if one.startswith(f"{PREFIX}sealift.")]

    def until(self, arrived: Callable[[list[str]], bool], *, seconds: float = 10.0) -> list[str]:
        """Wait for lines, and give all there are; the caller says what is missing, if they do not come."""
        deadline = time.monotonic() + seconds
        while not arrived(self.lines()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.lines()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()


class Line:
    """One line of plain StatsD, taken apart: ``airflow.<name of a declared metric>.<its tags>:<value>|<kind>``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.full, _, rest = text.partition(":")
        self.value, _, self.kind = rest.partition("|")
        name = self.full.removeprefix(PREFIX)
        (self.metric,) = [one for one in METRICS if name == one.name or name.startswith(f"{one.name}.")]
        values = name.removeprefix(self.metric.name).split(".")[1:]
        self.tags: dict[str, str] = dict(zip(self.metric.tags, values, strict=True))


def metrics_of(lines: list[str]) -> set[Metric]:
    """The metrics that lines of plain StatsD are of."""
    return {Line(one).metric for one in lines}


class Collector:
    """Receives metrics by OTLP over HTTP; a context manager."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, ExportMetricsServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def settings(self) -> dict[str, str]:
        """The settings that send here."""
        return {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_address[1]}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        }

    def metrics(self) -> dict[str, Any]:
        """What arrived, by name."""
        return {
            metric.name: metric
            for path, request in self.requests
            if path == "/v1/metrics"
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def as_in_a_task() -> Iterator[Any]:
    """Set up metrics as ``airflow.sdk.execution_time.task_runner.main`` does it, and put all back."""
    from airflow.sdk._shared.observability.metrics import stats
    from airflow.sdk.observability.metrics import stats_utils

    with _set_up(stats, stats_utils.get_stats_factory()):
        yield stats


@contextmanager
def as_in_the_triggerer() -> Iterator[Any]:
    """Set up metrics as ``airflow.jobs.triggerer_job_runner`` does it, and put all back."""
    from airflow._shared.observability.metrics import stats
    from airflow.observability.metrics import stats_utils

    with _set_up(stats, stats_utils.get_stats_factory()):
        yield stats


@contextmanager
def _set_up(stats: Any, factory: Any) -> Iterator[None]:
    kept = (stats._factory, stats._backend, stats._export_legacy_names)
    stats.initialize(factory=factory, export_legacy_names=True)
    try:
        yield
    finally:
        stats._factory, stats._backend, stats._export_legacy_names = kept
