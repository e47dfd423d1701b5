"""What the doctor finds in the account: image templates that carry our names and belong to no export that goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sealift.classic.models import Template
from sealift.exports import names
from sealift.exports.doctor_models import Account, Elsewhere, Finding, Kind, age_of

if TYPE_CHECKING:
    from sealift.exports.doctor_work import LeanOutcome

DELETE_TEMPLATE = "delete the template (in the console: Devices > Manage > Images)"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the doctor keeps of a template.

    :param busy: a transaction runs on it or on one of its copies.
    :param whole: it has copies, all with a size.
    :param size: bytes of its copies together.
    :param place: bucket and prefix that its export goes to, by its note; None where the note does not tell.
    :param hostname: the server's, by its note.
    """

    id: int
    created: datetime | None
    busy: bool
    whole: bool
    copies: int
    size: int
    place: tuple[str, str] | None
    hostname: str | None


class Templates:
    """The account's templates with our prefix.

    :param found: the templates, as the account lists them.
    :param bucket: the bucket that is examined.
    :param prefix: what its keys begin with; may be empty.
    :param only: export ids to look at; None for all.
    """

    def __init__(self, found: Iterable[Template], *, bucket: str, prefix: str, only: set[str] | None = None) -> None:
        self.here = (bucket, prefix)
        self.by_export: dict[str, list[Seen]] = {}
        self.strange: list[tuple[str, Seen]] = []
        self.count = 0
        for template in found:
            export = names.parse_template_name(template.name)
            if only is not None and export not in only:
                continue
            self.count += 1
            if export is None:
                self.strange.append((template.name or "", _seen(template)))
            else:
                self.by_export.setdefault(export, []).append(_seen(template))

    def of(self, export: str) -> list[Seen]:
        """Return an export's templates.

        :param export: the export id.
        :returns: none, one or more.
        """
        return self.by_export.get(export, [])

    def busy(self, export: str) -> bool:
        """Say whether a transaction runs on a template of an export.

        :param export: the export id.
        :returns: True where one does.
        """
        return any(one.busy for one in self.of(export))

    def _elsewhere(self, seen: Seen) -> bool:
        return seen.place is not None and seen.place != self.here

    def elsewhere(self) -> list[Elsewhere]:
        """Return the other places that templates went to: their manifests are there, if anywhere."""
        places: Counter[tuple[str, str]] = Counter()
        for seen in (one for group in self.by_export.values() for one in group):
            if seen.place is not None and self._elsewhere(seen):
                places[seen.place] += 1
        return [
            Elsewhere(place="/".join(filter(None, place)), templates=count) for place, count in sorted(places.items())
        ]

    def duplicates(self) -> list[str]:
        """Return the exports with more than one template, but for those whose notes speak of other places only."""
        found = []
        for export, group in self.by_export.items():
            places = {one.place for one in group} - {None}
            if len(group) > 1 and (not places or self.here in places):
                found.append(export)
        return sorted(found)

    def candidates(self, *, skip: Callable[[str, datetime | None], bool]) -> list[tuple[str, Seen]]:
        """Return the templates that may belong to nothing: single ones, for this place, without a transaction.

        :param skip: says of an export, and of the time at which its template was made, whether it is to be left alone.
        :returns: pairs of export id and template.
        """
        found = []
        for export, group in sorted(self.by_export.items()):
            (first, *others) = group
            if not (others or first.busy or self._elsewhere(first) or skip(export, first.created)):
                found.append((export, first))
        return found


def strange_templates(templates: Templates, *, now: datetime) -> list[Finding]:
    """Report the templates with our prefix whose names cannot be read.

    :param templates: the account's.
    :param now: the present time.
    :returns: one finding for each.
    """
    return [
        Finding(
            kind=Kind.STRANGE_TEMPLATE,
            what=f"Image template {seen.id} is named {name!r}: Sealift's names go on with a server's id and a period.",
            do="Sealift neither uses nor counts it. Rename it, if it is somebody's own; if nobody knows it, "
            f"{DELETE_TEMPLATE}.",
            template_ids=[seen.id],
            since=seen.created,
            age_seconds=age_of(seen.created, now),
            bytes=seen.size or None,
        )
        for name, seen in templates.strange
    ]


