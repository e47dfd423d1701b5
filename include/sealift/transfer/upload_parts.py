"""The parts of an object that is uploaded, and of its intermediate objects: sent, checked, put together, compared."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from sealift.cos.errors import CosError
from sealift.cos.models import UploadedPart
from sealift.cos.multipart import etag_of
from sealift.transfer.errors import DigestError, TransferError
from sealift.transfer.upload_targets import Finished, UploadTarget


class PartsOf:
    """An object that is uploaded, and which of its parts the store has.

    :param target: the object.
    """

    def __init__(self, *, target: UploadTarget) -> None:
        self.target = target
        self.upload_id = target.begin()
        self.completed = False
        self.by_sha256 = True
        """Whether the store has checked every part that was sent by its SHA-256."""
        self.etags_are_md5s = False
        """Whether the store's ETags of parts are MD5s, by its first one."""
        self._parts: list[UploadedPart] = []

    @property
    def parts(self) -> Sequence[UploadedPart]:
        """The parts that the store has, in their order."""
        return sorted(self._parts, key=lambda part: part.number)

    def send(self, number: int, part: bytearray) -> None:
        """Send a part, and compare what the store says of it. In any thread.

        :param number: of the part, from 1.
        :param part: its bytes.
        :raises DigestError: the store keeps other bytes.
        """
        digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
        sent = self.target.send(self.upload_id, number, part, digest)
        if sent.sha256 is None:
            self.by_sha256 = False
        elif sent.sha256 != digest:
            raise DigestError(f"{self.target.label} keeps other bytes of part {number} than were sent. Try again.")
        if number == 1:  # where the store encrypts with keys of the user's, an ETag is no MD5 of what was sent
            self.etags_are_md5s = sent.etag == hashlib.md5(part, usedforsecurity=False).hexdigest()
        self._parts.append(sent)

    def take(self, number: int, other: Intermediate) -> None:
        """Make an intermediate object, once all of it was sent, a part of this one; it is deleted then.

        :param number: of the part.
        :param other: the intermediate object.
        :raises DigestError: the store keeps other bytes.
        """
        done = other.complete(other.size)
        part = self.target.copy(self.upload_id, number, name=other.name, size=other.size, etag=done.etag)
        if other.etags_are_md5s and len(part.etag) == 32 and part.etag != other.md5:
            raise DigestError(
                f"{self.target.label} keeps other bytes of part {number} than were sent: the store's ETag is "
                f"{part.etag}, their MD5 is {other.md5}. Try again."
            )
        self._parts.append(part)
        other.target.delete()

    def complete(self, size: int) -> Finished:
        """Put the parts together, and compare what the store says of the whole with what it said of the parts.

        :param size: bytes that were sent.
        :returns: what the store says of the object.
        :raises DigestError: what is there is not what was sent; it is deleted.
        """
        parts = self.parts
        done = self.target.complete(self.upload_id, parts)
        self.completed = True
        due = etag_of(parts) if self.etags_are_md5s else None
        wrong = ""
        if done.size != size:
            wrong = f"it has {done.size} bytes, where {size} were sent"
        elif due is not None and done.etag != due:
            wrong = f"the store's ETag is {done.etag}, the MD5s of its parts make {due}"
        if wrong:
            self.target.delete()
            raise DigestError(f"{self.target.label} is not what was sent: {wrong}. It was deleted; try once more.")
        return done

    def abort(self) -> str:
        """Abort the upload, unless it is completed. Never fails.

        :returns: what is left in the bucket all the same, in words; empty where nothing is.
        """
        if self.completed:
            return ""
        try:
            self.target.abort(self.upload_id)
        except (CosError, TransferError) as error:
            return (
                f"The unfinished upload {self.upload_id} of {self.target.label} stays in the bucket ({error}): the "
                "next try aborts it, or a lifecycle rule does."
            )
        self.completed = True
        return ""


class Intermediate(PartsOf):
    """An intermediate object: it becomes one part of another one.

    :param target: the object that it becomes a part of.
    :param name: its name among that one's intermediate objects.
    """

    def __init__(self, *, target: UploadTarget, name: str) -> None:
        super().__init__(target=target.intermediate(name))
        self.name = name
        self.size = 0
        self.count = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    def add(self, part: bytearray) -> int:
        """Take note of the next part, before it is sent.

        :param part: its bytes.
        :returns: its number.
        """
        self._md5.update(part)
        self.size += len(part)
        self.count += 1
        return self.count

    @property
    def md5(self) -> str:
        """The MD5 of all its bytes, in hexadecimal digits."""
        return self._md5.hexdigest()

    def remove(self) -> str:
        """Abort its upload, or delete it. Never fails.

        :returns: what is left in the bucket all the same, in words; empty where nothing is.
        """
        if left := self.abort():
            return left
        try:
            self.target.delete()
        except (CosError, TransferError) as error:
            return f"{self.target.label} stays in the bucket ({error}): the next try deletes it. Nothing needs it."
        return ""
