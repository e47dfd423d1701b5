"""Selection: which servers a run is about.

Criteria of different kinds narrow each other; several values of one kind widen it. ``ids`` add single servers to the
rest. What is excluded always wins, and there any one criterion suffices: a server that is to be spared must not be
taken offline because another field was filled in as well.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sealift.classic import filters
from sealift.classic.models import BareMetalServer, Guest
from sealift.exports import narrowing
from sealift.exports.errors import SelectionError
from sealift.exports.ports import ClassicApi


def _words(value: Any) -> Any:
    """Take ``a, b`` or lines of a form's text field as well as a list; drop blanks and repetitions."""
    if value is None:
        return []
    if isinstance(value, str | int) and not isinstance(value, bool):
        value = re.split(r"[,\s]+", str(value))
    if isinstance(value, list | tuple | set | frozenset):
        words = [word.strip() if isinstance(word, str) else word for word in value]
        return list(dict.fromkeys(word for word in words if word not in ("", None)))
    return value


def _texts(value: Any) -> Any:
    words = _words(value)
    if isinstance(words, list):
        return [str(word) if isinstance(word, int) and not isinstance(word, bool) else word for word in words]
    return words


Ids = Annotated[list[Annotated[int, Field(gt=0)]], BeforeValidator(_words)]
Texts = Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], BeforeValidator(_texts)]


