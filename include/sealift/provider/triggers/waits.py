"""The two waits of an export, both fed by the account's one poll.

A wait that ends well resumes its task in a worker where the task has a step to do then, and ends it right in the
triggerer where it has none, or where the step was done here (:mod:`sealift.provider.triggers.starting`). A wait that
ends badly resumes the task in a worker, so that it raises with a full diagnosis and its retries count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from sealift.provider.links import ObjectLink, TemplateLink, template_url
from sealift.provider.triggers.account import Interest, Place, Snapshot, look_at, register, took, unregister, usual
from sealift.provider.triggers.admitting import ClaimsAt
from sealift.provider.triggers.base import AccountTrigger, in_turn, settle
from sealift.provider.waits import ENDED_KEY, LOOK_KEY, NEVER, REFUSED_KEY, read_xcom

if TYPE_CHECKING:
    from sealift.exports.waiting import ExportJudge, TemplateJudge, Verdict, WaitTerms


LONGEST_TURN: Final = timedelta(days=1)
"""An export does not wait longer than this for others to end: their claims may be left over, and nothing is offline."""

_NEAR: Final = 0.1
"""So near its expected end, as a share of its duration, work is looked at more often."""


class _Line:
    """The line of those who wait for their turn.

    :param key: the poll's key.
    :param turn: what is waited for; None for nothing.
    :param log: where it is told.
    """

    def __init__(self, *, key: Hashable, turn: Interest | None, log: Any) -> None:
        self._key = key
        self._turn = turn
        self._log = log
        self._token = -1

    def stand(self, when: bool = True) -> None:
        """Take a place: when the wait before it is nearly over, so that its last look tells of the turn as well."""
        if when and self._turn is not None and self._token < 0:
            self._token = register(self._key, self._turn)

    def leave(self) -> None:
        unregister(self._key, self._token)

    async def until_its_turn(self, last: Snapshot, snapshots: AsyncIterator[Any]) -> None:
        """Let snapshots go by until there is room for one more export. Nothing is offline meanwhile.

        :param last: the snapshot that ended the wait before.
        :param snapshots: those that follow.
        """
        if self._turn is None or self._turn in last.turns:
            return
        self.stand()
        began = datetime.now(UTC)
        self._log.info("The template is whole; waiting until fewer exports are in flight than may be.")
        async for snapshot in snapshots:
            if self._turn in snapshot.turns:
                return
            if snapshot.taken_at - began > LONGEST_TURN:
                self._log.warning("This export has waited for its turn for %s, and goes on.", LONGEST_TURN)
                return


class AccountWaitTrigger(AccountTrigger):
    """What the two waits share: the poll, the terms and the events.

    :param classic_conn_id: connection of the type ``ibm_classic``.
    :param terms: the terms of the wait as JSON: :class:`sealift.exports.waiting.WaitTerms`, or what XCom held of it.
    :param poll_interval: seconds between two polls of the account.
    :param attempt: which try of the task this is; a later one counts its deadline from its own beginning.
    :param cos_conn_id: connection of the type ``ibm_cos``, where objects are waited for.
    :param region: the bucket's region; empty for the connection's.
    :param deferred_by_worker: whether a worker process made this trigger.
    :param resumes: whether a good end resumes the task in a worker, instead of ending it.
    """

    waits_for_objects: ClassVar[bool] = False
    waits_for_guest: ClassVar[bool] = True
    waits_for_turn: ClassVar[bool] = False

    def __init__(
        self,
        *,
        classic_conn_id: str,
        terms: str,
        poll_interval: float,
        attempt: str | int = 1,
        cos_conn_id: str = "",
        region: str = "",
        deferred_by_worker: bool = False,
        resumes: bool = False,
    ) -> None:
        super().__init__(classic_conn_id=classic_conn_id, poll_interval=poll_interval)
        self.terms = terms
        self.attempt = attempt
        self.cos_conn_id = cos_conn_id
        self.region = region
        self.deferred_by_worker = deferred_by_worker
        self.resumes = resumes
        self._watching: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what it takes to make this trigger again; ids and times only."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "classic_conn_id": self.classic_conn_id,
                "terms": self.terms,
                "poll_interval": self.poll_interval,
                "attempt": self.attempt,
                "cos_conn_id": self.cos_conn_id,
                "region": self.region,
                "deferred_by_worker": self.deferred_by_worker,
                "resumes": self.resumes,
            },
        )

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Judge snapshots until the wait is over.

        :param shared_stream: the poll's snapshots.
        :returns: one event.
        """
        async for verdict in self._verdict(shared_stream):
            await in_turn()
            if verdict.kind == "done":
                self.log.info(verdict.sentence)
            else:
                self.log.error(verdict.sentence)
            if verdict.kind != "done":
                yield TriggerEvent(_payload(verdict) | self._handed_on(verdict))
            elif not self.resumes:
                yield TaskSuccessEvent(xcoms=self._handed_on(verdict) or None)
            else:
                yield await self._go_on(verdict) or TriggerEvent(_payload(verdict) | self._handed_on(verdict))

    async def _go_on(self, verdict: Verdict) -> TriggerEvent | None:  # noqa: ARG002
        """Do the task's step here, where that is possible.

        :param verdict: a good end of the wait.
        :returns: what ends the task; None where a worker is to do the step.
        """
        return None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait without the triggerer's shared stream, as ``dag.test()`` does. The event resumes the task either way."""
        stream = type(self).open_shared_stream(self.serialize()[1])
        async for verdict in self._verdict(stream):
            yield TriggerEvent(_payload(verdict) | self._handed_on(verdict))

    async def on_kill(self) -> None:
        """Say what goes on remotely: the API offers no cancel, so nothing is cancelled.

        Airflow calls this where a person marks the task or clears it, and writes what it logs into the task's log.
        """
        from sealift.exports.names import template_name

        try:
            terms = self._read_terms()
        except ValueError as error:
            self.log.warning("This wait was ended by a user. %s", error)
            return
        if terms.exported:
            self.log.warning("This wait was ended by a user. %s is exported already: nothing runs.", terms.export_id)
            return
        seen = "No poll has answered yet." if self._watching is None else self._watching.last_words(datetime.now(UTC))
        self.log.warning(
            "This wait was ended by a user. Nothing was cancelled: the Classic API offers no way to. Remotely, the "
            "work on the template %s of the virtual server %s (%s) goes on. %s Find it under Devices > Manage > "
            "Images by its name %s, and what runs on the server among its transactions. Clearing this task takes the "
            "wait up again.",
            terms.template_id,
            terms.guest_id,
            terms.hostname,
            seen,
            template_name(terms.export_id),
        )

    async def _verdict(self, snapshots: AsyncIterator[Any]) -> AsyncIterator[Verdict]:
        began = datetime.now(UTC)
        try:
            terms = self._read_terms()
        except ValueError as error:
            yield await self._without_terms(str(error), began)
            return
        counts_from = self._counts_from(terms, began)
        judge = self._judge(terms.model_copy(update={"started_at": counts_from}))
        self._watching = judge
        verdict = judge.at_once()
        if verdict is not None:
            if self.deferred_by_worker:
                await settle(began)
            yield verdict
            return
        await in_turn()
        self.log.info(
            "%s: waiting until %s at the latest.",
            terms.hostname,
            (counts_from + timedelta(seconds=terms.deadline_seconds)).isoformat(timespec="milliseconds"),
        )
        interest = Interest(
            guest_id=terms.guest_id if self.waits_for_guest else None,
            template_id=terms.template_id,
            place=self._place(terms),
        )
        key = self.shared_stream_key()
        token = register(key, interest)
        line = _Line(key=key, turn=self._turn(terms), log=self.log)
        told = ""
        try:
            async for snapshot in snapshots:
                if interest not in snapshot.asked:
                    continue
                why = _not_known(snapshot, interest)
                if why:
                    verdict = judge.unanswered(why=why, now=snapshot.taken_at)
                else:
                    verdict = self._observe(judge, snapshot, interest)
                if verdict is None:
                    if judge.progress != told:
                        told = judge.progress
                        await in_turn()
                        self.log.info("%s: %s", terms.hostname, told)
                    line.stand(judge.nearly_over)
                    look_at(key, token, self._next_look(judge, snapshot.taken_at))
                    continue
                if verdict.kind == "done":
                    took(key, judge.what, (snapshot.taken_at - terms.started_at).total_seconds())
                    unregister(key, token)
                    await line.until_its_turn(snapshot, snapshots)
                if self.deferred_by_worker and (self.resumes or verdict.kind == "failed"):
                    await settle(began)
                yield verdict
                return
        finally:
            unregister(key, token)
            line.leave()

    def _turn(self, terms: WaitTerms) -> Interest | None:
        """Say what the step after this wait waits for besides. A later try may only have to adopt: it goes at once."""
        if terms.turn is None or not self.resumes or not self.waits_for_turn or int(self.attempt) > 1:
            return None
        from sealift.exports.turns import Turn

        turn = terms.turn
        return Interest(
            turn=Turn(
                export_id=terms.export_id,
                datacenter=turn.datacenter,
                max_exports=turn.max_exports,
                max_in_datacenter=turn.max_in_datacenter,
            ),
            claims=ClaimsAt(cos_conn_id=self.cos_conn_id, region=self.region, bucket=terms.bucket, root=turn.root),
        )

    def _next_look(self, judge: Any, now: datetime) -> float:
        """Say in how many seconds the next look can tell something: sooner near the expected end, later before it."""
        if judge.nearly_over:
            return float(judge.again_after)
        expected = judge.terms.expected_seconds or usual(self.shared_stream_key(), judge.what)
        if expected is None:
            return self.poll_interval
        left = expected - (now - judge.terms.started_at).total_seconds()
        near = expected * _NEAR
        return left - near if left > 2 * near else min(near / 2, self.poll_interval)

    def _counts_from(self, terms: WaitTerms, now: datetime) -> datetime:
        """Tell from when this try counts its deadline, the same however often the triggerer is started again.

        The first try counts from when the work was submitted or found, a later one from its own beginning. None of the
        moments below is later than that, and Airflow keeps them for as long as the try lasts: when it made the try (a
        task instance gets a new id for each, and the id, a UUID of version 7, tells its time), and when it deferred
        the try (the timeout that it was deferred with counts from there). The latest is the nearest.
        """
        if int(self.attempt) <= 1:
            return terms.started_at
        known = []
        try_id = getattr(self.task_instance, "id", None)
        if isinstance(try_id, UUID) and try_id.version == 7:
            known.append(datetime.fromtimestamp((try_id.int >> 80) / 1000, UTC))
        timeout_after: datetime | None = getattr(self, "timeout_after", None)
        if timeout_after is not None:
            known.append((timeout_after if timeout_after.tzinfo else timeout_after.replace(tzinfo=UTC)) - NEVER)
        return min(now, max([*known, terms.started_at])) if known else now

    def _handed_on(self, verdict: Verdict) -> dict[str, Any]:
        seen = {ENDED_KEY: verdict.ended, LOOK_KEY: verdict.look if self.resumes else None}
        return {name: one.model_dump(mode="json") for name, one in seen.items() if one is not None}

    async def _without_terms(self, sentence: str, began: datetime) -> Verdict:
        from sealift.exports.waiting import ReasonCode, Verdict

        if self.deferred_by_worker:
            await settle(began)
        return Verdict(kind="failed", reason=ReasonCode.NO_TERMS, sentence=sentence)

    def _read_terms(self) -> WaitTerms:
        from pydantic import ValidationError

        from sealift.exports.waiting import WaitTerms

        try:
            return WaitTerms.model_validate(read_xcom(self.terms) if self.terms else None)
        except ValidationError as error:
            raise ValueError(
                f"The task before this wait left nothing to wait for (XCom: {self.terms[:200]!r}). It was skipped or "
                "marked as done by hand: clear that task, which finds what is there and goes on."
            ) from error

    def _place(self, terms: WaitTerms) -> Place | None:
        if not self.waits_for_objects:
            return None
        from sealift.exports.names import disks_prefix

        prefix = disks_prefix(terms.expected_keys[0].rpartition("/")[0])
        return Place(cos_conn_id=self.cos_conn_id, region=self.region, bucket=terms.bucket, prefix=prefix)

    def _judge(self, terms: WaitTerms) -> Any:
        raise NotImplementedError

    def _observe(self, judge: Any, snapshot: Snapshot, interest: Interest) -> Verdict | None:
        raise NotImplementedError


