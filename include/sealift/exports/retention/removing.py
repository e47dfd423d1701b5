"""Removing one export or image template, so that a kill at any step loses nothing and the next run goes on.

An export goes in this order: a note that tells readers where to look; a mark in its manifest, from which on it is no
export any more; a look whether the export that is to stay still stands; its image template; its objects; its manifest;
the note. Two runs that would each leave the other's export mark first and look then, so that one sees the other.

What the account or the store refuses is reported, and tried again by no loop. Where nothing was deleted by then, the
mark is taken back; else the manifest stays marked, and the next run takes the removal up.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicAuthError,
    ClassicError,
    ClassicNotFoundError,
    ClassicOutcomeUnknownError,
)
from sealift.classic.models import Template
from sealift.cos.errors import CosAuthError, CosError, CosPermissionError
from sealift.exports import names
from sealift.exports.errors import LedgerError
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest, ManifestRemoval, is_marked, parse_manifest
from sealift.exports.ports import Clock
from sealift.exports.retention import keys
from sealift.exports.retention.deciding import ServerVerdict, Why
from sealift.exports.retention.models import (
    Done,
    DryRun,
    GoingExport,
    GoingObject,
    GoingTemplate,
    Outcome,
    RemovalNote,
    TakenBack,
)
from sealift.exports.retention.objects import objects_at
from sealift.exports.retention.ports import Account, Store

_MARK_STANDS: Final = " Its manifest stays marked: the next run takes it up."
_NOT_THE_SAME: Final = "Its manifest is not the one that the dry run saw."


class Stop(Exception):  # noqa: N818 - it ends one removal, for a reason
    """One removal cannot go on.

    :param done: what came of it.
    :param words: why.
    """

    def __init__(self, done: Done, words: str) -> None:
        super().__init__(words)
        self.done = done
        self.words = words


@dataclass(slots=True)
class _Deleted:
    """What was deleted of an export by now."""

    objects: int = 0
    bytes: int = 0
    template: bool = False

    @property
    def nothing(self) -> bool:
        return self.objects == 0 and not self.template


class Remover:
    """Removes what a dry run names.

    :param dry_run: the dry run.
    :param cos: the object store.
    :param classic: the account.
    :param clock: tells the time, in UTC.
    """

    def __init__(self, dry_run: DryRun, *, cos: Store, classic: Account, clock: Clock) -> None:
        self._dry_run = dry_run
        self._cos = cos
        self._classic = classic
        self._clock = clock
        self._bucket = dry_run.bucket
        self._prefix = dry_run.prefix
        self._all_versions = dry_run.guards.versions and dry_run.rules.versions == "delete"

    def export(self, going: GoingExport, verdict: ServerVerdict | None) -> Outcome:
        """Remove an export.

        :param going: the export, as the dry run saw it.
        :param verdict: what the rules say of its server now; None where it has no manifest any more.
        :returns: what came of it.
        :raises CosAuthError: the store refused the key.
        :raises ClassicAuthError: the account refused the key.
        """
        deleted = _Deleted()
        done, words = Done.REMOVED, ""
        try:
            self._remove(going, verdict, deleted)
        except Stop as stop:
            done, words = stop.done, stop.words
        except (CosAuthError, ClassicAuthError):
            raise
        except (CosError, ClassicError) as error:
            done, words = Done.UNFINISHED, f"{error}. The next run takes it up."
        return Outcome(export_id=going.export_id, done=done, words=words, objects=deleted.objects, bytes=deleted.bytes)

    def take_back(self, kept: TakenBack, verdict: ServerVerdict | None) -> Outcome:
        """Take the mark off an export of which nothing was deleted, and which is kept by now.

        :param kept: the export, as the dry run saw it.
        :param verdict: as for :meth:`export`.
        :returns: what came of it.
        :raises CosAuthError: the store refused the key.
        """
        done, words = Done.TAKEN_BACK, ""
        try:
            self._take_back(kept, verdict)
        except Stop as stop:
            done, words = stop.done, stop.words
        except CosAuthError:
            raise
        except CosPermissionError as error:
            done, words = Done.PROTECTED, str(error)
        except CosError as error:
            done, words = Done.UNFINISHED, f"{error}. The next run takes it up."
        return Outcome(export_id=kept.export_id, done=done, words=words)

    def _take_back(self, kept: TakenBack, verdict: ServerVerdict | None) -> None:
        its = [one for one in verdict.exports if one.export.export_id == kept.export_id] if verdict else []
        if its and not its[0].export.marked and not its[0].export.removing:
            raise Stop(Done.TAKEN_BACK, "It was taken back already.")
        if not its or its[0].export.etag != kept.manifest_etag:
            raise Stop(Done.CHANGED, _NOT_THE_SAME)
        if not its[0].keep:
            raise Stop(Done.CHANGED, "It is not kept any more.")
        body = self._cos.read(self._bucket, kept.manifest_key)
        if body is None:
            raise Stop(Done.GONE, "It was removed meanwhile.")
        manifest = parse_manifest(body, bucket=self._bucket, key=kept.manifest_key)
        plain = canonical_json(manifest.model_copy(update={"removal": None}))
        if not self._cos.removing.put_if_match(self._bucket, kept.manifest_key, plain, etag=kept.manifest_etag):
            raise Stop(Done.CHANGED, _NOT_THE_SAME)
        guest_id, period = names.parse_export_id(kept.export_id)
        self._forget(keys.removing_key(prefix=self._prefix, guest_id=guest_id, period=period))

    def template(self, going: GoingTemplate, verdict: ServerVerdict | None) -> Outcome:
        """Delete an image template whose export is kept.

        :param going: the image template, as the dry run saw it.
        :param verdict: as for :meth:`export`.
        :returns: what came of it.
        :raises ClassicAuthError: the account refused the key.
        """
        done, words = Done.REMOVED, ""
        try:
            self._check_lone_template(going, verdict)
            if self._state_of(going.template_id, going.export_id) is None:
                raise Stop(Done.GONE, "It was deleted already.")
            self.delete_template(going.template_id)
        except Stop as stop:
            done, words = stop.done, stop.words
        except ClassicAuthError:
            raise
        except ClassicError as error:
            done, words = Done.UNFINISHED, f"{error}. The next run takes it up."
        return Outcome(export_id=going.export_id, template_id=going.template_id, done=done, words=words)

    # Checks

    def _check_lone_template(self, going: GoingTemplate, verdict: ServerVerdict | None) -> None:
        its = [one for one in verdict.templates if one.template.id == going.template_id] if verdict else []
        exports = [one for one in verdict.exports if one.export.export_id == going.export_id] if verdict else []
        if not exports or exports[0].export.etag != going.manifest_etag:
            raise Stop(Done.CHANGED, _NOT_THE_SAME)
        if not its:
            raise Stop(Done.GONE, "It was deleted already.")
        if its[0].keep or its[0].why is not Why.PROVEN_AND_OLDER:
            raise Stop(Done.KEPT_NOW, f"It is kept by now: {its[0].why.value}.")

    def _read(self, going: GoingExport) -> tuple[Manifest, str, bytes] | None:
        """Read the manifest, its ETag and its bytes, if it is what the dry run saw, or that with its mark."""
        info = self._cos.head(self._bucket, going.manifest_key)
        body = self._cos.read(self._bucket, going.manifest_key)
        if info is None or body is None:
            return None
        try:
            manifest = parse_manifest(body, bucket=self._bucket, key=going.manifest_key)
        except LedgerError as error:
            raise Stop(Done.CHANGED, error.message) from error
        mark = manifest.removal
        begun = (
            mark is not None and mark.retention_id == self._dry_run.retention_id and mark.etag == going.manifest_etag
        )
        if manifest.export_id != going.export_id or not (begun or info.etag == going.manifest_etag):
            raise Stop(Done.CHANGED, _NOT_THE_SAME)
        return manifest, info.etag, body

    def _is_whole(self, manifest: Manifest) -> bool:
        root = manifest.disks[0].key.rpartition("/")[0]
        there = {(info.key, info.size, info.etag) for info in self._cos.list(self._bucket, f"{root}/")}
        return all((disk.key, disk.size, disk.etag) in there for disk in manifest.disks)

    def _check_rules(self, going: GoingExport, verdict: ServerVerdict | None, *, begun: bool) -> None:
        """Hold the rules against what is there now: a hold, a proof, an export that was lost may have changed it."""
        its = [one for one in verdict.exports if one.export.export_id == going.export_id] if verdict else []
        if verdict is None or not its or (its[0].export.etag != going.manifest_etag and not begun):
            raise Stop(Done.CHANGED, _NOT_THE_SAME)
        if its[0].keep:
            raise Stop(Done.KEPT_NOW, f"It is kept by now: {', '.join(one.value for one in its[0].why)}.")
        with_it = [
            one.template.id
            for one in verdict.templates
            if one.why is Why.EXPORT_GOES and one.template.export_id == going.export_id
        ]
        if with_it not in ([], [going.template_id]):
            raise Stop(Done.CHANGED, "Its image template is not the one that the dry run saw.")

    def _check_objects(self, going: GoingExport, *, begun: bool) -> None:
        """Nothing may be there that the dry run did not see; and all that it saw, where nothing was deleted yet."""
        planned = set(going.objects)
        there = set(self._objects(going))
        if there - planned or (not begun and planned - there):
            strange = min((one.key for one in there ^ planned), default="")
            raise Stop(Done.CHANGED, f"Its objects are not those that the dry run saw, as {strange}.")

    def check_template(self, template_id: int, export: str, *, begun: bool) -> None:
        """See that an image template is the one that is meant, and that nothing is being done with it.

        :param template_id: the image template.
        :param export: the export that its name must tell.
        :param begun: its deletion may have been begun.
        :raises Stop: it has another name, or something is being done with it.
        """
        state = self._state_of(template_id, export)
        if state is not None and (state.transactions_left or state.transaction is not None):
            if begun:
                words = "Something is being done with its image template, which may be its deletion."
                raise Stop(Done.UNFINISHED, words + _MARK_STANDS)
            raise Stop(Done.KEPT_NOW, "Something is being done with its image template.")

    def _state_of(self, template_id: int, export: str) -> Template | None:
        state = self._classic.template_states([template_id]).get(template_id)
        if state is not None and state.name != names.template_name(export):
            raise Stop(Done.CHANGED, f"The image template {template_id} is named {state.name!r} now.")
        return state

    # Steps

    def _remove(self, going: GoingExport, verdict: ServerVerdict | None, deleted: _Deleted) -> None:
        guest_id, period = names.parse_export_id(going.export_id)
        note = keys.removing_key(prefix=self._prefix, guest_id=guest_id, period=period)
        found = self._read(going)
        if found is None:
            self._forget(note)
            raise Stop(Done.GONE, "It was removed already.")
        manifest, etag, body = found
        begun = manifest.removal is not None
        # While its images are whole, nothing is lost, and whatever speaks for keeping it counts.
        whole = not begun or self._is_whole(manifest)
        if whole:
            self._check_rules(going, verdict, begun=begun)
        self._check_objects(going, begun=begun)
        if going.template_id is not None:
            self.check_template(going.template_id, going.export_id, begun=begun)
        mark = manifest.removal or ManifestRemoval(
            retention_id=self._dry_run.retention_id,
            marked_at=self._clock(),
            etag=etag,
            template=going.template_id is not None,
        )
        # Another version of Sealift may have marked it, which writes other bytes.
        marked = body if begun else canonical_json(manifest.model_copy(update={"removal": mark}))
        if not begun or self._cos.head(self._bucket, note) is None:
            # Not written anew where it is: under a retention policy that would be refused, or protect it once more.
            self._cos.put(self._bucket, note, canonical_json(RemovalNote(retention_id=mark.retention_id)))
        if not begun:
            self._mark(going, marked, etag, note)
        try:
            if whole and verdict is not None:
                self._check_survivor(verdict)
                self._check_hold(guest_id, period)
            if going.template_id is not None:
                self.delete_template(going.template_id)
                deleted.template = True
            self._delete_objects(going, deleted)
        except Stop as stop:
            if begun or not deleted.nothing or stop.done is Done.UNFINISHED:
                raise Stop(stop.done, stop.words + _MARK_STANDS) from stop
            self._unmark(going, manifest, marked, note)
            raise
        self._delete_manifest(going, marked)
        self._forget(note)

    def _mark(self, going: GoingExport, marked: bytes, etag: str, note: str) -> None:
        try:
            replaced = self._cos.removing.put_if_match(self._bucket, going.manifest_key, marked, etag=etag)
        except CosPermissionError as error:
            self._forget(note)
            raise Stop(Done.PROTECTED, f"Its manifest cannot be marked: {error}.") from error
        if not replaced:
            self._forget(note)
            raise Stop(Done.CHANGED, _NOT_THE_SAME)

    def _unmark(self, going: GoingExport, manifest: Manifest, marked: bytes, note: str) -> None:
        """Take the mark back: nothing of the export was deleted."""
        info = self._cos.head(self._bucket, going.manifest_key)
        if info is not None and self._cos.read(self._bucket, going.manifest_key) == marked:
            body = canonical_json(manifest)
            self._cos.removing.put_if_match(self._bucket, going.manifest_key, body, etag=info.etag)
        self._forget(note)

    def _check_survivor(self, verdict: ServerVerdict) -> None:
        """See that the export which is to stay has not been marked by another run, or deleted, since it was chosen."""
        for one in verdict.exports:
            if one.keep and Why.LAST_PROVEN in one.why:
                guest_id, period = names.parse_export_id(one.export.export_id)
                key = names.manifest_key(prefix=self._prefix, guest_id=guest_id, period=period)
                body = self._cos.read(self._bucket, key)
                if body is not None and not is_marked(body):
                    return
        raise Stop(Done.KEPT_NOW, "The proven export that was to stay is being removed itself.")

    def _check_hold(self, guest_id: int, period: str) -> None:
        if self._cos.head(self._bucket, keys.hold_key(prefix=self._prefix, guest_id=guest_id, period=period)):
            raise Stop(Done.KEPT_NOW, "Somebody holds it by now.")

    def delete_template(self, template_id: int) -> None:
        """Have the account delete an image template; one that is gone is deleted already.

        :param template_id: the image template.
        :raises Stop: the account refused, or its answer was lost.
        :raises ClassicAuthError: the account refused the key.
        """
        try:
            self._classic.delete_template(template_id)
        except ClassicNotFoundError:
            return
        except ClassicOutcomeUnknownError as error:
            state = self._classic.template_states([template_id]).get(template_id)
            if state is not None and not state.transactions_left:
                words = f"Whether the image template {template_id} is being deleted is not known: {error}."
                raise Stop(Done.UNFINISHED, words) from error
        except ClassicActiveTransactionError as error:
            words = f"Something is being done with the image template {template_id}: {error}."
            raise Stop(Done.REFUSED, words) from error
        except ClassicAuthError:
            raise
        except ClassicError as error:
            kind = Done.UNFINISHED if error.retryable else Done.REFUSED
            raise Stop(kind, f"The image template {template_id} cannot be deleted: {error}.") from error

    def _delete_objects(self, going: GoingExport, deleted: _Deleted) -> None:
        # The disks go first: where all of them are there, nothing was deleted.
        disks = f"{going.images}/disk-"
        for one in sorted(self._objects(going), key=lambda info: (not info.key.startswith(disks), info.key)):
            self._delete(one, going, deleted)
        left = self._objects(going)
        if left:
            raise Stop(Done.UNFINISHED, f"{left[0].key} was written meanwhile.")

    def _delete(self, one: GoingObject, going: GoingExport, deleted: _Deleted) -> None:
        if one not in going.objects:
            raise Stop(Done.UNFINISHED, f"{one.key} was written meanwhile.")
        try:
            deleted.bytes += self.delete_key(one.key, one.size)
        except CosPermissionError as error:
            raise Stop(Done.PROTECTED, f"{one.key} cannot be deleted: {error}.") from error
        deleted.objects += 1

    def delete_key(self, key: str, size: int) -> int:
        """Delete an object, with all of its versions where the rules say so.

        :param key: the object.
        :param size: its bytes.
        :returns: how many bytes became free.
        :raises CosPermissionError: it is protected, or the key may not delete it.
        """
        if not self._all_versions:
            self._cos.delete(self._bucket, key)
            return 0 if self._dry_run.guards.versions else size
        versions = [one for one in self._cos.removing.versions(self._bucket, key) if one.key == key]
        # The latest goes last: were it first, a kill would leave an older one in its place.
        for one in sorted(versions, key=lambda version: version.latest):
            self._cos.removing.delete_version(self._bucket, key, one.version_id)
        return sum(one.size for one in versions)

    def _delete_manifest(self, going: GoingExport, marked: bytes) -> None:
        if self._cos.read(self._bucket, going.manifest_key) != marked:
            raise Stop(Done.CHANGED, "Its manifest was changed while its objects were deleted. Look at who wrote it.")
        try:
            self.delete_key(going.manifest_key, 0)
        except CosPermissionError as error:
            words = f"Its objects are deleted, and its manifest cannot be yet: {error}."
            raise Stop(Done.PROTECTED, words + _MARK_STANDS) from error

    def _forget(self, note: str) -> None:
        with contextlib.suppress(CosPermissionError):  # a note alone does no harm
            self.delete_key(note, 0)

    def _objects(self, going: GoingExport) -> list[GoingObject]:
        listed = objects_at(self._cos, self._bucket, prefix=self._prefix, images=going.images, export=going.export_id)
        return [GoingObject(key=info.key, size=info.size, etag=info.etag) for info in listed]
