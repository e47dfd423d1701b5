"""What messages say of a run, a wave, a server, a plan that is late: made from reports, plans and waits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sealift.exports.approval import going_offline, subject_of
from sealift.exports.messages.message import (
    NOTES_AT_MOST,
    SERVERS_AT_MOST,
    Message,
    MessageKind,
    MessageLink,
    MessageServer,
    one_line,
)
from sealift.exports.plan_models import Outcome, Plan, PlanItem
from sealift.exports.report import OutcomeKind, RunReport, ServerOutcome, WaveReport

_ORDER: Final = (OutcomeKind.FAILED, OutcomeKind.NOT_EXPORTABLE, OutcomeKind.EXPORTED, OutcomeKind.ALREADY_EXPORTED)
"""Which servers matter most."""


def approval_message(
    *, plan: Plan, why: str, hours: float, now: datetime, dag_id: str, run_id: str, links: Sequence[MessageLink] = ()
) -> Message:
    """Tell that a run waits until somebody approves its plan.

    :param plan: the plan.
    :param why: why it has to be approved, in a sentence.
    :param hours: how long it waits.
    :param now: the present time.
    :param dag_id: the run's DAG.
    :param run_id: the run.
    :param links: where to look.
    :returns: the message.
    """
    offline = going_offline(plan)
    servers = [
        MessageServer(id=one.guest_id, hostname=one.hostname, state="goes offline", export_id=one.export_id)
        for one in offline[:SERVERS_AT_MOST]
    ]
    return Message(
        kind=MessageKind.APPROVAL,
        subject=f"Sealift: a plan that takes {_many(len(offline), 'server')} offline waits ({plan.period})",
        summary=f"{subject_of(plan)} {why}",
        at=now,
        dag_id=dag_id,
        run_id=run_id,
        plan_id=plan.plan_id,
        period=plan.period,
        bucket=plan.settings.bucket,
        counts={"goes offline": len(offline)},
        servers=servers,
        more=len(offline) - len(servers),
        next_steps=[
            f"Approve or reject it in Airflow, under Required Actions, within {hours:g} hours. Without an answer "
            "nothing is captured."
        ],
        links=list(links),
    )


def run_message(
    report: RunReport, *, report_key: str, dag_id: str, run_id: str, left: str = "", links: Sequence[MessageLink] = ()
) -> Message:
    """Tell how a run ended, from its report.

    :param report: the report.
    :param report_key: its key.
    :param dag_id: the run's DAG.
    :param run_id: the run.
    :param left: what the run left behind, in a sentence, where it did.
    :param links: where to look.
    :returns: the message: failed where any server failed, else finished.
    """
    failed = len(report.failed)
    total = len(report.outcomes)
    if failed:
        subject = f"Sealift: {failed} of {_many(total, 'server')} failed ({report.period})"
    else:
        subject = f"Sealift: {report.summary} ({report.period})"
    named, more = _worst(report.outcomes)
    notes = [*report.notes, *([left] if left else [])]
    return Message(
        kind=MessageKind.FAILED if failed else MessageKind.FINISHED,
        subject=subject,
        summary=f"{report.summary}.",
        at=report.reported_at,
        dag_id=dag_id,
        run_id=run_id,
        plan_id=report.plan_id,
        period=report.period,
        bucket=report.bucket,
        report=report_key,
        counts={kind.value: count for kind in _ORDER if (count := report.count(kind))},
        servers=named,
        more=more,
        notes=_some(notes),
        next_steps=[_try_again(report.plan_id)] if failed else [],
        links=list(links),
    )


def wave_message(
    report: WaveReport, *, period: str, bucket: str, report_key: str, dag_id: str, links: Sequence[MessageLink] = ()
) -> Message:
    """Tell of the servers of a wave that failed, while the others go on.

    :param report: the wave's report.
    :param period: the slot or run that its exports are for.
    :param bucket: the bucket.
    :param report_key: the report's key.
    :param dag_id: the wave's DAG.
    :param links: where to look.
    :returns: the message.
    """
    counts = {kind.value: sum(one.kind is kind for one in report.outcomes) for kind in _ORDER}
    named, more = _worst(report.outcomes)
    wave = f"wave {report.number + 1}"
    return Message(
        kind=MessageKind.WAVE,
        subject=f"Sealift: {len(report.failed)} of {_many(len(report.outcomes), 'server')} of {wave} failed ({period})",
        summary=f"{wave.capitalize()} of the plan {report.plan_id} has ended; other waves go on.",
        at=report.reported_at,
        dag_id=dag_id,
        run_id=report.run_id,
        plan_id=report.plan_id,
        period=period,
        wave=report.number,
        bucket=bucket,
        report=report_key,
        counts={kind: count for kind, count in counts.items() if count},
        servers=named,
        more=more,
        next_steps=[f"Wait for the run's end, or clear a failed server's tasks now. {_try_again(report.plan_id)}"],
        links=list(links),
    )


def trouble_message(
    *, subject: str, words: str, do: str, now: datetime, dag_id: str, run_id: str, links: Sequence[MessageLink] = ()
) -> Message:
    """Tell of a run that could not be planned, or not be reported.

    :param subject: what happened, in a few words.
    :param words: what happened, in a sentence.
    :param do: what to do.
    :param now: the present time.
    :param dag_id: the run's DAG.
    :param run_id: the run.
    :param links: where to look.
    :returns: the message, of the kind failed.
    """
    return Message(
        kind=MessageKind.FAILED,
        subject=f"Sealift: {subject}",
        summary=words,
        at=now,
        dag_id=dag_id,
        run_id=run_id,
        next_steps=[do],
        links=list(links),
    )


def server_message(
    *,
    kind: MessageKind,
    item: PlanItem,
    step: str,
    sentence: str,
    now: datetime,
    dag_id: str,
    run_id: str,
    plan_id: str,
    bucket: str,
    last: bool = False,
    links: Sequence[MessageLink] = (),
) -> Message:
    """Tell of one server whose capture or export is stuck, or slow.

    :param kind: which of the two.
    :param item: the server's part of the plan.
    :param step: the task that waits.
    :param sentence: what ended the wait: names the transaction, its status, and what to do.
    :param now: the present time.
    :param dag_id: the wave's DAG.
    :param run_id: the wave's run.
    :param plan_id: the plan.
    :param bucket: the bucket.
    :param last: no more servers of this slot will be told of one by one.
    :param links: where to look.
    :returns: the message.
    """
    what = "capture" if step == "wait_for_template" else "export"
    return Message(
        kind=kind,
        subject=f"Sealift: the {what} of {one_line(item.hostname, 60)} is {kind.value} ({item.period})",
        summary=sentence,
        at=now,
        dag_id=dag_id,
        run_id=run_id,
        plan_id=plan_id,
        period=item.period,
        bucket=bucket,
        counts={kind.value: 1},
        servers=[
            MessageServer(
                id=item.guest_id,
                hostname=item.hostname,
                state=kind.value,
                step=step,
                words=sentence,
                export_id=item.export_id,
            )
        ],
        notes=["More servers of this slot will not be told of one by one; the page shows them."] if last else [],
        links=list(links),
    )


def late_message(
    *,
    plan: Plan | None,
    waves: Mapping[int, WaveReport],
    done: Collection[str],
    due: datetime,
    began: datetime | None,
    now: datetime,
    dag_id: str,
    run_id: str,
    unseen: str = "",
    links: Sequence[MessageLink] = (),
) -> Message:
    """Tell of a run that should have ended.

    :param plan: the run's plan; None where there is none yet, or it could not be read.
    :param waves: the reports of its waves that have ended, by number.
    :param done: ids of its exports that have a manifest.
    :param due: when it should have ended.
    :param began: when it began.
    :param now: the present time.
    :param dag_id: the run's DAG.
    :param run_id: the run.
    :param unseen: why the bucket could not be looked at, where it could not.
    :param links: where to look.
    :returns: the message.
    """
    since = f" It began at {began.isoformat(timespec='seconds')}." if began else ""
    servers: list[MessageServer] = []
    counts: dict[str, int] = {}
    notes = [unseen] if unseen else []
    if plan is None:
        said = "What it has done so far is not known." if unseen else "No plan of it was found yet."
    else:
        wanted = plan.items_with(Outcome.EXPORT)
        said_of = {one.export_id: one for report in waves.values() for one in report.outcomes if one.export_id}
        open_ = [item for item in wanted if item.export_id not in done]
        servers = sorted((_open_server(item, said_of.get(item.export_id)) for item in open_), key=_late_order)
        counts = {OutcomeKind.EXPORTED.value: len(wanted) - len(open_)} | {
            state: sum(one.state == state for one in servers) for state in sorted({one.state for one in servers})
        }
        said = (
            f"{len(wanted) - len(open_)} of {_many(len(wanted), 'server')} are exported so far, and {len(waves)} of "
            f"{_many(len(plan.waves), 'wave')} have ended."
        )
    return Message(
        kind=MessageKind.LATE,
        subject=f"Sealift: {dag_id} is late ({plan.period if plan else run_id})",
        summary=f"The run was to end by {due.isoformat(timespec='seconds')} and still runs.{since} {said}",
        at=now,
        dag_id=dag_id,
        run_id=run_id,
        plan_id=plan.plan_id if plan else None,
        period=plan.period if plan else None,
        bucket=plan.settings.bucket if plan else None,
        counts=counts,
        servers=servers[:SERVERS_AT_MOST],
        more=max(0, len(servers) - SERVERS_AT_MOST),
        notes=notes,
        next_steps=[
            "Nothing has to be done for it to go on: it runs until all of its waves have ended. Look at what its "
            "servers wait for: an offline slot, the capture window, an approval, or the account."
        ],
        links=list(links),
    )


def _open_server(item: PlanItem, outcome: ServerOutcome | None) -> MessageServer:
    if outcome is not None:
        return _told(outcome)
    return MessageServer(id=item.guest_id, hostname=item.hostname, state="not exported yet", export_id=item.export_id)


def _late_order(one: MessageServer) -> tuple[bool, int]:
    return one.state != OutcomeKind.FAILED.value, one.id


def _worst(outcomes: Iterable[ServerOutcome]) -> tuple[list[MessageServer], int]:
    """Pick the servers that matter most, and count the others."""
    ranked = sorted(outcomes, key=lambda one: (_ORDER.index(one.kind), one.server, one.id, one.export_id or ""))
    return [_told(one) for one in ranked[:SERVERS_AT_MOST]], max(0, len(ranked) - SERVERS_AT_MOST)


def _told(outcome: ServerOutcome) -> MessageServer:
    return MessageServer(
        server=outcome.server,
        id=outcome.id,
        hostname=outcome.hostname,
        state=outcome.kind.value,
        step=outcome.task,
        words=outcome.words or (f"{outcome.disks} disks, {outcome.proof_level}" if outcome.proof_level else None),
        export_id=outcome.export_id,
    )


def _try_again(plan_id: str) -> str:
    return (
        f"To try the failed servers again, trigger plan_exports with Only set to failed and Plan set to {plan_id}: "
        "what is done is found, and not done twice."
    )


def _some(notes: Sequence[str]) -> list[str]:
    if len(notes) <= NOTES_AT_MOST:
        return list(notes)
    return [*notes[: NOTES_AT_MOST - 1], f"And {len(notes) - NOTES_AT_MOST + 1} more notes, in the report."]


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
