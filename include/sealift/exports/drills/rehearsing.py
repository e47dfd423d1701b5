"""One rehearsal: an export is brought out of the bucket into a scratch folder, proven there, and the time is kept.

The order of things: the download, which compares every digest with the manifest and with earlier readings; the proof of
what lies on this machine's disk; the proof beside the manifest; the rehearsal's own record. Another try of the same
drill finds what an earlier one wrote, and does not bring anything twice for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from pydantic import ValidationError

from sealift.cos.errors import CosError, CosNotFoundError, CosPreconditionError, CosTransientError
from sealift.cos.models import PutOutcome
from sealift.exports import names
from sealift.exports.delivery import Delivered, Delivery, Watcher, file_name
from sealift.exports.delivery_images import DeliversFrom
from sealift.exports.delivery_places import FolderPlace, How
from sealift.exports.drills.choosing import list_rehearsals
from sealift.exports.drills.keys import Outcome, rehearsal_key
from sealift.exports.drills.models import Chosen, Rehearsal
from sealift.exports.drills.scratch import folder_name, scratch_folder
from sealift.exports.errors import (
    DeliveryError,
    LedgerError,
    ProofError,
    RehearsalBrokenOffError,
    RehearsalFailedError,
    RehearsalUnfinishedError,
    SettingsError,
    StepError,
)
from sealift.exports.jsontext import canonical_json
from sealift.exports.looking import real_clock
from sealift.exports.manifest import Manifest, ManifestCheck, ManifestDisk, is_marked, parse_manifest
from sealift.exports.ports import Clock, CosApi
from sealift.exports.proofs import (
    LaterProof,
    ProvenBytes,
    ProvenRecovery,
    add_proof,
    known_digests,
    proven_bytes,
    read_proofs,
)
from sealift.exports.proving import Progress, known_of
from sealift.exports.proving_later import as_proven
from sealift.exports.proving_servers import ProvenServer, ServerImages, prove_server
from sealift.images.emulator import EmulatorError, find_emulator
from sealift.images.proof import ProofFailed, prove_image
from sealift.images.source import FileSource, ImageFormatError
from sealift.images.verdict import ProofLevel
from sealift.transfer.errors import DigestError, InUseError, ReplacedError, TransferError

_BAD_EXPORT: Final = (
    ProofFailed,
    ProofError,
    DeliveryError,
    LedgerError,
    SettingsError,
    DigestError,
    ReplacedError,
    ImageFormatError,
    CosNotFoundError,
    CosPreconditionError,
)
"""These say that the export does not come back; all others, that this machine could not bring it."""

_PASSES: Final = (CosTransientError, InUseError)
_NEXT: Final = "The next drill takes this server first."


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all rehearsals of a drill share.

    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :param drill_id: the drill.
    :param made_by: what rehearses: a DAG run, or a command.
    :param scratch: where files are kept meanwhile, see :func:`sealift.exports.drills.scratch.scratch_root`.
    :param level: how deep exports are proven: L2, L3 or L4.
    :param how: how bytes are brought.
    """

    bucket: str
    prefix: str
    drill_id: str
    made_by: str
    scratch: Path
    level: ProofLevel = ProofLevel.L4
    how: How | None = None


@dataclass(frozen=True, kw_only=True)
class _Restored:
    """What was found of an export that came back."""

    level: ProofLevel
    disks: list[ProvenBytes]
    server: ProvenServer | None
    recovery: ProvenRecovery


