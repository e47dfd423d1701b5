"""The judge of a scenario: reads the sandbox's history and the bucket, and says in sentences what went wrong.

It knows nothing of Sealift's code: only the names of templates and keys, and the fields of a manifest as
docs/manifest.md describes them. The order of events is ``seq``: several of them share a millisecond, and only the
sandbox knows which came first.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

Event = dict[str, Any]
Caps = int | Mapping[Any, int] | Sequence[tuple[float, int]]
Images = Mapping[int, Mapping[str, Path]]

OUTCOMES = ("exported", "already-exported", "not-exportable", "failed")
TEMPLATE_PREFIX = "sealift-"
_MANIFEST_KEY = re.compile(r"(?:^|/)manifests/([1-9]\d*)/([^/]+)\.json$")
_IMAGE_KEY = re.compile(r"\.(?:vhd|vmdk)$")
_SHORTEST_CODED = 12  # shorter secrets would be found by chance in base64
_CHUNK = 2**20


class EvidenceError(Exception):
    """The evidence itself is not whole, so that nothing can be judged by it."""


class Stored(Protocol):
    """An object in a bucket, as :meth:`Store.list` gives it."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...


class Store(Protocol):
    """What is left in the buckets: a running sandbox's store, or :func:`tests.chaos.evidence.open_store`'s."""

    def list(self, bucket: str, prefix: str = "") -> Iterable[Stored]: ...

    def path_of(self, bucket: str, key: str) -> Path | None: ...


@dataclass(kw_only=True)
class Findings:
    """Violations, each as a sentence that names the export or the server."""

    duplicate_captures: list[str] = field(default_factory=list)
    cap_overshoots: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    false_done: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing was violated."""
        return not any(getattr(self, one.name) for one in fields(self))

    def merge(self, *others: Findings) -> Findings:
        """Add the sentences of others to these.

        :returns: this object.
        """
        for other in others:
            for one in fields(self):
                getattr(self, one.name).extend(getattr(other, one.name))
        return self

    def sentences(self) -> list[str]:
        """All sentences, each with the invariant's name before it."""
        return [f"{one.name.replace('_', ' ')}: {text}" for one in fields(self) for text in getattr(self, one.name)]

    def __str__(self) -> str:
        return "\n".join(self.sentences()) or "nothing was violated"


def check(
    *,
    history: Iterable[Event],
    store: Store,
    caps: Caps | None,
    servers: Iterable[str],
    outcomes: Mapping[str, str],
    secrets: Iterable[str] | Mapping[str, str] = (),
    texts: Iterable[str] | Mapping[str, str] = (),
    buckets: Collection[str] = ("sealift-exports",),
    images: Images | None = None,
    foreign: Collection[int] = (),
) -> Findings:
    """Judge a scenario.

    :param history: the sandbox's whole history, from its first event on.
    :param store: what the buckets hold now.
    :param caps: how many servers may be offline for capture at once: a number, ``{account: number}``, or a list of
        ``(from this time on, number)``. None: no cap was set.
    :param servers: the export ids that the runs were to carry out.
    :param outcomes: what the runs reported, by export id.
    :param secrets: what must appear nowhere, by a label where a mapping; only labels are ever repeated.
    :param texts: logs, XComs, rendered fields and so on, by name where a mapping.
    :param buckets: the buckets to read.
    :param images: the true disks, by server and device number (:func:`tests.chaos.evidence.true_images`).
    :param foreign: templates that the scenario itself captured as somebody else; they count as offline servers, but
        are nobody's duplicate and overshoot by themselves.
    :returns: what was violated.
    :raises EvidenceError: the history has a hole, so that nothing can be said.
    """
    events = whole(history)
    effects = [one for one in events if one["kind"] == "effect"]
    hidden = _labelled(secrets, "secret")
    ledger = _Ledger(effects, store, buckets)
    findings = Findings(
        duplicate_captures=_duplicates(effects, set(foreign)),
        cap_overshoots=[] if caps is None else _overshoots(effects, caps, set(foreign)),
        lost=_lost(list(servers), outcomes, ledger),
        false_done=[f"the manifest {bucket}/{key} was deleted" for bucket, key in ledger.vanished],
        leaks=_leaks(hidden, _labelled(texts, "text"), events, store, buckets) if hidden else [],
    )
    for manifest in ledger.manifests:
        findings.false_done += _Judge(manifest, ledger, images).sentences()
    return findings


def whole(history: Iterable[Event]) -> list[Event]:
    """Put events into their order and see that none is missing.

    :raises EvidenceError: a number is missing or stands twice, or the first one is not 1.
    """
    events = sorted(history, key=lambda one: int(one["seq"]))
    for expected, event in enumerate(events, start=1):
        if event["seq"] != expected:
            raise EvidenceError(f"the history has event {event['seq']} where {expected} belongs")
    return events


