"""The edges of an export's states, as points on the wire; names are what docs/reliability.md lists."""

from __future__ import annotations

from dataclasses import replace

from tests.chaos.real.stage import CAPTURE, PLAN, PROVE, WAVES, Edge

_CREATE, _COPY = "*createArchiveTemplate", "*copyToIcos"
_SLOT = r"offline-slots/"
_CLAIM = r"/claims/"
_MANIFEST = r"/manifests/"

PLAN_WRITTEN = Edge("plan: its plan is in the bucket", "cos", "PutObject", "forwarded", PLAN, r"/plans/[^/]+\.json")
WAVE_ASKED = Edge(
    "plan: the wave's run was asked for", "airflow", "*", "forwarded", WAVES, r"dag-runs/export_servers/[^/]+$"
)

SLOT_TAKEN = Edge("capture: its offline slot is taken", "cos", "PutObject", "answered", CAPTURE, _SLOT)
# Whoever stands here cannot have gone on: the answer to their note has not come back yet.
SLOT_WRITTEN = Edge(
    "capture: its offline slot is written, not answered", "cos", "PutObject", "forwarded", CAPTURE, _SLOT
)
CAPTURE_ARRIVED = Edge(
    "capture: createArchiveTemplate arrived", "classic", "*createArchiveTemplate", "arrived", CAPTURE
)
CAPTURE_DONE = Edge(
    "capture: createArchiveTemplate carried out, not answered",
    "classic",
    "*createArchiveTemplate",
    "forwarded",
    CAPTURE,
)
CAPTURE_ANSWERED = Edge(
    "capture: createArchiveTemplate answered", "classic", "*createArchiveTemplate", "answered", CAPTURE
)
CAPTURE_KEPT = Edge("capture: its template is remembered", "cos", "PutObject", "forwarded", CAPTURE, r"/captured/")
CAPTURE_PUSHED = Edge("capture: XCom pushed", "airflow", "xcoms:set", "forwarded", CAPTURE, "return_value")
CAPTURE_SUCCESS = Edge("capture: state:success arrived", "airflow", "state:success", "arrived", CAPTURE)
CAPTURE_SUCCEEDED = Edge("capture: state:success carried out", "airflow", "state:success", "forwarded", CAPTURE)

# A triggerer's process tells of no task, so that what follows is anybody's: these scenarios play alone.
EXPORT_CLAIMED = Edge("export: its claim is taken", "cos", "PutObject", "answered", "", _CLAIM)
CLAIM_WRITTEN = Edge("export: its claim is written, not answered", "cos", "PutObject", "forwarded", "", _CLAIM)
EXPORT_ARRIVED = Edge("export: copyToIcos arrived", "classic", _COPY, "arrived", "")
EXPORT_DONE = Edge("export: copyToIcos carried out, not answered", "classic", _COPY, "forwarded", "")
EXPORT_ANSWERED = Edge("export: copyToIcos answered", "classic", _COPY, "answered", "")

PROOF_READ = Edge("prove: a range of the image read", "cos", "GetObject", "answered", PROVE, r"disk-0\.vhd")
RECORD_PUT = Edge("prove: configuration record written", "cos", "PutObject", "answered", PROVE, r"server\.json")
MANIFEST_ARRIVED = Edge("prove: PutObject of the manifest arrived", "cos", "PutObject", "arrived", PROVE, _MANIFEST)
MANIFEST_DONE = Edge(
    "prove: PutObject of the manifest carried out, not answered", "cos", "PutObject", "forwarded", PROVE, _MANIFEST
)
PROVE_SUCCESS = Edge("prove: state:success arrived", "airflow", "state:success", "arrived", PROVE)

WORKER_EDGES = (
    PLAN_WRITTEN,
    WAVE_ASKED,
    SLOT_TAKEN,
    CAPTURE_ARRIVED,
    CAPTURE_DONE,
    CAPTURE_ANSWERED,
    CAPTURE_KEPT,
    CAPTURE_PUSHED,
    CAPTURE_SUCCESS,
    CAPTURE_SUCCEEDED,
    PROOF_READ,
    RECORD_PUT,
    MANIFEST_ARRIVED,
    MANIFEST_DONE,
    PROVE_SUCCESS,
)
"""Where a worker is killed, one scenario each."""


def anybodys(edge: Edge) -> Edge:
    """Make of a worker's edge one that is reached whoever does it.

    :param edge: where.
    """
    return replace(edge, task="")


CAPTURING_EDGES = tuple(
    anybodys(one) for one in (SLOT_TAKEN, CAPTURE_ARRIVED, CAPTURE_DONE, CAPTURE_ANSWERED, CAPTURE_KEPT)
)
EXPORTING_EDGES = (EXPORT_CLAIMED, EXPORT_ARRIVED, EXPORT_DONE, EXPORT_ANSWERED)
"""Where a triggerer is killed, one scenario each."""
