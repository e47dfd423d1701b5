"""What deciding about thousands of servers costs: ``python -m benchmarks.retention [--servers N] [--exports N]``.

The facts are made up and held in memory, as a run would hold them; then every server is decided about, by a rule with
days, weeks, months and years. Gathering the facts is not measured here: it costs the listings, and a read for each
manifest. Prints JSON, and merges it into ``benchmarks/results/retention.json`` with ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from benchmarks.results_file import RESULTS, put_figures, put_run
from sealift.classic.models import Guest
from sealift.exports.retention.deciding import decide
from sealift.exports.retention.facts import ExportFacts, ServerFacts, TemplateFacts
from sealift.exports.retention.rules import read_rules

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RULE = {
    "name": "all",
    "servers": {"all": True},
    "keep_last": 7,
    "keep_daily": 14,
    "keep_weekly": 8,
    "keep_monthly": 12,
    "keep_yearly": 3,
}


def servers(count: int, exports: int) -> Iterator[ServerFacts]:
    """Make servers up, each with an export a day and three image templates.

    :param count: how many servers.
    :param exports: how many exports of each.
    :returns: the servers.
    """
    for guest_id in range(1, count + 1):
        made = [
            ExportFacts(
                export_id=f"{guest_id}-{number:05d}",
                captured_at=NOW - timedelta(days=exports - number, minutes=guest_id % 600),
                proven_at=NOW - timedelta(days=exports - number),
                proof_level="L1",
                template_id=guest_id * 1000 + number,
                bytes=10**10,
                objects=3,
                etag=f"{guest_id:016x}{number:016x}",
                images=f"nightly/images/web{guest_id}-{guest_id}/{guest_id}-{number:05d}",
            )
            for number in range(exports)
        ]
        templates = [
            TemplateFacts(id=one.template_id, export_id=one.export_id, created_at=one.captured_at) for one in made[-3:]
        ]
        server = Guest.model_construct(id=guest_id, hostname=f"web{guest_id}", domain=None, tag_references=[])
        yield ServerFacts(server=server, exports=made, templates=templates)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(count: int, exports: int) -> dict[str, float]:
    """Make the facts, and decide about all of them.

    :param count: how many servers.
    :param exports: how many exports of each.
    :returns: CPU seconds for the decision, the process's largest size in bytes with and before it, and what goes.
    """
    rules = read_rules([RULE])
    before = _peak()
    facts = list(servers(count, exports))
    held = _peak()
    began = time.process_time()
    verdicts = list(decide(facts, rules=rules, now=NOW))
    seconds = time.process_time() - began
    going = sum(not one.keep for verdict in verdicts for one in verdict.exports)
    return {
        "servers": count,
        "exports": count * exports,
        "going": going,
        "decision_cpu_seconds": round(seconds, 3),
        "peak_megabytes": round(_peak() / 1e6, 1),
        "peak_megabytes_of_facts": round((held - before) / 1e6, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=5000)
    parser.add_argument("--exports", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="merge the figures into benchmarks/results/retention.json")
    asked = parser.parse_args()
    found = measure(asked.servers, asked.exports)
    print(json.dumps(found, indent=2))
    if asked.keep:
        path = RESULTS / "retention.json"
        name = f"{asked.servers}x{asked.exports}"
        put_run(path, {"name": name, **found}, {"rule": RULE})
        put_figures(
            path,
            {
                "retention_cpu_seconds": found["decision_cpu_seconds"],
                "retention_peak_megabytes": found["peak_megabytes"],
                "retention_exports": found["exports"],
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
