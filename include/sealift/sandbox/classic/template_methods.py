"""What can be done to an image template: export, edit, tag, delete, other datacenters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic import catalog
from sealift.sandbox.classic.calls import Call
from sealift.sandbox.classic.errors import active_transaction, bad_request, invalid_value, permission_denied
from sealift.sandbox.classic.export import export

if TYPE_CHECKING:
    from sealift.sandbox.classic.transactions import Engine
    from sealift.sandbox.iam import Identity
    from sealift.sandbox.store import ObjectStore
    from sealift.sandbox.world import World

Doc = dict[str, Any]


def tags_of(text: Any) -> list[str]:
    """:returns: the tags in a comma-separated text, sorted, each once."""
    return sorted({one.strip() for one in str(text or "").split(",") if one.strip()})


class TemplateMethods:
    """The methods of a template group that the schema does not answer by itself."""

    def __init__(self, *, world: World, engine: Engine, store: ObjectStore, identity: Identity) -> None:
        self._world = world
        self._engine = engine
        self._store = store
        self._identity = identity

    def methods(self) -> dict[str, Callable[[Call, Doc], Any]]:
        """:returns: the methods by name; each takes the call and the group."""
        return {
            "addLocations": self._add_locations,
            "copyToExternalSource": self._copy_to_swift,
            "copyToIcos": self._copy_to_icos,
            "deleteObject": self._delete,
            "editObject": self._edit,
            "getStorageLocations": self._storage_locations,
            "removeLocations": self._remove_locations,
            "setTags": self._set_tags,
        }

    def _copy_to_icos(self, call: Call, group: Doc) -> bool:
        export(self._world, self._engine, self._store, self._identity, group, call.arg(0, "configuration"))
        return True  # neither a transaction id nor a name: documented

    def _copy_to_swift(self, call: Call, group: Doc) -> bool:
        call.arg(0, "configuration")
        self._own(group)
        raise invalid_value("Export to Swift object storage is not available; use a cos:// uri.")

    def _delete(self, _call: Call, group: Doc) -> Doc:
        from sealift.sandbox.classic.types import view_of

        self._own(group)
        parts = [group, *self._world.children(group["id"])]
        if self._world.switches.delete_while_busy == "refuse" and any(one["transactionId"] for one in parts):
            raise active_transaction()
        return view_of(self._engine.start_delete(group), self._world)

    def _edit(self, call: Call, group: Doc) -> bool:
        self._own(group)
        changes = call.arg(0, "templateObject")
        if not isinstance(changes, dict):
            raise bad_request("The parameter templateObject is no structure.")
        group.update({name: str(changes[name]) for name in ("name", "note", "summary") if name in changes})
        self._world.save("group", group)
        return True

    def _set_tags(self, call: Call, group: Doc) -> bool:
        self._own(group)
        group["_tags"] = tags_of(call.arg(0, "tags"))
        self._world.save("group", group)
        return True

    def _storage_locations(self, _call: Call, _group: Doc) -> list[Doc]:
        return list(catalog.DATACENTERS)

    def _add_locations(self, call: Call, group: Doc) -> bool:
        self._own(group)
        if not group["_finished"]:
            raise active_transaction()
        present = {child["_dc"] for child in self._world.children(group["id"])}
        for name in self._location_names(call):
            if name not in present:
                self._engine.start_transfer(group, name)
        return True

    def _remove_locations(self, call: Call, group: Doc) -> bool:
        self._own(group)
        names = self._location_names(call)
        children = self._world.children(group["id"])
        if all(child["_dc"] in names for child in children):
            raise invalid_value("An image template keeps at least one location.")
        for child in children:
            if child["_dc"] in names:
                self._world.remove_group(child["id"])
        return True

    def _location_names(self, call: Call) -> list[str]:
        wanted = call.arg(0, "locations")
        known = {one["id"]: one["name"] for one in catalog.DATACENTERS}
        if not isinstance(wanted, list) or not all(isinstance(one, dict) and one.get("id") in known for one in wanted):
            raise invalid_value("The parameter locations must list datacenters by their id.")
        return [known[one["id"]] for one in wanted]

    def _own(self, group: Doc) -> None:
        if group["accountId"] != self._world.account["id"]:
            raise permission_denied("This image template belongs to another account.")