class Criteria(BaseModel):
    """What servers can be chosen by.

    :param ids: ids of virtual servers; a bare metal server's id is found where no virtual server has it.
    :param hostnames: patterns in which ``*`` stands for any characters: ``web*``, ``*-db``, ``mail01``. Case does not
        matter. A pattern with a dot in it is compared with the host name and with host name and domain together.
    :param domains: domains, in full; case does not matter.
    :param tags: tags, in full; case does not matter.
    :param datacenters: names of data centers, as ``dal13``.
    :param dedicated_hosts: ids or names of dedicated hosts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: Ids = Field(default_factory=list, description="Ids of servers, added to what the other criteria choose")
    hostnames: Texts = Field(default_factory=list, description="Host name patterns, * stands for any characters")
    domains: Texts = Field(default_factory=list, description="Domains")
    tags: Texts = Field(default_factory=list, description="Tags")
    datacenters: Texts = Field(default_factory=list, description="Names of data centers, as dal13")
    dedicated_hosts: Texts = Field(default_factory=list, description="Ids or names of dedicated hosts")

    @property
    def has_criteria(self) -> bool:
        """Whether anything but ids is given."""
        return any((self.hostnames, self.domains, self.tags, self.datacenters, self.dedicated_hosts))

    def describes(self, server: Guest | BareMetalServer) -> bool:
        """Say whether all kinds of criteria given fit a server (ids aside); False where none is given.

        :param server: a virtual or bare metal server.
        :returns: whether it fits.
        """
        return self.has_criteria and all(self._fitting(server))

    def touches(self, server: Guest | BareMetalServer) -> bool:
        """Say whether an id or any one criterion fits a server.

        :param server: a virtual or bare metal server.
        :returns: whether it fits.
        """
        return server.id in self.ids or any(self._fitting(server))

    def _fitting(self, server: Guest | BareMetalServer) -> list[bool]:
        """Whether each kind of criteria that is given fits."""
        fits: list[bool] = []
        if self.hostnames:
            fits.append(any(_hostname_fits(pattern, server) for pattern in self.hostnames))
        if self.domains:
            fits.append(_folded(server.domain) in map(_folded, self.domains))
        if self.tags:
            fits.append(bool({_folded(tag) for tag in server.tags} & {_folded(tag) for tag in self.tags}))
        if self.datacenters:
            fits.append(_folded(server.datacenter) in map(_folded, self.datacenters))
        if self.dedicated_hosts:
            fits.append(_on_host(server, self.dedicated_hosts))
        return fits


class Selection(Criteria):
    """The servers of a run.

    :param all: every server of the account; then no other criterion may narrow it, only ``exclude``.
    :param exclude: servers to leave out; an id or any one criterion suffices.
    :param ignore_unknown_ids: list ids that the account does not know as "not exportable" instead of refusing the
        whole plan; meant for schedules whose servers come and go.
    """

    all: bool = Field(default=False, description="Every server of the account")
    exclude: Criteria = Field(default_factory=Criteria, description="Servers to leave out")
    ignore_unknown_ids: bool = Field(default=False, description="Report unknown ids instead of refusing the plan")

    @classmethod
    def from_params(cls, params: Mapping[str, Any] | None, *, may_be_empty: bool = False) -> Self:
        """Read a selection from a DAG's params or a JSON document.

        :param params: the fields of the selection; lists may be written as text with commas, blanks or line ends.
        :param may_be_empty: the selection only narrows what is chosen otherwise.
        :returns: the selection, checked by :meth:`check`.
        :raises SelectionError: a field is unknown or malformed, or nothing is selected.
        """
        try:
            selection = cls.model_validate(dict(params or {}))
        except ValidationError as error:
            raise SelectionError(_explain(error)) from error
        if not may_be_empty or selection.all:
            selection.check()
        return selection

    def check(self) -> None:
        """Refuse a selection that selects nothing or contradicts itself.

        :raises SelectionError: naming the fields concerned.
        """
        if self.all and self.has_criteria:
            given = [name for name in _KINDS if getattr(self, name)]
            raise SelectionError(
                f"The selection says all servers and also {', '.join(given)}, which would narrow nothing. "
                "Leave out either; to leave servers out of all, use exclude."
            )
        if not (self.all or self.ids or self.has_criteria):
            raise SelectionError(
                "The selection is empty. Give at least one of ids, hostnames, domains, tags, datacenters or "
                "dedicated_hosts, or set all to true to export every virtual server of the account."
            )

    def chooses(self, server: Guest | BareMetalServer) -> bool:
        """Say whether a server is selected, exclude aside.

        :param server: a virtual or bare metal server.
        :returns: whether it is selected.
        """
        return self.all or server.id in self.ids or self.describes(server)

    def includes(self, server: Guest | BareMetalServer) -> bool:
        """Say whether a server is selected and not excluded.

        :param server: a virtual or bare metal server.
        :returns: whether the run is about it.
        """
        return self.chooses(server) and not self.exclude.touches(server)


_KINDS = ("hostnames", "domains", "tags", "datacenters", "dedicated_hosts")
_ASKED_AGAIN = 3
"""Of so many host names that no server has, similar ones are looked for."""


@dataclass(frozen=True)
class Resolved:
    """What a selection means in an account.

    :param guests: the selected virtual servers, by id.
    :param bare_metal: the selected bare metal servers, by id; never exported, never passed over in silence.
    :param unknown_ids: ids that neither a virtual server nor a bare metal server has.
    :param notes: sentences about criteria that matched nothing.
    """

    guests: list[Guest]
    bare_metal: list[BareMetalServer]
    unknown_ids: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def resolve(selection: Selection, classic: ClassicApi) -> Resolved:
    """Ask the account which servers a selection means.

    The API's own filters narrow what is fetched where they can; every server is checked against the selection here as
    well, because a filter that the API does not understand is silently ignored (SLDN, "Object filters").

    :param selection: what was selected.
    :param classic: the account.
    :returns: the servers, and what fitted none.
    :raises SelectionError: the selection is empty, names an unknown data center or unknown ids, or selects nothing.
    :raises sealift.classic.errors.ClassicError: the account cannot be asked.
    """
    selection.check()
    _check_datacenters(selection, classic)
    guests: dict[int, Guest] = {}
    bare_metal: dict[int, BareMetalServer] = {}
    if selection.all or selection.has_criteria:
        for guest in classic.list_guests(object_filter=narrowing.guest_filter(selection)):
            guests[guest.id] = guest
        for server in classic.list_bare_metal(object_filter=narrowing.bare_metal_filter(selection)):
            bare_metal[server.id] = server
    unknown = _add_ids(selection, classic, guests, bare_metal)
    unknown = [one for one in unknown if one not in selection.exclude.ids]
    chosen = sorted((guest for guest in guests.values() if selection.includes(guest)), key=lambda g: g.id)
    # Guests and bare metal servers are numbered apart: an id names a bare metal server only where no guest has it.
    physical = sorted(
        (
            server
            for server in bare_metal.values()
            if selection.includes(server) and (selection.all or selection.describes(server) or server.id not in guests)
        ),
        key=lambda s: s.id,
    )
    if unknown and not selection.ignore_unknown_ids:
        raise SelectionError(
            f"The account knows no server with the {_plural(unknown, 'id')} {', '.join(map(str, unknown))}, or the "
            "connection's user may not see it. Correct ids, give the user access to the server, or set "
            "ignore_unknown_ids to report such ids and go on with the others."
        )
    if not (chosen or physical or unknown):
        fetched: list[Guest | BareMetalServer] = [*guests.values(), *bare_metal.values()]
        fitted = any(selection.chooses(one) for one in fetched)
        near = [] if fitted or selection.all else _near_names(selection, classic)
        raise SelectionError(_nothing_selected(selection, fitted=fitted, near=near))
    return Resolved(guests=chosen, bare_metal=physical, unknown_ids=unknown, notes=_notes(selection, chosen, physical))


def _add_ids(
    selection: Selection, classic: ClassicApi, guests: dict[int, Guest], bare_metal: dict[int, BareMetalServer]
) -> list[int]:
    """Fetch what ``ids`` names and the criteria did not; return the ids that nobody has."""
    missing = [one for one in selection.ids if one not in guests]
    if not missing:
        return []
    guests.update(classic.get_guests(missing))
    missing = [one for one in missing if one not in guests and one not in bare_metal]
    if missing:
        wanted = set(missing)
        for server in classic.list_bare_metal(object_filter=narrowing.bare_metal_ids(missing)):
            if server.id in wanted:
                bare_metal[server.id] = server
    return [one for one in missing if one not in bare_metal]


def _check_datacenters(selection: Selection, classic: ClassicApi) -> None:
    named = [*selection.datacenters, *selection.exclude.datacenters]
    if not named:
        return
    known = sorted(classic.datacenter_names())
    unknown = [name for name in named if _folded(name) not in map(_folded, known)]
    if unknown:
        name = unknown[0]
        near = difflib.get_close_matches(name.lower(), known, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are: {', '.join(known)}."
        raise SelectionError(f"There is no data center named {name!r}. {hint}")


def _near_names(selection: Selection, classic: ClassicApi) -> list[str]:
    """Look for names like those that no server has: a call for each, of a run that fails anyway."""
    near: list[str] = []
    for pattern in selection.hostnames[:_ASKED_AGAIN]:
        wanted = pattern.strip("*").lower()
        condition = filters.matches(f"{wanted[:1]}*") if wanted[:1].isalnum() else None
        guests = classic.list_guests(object_filter={filters.GUESTS: {"hostname": condition}} if condition else None)
        names = sorted({guest.hostname for guest in guests})
        if "." in wanted:
            names += sorted({f"{guest.hostname}.{guest.domain}" for guest in guests if guest.domain})
        folded = {name.lower(): name for name in names}
        near += [folded[name] for name in difflib.get_close_matches(wanted, folded, n=3)]
    return list(dict.fromkeys(near))


def _nothing_selected(selection: Selection, *, fitted: bool, near: list[str]) -> str:
    if fitted:
        return (
            "The selection selects nothing: exclude leaves out every server that the other criteria choose. "
            "Narrow exclude."
        )
    if selection.all:
        return (
            "The account shows no server to the connection's user. Give the user access to the servers (Manage > "
            "Access (IAM) > the user > Classic infrastructure > Devices), or use another connection."
        )
    given = "; ".join(f"{kind} = {', '.join(getattr(selection, kind))}" for kind in _KINDS if getattr(selection, kind))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"No server fits the selection ({given}).{hint} Criteria of different kinds must all fit one server; "
        "check the spelling, or give fewer kinds."
    )


def _notes(selection: Selection, guests: Iterable[Guest], bare_metal: Iterable[BareMetalServer]) -> list[str]:
    """Name each single value that chose no server: a misspelt pattern must not go unseen among good ones."""
    servers: list[Guest | BareMetalServer] = [*guests, *bare_metal]
    notes = []
    for kind in _KINDS:
        for value in getattr(selection, kind):
            alone = Criteria(**{kind: [value]})
            if not any(alone.describes(server) for server in servers):
                notes.append(f"{kind}: {value!r} fits no selected server.")
    return notes


def _hostname_fits(pattern: str, server: Guest | BareMetalServer) -> bool:
    fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.IGNORECASE)
    if fits.fullmatch(server.hostname):
        return True
    return "." in pattern and bool(server.domain) and fits.fullmatch(f"{server.hostname}.{server.domain}") is not None


def _on_host(server: Guest | BareMetalServer, hosts: Iterable[str]) -> bool:
    if not isinstance(server, Guest) or server.dedicated_host_id is None:
        return False
    own = {str(server.dedicated_host_id), _folded(server.dedicated_host_name)}
    return any(_folded(host) in own for host in hosts)


def _folded(text: str | None) -> str:
    return (text or "").casefold()


def _plural(things: list[int], word: str) -> str:
    return word if len(things) == 1 else word + "s"


def _explain(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            parts.append(f"{where!r} is not a criterion; use {', '.join(('ids', *_KINDS, 'all', 'exclude'))}")
        else:
            parts.append(f"{where}: {problem['msg']} (given: {problem['input']!r})")
    return "The selection cannot be read. " + "; ".join(parts) + "."
