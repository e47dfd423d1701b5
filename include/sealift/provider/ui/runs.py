"""What an action of the page becomes: a run of a DAG, prepared and checked here, started by Airflow's own API.

Nothing here starts anything. A plugin has no public way to create a run: Airflow's models are not its interface, and to
call the API from inside would mean to pass the user's token on. So the browser posts what was prepared to ``/api/v2``
with the user's own session: Airflow checks the right and the values once more, and its audit log names the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from sealift.exports import names
from sealift.exports.errors import InputError, SettingsError
from sealift.exports.plan_models import Outcome, Plan
from sealift.exports.selection import Selection
from sealift.exports.settings import PlanSettings
from sealift.exports.status.rows import State
from sealift.exports.status.snapshot import Snapshot
from sealift.provider.ui.places import OpenPlace
from sealift.provider.ui.security import DELIVER_DAG, PLAN_DAG, PROVE_DAG

IDS_AT_MOST: Final = 5000
EXPORTS_AT_MOST: Final = 1000

_EARLIER: Final = ("only", "plan", "plan_is_over", "since", "slots")
_PLACE: Final = ("bucket", "region", "prefix", "cos_conn_id")
_ASKED_AT_MOST: Final = 20

Ids = Annotated[
    list[Annotated[int, Field(ge=1, le=2**53)]], Field(max_length=IDS_AT_MOST, description="Ids of virtual servers")
]
Exports = Annotated[
    list[Annotated[str, Field(min_length=3, max_length=80)]],
    Field(min_length=1, max_length=EXPORTS_AT_MOST, description="Export ids, as 12345678-20261123T0200Z"),
]
Params = Annotated[
    dict[str, Any],
    Field(description="More parameters of plan_exports, by the names of its form; what the action decides is refused"),
]


class RunModel(BaseModel):
    """Base of what is asked for and prepared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PlanAsked(RunModel):
    """Make a plan, and stop: nothing is captured."""

    params: Params = Field(default_factory=dict, description="Which servers, and how; as in the form of plan_exports")


class ApproveAsked(RunModel):
    """Carry out what a dry run has shown."""

    plan_id: str = Field(min_length=1, max_length=100, description="The dry run's plan")


class ExportAsked(RunModel):
    """Export the servers that were selected."""

    ids: Ids = Field(min_length=1)
    params: Params = Field(default_factory=dict)


class MissingAsked(RunModel):
    """Export what has no manifest."""

    ids: Ids = Field(default_factory=list, description="Only these virtual servers; empty: all of the account")
    slots: list[Annotated[str, Field(max_length=names.PERIOD_MAX)]] = Field(
        default_factory=list, max_length=400, description="Past slots to look at as well, as 20261123T0200Z"
    )
    since: str | None = Field(default=None, max_length=40, description="Every slot of the schedule since then")
    params: Params = Field(default_factory=dict)


class RetryAsked(RunModel):
    """Try the failed servers of a plan again."""

    plan_id: str = Field(min_length=1, max_length=100, description="The plan whose failed servers are tried again")
    ids: Ids = Field(default_factory=list, description="Only these of them; empty: all")
    plan_is_over: bool = Field(default=False, description="The plan's run is over, though it left no report")
    params: Params = Field(default_factory=dict)


class ProveAsked(RunModel):
    """Prove exports again."""

    exports: Exports
    level: Literal["L2", "L3", "L4"] = Field(default="L2", description="How deep")


class DeliverAsked(RunModel):
    """Bring exports out of the bucket."""

    exports: Exports
    to: str = Field(default="", max_length=1000, description="Folder or s3://bucket/prefix; empty: the deployment's")


class RunBody(RunModel):
    """What is posted to Airflow."""

    logical_date: None = Field(default=None, description="Always null: the run stands for no slot")
    conf: dict[str, Any] = Field(description="The run's parameters")
    note: str = Field(description="A note that the run carries")


class PreparedRun(RunModel):
    """A run that can be started: post ``body`` to ``path``, with the user's own session."""

    dag_id: str = Field(description="The DAG")
    method: Literal["POST"] = Field(default="POST", description="How it is started")
    path: str = Field(description="Where it is posted to, below Airflow's own base URL")
    body: RunBody = Field(description="What is posted")
    summary: str = Field(description="What the run does, in a sentence to confirm")
    takes_servers_offline: bool = Field(description="Whether servers go offline for their capture")


def prepare_plan(asked: PlanAsked, place: OpenPlace, defaults: Mapping[str, Any]) -> PreparedRun:
    """Prepare a dry run.

    :param asked: what is asked for.
    :param place: where its exports would go.
    :param defaults: the deployment's default parameters.
    :returns: the run.
    :raises InputError: a parameter is unknown or wrong, or nothing is selected.
    """
    conf = _plan_conf(asked.params, place, defaults, decided={"dry_run": True})
    return _run(PLAN_DAG, conf, "Make a plan and stop: nothing is captured.", note="Plan", offline=False)