class TemplateWaitTrigger(AccountWaitTrigger):
    """Waits until a template is whole and its server is back: children, sizes, no transaction, twice in a row.

    Where the terms name caps for exports and a step follows, it then waits for the export's turn. Where it knows the
    wave, it then starts the export itself. The other parameters are those of :class:`AccountWaitTrigger`.

    :param wave_key: key of the wave in the bucket; empty where a worker is to start the export.
    :param bucket: the bucket.
    """

    waits_for_turn = True

    def __init__(
        self,
        *,
        classic_conn_id: str,
        terms: str,
        poll_interval: float,
        attempt: str | int = 1,
        cos_conn_id: str = "",
        region: str = "",
        deferred_by_worker: bool = False,
        resumes: bool = False,
        wave_key: str = "",
        bucket: str = "",
    ) -> None:
        super().__init__(
            classic_conn_id=classic_conn_id,
            terms=terms,
            poll_interval=poll_interval,
            attempt=attempt,
            cos_conn_id=cos_conn_id,
            region=region,
            deferred_by_worker=deferred_by_worker,
            resumes=resumes,
        )
        self.wave_key = wave_key
        self.bucket = bucket

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what it takes to make this trigger again; ids, keys and times only."""
        path, kwargs = super().serialize()
        return path, {**kwargs, "wave_key": self.wave_key, "bucket": self.bucket}

    async def _go_on(self, verdict: Verdict) -> TriggerEvent | None:
        if not self.wave_key:
            return None
        from sealift.classic.errors import ClassicLoadError
        from sealift.provider.triggers.starting import StartsAt, keep_link, try_to_export

        terms = self._read_terms()
        try:
            started = await try_to_export(
                StartsAt(classic_conn_id=self.classic_conn_id, cos_conn_id=self.cos_conn_id, region=self.region),
                log_to=self.log,
                bucket=self.bucket,
                wave_key=self.wave_key,
                guest_id=terms.guest_id,
                template_id=terms.template_id,
                ended=self._handed_on(verdict).get(ENDED_KEY),
            )
        except ClassicLoadError as refusal:
            # A worker defers the task again, to wait for its turn. It submits nothing before.
            return TriggerEvent(_payload(verdict) | self._handed_on(verdict) | {REFUSED_KEY: refusal.message})
        if started is None:
            return None
        await keep_link(self.task_instance, ObjectLink(), started.link)
        await keep_link(self.task_instance, TemplateLink(), template_url(terms.template_id))
        return TaskSuccessEvent(xcoms={"return_value": started.handed_on})

    def _judge(self, terms: WaitTerms) -> TemplateJudge:
        from sealift.exports.waiting import TemplateJudge

        return TemplateJudge(terms)

    def _observe(self, judge: Any, snapshot: Snapshot, interest: Interest) -> Verdict | None:
        verdict: Verdict | None = judge.observe(
            template=snapshot.templates.get(interest.template_id or 0),
            guest=snapshot.guests.get(interest.guest_id or 0),
            now=snapshot.taken_at,
        )
        return verdict


class ExportWaitTrigger(AccountWaitTrigger):
    """Waits until an export is over: no transaction left, and every expected object there with a size."""

    waits_for_objects = True
    waits_for_guest = False

    def _judge(self, terms: WaitTerms) -> ExportJudge:
        from sealift.exports.waiting import ExportJudge

        return ExportJudge(terms)

    def _observe(self, judge: Any, snapshot: Snapshot, interest: Interest) -> Verdict | None:
        template = snapshot.templates.get(interest.template_id or 0)
        assert interest.place is not None
        # While a transaction is left, the bucket is not listed: nothing in it can be complete.
        objects = snapshot.objects.get(interest.place, ())
        verdict: Verdict | None = judge.observe(template=template, objects=objects, now=snapshot.taken_at)
        return verdict


def _not_known(snapshot: Snapshot, interest: Interest) -> str:
    """Say why a snapshot lets nobody conclude anything for an interest, if it does not."""
    return (
        snapshot.trouble
        or snapshot.unread_templates.get(interest.template_id or 0, "")
        or snapshot.unread_guests.get(interest.guest_id or 0, "")
        or (snapshot.unlisted.get(interest.place, "") if interest.place is not None else "")
    )


def _payload(verdict: Verdict) -> dict[str, Any]:
    return {"status": verdict.kind, "reason": verdict.reason.value, "sentence": verdict.sentence}