# D. One capture per export


def _duplicates(effects: list[Event], foreign: set[int]) -> list[str]:
    started: dict[str, list[Event]] = defaultdict(list)
    for event in effects:
        ours = event["what"] == "capture-started" and event["name"].startswith(TEMPLATE_PREFIX)
        if ours and event["template"] not in foreign:
            started[event["name"]].append(event)
    return [
        f"{_server(name.removeprefix(TEMPLATE_PREFIX))} was captured {len(events)} times: "
        + ", ".join(f"template {one['template']} of server {one['guest']} at {_time(one)}" for one in events)
        for name, events in started.items()
        if len(events) > 1
    ]


# C. The offline cap


def _overshoots(effects: list[Event], caps: Caps, foreign: set[int]) -> list[str]:
    found: list[str] = []
    names = {one["transaction"]: one for one in effects if one["what"] == "capture-started"}
    offline: dict[int, set[int]] = defaultdict(set)
    for event in effects:
        if event["what"] not in {"guest-offline", "guest-online"}:
            continue
        guest, number = int(event["guest"]), int(event["transaction"])
        if event["what"] == "guest-online":
            offline[guest].discard(number)
            if not offline[guest]:
                del offline[guest]
            continue
        offline[guest].add(number)
        capture, cap = names.get(number), cap_at(caps, event["at"])
        if len(offline) > cap and not (capture and capture["template"] in foreign):
            export = f" by the capture of {_export_of(capture['name'])}" if capture else ""
            found.append(
                f"server {guest} went offline{export} at {_time(event)}, which made {len(offline)} offline for capture "
                f"where {cap} may be; offline already: {_names(one for one in offline if one != guest)}"
            )
    return found


def cap_at(caps: Caps, at: float) -> int:
    """The cap in force at a time.

    :raises ValueError: several accounts are named (a sandbox is one), or no cap is given for the time.
    """
    if isinstance(caps, int):
        return caps
    if isinstance(caps, Mapping):
        if len(caps) != 1:
            raise ValueError(f"a sandbox is one account, but caps are given for {len(caps)}")
        return next(iter(caps.values()))
    valid = [(start, number) for start, number in caps if start <= at]
    if not valid:
        raise ValueError(f"no cap is given for {at}")
    return sorted(valid, key=lambda one: one[0])[-1][1]  # of two for the same time, the one named last


# L. Nothing is lost


def _lost(servers: list[str], outcomes: Mapping[str, str], ledger: _Ledger) -> list[str]:
    found, done = [], ledger.exports
    for export in servers:
        outcome = outcomes.get(export)
        if outcome is None:
            found.append(f"{_server(export)} was selected and ended in no outcome")
        elif outcome not in OUTCOMES:
            found.append(f"{_server(export)} ended in {outcome!r}, which is none of {', '.join(OUTCOMES)}")
        elif outcome in OUTCOMES[:2] and export not in done:
            found.append(f"{_server(export)} was reported as {outcome} and has no manifest")
        elif outcome not in OUTCOMES[:2] and export in done:
            found.append(f"{_server(export)} was reported as {outcome} and has the manifest {done[export]}")
    return found


# X. Done means proven


@dataclass(kw_only=True)
class _Manifest:
    bucket: str
    key: str
    export: str
    guest: int
    size: int
    etag: str
    body: bytes


class _Ledger:
    """The manifests in the buckets, and what the history says of every object."""

    def __init__(self, effects: list[Event], store: Store, buckets: Collection[str]) -> None:
        self.changes: dict[tuple[str, str], list[Event]] = defaultdict(list)
        self.captures: dict[int, Event] = {}
        for event in effects:
            if event["what"] in {"object-put", "object-deleted"}:
                self.changes[event["bucket"], event["key"]].append(event)
            elif event["what"] == "capture-started":
                self.captures[event["template"]] = event
        self.objects: dict[tuple[str, str], Stored] = {}
        self.manifests: list[_Manifest] = []
        self._store = store
        for bucket in buckets:
            for one in store.list(bucket):
                self.objects[bucket, one.key] = one
                match = _MANIFEST_KEY.search(one.key)
                if match:
                    self.manifests.append(
                        _Manifest(
                            bucket=bucket,
                            key=one.key,
                            export=f"{match[1]}-{match[2]}",
                            guest=int(match[1]),
                            size=one.size,
                            etag=one.etag,
                            body=self.bytes_of(bucket, one.key),
                        )
                    )
        self._add_vanished(buckets)
        self.exports = {one.export: f"{one.bucket}/{one.key}" for one in self.manifests}

    def _add_vanished(self, buckets: Collection[str]) -> None:
        """Manifests that were there once: that they are gone is a violation of its own."""
        known = {(one.bucket, one.key) for one in self.manifests}
        self.vanished = [
            (bucket, key)
            for (bucket, key), events in self.changes.items()
            if bucket in buckets and _MANIFEST_KEY.search(key) and (bucket, key) not in known
        ]

    def bytes_of(self, bucket: str, key: str) -> bytes:
        path = self._store.path_of(bucket, key)
        return b"" if path is None else path.read_bytes()

    def path_of(self, bucket: str, key: str) -> Path | None:
        return self._store.path_of(bucket, key)