def duplicate_templates(export: str, group: list[Seen], *, named: int | None, done: bool, now: datetime) -> Finding:
    """Report the templates of an export that has more than one.

    :param export: the export id.
    :param group: its templates.
    :param named: the template that its manifest names, where there is a manifest and it can be read.
    :param done: there is a manifest.
    :param now: the present time.
    :returns: the finding.
    """
    ids = [one.id for one in group]
    listed = ", ".join(str(one) for one in ids)
    what = f"{len(group)} image templates are named {names.template_name(export)}: {listed}."
    others = ", ".join(str(one) for one in ids if one != named)
    if named in ids:
        what += f" The manifest names {named}."
        do = f"The export is done: delete {others} (in the console: Devices > Manage > Images)."
    elif done:
        what += " The manifest names none of them." if named is not None else " The manifest cannot be read."
        do = "Look at the manifest, and delete what it does not name (in the console: Devices > Manage > Images)."
    else:
        do = (
            "Sealift chooses none, and the server's task fails while there are two. Delete all but one (in the "
            "console: Devices > Manage > Images), then clear the server's failed task."
        )
    oldest = min((one.created for one in group if one.created is not None), default=None)
    return Finding(
        kind=Kind.DUPLICATE_TEMPLATES,
        what=what,
        do=do,
        template_ids=ids,
        since=oldest,
        age_seconds=age_of(oldest, now),
        bytes=sum(one.size for one in group) or None,
        **server_of(export, next((one.hostname for one in group if one.hostname), None)),
    )


def lone_template(export: str, seen: Seen, *, outcome: tuple[str, LeanOutcome] | None, now: datetime) -> Finding:
    """Report a template of an export that is neither done nor at work.

    :param export: the export id.
    :param seen: its template.
    :param outcome: the plan that the export was in, and what the run's report says of it.
    :param now: the present time.
    :returns: the finding: an orphan, or a broken template.
    """
    said = words_of(outcome)
    if seen.whole:
        what = f"Image template {seen.id} was captured for {export}, which has no manifest.{said}"
        do = (
            "Clear the server's failed task in export_servers: it goes on with this template, without another "
            f"capture. Where the run is gone or the export not wanted, {DELETE_TEMPLATE}."
        )
    else:
        lacks = "a copy of it has no size" if seen.copies else "it has no copy in any data center"
        what = f"Image template {seen.id} of {export} has no transaction left, and {lacks}: the capture failed.{said}"
        do = f"See that the server runs, {DELETE_TEMPLATE}, and start a new run for the server."
    return Finding(
        kind=Kind.ORPHAN_TEMPLATE if seen.whole else Kind.BROKEN_TEMPLATE,
        what=what,
        do=do,
        template_ids=[seen.id],
        since=seen.created,
        age_seconds=age_of(seen.created, now),
        bytes=seen.size or None,
        **server_of(export, seen.hostname),
    )


def words_of(outcome: tuple[str, LeanOutcome] | None) -> str:
    """Put what a run's report says of an export that has no manifest into a sentence.

    :param outcome: plan id and outcome.
    :returns: the sentence, with a blank before it; empty where there is nothing to say.
    """
    if outcome is None:
        return ""
    plan_id, said = outcome
    at = f" at {said.task}" if said.task else ""
    gone = " (its manifest has been deleted since)" if said.disks else ""
    return f" The run of the plan {plan_id} reported it as {said.kind.value}{at}{gone}."


def server_of(export: str, hostname: str | None = None) -> dict[str, object]:
    """Give a finding's fields that name the server.

    :param export: the export id.
    :param hostname: its host name, where something tells it.
    :returns: the fields.
    """
    return {"export_id": export, "guest_id": names.parse_export_id(export)[0], "hostname": hostname}


def idle(candidates: Iterable[tuple[str, Seen]], classic: Account) -> list[tuple[str, Seen]]:
    """Leave out the templates of servers with an active transaction.

    :param candidates: pairs of export id and template.
    :param classic: the account.
    :returns: those whose server is idle, or gone.
    """
    kept = list(candidates)
    guests = {names.parse_export_id(export)[0] for export, _ in kept}
    states: Mapping[int, object] = classic.guest_states(sorted(guests)) if guests else {}
    busy = {guest_id for guest_id, state in states.items() if getattr(state, "active_transaction", None) is not None}
    return [(export, seen) for export, seen in kept if names.parse_export_id(export)[0] not in busy]


def _seen(template: Template) -> Seen:
    sizes = [child.block_devices_disk_space_total for child in template.children]
    told = names.parse_template_note(template.note)
    place = hostname = None
    if told is not None:
        bucket, images = told
        prefix, found, rest = f"/{images}".rpartition("/images/")
        if found:
            place = (bucket, prefix.strip("/"))
            hostname = rest.partition("/")[0].rpartition("-")[0] or None
    return Seen(
        id=template.id,
        created=template.create_date,
        busy=bool(
            template.transactions_left
            or template.transaction is not None
            or any(child.transaction is not None for child in template.children)
        ),
        whole=bool(sizes) and all(sizes),
        copies=len(sizes),
        size=int(sum(size or 0 for size in sizes)),
        place=place,
        hostname=hostname,
    )