class Rehearser:
    """Rehearses exports of one bucket.

    :param cos: the object store.
    :param terms: what all rehearsals share.
    :param watcher: is told how downloads go on.
    :param progress: told how far the reading of what arrived is.
    :param clock: tells the time, in UTC.
    :param monotonic: a clock for durations, in seconds.
    """

    def __init__(
        self,
        *,
        cos: DeliversFrom,
        terms: Terms,
        watcher: Watcher,
        progress: Progress | None = None,
        clock: Clock = real_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cos = cos
        self._terms = terms
        self._watcher = watcher
        self._progress = progress
        self._clock = clock
        self._monotonic = monotonic

    def rehearse(self, chosen: Chosen) -> Rehearsal:
        """Bring an export back, prove it, and note what came of it.

        :param chosen: the export.
        :returns: what came of it: it passed, or was deleted meanwhile.
        :raises RehearsalFailedError: it did not come back.
        :raises RehearsalUnfinishedError: it could not be rehearsed here.
        :raises RehearsalBrokenOffError: the same, but another try may get further.
        """
        done = self._found(chosen)
        if done is not None:
            return done
        try:
            return self._rehearse(chosen)
        except _BAD_EXPORT as error:
            if self._is_gone(chosen):
                return self._ended(chosen, Outcome.GONE, words="The export was deleted after it had been chosen.")
            self._failed(chosen, error)
        except (TransferError, CosError, StepError, OSError) as error:
            if self._is_gone(chosen):
                return self._ended(chosen, Outcome.GONE, words="The export was deleted after it had been chosen.")
            self._unfinished(chosen, error)

    # -- the rehearsal -------------------------------------------------------------------------------------------------

    def _rehearse(self, chosen: Chosen) -> Rehearsal:
        body = self._read(chosen)
        if body is None or is_marked(body):
            return self._ended(chosen, Outcome.GONE, words="The export was deleted after it had been chosen.")
        terms = self._terms
        manifest = parse_manifest(body, bucket=terms.bucket, key=self._key(chosen))
        if manifest.export_id != chosen.export_id:
            raise LedgerError(
                f"{terms.bucket}/{self._key(chosen)} is the manifest of {manifest.export_id}. Look at who wrote it."
            )
        proofs = read_proofs(self._cos, bucket=terms.bucket, prefix=terms.prefix, manifest=manifest)
        for one in proofs:
            if one.recovery is not None and one.recovery.drill_id == terms.drill_id:
                # An earlier try got so far, and no further.
                return self._passed(chosen, one, self._key_of(manifest, one))
        digests = known_digests(manifest, proofs)
        name = folder_name(export_id=chosen.export_id, drill_id=terms.drill_id)
        with scratch_folder(terms.scratch, name) as folder:
            restored = self._restored(manifest, body, folder, digests)
        if self._is_gone(chosen):
            return self._ended(chosen, Outcome.GONE, words="The export was deleted while it was rehearsed.")
        proof = LaterProof(
            export_id=manifest.export_id,
            made_at=self._clock(),
            made_by=terms.made_by,
            proof_level=restored.level,
            disks=restored.disks,
            content=restored.server.content if restored.server else None,
            boot=restored.server.boot if restored.server else None,
            recovery=restored.recovery,
        )
        key = add_proof(self._cos, proof, bucket=terms.bucket, prefix=terms.prefix, manifest=manifest)
        return self._passed(chosen, proof, key)

    def _restored(self, manifest: Manifest, body: bytes, folder: Path, digests: Mapping[str, str]) -> _Restored:
        began_at, began = self._clock(), self._monotonic()
        delivered = Delivery(
            cos=self._cos,
            manifest=manifest,
            body=body,
            place=FolderPlace(folder),
            watcher=self._watcher,
            how=self._terms.how,
            digests=digests,
            prefix=self._terms.prefix,
            made_by=self._terms.made_by,
            clock=self._clock,
        ).run()
        arrived = self._monotonic()
        disks = [self._bytes(manifest, disk, folder, delivered) for disk in manifest.disks]
        level, server, not_deeper = ProofLevel.L2, None, ""
        if self._terms.level > ProofLevel.L2:
            server, not_deeper = self._server(manifest, folder)
            level = server.level
        ended = self._monotonic()
        tries = server.boot.tries if server is not None and server.boot is not None else []
        files = delivered.files
        return _Restored(
            level=level,
            disks=disks,
            server=server,
            recovery=ProvenRecovery(
                drill_id=self._terms.drill_id,
                began_at=began_at,
                seconds=_rounded(ended - began),
                download_seconds=_rounded(arrived - began),
                proof_seconds=_rounded(max(0.0, ended - arrived - sum(one.seconds for one in tries))),
                boot_seconds=tries[-1].seconds if level is ProofLevel.L4 else None,
                bytes=sum(one.size for one in files),
                resumed_bytes=sum(one.size if one.already else one.resumed for one in files),
                not_deeper=not_deeper,
            ),
        )

    def _bytes(self, manifest: Manifest, disk: ManifestDisk, folder: Path, delivered: Delivered) -> ProvenBytes:
        """Read an image once more where it arrived: every byte, against what the store says of the object."""
        name = file_name(disk)
        where = f"{manifest.bucket}/{disk.key}, disk {disk.device} of {manifest.guest.hostname}"
        info = as_proven(self._cos, manifest, disk, where)
        sha256 = next(one.sha256 for one in delivered.files if one.name == name)
        with FileSource(folder / name) as source:
            proof = prove_image(
                source,
                expected_capacity_bytes=None,
                boot_disk=disk.device == "0",
                level=ProofLevel.L2,
                known=known_of(info, sha256=sha256),
                passed=None if self._progress is None else partial(self._progress, disk.key, disk.size),
            )
        assert proof.sha256 is not None
        checks = [ManifestCheck(id=one.id, detail=one.detail) for one in proof.checks]
        return proven_bytes(disk, sha256=proof.sha256, crc64nvme=proof.crc64nvme, checks=checks)

    def _server(self, manifest: Manifest, folder: Path) -> tuple[ProvenServer, str]:
        """Prove the server as deep as it is asked for and this machine can; say why not deeper."""
        wanted, why = self._terms.level, ""
        if wanted is ProofLevel.L4:
            try:
                find_emulator()
            except EmulatorError as error:
                wanted, why = ProofLevel.L3, f"Not started: {error}"
        sources = [FileSource(folder / file_name(disk)) for disk in manifest.disks]
        try:
            images = ServerImages(
                hostname=manifest.guest.hostname,
                guest_id=manifest.guest.id,
                period=manifest.period,
                bucket=manifest.bucket,
                prefix=self._terms.prefix,
                disks=manifest.disks,
                sources=sources,
            )
            try:
                found = prove_server(self._cos, images, level=wanted)
            except ProofError:
                raise
            except StepError as error:
                # The machine could not be started at all, as without firmware for UEFI.
                why = f"Not started: {error.__cause__ or error}"
                found = prove_server(self._cos, images, level=ProofLevel.L3)
        finally:
            for one in sources:
                one.close()
        if not why and found.level < self._terms.level and found.boot is not None:
            why = "; ".join(one.detail for one in found.boot.checks)
        return found, why

    # -- what came of it -----------------------------------------------------------------------------------------------

    def _found(self, chosen: Chosen) -> Rehearsal | None:
        """Find that an earlier try of this drill passed."""
        terms = self._terms
        listed = list_rehearsals(self._cos, bucket=terms.bucket, prefix=terms.prefix, guest_id=chosen.guest_id)
        for one in listed:
            if (one.drill_id, one.period, one.outcome) == (terms.drill_id, chosen.period, Outcome.PASSED):
                with contextlib.suppress(ValidationError):  # somebody's own, or deleted since it was listed
                    body = self._cos.read(terms.bucket, rehearsal_key(prefix=terms.prefix, one=one))
                    return Rehearsal.model_validate_json(body or b"")
        return None

    def _passed(self, chosen: Chosen, proof: LaterProof, key: str | None) -> Rehearsal:
        made = self._made(chosen, Outcome.PASSED).model_copy(
            update={
                "proof_level": str(proof.proof_level),
                "proof": key,
                "recovery": proof.recovery,
                "words": proof.recovery.not_deeper if proof.recovery else "",
            }
        )
        self._note(made)
        return made

    def _ended(self, chosen: Chosen, outcome: Outcome, *, words: str) -> Rehearsal:
        made = self._made(chosen, outcome).model_copy(update={"words": words})
        self._note(made)
        return made

    def _failed(self, chosen: Chosen, error: Exception) -> NoReturn:
        detail = error.detail if isinstance(error, ProofFailed) else str(error)
        if isinstance(error, ProofFailed | ImageFormatError):
            detail = (
                f"what arrived, with the right digests, is not sound: {detail.rstrip('.')}. Prove it in the bucket "
                f"(sealift prove-export {chosen.export_id}); if that comes out the same, export the server again."
            )
        words = f"{_named(chosen)} did not come back: {detail} {_NEXT}"
        made = self._made(chosen, Outcome.FAILED)
        check_id = getattr(error, "check_id", None)
        told = self._noted(made.model_copy(update={"words": words, "check_id": check_id}))
        raise RehearsalFailedError(f"{words}{told}") from error

    def _unfinished(self, chosen: Chosen, error: Exception) -> NoReturn:
        words = f"{_named(chosen)} could not be rehearsed on this machine, which says nothing of the export: {error}"
        told = self._noted(self._made(chosen, Outcome.UNFINISHED).model_copy(update={"words": words}))
        kind = RehearsalBrokenOffError if isinstance(error, _PASSES) else RehearsalUnfinishedError
        raise kind(f"{words}{told}") from error

    def _made(self, chosen: Chosen, outcome: Outcome) -> Rehearsal:
        return Rehearsal(
            drill_id=self._terms.drill_id,
            export_id=chosen.export_id,
            guest_id=chosen.guest_id,
            period=chosen.period,
            hostname=chosen.hostname,
            outcome=outcome,
            ended_at=self._clock(),
            made_by=self._terms.made_by,
            asked_level=str(self._terms.level),
        )

    def _note(self, made: Rehearsal) -> None:
        note_rehearsal(self._cos, made, bucket=self._terms.bucket, prefix=self._terms.prefix)

    def _noted(self, made: Rehearsal) -> str:
        """Note what went wrong; where even that goes wrong, say so beside it."""
        try:
            self._note(made)
        except (CosError, LedgerError) as error:
            return f" And this could not be noted in the bucket: {error}"
        return ""

    def _is_gone(self, chosen: Chosen) -> bool:
        try:
            body = self._read(chosen)
        except CosError:  # then this is not known, and what went wrong before is told
            return False
        return body is None or is_marked(body)

    def _read(self, chosen: Chosen) -> bytes | None:
        return self._cos.read(self._terms.bucket, self._key(chosen))

    def _key(self, chosen: Chosen) -> str:
        return names.manifest_key(prefix=self._terms.prefix, guest_id=chosen.guest_id, period=chosen.period)

    def _key_of(self, manifest: Manifest, proof: LaterProof) -> str | None:
        bucket, body = self._terms.bucket, canonical_json(proof)
        root = names.proofs_prefix(prefix=self._terms.prefix, guest_id=manifest.guest.id, period=manifest.period)
        listed = (info.key for info in self._cos.list(bucket, root) if info.key.endswith(".json"))
        return next((key for key in listed if self._cos.read(bucket, key) == body), None)


def note_rehearsal(cos: CosApi, made: Rehearsal, *, bucket: str, prefix: str) -> str:
    """Write a rehearsal into the bucket; nothing is ever overwritten.

    :param cos: the object store.
    :param made: the rehearsal.
    :param bucket: the bucket.
    :param prefix: what all keys begin with; may be empty.
    :returns: its key.
    :raises LedgerError: something else lies there.
    :raises sealift.cos.errors.CosError: it could not be written.
    """
    key = rehearsal_key(prefix=prefix, one=made.rehearsed)
    if cos.put_if_absent(bucket, key, canonical_json(made)) is PutOutcome.EXISTS_DIFFERENT:
        raise LedgerError(f"{bucket}/{key} is there and says something else. Look at who wrote it.")
    return key


def _named(chosen: Chosen) -> str:
    return f"{chosen.hostname} (export {chosen.export_id})"


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