class _Judge:
    """Holds one manifest against the objects and the history."""

    def __init__(self, manifest: _Manifest, ledger: _Ledger, images: Images | None) -> None:
        self._manifest = manifest
        self._ledger = ledger
        self._images = images
        self._found: list[str] = []

    def sentences(self) -> list[str]:
        manifest = self._manifest
        puts = [one for one in self._changes(manifest.key) if one["what"] == "object-put" and one["by"] != "fault"]
        if len({one["etag"] for one in puts}) > 1:
            self._say(f"its manifest {manifest.key} was written {len(puts)} times with different contents")
        if not puts:
            self._say(f"its manifest {manifest.key} is in the bucket and the history knows no put of it")
            return self._found
        try:
            content = json.loads(manifest.body)
            disks = [_disk(one) for one in content["disks"]]
            export, bucket, record = str(content["export_id"]), str(content["bucket"]), content["record"]
            template = int(content["template"]["id"])
            described = (str(record["key"]), int(record["size"]), str(record["digest"]))
        except (ValueError, KeyError, TypeError) as error:
            self._say(f"its manifest {manifest.key} cannot be read ({type(error).__name__}: {error})")
            return self._found
        if export != manifest.export:
            self._say(f"its manifest {manifest.key} is that of {export}")
        if bucket != manifest.bucket:
            self._say(f"its manifest lies in {manifest.bucket} and names objects in {bucket}")
        written = min(int(one["seq"]) for one in puts)
        self._check_capture(template, [one["device"] for one in disks])
        for disk in disks:
            self._check_object(disk["key"], disk["size"], disk["etag"], written)
            self._check_true(disk)
        self._check_record(*described, written)
        return self._found

    def _say(self, words: str) -> None:
        self._found.append(f"{_server(self._manifest.export)}: {words}")

    def _changes(self, key: str) -> list[Event]:
        return self._ledger.changes.get((self._manifest.bucket, key), [])

    def _check_capture(self, template: int, devices: list[str]) -> None:
        capture = self._ledger.captures.get(template)
        if capture is None:
            return  # captured before this history began
        if capture["guest"] != self._manifest.guest:
            self._say(f"its manifest names template {template}, which is of server {capture['guest']}")
        if capture["name"] != TEMPLATE_PREFIX + self._manifest.export:
            self._say(f"its manifest names template {template}, which is {capture['name']!r}")
        captured = [str(one) for one in capture.get("disks", devices)]
        if sorted(captured) != sorted(devices):
            self._say(f"its manifest names disks {', '.join(devices) or 'none'} of captured {', '.join(captured)}")

    def _check_object(self, key: str, size: int, etag: str, written: int) -> None:
        changes = self._changes(key)
        before = [one for one in changes if one["seq"] < written]
        after = [one for one in changes if one["seq"] > written and one["by"] != "fault"]
        if not before:
            self._say(f"its manifest was written before its object {key} was there")
            return
        last = before[-1]
        if last["what"] == "object-deleted":
            self._say(f"its manifest was written after its object {key} had been deleted")
        elif (last["size"], last["etag"]) != (size, etag):
            self._say(
                f"its manifest names {key} with {size} bytes and ETag {etag}, when the object had {last['size']} bytes "
                f"and ETag {last['etag']}"
            )
        for one in after:
            done = "deleted" if one["what"] == "object-deleted" else "put again"
            self._say(f"its object {key} was {done} at {_time(one)}, after its manifest")
        if changes[-1]["by"] == "fault" and changes[-1]["seq"] > written:
            return  # somebody else replaced it after the manifest: what is there now is not the manifest's doing
        present = self._ledger.objects.get((self._manifest.bucket, key))
        if present is None:
            self._say(f"its manifest names {key}, which is not in the bucket")
        elif (present.size, present.etag) != (size, etag):
            self._say(f"its manifest names {key} with ETag {etag}; in the bucket it is {present.etag}")

    def _check_true(self, disk: Event) -> None:
        """Compare the object that the manifest names with the disk that the server has."""
        if self._images is None:
            return
        path = self._ledger.path_of(self._manifest.bucket, disk["key"])
        present = self._ledger.objects.get((self._manifest.bucket, disk["key"]))
        if path is None or present is None or present.etag != disk["etag"]:
            return  # said already, or replaced by somebody else afterwards
        true = self._images.get(self._manifest.guest, {}).get(disk["device"])
        if true is None or not true.exists():
            self._say(f"its manifest names device {disk['device']}, of which no image was ever made")
        elif not _same_bytes(true, path):
            self._say(f"its object {disk['key']} does not hold the bytes of the server's disk {disk['device']}")

    def _check_record(self, key: str, size: int, digest: str, written: int) -> None:
        """The record may be written again by a second worker, as long as it is the record that the manifest names."""
        changes = self._changes(key)
        if not any(one["seq"] < written and one["what"] == "object-put" for one in changes):
            self._say(f"its manifest was written before its configuration record {key} was there")
            return
        if (self._manifest.bucket, key) not in self._ledger.objects:
            self._say(f"its manifest names the configuration record {key}, which is not in the bucket")
            return
        body = self._ledger.bytes_of(self._manifest.bucket, key)
        if len(body) != size or f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
            self._say(f"its configuration record {key} is not the one that its manifest names")


