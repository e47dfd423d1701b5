"""The made-up year is what Sealift itself would find in such a bucket."""

from __future__ import annotations

from pathlib import Path

from benchmarks.ledger import Year, fill
from sealift.cos.client import CosClient
from sealift.exports.status.books import Books
from sealift.exports.status.coverage import Query, coverage
from sealift.exports.status.rows import State
from sealift.sandbox import Sandbox


def test_its_indexes_say_what_reading_everything_says(tmp_path: Path) -> None:
    with Sandbox(root=tmp_path, scenario="demo", seed=7, tls=True) as sandbox:
        year = Year(servers=300, slots=4, failed=0.1)
        for prefix, indexed in (("with", True), ("without", False)):
            year.indexed = indexed
            fill(sandbox.store, bucket=sandbox.bucket, region="us-south", prefix=prefix, year=year)
        extra = sandbox.connections()["ibm_cos_default"]
        cos = CosClient(
            region="us-south",
            endpoint_url=extra["host"],
            api_key=extra["password"],
            iam_endpoint=extra["extra"]["iam_endpoint"],
            verify=str(sandbox.tls.ca) if sandbox.tls else True,
        )
        books = {one: Books(cos=cos, bucket=sandbox.bucket, prefix=one) for one in ("with", "without")}
        found = {name: one.refresh() for name, one in books.items()}
        books["without"].fill_all([slot.period for slot in found["without"].slots], at_most=10_000)
        books["with"].fill_all([slot.period for slot in found["with"].slots], at_most=10_000)
        assert len(found["with"].slots) == 4
        for slot in found["with"].slots:
            ours, theirs = (found[one].rows[slot.period] for one in ("with", "without"))
            assert {n: row._replace(etag="") for n, row in ours.items()} == {
                n: row._replace(etag="") for n, row in theirs.items()
            }
        page = coverage(found["with"], Query(limit=10))
        assert page.total == 300
        assert set(page.slots[0].counts) == {State.EXPORTED, State.RUNNING, State.SKIPPED}
        assert set(page.slots[1].counts) == {State.EXPORTED, State.FAILED, State.SKIPPED}
        assert books["with"].write_index([found["with"].slots[1].period]) == [], "nothing to add"