def prepare_approve(asked: ApproveAsked, plan: Plan, place: OpenPlace, defaults: Mapping[str, Any]) -> PreparedRun:
    """Prepare the run that carries out what a dry run has shown: for exactly the servers that it would have exported.

    :param asked: what is asked for.
    :param plan: the dry run's plan.
    :param place: where the plan is.
    :param defaults: the deployment's default parameters.
    :returns: the run.
    :raises InputError: the plan is no dry run's, exports nothing, or is for several slots.
    """
    if not plan.settings.dry_run:
        raise InputError(f"The plan {asked.plan_id} was no dry run: its run carries it out, or has done so.")
    items = plan.items_with(Outcome.EXPORT)
    if not items:
        raise InputError(f"The plan {asked.plan_id} exports nothing: there is nothing to approve.")
    if {item.period for item in items} != {plan.period}:
        raise InputError(
            f"The plan {asked.plan_id} is for several slots. Export what is missing instead: its run makes the plan "
            "anew and carries it out."
        )
    ids = sorted(item.guest_id for item in items)
    conf: dict[str, Any] = {**_params_of(plan.settings), "dry_run": False}
    if plan.retry_of:
        conf |= {"only": "failed", "plan": plan.retry_of}
    conf |= {"all": False, "ids": ids, "ignore_unknown_ids": True, **_nothing_else()}
    conf = _plan_conf({}, place, defaults, decided=conf)
    offline = sum(not item.adopt_only for item in items)
    summary = f"Export {_servers(len(items))} as planned in {plan.plan_id}; {_servers(offline)} will go offline."
    return _run(PLAN_DAG, conf, summary, note=f"Approved: {plan.plan_id}", offline=offline > 0)


def prepare_export(asked: ExportAsked, place: OpenPlace, defaults: Mapping[str, Any]) -> PreparedRun:
    """Prepare an export of selected servers; parameters as for :func:`prepare_plan`.

    :returns: the run.
    """
    ids = sorted(set(asked.ids))
    decided = {"ids": ids, "all": False, "dry_run": False, **_nothing_else()}
    conf = _plan_conf(asked.params, place, defaults, decided=decided)
    summary = f"Export {_servers(len(ids))} now; each is offline while it is captured."
    return _run(PLAN_DAG, conf, summary, note="Export of selected servers", offline=True)


def prepare_missing(asked: MissingAsked, place: OpenPlace, defaults: Mapping[str, Any]) -> PreparedRun:
    """Prepare an export of what is missing; parameters as for :func:`prepare_plan`.

    :returns: the run.
    """
    for slot in asked.slots:
        if names.slot_of_period(slot) is None:
            raise InputError(f"slots: {slot!r} is no slot of a schedule. Write it as 20261123T0200Z.")
    ids = sorted(set(asked.ids))
    decided: dict[str, Any] = {"only": "missing", "ids": ids, "all": not ids, "dry_run": False}
    decided |= _nothing_else()
    if asked.slots:
        decided["slots"] = asked.slots
    if asked.since:
        decided["since"] = asked.since
    conf = _plan_conf(asked.params, place, defaults, decided=decided)
    of = _servers(len(ids)) if ids else "all servers"
    summary = f"Export what has no manifest, of {of}; a server whose present slot is missing goes offline."
    return _run(PLAN_DAG, conf, summary, note="Export of what is missing", offline=True)


def prepare_retry(asked: RetryAsked, snapshot: Snapshot, place: OpenPlace, defaults: Mapping[str, Any]) -> PreparedRun:
    """Prepare another try of the failed servers of a plan.

    :param asked: what is asked for.
    :param snapshot: what is known.
    :param place: where the plan is.
    :param defaults: the deployment's default parameters.
    :returns: the run.
    :raises InputError: there is no such plan, it may be at work, or nothing of it failed.
    """
    facts = next((one for one in snapshot.plans if one.plan_id == asked.plan_id), None)
    if facts is None:
        raise InputError(f"There is no plan {asked.plan_id} in {place.bucket}/{place.books.prefix}.")
    if facts.dry_run:
        raise InputError(f"The plan {asked.plan_id} was a dry run: nothing of it was carried out, so nothing failed.")
    if not facts.reported and not asked.plan_is_over:
        raise InputError(
            f"The run of {asked.plan_id} has not reported: it may still be at work. Wait for its end, or clear its "
            "task report. If you know that it is over, say so (plan_is_over)."
        )
    failed = {
        row.number
        for rows in snapshot.rows.values()
        for row in rows.values()
        if row.plan_id == asked.plan_id and row.state in (State.FAILED, State.MISSING, State.RUNNING)
    }
    chosen = failed & set(asked.ids) if asked.ids else failed
    if not chosen:
        raise InputError(f"Nothing that was chosen of the plan {asked.plan_id} has failed and is still to be exported.")
    decided: dict[str, Any] = {"only": "failed", "plan": asked.plan_id, "dry_run": False, "all": False}
    decided |= {"ids": sorted(chosen) if asked.ids else [], **_nothing_else()}
    if asked.plan_is_over:
        decided["plan_is_over"] = True
    conf = _plan_conf(asked.params, place, defaults, decided=decided)
    summary = f"Try {_servers(len(chosen))} again that failed in {asked.plan_id}; captures take servers offline."
    return _run(PLAN_DAG, conf, summary, note=f"Retry of {asked.plan_id}", offline=True)