def _disk(raw: Mapping[str, Any]) -> Event:
    return {
        "key": str(raw["key"]),
        "size": int(raw["size"]),
        "etag": str(raw["etag"]),
        "device": str(raw["device"]),
    }


def _same_bytes(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while piece := left.read(_CHUNK):
            if piece != right.read(_CHUNK):
                return False
    return True


# Secrets


def _leaks(
    secrets: Mapping[str, str], texts: Mapping[str, str], events: list[Event], store: Store, buckets: Collection[str]
) -> list[str]:
    needles = {label: list(_forms(secret)) for label, secret in secrets.items()}

    def search(where: str, data: bytes) -> Iterator[str]:
        return (f"{label} is in {where}" for label, forms in needles.items() if any(one.search(data) for one in forms))

    found = [one for name, text in texts.items() for one in search(name, text.encode("utf-8", "surrogateescape"))]
    lines = [json.dumps(event, ensure_ascii=False).encode() for event in events]
    if any(search("the history", b"\n".join(lines))):  # one look at all of it: hundreds of scenarios have none
        for event, line in zip(events, lines, strict=True):
            found += search(f"the history's event {event['seq']}", line)
    for bucket in buckets:
        for stored in store.list(bucket):
            where = f"object {bucket}/{stored.key}"
            for secret in secrets.values():
                where = where.replace(secret, "***")
            found += search(f"the key of {where}", stored.key.encode())
            path = None if _IMAGE_KEY.search(stored.key) else store.path_of(bucket, stored.key)
            if path is not None:  # images hold what the servers hold
                found += search(where, path.read_bytes())
    return list(dict.fromkeys(found))


def _forms(secret: str) -> Iterator[re.Pattern[bytes]]:
    """The ways in which a secret may be written: as it is, in a URL, in JSON, in base64 at any of three offsets."""
    if not secret:
        raise ValueError("an empty secret is in every text")
    in_json = {json.dumps(secret, ensure_ascii=only_ascii)[1:-1] for only_ascii in (True, False)}
    plain = {secret, quote(secret, safe=""), quote(secret), *in_json}
    yield re.compile(b"|".join(re.escape(one.encode()) for one in sorted(plain)))
    if len(secret) >= _SHORTEST_CODED:
        coded = []
        for offset in range(3):
            text = base64.b64encode(b"\0" * offset + secret.encode()).decode()
            coded.append(text[(0, 2, 3)[offset] :].rstrip("=")[: -1 if (offset + len(secret.encode())) % 3 else None])
        yield re.compile(b"|".join(re.escape(one.encode()) for one in coded))


def _labelled(values: Iterable[str] | Mapping[str, str], what: str) -> dict[str, str]:
    if isinstance(values, Mapping):
        return dict(values)
    return {f"{what} {number}": value for number, value in enumerate(values, start=1)}


# Words


def _export_of(name: str) -> str:
    return _server(name.removeprefix(TEMPLATE_PREFIX)) if name.startswith(TEMPLATE_PREFIX) else f"image {name!r}"


def _server(export: str) -> str:
    return f"export {export} (server {export.partition('-')[0]})"


def _names(guests: Iterable[int]) -> str:
    return ", ".join(str(one) for one in guests) or "none"


def _time(event: Event) -> str:
    return f"{datetime.fromtimestamp(event['at'], UTC):%H:%M:%S.%f} (event {event['seq']})"
