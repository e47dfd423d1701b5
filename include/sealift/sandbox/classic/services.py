"""The services and their methods: reads through the schema, writes through the transaction engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic import catalog, template_methods, types
from sealift.sandbox.classic.calls import Call, Reply
from sealift.sandbox.classic.capture import capture
from sealift.sandbox.classic.errors import active_transaction, bad_request, no_such_method, no_such_service, not_found
from sealift.sandbox.classic.filters import apply_filter, compile_filter
from sealift.sandbox.classic.masks import mask_of
from sealift.sandbox.classic.schema import Relation, TypeDef
from sealift.sandbox.classic.types import SCHEMA
from sealift.sandbox.classic.values import whole

if TYPE_CHECKING:
    from sealift.sandbox.classic.transactions import Engine
    from sealift.sandbox.faults import Faults
    from sealift.sandbox.iam import Identity
    from sealift.sandbox.store import ObjectStore
    from sealift.sandbox.world import World

Doc = dict[str, Any]
Finder = Callable[[Call], Doc]
Method = Callable[[Call], Reply]

WRITES = frozenset(
    {
        "addLocations", "copyToExternalSource", "copyToIcos", "createArchiveTemplate", "createArchiveTransaction",
        "createObject", "deleteObject", "editObject", "powerOff", "powerOffSoft", "powerOn", "removeLocations",
        "setTags", "setUserMetadata",
    }
)  # fmt: skip
"""Methods that change something; the sandbox keeps a list of their calls."""

_GUEST_ROOT = "virtualGuests"
_ROOTS = {"hourlyVirtualGuests": _GUEST_ROOT, "monthlyVirtualGuests": _GUEST_ROOT}
"""slcli filters the hourly and monthly lists under the root of the whole one."""


@dataclass(frozen=True)
class _Service:
    type: TypeDef
    find: Finder | None
    methods: Mapping[str, Method] = field(default_factory=dict)
    static: Mapping[str, Method] = field(default_factory=dict)


class Services:
    """Answers calls that are authenticated already."""

    def __init__(self, *, world: World, engine: Engine, store: ObjectStore, identity: Identity, faults: Faults) -> None:
        self._world = world
        self._engine = engine
        self._faults = faults
        images = template_methods.TemplateMethods(world=world, engine=engine, store=store, identity=identity)
        guest = _Service(
            SCHEMA.type(types.GUEST),
            self._find_guest,
            {
                "createArchiveTemplate": self._create_archive_template,
                "createArchiveTransaction": self._create_archive_transaction,
                "editObject": self._edit_guest,
                "getAttachedNetworkStorages": self._attached_storage,
                "getBandwidthAllotmentDetail": self._bandwidth_allotment,
                "getBillingCycleBandwidthUsage": self._bandwidth_usage,
                "getReverseDomainRecords": self._reverse_domains,
                "powerOff": lambda call: self._power(call, "HALTED"),
                "powerOffSoft": lambda call: self._power(call, "HALTED"),
                "powerOn": lambda call: self._power(call, "RUNNING"),
                "setTags": self._set_guest_tags,
                "setUserMetadata": self._set_user_data,
            },
        )
        group = _Service(
            SCHEMA.type(types.GROUP),
            self._find_group,
            {name: self._on_group(method) for name, method in images.methods().items()},
            {"getPublicImages": self._public_images},
        )
        datacenter = _Service(SCHEMA.type(""), self._find_datacenter, static={"getDatacenters": self._datacenters})
        hardware = _Service(SCHEMA.type(types.HARDWARE), lambda call: self._find(call, self._world.hardware))
        volume = _Service(SCHEMA.type(types.STORAGE), lambda call: self._find(call, self._world.volumes))
        self._services: dict[str, _Service] = {
            types.ACCOUNT: _Service(
                SCHEMA.type(types.ACCOUNT), self._find_account, static={"getCurrentUser": self._current_user}
            ),
            types.GUEST: guest,
            types.GROUP: group,
            types.HOST: _Service(SCHEMA.type(types.HOST), lambda call: self._find(call, self._world.dedicated_hosts)),
            types.HARDWARE: hardware,
            "SoftLayer_Hardware": hardware,
            types.STORAGE: volume,
            "SoftLayer_Network_Storage_Iscsi": volume,
            "SoftLayer_Location": datacenter,
            "SoftLayer_Location_Datacenter": datacenter,
        }

    def answer(self, call: Call) -> Reply:
        """Carry out a call.

        :raises ApiError: where the API would answer with an error.
        """
        name = call.service if call.service.startswith("SoftLayer_") else f"SoftLayer_{call.service}"
        service = self._services.get(name)
        if service is None:
            raise no_such_service(call.service)
        with self._world.lock:
            if call.method in service.static:
                return service.static[call.method](call)
            if call.method in service.methods:
                return service.methods[call.method](call)
            if service.find is not None and call.method == "getObject":
                return Reply(value=SCHEMA.render(service.type, service.find(call), mask_of(call.mask), self._world))
            return self._relation(service, call)

    # Reading

    def _relation(self, service: _Service, call: Call) -> Reply:
        word = call.method.removeprefix("get")
        name = word[:1].lower() + word[1:]
        if service.find is None or not call.method.startswith("get") or not word:
            raise no_such_method(call.service, call.method)
        type_ = service.type
        if type_.open:
            doc = service.find(call)
            if name not in doc or name.startswith("_"):
                raise no_such_method(call.service, call.method)
            relation = Relation(many=isinstance(doc[name], list))
        else:
            found = type_.relation(name)
            if found is None:
                if name not in type_.unused:
                    raise no_such_method(call.service, call.method)
                service.find(call)
                return Reply(value=None)
            doc, relation = service.find(call), found
        value = SCHEMA.value(type_, doc, name, self._world)
        if relation.many and isinstance(value, list):
            return self._page(value, relation.type, call, root=_ROOTS.get(name, name))
        return Reply(value=SCHEMA.render_value(relation, value, mask_of(call.mask), self._world))

    def _page(self, docs: list[Doc], type_name: str, call: Call, *, root: str) -> Reply:
        """Filter, sort, cut to a page and render a list."""
        world, type_, mask = self._world, SCHEMA.type(type_name), mask_of(call.mask)
        compiled = compile_filter(
            call.filter,
            root=root,
            type_=type_,
            schema=SCHEMA,
            now=world.clock.now(),
            scope=world.switches.bad_filter,
        )
        chosen = apply_filter(compiled, docs, type_=type_, schema=SCHEMA, world=world)
        polled = type_name == types.GUEST and compiled.ids is not None and bool(chosen)
        if polled and self._faults.hit("guest_404", method=call.method):
            chosen = chosen[1:]
        total = len(chosen)
        start = max(0, call.offset)
        page = chosen[start : start + call.limit] if call.limit else chosen[start:]
        if page and start and self._faults.hit("moved_page", method=call.method):
            page[0] = chosen[start - 1]  # the two have changed places since the page before was read
        rendered = [SCHEMA.render(type_, one, mask, world) if isinstance(one, dict) else one for one in page]
        return Reply(value=rendered, total=total)

    def _current_user(self, call: Call) -> Reply:
        return Reply(value=SCHEMA.render(SCHEMA.type(""), self._world.user, mask_of(call.mask), self._world))

    def _public_images(self, call: Call) -> Reply:
        return self._page(self._world.public_groups(), types.GROUP, call, root="publicImages")

    def _datacenters(self, call: Call) -> Reply:
        return self._page(catalog.DATACENTERS, "", call, root="datacenters")

    # Finding

    def _find_account(self, call: Call) -> Doc:
        if call.init_id is not None and str(call.init_id) != str(self._world.account["id"]):
            raise not_found(call.init_id)
        return self._world.account

    def _find(self, call: Call, docs: Mapping[int, Doc]) -> Doc:
        if call.init_id is None or call.init_id == "":
            raise bad_request(f"{call.service}::{call.method} needs the id of an object.")
        number = whole(call.init_id)
        if number is None:
            number = self._world.by_uuid.get(str(call.init_id).lower())
        doc = docs.get(number) if number is not None else None
        if doc is None:
            raise not_found(call.init_id)
        return doc

    def _find_guest(self, call: Call) -> Doc:
        guest = self._find(call, self._world.guests)
        if self._faults.hit("guest_404", method=call.method):
            raise not_found(call.init_id)
        return guest

    def _find_group(self, call: Call) -> Doc:
        group = self._find(call, self._world.groups)
        if not self._world.shown(group):
            raise not_found(call.init_id)
        return group

    def _find_datacenter(self, call: Call) -> Doc:
        return self._find(call, {one["id"]: one for one in catalog.DATACENTERS})

    def _on_group(self, method: Callable[[Call, Doc], Any]) -> Method:
        return lambda call: Reply(value=method(call, self._find_group(call)))

    # A guest's own methods

    def _create_archive_template(self, call: Call) -> Reply:
        guest = self._find_guest(call)
        group = capture(self._world, self._engine, guest, call.args, call.user)
        return Reply(value=SCHEMA.render(SCHEMA.type(types.GROUP), group, mask_of(call.mask), self._world))

    def _create_archive_transaction(self, call: Call) -> Reply:
        guest = self._find_guest(call)
        group = capture(self._world, self._engine, guest, call.args, call.user)
        if self._world.switches.archive_transaction_returns == "transaction":
            return Reply(value=types.view_of(self._world.running_on_guest(guest["id"])[-1], self._world))
        return Reply(value=SCHEMA.render(SCHEMA.type(types.GROUP), group, mask_of(call.mask), self._world))

    def _attached_storage(self, call: Call) -> Reply:
        guest = self._find_guest(call)
        kind = str(call.args[0] or "*") if call.args else "*"
        volumes = [self._world.volumes[number] for number in guest["_volumes"]]
        chosen = [one for one in volumes if kind == "*" or one["nasType"] == kind.upper()]
        return self._page(chosen, types.STORAGE, call, root="attachedNetworkStorages")

    def _edit_guest(self, call: Call) -> Reply:
        guest = self._find_guest(call)
        changes = call.arg(0, "templateObject")
        if not isinstance(changes, dict):
            raise bad_request("The parameter templateObject is no structure.")
        guest.update({name: str(changes[name]) for name in ("hostname", "domain", "notes") if changes.get(name)})
        guest["fullyQualifiedDomainName"] = f"{guest['hostname']}.{guest['domain']}"
        self._world.save("guest", guest)
        return Reply(value=True)

    def _set_guest_tags(self, call: Call) -> Reply:
        guest = self._find_guest(call)
        guest["_tags"] = template_methods.tags_of(call.arg(0, "tags"))
        self._world.save("guest", guest)
        return Reply(value=True)

    def _set_user_data(self, call: Call) -> Reply:
        guest, lines = self._find_guest(call), call.arg(0, "metadata")
        guest["_userdata"] = str(lines[0]) if isinstance(lines, list) and lines else ""
        self._world.save("guest", guest)
        return Reply(value=[{"value": guest["_userdata"]}])

    def _power(self, call: Call, state: str) -> Reply:
        guest = self._find_guest(call)
        if self._world.running_on_guest(guest["id"]):
            raise active_transaction()
        guest["_power"] = state
        self._world.save("guest", guest)
        return Reply(value=True)

    def _bandwidth_allotment(self, call: Call) -> Reply:
        self._find_guest(call)
        doc = {"id": 1, "allocationId": 2, "allocation": {"id": 2, "amount": "250"}}
        return Reply(value=SCHEMA.render(SCHEMA.type(""), doc, mask_of(call.mask), self._world))

    def _bandwidth_usage(self, call: Call) -> Reply:
        guest = self._find_guest(call)
        faces = ["PRIVATE_SERVER_BW", *(["PUBLIC_SERVER_BW"] if guest["primaryIpAddress"] else [])]
        docs = [
            {"amountIn": ".448", "amountOut": ".52157", "type": {"alias": alias, "name": alias.title()}}
            for alias in faces
        ]
        return self._page(docs, "", call, root="billingCycleBandwidthUsage")

    def _reverse_domains(self, call: Call) -> Reply:
        guest = self._find_guest(call)
        address = guest["primaryIpAddress"]
        docs: list[Doc] = []
        if address:
            zone = ".".join(reversed(address.split(".")[:3])) + ".in-addr.arpa"
            record = {"id": 1, "data": guest["fullyQualifiedDomainName"], "host": address.rsplit(".", 1)[1]}
            docs.append({"id": 1, "name": zone, "resourceRecords": [{**record, "type": "ptr"}]})
            return Reply(value=docs, total=len(docs))
        return Reply(value=docs, total=0)