def prepare_prove(asked: ProveAsked, snapshot: Snapshot, place: OpenPlace) -> PreparedRun:
    """Prepare a deeper proof; parameters as for :func:`prepare_retry`.

    :returns: the run.
    """
    exports = _known_exports(asked.exports, snapshot)
    conf = {"exports": exports, "level": asked.level, **_place_conf(place)}
    summary = f"Read {_many(len(exports), 'export')} once more in the bucket, at level {asked.level}."
    return _run(PROVE_DAG, conf, summary, note=f"Proof at {asked.level}", offline=False)


def prepare_deliver(asked: DeliverAsked, snapshot: Snapshot, place: OpenPlace, *, to: str) -> PreparedRun:
    """Prepare a delivery.

    :param asked: what is asked for.
    :param snapshot: what is known.
    :param place: where the exports are.
    :param to: where the deployment delivers to by itself; may be empty.
    :returns: the run.
    :raises InputError: an export is not there, or there is no place to deliver to.
    """
    from sealift.provider.operators.deliver import check_target

    target = asked.to or to
    check_target(target)
    exports = _known_exports(asked.exports, snapshot)
    conf = {"exports": exports, "to": target, **_place_conf(place)}
    return _run(
        DELIVER_DAG, conf, f"Bring {_many(len(exports), 'export')} to {target}.", note="Delivery", offline=False
    )


def _nothing_else() -> dict[str, Any]:
    """The criteria that might choose further servers by the deployment's default parameters."""
    return {name: [] for name in ("hostnames", "domains", "tags", "datacenters", "dedicated_hosts")}


def _plan_conf(
    given: Mapping[str, Any], place: OpenPlace, defaults: Mapping[str, Any], *, decided: Mapping[str, Any]
) -> dict[str, Any]:
    """Put a conf of plan_exports together, and check it as the run would."""
    from airflow.sdk.exceptions import AirflowException

    from sealift.provider.operators.plan import settings_of
    from sealift.provider.params import plan_params, selection_of

    params = plan_params(defaults)
    taken = sorted(set(given) & {*decided, *_EARLIER, *_PLACE})
    if taken:
        raise InputError(f"{', '.join(taken)}: the action and the place decide that. Leave it out.")
    unknown = sorted(set(given) - set(params))
    if unknown:
        raise InputError(f"plan_exports has no parameter {', '.join(unknown)}. It has: {', '.join(params)}.")
    conf = {**given, **decided, **_place_conf(place)}
    whole = {}
    for name, param in params.items():
        try:
            whole[name] = param.resolve(conf[name]) if name in conf else param.value
        except (AirflowException, ValueError) as error:
            said = str(error).splitlines()[0]
            raise InputError(f"{name}: {said}") from error
    Selection.from_params(selection_of(whole), may_be_empty=decided.get("only") == "failed")
    PlanSettings.from_params(settings_of(whole))
    return conf


def _place_conf(place: OpenPlace) -> dict[str, Any]:
    return {
        "bucket": place.bucket,
        "region": place.region,
        "prefix": place.books.prefix,
        "cos_conn_id": place.place.cos_conn_id,
    }


def _params_of(settings: PlanSettings) -> dict[str, Any]:
    """Give a plan's settings back as parameters; where it is, the place decides."""
    # Whoever can write to the bucket must not choose by which connection captures are made.
    elsewhere = {"bucket", "region", "prefix", "cos_conn_id", "classic_conn_id", "dry_run", "bucket_create", "window"}
    told = settings.model_dump(mode="json", exclude_defaults=True, exclude=elsewhere)
    if settings.window is not None:
        told["window"] = settings.window.text
    return told


def _known_exports(asked: Sequence[str], snapshot: Snapshot) -> list[str]:
    unknown = [one for one in asked if not _is_exported(one, snapshot)]
    if unknown:
        more = f" and {len(unknown) - _ASKED_AT_MOST} more" if len(unknown) > _ASKED_AT_MOST else ""
        raise InputError(f"These are no exports that are done: {', '.join(unknown[:_ASKED_AT_MOST])}{more}.")
    return list(dict.fromkeys(asked))


def _is_exported(export_id: str, snapshot: Snapshot) -> bool:
    try:
        number, period = names.parse_export_id(export_id)
    except SettingsError:
        return False
    row = snapshot.row(number, period)
    return row is not None and row.state is State.EXPORTED


def _run(dag_id: str, conf: dict[str, Any], summary: str, *, note: str, offline: bool) -> PreparedRun:
    return PreparedRun(
        dag_id=dag_id,
        path=f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns",
        body=RunBody(conf=conf, note=f"{note} (from the page)"),
        summary=summary,
        takes_servers_offline=offline,
    )


def _servers(count: int) -> str:
    return _many(count, "server")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
