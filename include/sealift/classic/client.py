"""The Classic API as Sealift uses it: typed answers, reads that are retried, writes that are sent exactly once.

Nothing is imported from the SoftLayer package before the first call, so that importing this module stays cheap. One
client may be used by many threads at once (triggers call it through ``asyncio.to_thread``).

Sources named below: SLDN is the API's own documentation (sldn.softlayer.com); IMGDOC and VSDOC are IBM's documentation
of image templates and of classic virtual servers, with the page's name.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic

from sealift.classic import filters, masks
from sealift.classic.endpoints import NetworkName, TransportName, resolve
from sealift.classic.errors import (
    ClassicAuthError,
    ClassicBadReplyError,
    ClassicError,
    ClassicOutcomeUnknownError,
    ClassicRateLimitedError,
)
from sealift.classic.limiter import Limiter, shared_limiter
from sealift.classic.models import (
    BareMetalServer,
    ClassicModel,
    Guest,
    GuestState,
    NetworkStorage,
    Template,
)
from sealift.classic.paging import chunks, read_all, rows_of
from sealift.classic.retrying import retry_read
from sealift.classic.verdict import LOOK_FIRST, Redactor, error_for
from sealift.classic.wire import Call, Reply, WireProblem

if TYPE_CHECKING:
    from sealift.classic.transport import Wire

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=ClassicModel)

_GROUP = "Virtual_Guest_Block_Device_Template_Group"
_LIST_TEMPLATES = "getPrivateBlockDeviceTemplateGroups"
_LARGEST_CHUNK = 100
_OVERLAP = 10
"""How many templates may be deleted between two pages of a list without another being missed."""

_FIRST_ROWS = 25
"""How many of the newest templates are asked for at first; a whole page where the last look needed more."""


class ClassicClient:
    """A client of one account's Classic API. Making one touches no network.

    :param username: the classic user name, or ``apikey`` where the key is an IBM Cloud API key.
    :param api_key: the classic API key, or the IBM Cloud API key.
    :param endpoint_url: None for the service's own address. An address with ``/rest`` or ``/xmlrpc`` in its path
        decides the transport; a bare host gets the transport's path appended.
    :param transport: ``xmlrpc`` or ``rest``.
    :param network: the service's public or private network.
    :param timeout: seconds to wait for a connection, and then for each piece of a reply.
    :param requests_per_second: the rate of all clients of this account in this process, below 50; the lowest holds.
    :param max_attempts: how often a read is tried in all. A write is always tried once.
    :param page_size: objects per page, 1 to 100.
    :param retry_max_wait: the longest pause between two tries of a read, in seconds.
    :param verify: False, True, or the path of a CA bundle.
    :param sleep: waits for seconds, between tries.
    :param rng: where the jitter between tries comes from.
    :param limiter: instead of the one that the account's clients share.
    :param caller: which part of Sealift calls, for the other side's logs: it stands in ``User-Agent``.
    :param on_retry: told of each failure after which a read is tried again.
    :raises ClassicAuthError: where the user name or the key is empty.
    :raises ValueError: where another setting cannot be right.
    """

    def __init__(
        self,
        *,
        username: str,
        api_key: str,
        endpoint_url: str | None = None,
        transport: TransportName = "xmlrpc",
        network: NetworkName = "public",
        timeout: float = 60.0,
        requests_per_second: float = 40.0,
        max_attempts: int = 5,
        page_size: int = 100,
        retry_max_wait: float = 30.0,
        verify: bool | str = True,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        limiter: Limiter | None = None,
        caller: str = "",
        on_retry: Callable[[ClassicError], None] | None = None,
    ) -> None:
        if not username or not api_key:
            missing = "user name" if not username else "API key"
            raise ClassicAuthError(f"no {missing} is given for the Classic API")
        if timeout <= 0 or max_attempts < 1 or not 1 <= page_size <= _LARGEST_CHUNK or retry_max_wait < 0:
            raise ValueError(
                "timeout must be above 0, max_attempts at least 1, page_size from 1 to 100, retry_max_wait not negative"
            )
        self.endpoint = resolve(endpoint_url, transport=transport, network=network)
        self._username = username
        self._api_key = api_key
        self._timeout = timeout
        self._verify = verify
        self._caller = caller
        self._on_retry = on_retry
        self._max_attempts = max_attempts
        self._page_size = page_size
        self._retry_max_wait = retry_max_wait
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._limiter = limiter or shared_limiter(
            host=self.endpoint.host, account=_account_key(username, api_key), rate=requests_per_second
        )
        self._redact = Redactor([api_key], username=username)
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._account_id: int | None = None
        self._first_rows = _FIRST_ROWS

    @property
    def timeout(self) -> float:
        """Seconds to wait for a connection, and then for each piece of a reply."""
        return self._timeout

    def __repr__(self) -> str:
        return f"ClassicClient({self.endpoint.url}, user {self._username})"

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    # --- the account -----------------------------------------------------------------------------------------------

    def account_id(self) -> int:
        """The account's id, by the cheapest call that needs a good key.

        Source: softlayer-go services, ``SoftLayer_Account::getObject``.

        :returns: the account's id.
        :raises ClassicAuthError: where the user name or the key is refused.
        :raises ClassicBadReplyError: where the reply has no id.
        """
        reply = self._object("Account", "getObject", mask=masks.ACCOUNT_ID)
        account_id = reply.get("id")
        if not isinstance(account_id, int):
            raise ClassicBadReplyError("the reply lacks the field id", call="SoftLayer_Account::getObject")
        self._account_id = account_id
        return account_id

    def datacenter_names(self) -> set[str]:
        """The short names of all datacenters, as ``dal13``.

        Source: softlayer-go services, ``SoftLayer_Location_Datacenter::getDatacenters``.

        :returns: the names, in the API's spelling.
        """
        rows = self._rows("Location_Datacenter", "getDatacenters", mask=masks.DATACENTERS)
        return {str(row["name"]) for row in rows if row.get("name")}

    # --- virtual servers -------------------------------------------------------------------------------------------

    def list_guests(self, *, object_filter: Mapping[str, Any] | None = None) -> list[Guest]:
        """The account's virtual servers, in the order of their ids.

        :param object_filter: from :mod:`sealift.classic.filters`; None for all. The API ignores what it does not
            understand (SLDN "Object filters"), so the caller checks the result.
        :returns: with block devices, tags, software, dedicated host and active transaction.
        :raises ClassicBadReplyError: where a required field is missing, or the list could not be read whole.
        """
        rows = self._list(
            "getVirtualGuests", root=filters.GUESTS, mask=masks.GUEST_PLANNING, object_filter=object_filter
        )
        return self._models(Guest, rows, call="SoftLayer_Account::getVirtualGuests")

    def get_guests(self, ids: Collection[int]) -> dict[int, Guest]:
        """The virtual servers with these ids; those that the account does not know are left out.

        :param ids: ids of virtual servers, as many as wanted: they are asked for at most 100 at a time.
        :returns: the virtual servers by id, with the same properties as from :meth:`list_guests`.
        :raises ClassicBadReplyError: where the API answers with a virtual server that nobody asked for.
        """
        rows = self._by_ids("getVirtualGuests", ids, root=filters.GUESTS, mask=masks.GUEST_PLANNING)
        return {one.id: one for one in self._models(Guest, rows, call="SoftLayer_Account::getVirtualGuests")}

    def guest_states(self, ids: Collection[int]) -> dict[int, GuestState]:
        """Status, power state and active transaction of these virtual servers; unknown ones are left out.

        :param ids: ids of virtual servers, as for :meth:`get_guests`.
        :returns: the states by id.
        :raises ClassicBadReplyError: where the API answers with a virtual server that nobody asked for.
        """
        rows = self._by_ids("getVirtualGuests", ids, root=filters.GUESTS, mask=masks.GUEST_STATE)
        return {one.id: one for one in self._models(GuestState, rows, call="SoftLayer_Account::getVirtualGuests")}

    def guest_detail(self, guest_id: int) -> dict[str, Any]:
        """What ``ibmcloud sl vs detail`` shows of a virtual server, without passwords and user data.

        Source: VSDOC data-portability-classic for what to keep; properties as in softlayer-go's datatypes.

        :param guest_id: the virtual server.
        :returns: the API's property names; properties without a value are left out.
        :raises ClassicNotFoundError: where there is no such virtual server.
        """
        return self._object("Virtual_Guest", "getObject", identifier=guest_id, mask=masks.GUEST_DETAIL)

    def block_devices(self, guest_id: int) -> list[dict[str, Any]]:
        """The block devices of a virtual server, swap, metadata and CD among them, with the API's property names.

        Source: VSDOC data-portability-classic, which names ``getBlockDevices``.

        :param guest_id: the virtual server.
        :returns: one mapping per device, pruned to the client's own mask.
        :raises ClassicNotFoundError: where there is no such virtual server.
        """
        return self._rows("Virtual_Guest", "getBlockDevices", identifier=guest_id, mask=masks.BLOCK_DEVICES)

    def attached_storage(self, guest_id: int) -> list[NetworkStorage]:
        """The volumes attached over the network (iSCSI and NFS), which no image holds; without their credentials.

        Source: VSDOC data-portability-classic; ``getAttachedNetworkStorages`` wants a type, ``ISCSI`` or ``NAS``
        (softlayer-go services).

        :param guest_id: the virtual server.
        :returns: the volumes in the order of their ids, each once; capacities in GB.
        :raises ClassicNotFoundError: where there is no such virtual server.
        """
        found: dict[int, NetworkStorage] = {}
        for kind in ("ISCSI", "NAS"):
            rows = self._rows(
                "Virtual_Guest",
                "getAttachedNetworkStorages",
                kind,
                identifier=guest_id,
                mask=masks.NETWORK_STORAGE,
            )
            call = "SoftLayer_Virtual_Guest::getAttachedNetworkStorages"
            found.update((one.id, one) for one in self._models(NetworkStorage, rows, call=call))
        return [found[one] for one in sorted(found)]

    def attributes(self, guest_id: int) -> list[dict[str, Any]]:
        """The attributes of a virtual server. User data is left out, and so is what does not say which attribute it is.

        Source: VSDOC data-portability-classic, which names ``getAttributes``.

        :param guest_id: the virtual server.
        :returns: ``[{"value": …, "type": {"keyname": …, "name": …}}]``.
        :raises ClassicNotFoundError: where there is no such virtual server.
        """
        rows = self._rows("Virtual_Guest", "getAttributes", identifier=guest_id, mask=masks.ATTRIBUTES)
        kept = []
        for row in rows:
            keyname = str(row.get("type", {}).get("keyname", "")).upper()
            if keyname and "USER_DATA" not in keyname:
                kept.append(row)
        return kept

    # --- bare metal ------------------------------------------------------------------------------------------------

    def list_bare_metal(self, *, object_filter: Mapping[str, Any] | None = None) -> list[BareMetalServer]:
        """The account's bare metal servers, each with its hardware inventory under the API's property names.

        Source: softlayer-go services, ``SoftLayer_Account::getHardware``.

        :param object_filter: as for :meth:`list_guests`, under the root ``hardware``.
        :returns: the servers in the order of their ids.
        :raises ClassicBadReplyError: where a required field is missing.
        """
        rows = self._list("getHardware", root=filters.HARDWARE, mask=masks.BARE_METAL, object_filter=object_filter)
        named = {"id", "hostname", "domain", "fullyQualifiedDomainName", "globalIdentifier", "tagReferences"}
        for row in rows:
            row["inventory"] = {key: value for key, value in row.items() if key not in named}
        return self._models(BareMetalServer, rows, call="SoftLayer_Account::getHardware")

    # --- image templates -------------------------------------------------------------------------------------------

    def templates_named(self, name: str) -> list[Template]:
        """The account's own private templates with exactly this name (parents only), in the order of their ids.

        The API compares without regard to case (SLDN "Object filters") and also lists templates that other accounts
        share (SLDN reference, ``getPrivateBlockDeviceTemplateGroups``): both are sorted out here.

        :param name: the whole name; case matters.
        :returns: none, one or more: the API accepts duplicate names.
        """
        condition = {filters.TEMPLATES: {"name": filters.equals(name)}}
        return [one for one in self._own_templates(condition) if one.name == name]

    def templates_with_prefix(self, prefix: str) -> list[Template]:
        """The account's own private templates whose name begins so (parents only), in the order of their ids.

        :param prefix: the beginning of the name; case matters.
        :returns: the templates, each with its children and transactions.
        """
        condition = {filters.TEMPLATES: {"name": filters.starts_with(prefix)}}
        return [one for one in self._own_templates(condition) if (one.name or "").startswith(prefix)]

    def newest_templates(self, prefix: str, *, back_to: datetime) -> list[Template]:
        """The account's own private templates whose name begins so, as far back as a moment (parents only).

        They are read newest first, so that old ones cost nothing. Pages overlap: a template that is deleted meanwhile
        moves those behind it forward, into a page that was read already.

        :param prefix: the beginning of the name; case matters.
        :param back_to: with a time zone; the last page holds some that are older.
        :returns: the templates in the order of their ids, each with its children and transactions.
        """
        condition = {filters.TEMPLATES: {"name": filters.starts_with(prefix), "id": filters.newest_first()}}
        found: dict[int, Template] = {}
        # What is new since the last look is little, as a rule.
        offset, limit = 0, min(self._first_rows, self._page_size)
        while True:
            page, read = self._template_page(condition, offset=offset, limit=limit)
            fresh = [one for one in page if one.id not in found]
            found.update((one.id, one) for one in fresh)
            oldest = min((one.create_date for one in page if one.create_date is not None), default=None)
            if read < limit or (page and not fresh) or (oldest is not None and oldest < back_to):
                break
            offset, limit = offset + max(1, read - _OVERLAP), self._page_size
        self._first_rows = _FIRST_ROWS if len(found) <= _FIRST_ROWS else self._page_size
        return [found[one] for one in sorted(found) if (found[one].name or "").startswith(prefix)]

    def templates_ending(self, suffix: str) -> list[Template]:
        """The account's own private templates whose name ends so (parents only), in the order of their ids.

        For whoever looks for the templates of one period: the account keeps those of all earlier ones as well, and
        only a filter on the name's end leaves them out.

        :param suffix: the end of the name; case matters.
        :returns: the templates with id, name and creation date only.
        """
        condition = {filters.TEMPLATES: {"name": filters.ends_with(suffix)}}
        found = self._own_templates(condition, mask=masks.TEMPLATE_NAME)
        return [one for one in found if (one.name or "").endswith(suffix)]

    def template_states(self, ids: Collection[int]) -> dict[int, Template]:
        """These templates with their children and transactions; unknown ones are left out.

        :param ids: ids of parent templates, as many as wanted.
        :returns: the templates by id. Sizes are in bytes, and on the children only.
        :raises ClassicBadReplyError: where the API answers with a template that nobody asked for.
        """
        rows = self._by_ids(_LIST_TEMPLATES, ids, root=filters.TEMPLATES, mask=masks.TEMPLATE)
        return {one.id: one for one in self._models(Template, rows, call=f"SoftLayer_Account::{_LIST_TEMPLATES}")}

    # --- writes ----------------------------------------------------------------------------------------------------

    def capture(self, guest_id: int, *, name: str, block_device_ids: Sequence[int], note: str) -> Template:
        """Capture a virtual server as an image template (``createArchiveTemplate``). Sent once.

        The server is offline until the capture ends (IMGDOC create-standard-image). Method and parameters: softlayer-go
        services.

        :param guest_id: the virtual server.
        :param name: the template's name; the API accepts duplicates.
        :param block_device_ids: ids of the block devices (not of their disk images) to capture.
        :param note: the template's note.
        :returns: the template, usually without children yet.
        :raises ClassicOutcomeUnknownError: where it may or may not have happened.
        :raises ClassicActiveTransactionError: where the server is busy.
        :raises ValueError: where no block device is named.
        :raises ClassicError: where the API refused it for another reason, in the API's words.
        """
        if not block_device_ids:
            raise ValueError("a capture needs at least one block device")
        devices = [{"id": one} for one in block_device_ids]
        value = self._write("Virtual_Guest", "createArchiveTemplate", guest_id, name, devices, note)
        pruned = masks.prune(value, masks.tree_of(masks.TEMPLATE))
        lacks: str
        try:
            return Template.model_validate(pruned)
        except pydantic.ValidationError as error:
            lacks = _fields(error)
        raise ClassicOutcomeUnknownError(
            f"the reply is no template ({lacks}); {LOOK_FIRST}", call="SoftLayer_Virtual_Guest::createArchiveTemplate"
        )

    def export_template(self, template_id: int, *, uri: str, ibm_api_key: str) -> None:
        """Start the export of a template to object storage (``copyToIcos``). Sent once.

        Sources: softlayer-go services for the method, which answers with a boolean and nothing else; IMGDOC
        export-image-ibm-cos for the names of the objects.

        :param template_id: the parent template.
        :param uri: ``cos://<region>/<bucket>/<key>.vhd``; the objects will be called ``<key>-0.vhd`` and so on.
        :param ibm_api_key: an IBM Cloud API key that may write to the bucket. It travels in the request's body.
        :raises ClassicOutcomeUnknownError: where it may or may not have started.
        :raises ClassicBadReplyError: where the API answers with anything but a literal true.
        :raises ClassicActiveTransactionError: where the template is busy.
        :raises ClassicError: where the API refused it for another reason, in the API's words.
        """
        container = {"uri": uri, "ibmApiKey": ibm_api_key}
        value = self._write(_GROUP, "copyToIcos", template_id, container, secrets=[ibm_api_key])
        if value is not True:
            raise ClassicBadReplyError(
                f"the export was not accepted: the API answered with {type(value).__name__} instead of true",
                call=f"SoftLayer_{_GROUP}::copyToIcos",
            )

    def delete_template(self, template_id: int) -> None:
        """Delete a template in all of its data centers (``deleteObject`` of the parent). Sent once; not to be undone.

        The account goes on with it after the reply, in a transaction (IMGDOC delete-image-template; softlayer-go
        services for the method).

        :param template_id: the parent template.
        :raises ClassicOutcomeUnknownError: where it may or may not have begun.
        :raises ClassicNotFoundError: where there is none, or the user may not see it.
        :raises ClassicActiveTransactionError: where the template is busy.
        :raises ClassicError: where the API refused it for another reason, in the API's words.
        """
        self._write(_GROUP, "deleteObject", template_id)

    # --- how calls are made ----------------------------------------------------------------------------------------

    def _template_page(
        self, object_filter: Mapping[str, Any], *, offset: int, limit: int
    ) -> tuple[list[Template], int]:
        """One page of a list of templates, and how many rows it had before those of others were sorted out."""
        call = Call(
            service="Account",
            method=_LIST_TEMPLATES,
            mask=masks.TEMPLATE,
            object_filter=object_filter,
            limit=limit,
            offset=offset,
        )
        tree = masks.tree_of(masks.TEMPLATE)
        rows = [masks.prune(row, tree) for row in rows_of(self._read(call).value, call=call.name)]
        return self._own(rows), len(rows)

    def _own_templates(self, object_filter: Mapping[str, Any], *, mask: str = masks.TEMPLATE) -> list[Template]:
        return self._own(self._list(_LIST_TEMPLATES, root=filters.TEMPLATES, mask=mask, object_filter=object_filter))

    def _own(self, rows: list[dict[str, Any]]) -> list[Template]:
        if any("accountId" in row for row in rows):
            own = self._account_id if self._account_id is not None else self.account_id()
            rows = [row for row in rows if row.get("accountId", own) == own]
        rows = [row for row in rows if row.get("parentId") is None]
        return self._models(Template, rows, call=f"SoftLayer_Account::{_LIST_TEMPLATES}")

    def _list(
        self, method: str, *, root: str, mask: str, object_filter: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        """All rows of a list of the account, page by page."""
        ordered = filters.ordered(object_filter, root=root)

        def page(offset: int, limit: int) -> Reply:
            return self._read(
                Call(service="Account", method=method, mask=mask, object_filter=ordered, limit=limit, offset=offset)
            )

        rows = read_all(page, page_size=self._page_size, call=f"SoftLayer_Account::{method}")
        tree = masks.tree_of(mask)
        return [masks.prune(row, tree) for row in rows]

    def _by_ids(self, method: str, ids: Collection[int], *, root: str, mask: str) -> list[dict[str, Any]]:
        """The rows with these ids, asked for in chunks that fit one page, as ids cannot be both searched and sorted."""
        tree, found = masks.tree_of(mask), []
        for chunk in chunks(ids, min(_LARGEST_CHUNK, self._page_size)):
            # One more than can match: a reply that is longer than the chunk shows that the filter was ignored.
            call = Call(
                service="Account",
                method=method,
                mask=mask,
                object_filter={root: {"id": filters.one_of(chunk)}},
                limit=len(chunk) + 1,
            )
            rows = rows_of(self._read(call).value, call=call.name)
            strangers = [row.get("id") for row in rows if row.get("id") not in chunk]
            if strangers:
                raise ClassicBadReplyError(
                    f"the API ignored the filter: it was asked for {len(chunk)} ids and also returned {strangers[0]}",
                    call=call.name,
                )
            found += [masks.prune(row, tree) for row in rows]
        return found

    def _rows(
        self, service: str, method: str, *args: Any, mask: str, identifier: int | None = None
    ) -> list[dict[str, Any]]:
        call = Call(service=service, method=method, identifier=identifier, args=args, mask=mask)
        tree = masks.tree_of(mask)
        return [masks.prune(row, tree) for row in rows_of(self._read(call).value, call=call.name)]

    def _object(self, service: str, method: str, *, mask: str, identifier: int | None = None) -> dict[str, Any]:
        call = Call(service=service, method=method, identifier=identifier, mask=mask)
        value = self._read(call).value
        if not isinstance(value, Mapping):
            raise ClassicBadReplyError(f"the reply is no object but {type(value).__name__}", call=call.name)
        pruned: dict[str, Any] = masks.prune(value, masks.tree_of(mask))
        return pruned

    def _read(self, call: Call) -> Reply:
        return retry_read(
            lambda: self._send(call, self._redact),
            max_attempts=self._max_attempts,
            max_wait=self._retry_max_wait,
            sleep=self._sleep,
            rng=self._rng,
            on_retry=self._on_retry,
        )

    def _write(self, service: str, method: str, identifier: int, *args: Any, secrets: Sequence[str] = ()) -> Any:
        redact = Redactor([self._api_key, *secrets], username=self._username)
        call = Call(service=service, method=method, identifier=identifier, args=args, write=True)
        return self._send(call, redact).value

    def _send(self, call: Call, redact: Redactor) -> Reply:
        """Send one call, once."""
        wire = self._opened()
        self._limiter.acquire()
        try:
            return wire.send(call)
        except WireProblem as problem:
            failure = error_for(problem, call=call, host=self.endpoint.host, redact=redact)
        if isinstance(failure, ClassicRateLimitedError):
            self._limiter.pause(1.0)
        # Raised outside the handler: a chained exception could hold the request, and with it a key.
        raise failure

    def _opened(self) -> Wire:
        from sealift.classic.transport import Wire

        with self._lock:
            if self._wire is None:
                self._wire = Wire(
                    endpoint=self.endpoint,
                    username=self._username,
                    api_key=self._api_key,
                    timeout=self._timeout,
                    verify=self._verify,
                    caller=self._caller,
                )
            return self._wire

    @staticmethod
    def _models(model: type[Model], rows: Sequence[Mapping[str, Any]], *, call: str) -> list[Model]:
        """The rows as models, in the order of their ids.

        :raises ClassicBadReplyError: where a field is missing or of the wrong kind, naming it.
        """
        try:
            made = [model.model_validate(row) for row in rows]
        except pydantic.ValidationError as error:
            lacks = _fields(error)
        else:
            return sorted(made, key=lambda one: getattr(one, "id", 0))
        raise ClassicBadReplyError(f"the reply is no {model.__name__}: {lacks}", call=call)


def _fields(error: pydantic.ValidationError) -> str:
    """Which fields are wrong and how, without their values."""
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(str(part) for part in one['loc']) or 'reply'}: {one['msg']}" for one in details[:5])


def _account_key(username: str, api_key: str) -> str:
    """What tells accounts apart for the limiter: ``apikey`` is everybody's user name."""
    if username != "apikey":
        return username
    return f"apikey-{hashlib.sha256(api_key.encode()).hexdigest()[:16]}"
