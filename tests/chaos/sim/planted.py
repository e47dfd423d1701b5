"""Bugs that people make, put into the product on purpose: the checker has to catch each of them.

Each replaces a function of the product by one that an author in a hurry might have written. They change the running
process only, after it has found the points of a clean run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sealift.classic.errors import ClassicOutcomeUnknownError
from sealift.cos.models import ObjectInfo
from sealift.exports import capturing, names, offline, proving, slots, steps, waiting
from sealift.exports.capturing import Captured
from sealift.exports.errors import OfflineCapReached
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import ManifestDisk
from tests.chaos.sim import play


def _blind() -> None:
    """Submits without a look before, and again at once where no reply comes."""

    def ensure_captured(*, classic: Any, item: Any, settings: Any, gate: Any, **_: Any) -> Captured:
        with gate.admit(classic, item) as admission:
            admission.submitting()
            template = None
            while template is None:
                try:
                    template = classic.capture(
                        item.guest_id,
                        name=item.template_name,
                        block_device_ids=[disk.block_device_id for disk in item.disks],
                        note=names.template_note(export=item.export_id, bucket=settings.bucket, key_prefix=item.images),
                    )
                except ClassicOutcomeUnknownError:
                    continue
            return Captured(
                template_id=template.id,
                guest_id=item.guest_id,
                export_id=item.export_id,
                adopted=False,
                disk_count=len(item.disks),
            )

    steps.ensure_captured = ensure_captured


class _Admitted:
    certain_at = datetime.max.replace(tzinfo=UTC)

    def submitting(self) -> None:
        """Nothing holds it up."""

    def refused(self) -> None:
        """Nothing to give back."""


def _pool_only() -> None:
    """Counts the tasks of captures that Airflow has running or waiting, as a pool with deferred tasks in it does."""

    @contextmanager
    def admit(self: Any, classic: Any, item: Any) -> Iterator[Any]:
        playing = play.playing
        assert playing is not None
        busy = [
            one
            for one in playing.airflow.tasks()
            if one.step in {"capture", "wait_for_template"}
            and one.state in {"running", "deferred"}
            and one.run.servers[one.index]["guest_id"] != item.guest_id
            and (one.step == "wait_for_template" or "return_value" in one.xcoms)
        ]
        if len(busy) >= self._max_offline:
            raise OfflineCapReached("The pool is full.", in_flight=len(busy), max_offline=self._max_offline)
        yield _Admitted()

    slots.OfflineSlots.admit = admit


def _account_only() -> None:
    """Asks the account how many are offline, and orders nobody who asks at the same time."""

    @contextmanager
    def admit(self: Any, classic: Any, item: Any) -> Iterator[Any]:
        seen = offline.look_at_account(classic, holders=(), now=datetime.now(UTC), slack=timedelta(0))
        others = seen.offline - {item.guest_id}
        if len(others) >= self._max_offline:
            raise OfflineCapReached("The account is full.", in_flight=len(others), max_offline=self._max_offline)
        yield _Admitted()

    slots.OfflineSlots.admit = admit


def _early_manifest() -> None:
    """Writes the manifest first, from what the listing shows, and proves the images afterwards."""
    prove_disk, prove_and_record = proving._prove_disk, proving.prove_and_record

    def early(**arguments: Any) -> Any:
        proving._prove_disk = _unproven
        try:
            recorded = prove_and_record(**arguments)
        finally:
            proving._prove_disk = prove_disk
        return recorded

    steps.prove_and_record = early


def _unproven(item: Any, index: int, info: ObjectInfo, *_: Any, **__: Any) -> ManifestDisk:
    planned = item.disks[index]
    return ManifestDisk.model_construct(
        index=index,
        device=planned.device,
        key=info.key,
        size=info.size,
        virtual_size=planned.capacity_bytes,
        capacity=planned.capacity,
        units=planned.units,
        format="vhd",
        etag=info.etag,
        parts=info.parts,
        part_size=None,
        crc64nvme=None,
        uploaded_at=info.last_modified,
        footer_uuid="00000000-0000-0000-0000-000000000000",
        creator="",
        partition_table="mbr",
        partitions=[],
        proof_level="L1",
        checks=[],
        proof_bytes_read=0,
        proof_requests=0,
    )


def _trusting() -> None:
    """Takes a transaction that is gone for an export that is done, and what is not there for what comes later."""
    observe = waiting.ExportJudge.observe

    def trusting(self: Any, *, template: Any, objects: Any, now: Any) -> Any:
        idle = template is not None and not template.transactions_left and not waiting._transactions(template)
        if idle and now - self.terms.started_at > timedelta(minutes=2):
            return self._done(waiting.ReasonCode.EXPORTED, "The transaction is gone.")
        return observe(self, template=template, objects=objects, now=now)

    def look(cos: Any, item: Any, bucket: str, *, with_part_size: bool = False) -> list[ObjectInfo]:
        return [
            cos.head(bucket, key) or ObjectInfo(key=key, size=1, etag="0" * 32, last_modified=datetime.now(UTC))
            for key in item.disk_keys
        ]

    waiting.ExportJudge.observe = trusting
    proving._look = look
    proving._prove_disk = _unproven


def _impatient() -> None:
    """Takes a slot of its own export for free at once, however young: what was submitted last may still show late."""

    def earlier(self: Any, seen: Any, item: Any) -> int | None:
        return next(
            (
                number
                for number, holding in seen.slots.items()
                if holding.held and holding.entry.export_id == item.export_id
            ),
            None,
        )

    slots.OfflineSlots._earlier = earlier


def _frees_on_failure() -> None:
    """Gives the offline slot back whenever its task fails, and takes a slot that was given back for free."""

    @contextmanager
    def admit(self: Any, classic: Any, item: Any) -> Iterator[Any]:
        taken = self._take(classic, item)
        try:
            yield taken
        except BaseException:
            taken.give_back()
            raise

    slots.OfflineSlots.admit = admit


def _overwriting() -> None:
    """Writes the manifest whether or not there is one."""

    def read_manifest(*_: Any, **__: Any) -> None:
        return None

    def write(cos: Any, manifest: Any, item: Any, bucket: str, key: str) -> Any:
        cos.put(bucket, key, canonical_json(manifest))
        return proving._recorded(manifest, key, already=False)

    proving.read_manifest = read_manifest
    proving._write_manifest = write


def _talkative() -> None:
    """Logs what it calls with."""
    ensure = steps.ensure_export_started

    def talkative(**arguments: Any) -> Any:
        logging.getLogger("sealift.exports").info("Exporting with %s", arguments)
        return ensure(**arguments)

    steps.ensure_export_started = talkative


def _does_not_look() -> None:
    """Relies on the slot alone: whatever the account holds, it does not find the export's template."""

    def find_template(classic: Any, item: Any) -> Any:
        return None

    capturing.find_template = find_template


_PLANTS: Final[dict[str, Callable[[], None]]] = {
    "blind": _blind,
    "pool-only": _pool_only,
    "account-only": _account_only,
    "early-manifest": _early_manifest,
    "trusting": _trusting,
    "impatient": _impatient,
    "frees-on-failure": _frees_on_failure,
    "overwriting": _overwriting,
    "talkative": _talkative,
    "does-not-look": _does_not_look,
}


def plant(name: str) -> None:
    """Put a bug into the product, for the rest of this process.

    :param name: one of :data:`tests.chaos.sim.bugs.BUGS`.
    """
    _PLANTS[name]()
