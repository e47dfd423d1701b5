"""When a wait is over, and how: judges that look at snapshots of the account and the bucket.

A judge is fed what a poll saw (``None`` for what the poll did not show) and the time at which it saw it, and answers
with a verdict or with nothing yet. It calls nothing, and what it remembers only shortens its way: a judge that is made
anew after a restart comes to the same verdict, at most a grace period later.

Four habits hold for all of them. Nothing counts as idle until two polls in a row have seen it so (a transaction can
follow another with a gap between, terraform-provider-softlayer #47). Nothing counts as gone until it has been missing
for a grace period (a page can move under a poll), in which only time counts that polls with answers lie close around.
A transaction's age is taken from the account's own dates, so that a restart does not make a stuck one young again. And
a deadline that passed while nobody looked waits for the poll that can confirm a good end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sealift.classic.models import GuestState, Template, Transaction
from sealift.cos.models import ObjectInfo
from sealift.exports.terms import (
    SECOND_LOOK_SECONDS,
    Ended,
    Look,
    ReasonCode,
    Verdict,
    WaitTerms,
    capture_terms,
    export_terms,
)

__all__ = [
    "IDLE_POLLS",
    "Ended",
    "ExportJudge",
    "ReasonCode",
    "TemplateJudge",
    "Verdict",
    "WaitTerms",
    "capture_terms",
    "export_terms",
]

IDLE_POLLS = 2
"""How many polls in a row must see something idle before it is."""


class _Judge:
    """What all judges share: idle counting, missing-since marks, stuck transactions and the deadline."""

    what = "wait"

    def __init__(self, terms: WaitTerms) -> None:
        self.terms = terms
        self.progress = "No poll has answered yet."
        self._idle_polls = 0
        self._last_poll: datetime | None = None
        self._unanswered = False
        self._since: dict[str, datetime] = {}
        self._last_transaction: Transaction | None = None
        self._last_transaction_at: datetime | None = None
        self._untold: Sequence[int] = ()
        self._statuses: dict[int, tuple[str | None, datetime]] = {}
        self._unfinished_at: datetime | None = None
        self._whole_at: datetime | None = None

    again_after = 0.0
    """Seconds after which another look can end a wait that is nearly over."""

    @property
    def nearly_over(self) -> bool:
        """Whether another look like the last one would end the wait."""
        return self._idle_polls > 0

    def at_once(self) -> Verdict | None:
        """Judge what needs no poll.

        :returns: the verdict where the export is done already, else None.
        """
        if not self.terms.exported:
            return None
        return self._done(
            ReasonCode.ALREADY_EXPORTED,
            f"{self._who} is exported already: the manifest of {self.terms.export_id} exists. There is nothing to wait "
            "for.",
        )

    def unanswered(self, *, why: str, now: datetime) -> Verdict | None:
        """Take note of a poll that found nothing out: it says nothing of the wait, but the deadline holds.

        :param why: what the account or the bucket said instead of an answer.
        :param now: when the poll was made.
        :returns: the verdict once the deadline has passed, or None to go on waiting.
        """
        self.progress = f"The last poll found nothing out: {why}"
        self._unanswered = True
        if not self._deadline_passed(now):
            return None
        return self._failed(
            ReasonCode.NO_ANSWER,
            f"The {self.what} of {self._who} was not seen to end within {self._waited(now)}, and the last poll found "
            f"nothing out: {why}. {self._transaction_words(now)} What runs remotely goes on. Make the connections work "
            "again, then clear this task, which takes the wait up.",
        )

    def last_words(self, now: datetime) -> str:
        """Say what was last seen of the remote side, for whoever ends the wait by hand.

        :param now: the present time.
        :returns: one or two sentences.
        """
        if self._last_poll is None and not self._unanswered:
            return self.progress
        return f"{self._transaction_words(now)} {self._since_words(now)}"

    # Names and times, for sentences

    @property
    def _who(self) -> str:
        terms = self.terms
        return f"{terms.hostname} (virtual server {terms.guest_id}, template {terms.template_id})"

    def _transaction_words(self, now: datetime) -> str:
        last = self._last_transaction
        if self._untold:
            return f"Transaction {self._untold[0]} is left; the account does not tell its status."
        if last is None or self._last_transaction_at is None:
            return "No transaction was seen."
        status = last.status_friendly_name or last.status_name or "status not told"
        if self._last_transaction_at == self._last_poll:
            age = _words(now - self._status_changed_at(last, now))
            return f"The last transaction seen is {last.id}, {status!r}, unchanged for {age}."
        return f"The last transaction seen was {last.id}, {status!r}, {_words(now - self._last_transaction_at)} ago."

    def _since_words(self, now: datetime) -> str:
        if self._last_poll is None:
            return self.progress
        return f"The last poll with an answer was {_words(now - self._last_poll)} ago."

    def _expected_words(self, before: str) -> str:
        seconds = self.terms.expected_seconds
        return "" if seconds is None else f"{before}about {_words(timedelta(seconds=seconds))} is usual for its size"

    def _waited(self, now: datetime) -> str:
        return _words(now - self.terms.started_at)

    # Counting

    def _new_poll(self, now: datetime) -> bool:
        """Take note of a poll; a snapshot that was seen already (a late subscriber gets it again) is no new poll."""
        if self._last_poll is not None and now <= self._last_poll:
            return False
        if self._last_poll is not None:
            # Time in which nobody could look proves nothing missing: two looks far apart may be two blinks.
            gap = now - self._last_poll
            counted = timedelta(0) if self._unanswered else min(gap, timedelta(seconds=self.terms.grace_seconds / 2))
            self._since = {mark: since + gap - counted for mark, since in self._since.items()}
        self._unanswered = False
        self._last_poll = now
        return True

    def _idle(self, idle: bool) -> bool:
        self._idle_polls = self._idle_polls + 1 if idle else 0
        return self._idle_polls >= IDLE_POLLS

    def _track(self, template: Template | None, now: datetime) -> None:
        """Remember around which moment the template became whole, for the history of durations."""
        if template is None:
            return
        if not _whole(template):
            self._unfinished_at, self._whole_at = now, None
        elif self._whole_at is None:
            self._whole_at = now

    def _lasting(self, mark: str, holds: bool, now: datetime) -> bool:
        """Say whether a state has been seen in every poll for longer than the grace period."""
        if not holds:
            self._since.pop(mark, None)
            return False
        since = self._since.setdefault(mark, now)
        return now - since >= timedelta(seconds=self.terms.grace_seconds)

    # Transactions

    def _note(self, transactions: Sequence[Transaction], now: datetime, *, left: Sequence[int] = ()) -> None:
        """Remember what runs. Of several transactions, the one whose status stands still the longest counts.

        :param left: ids of transactions that are left, whether or not the account tells more of them.
        """
        self._untold = () if transactions else left
        if not transactions:
            return
        seen = {one.id: self._statuses.get(one.id) for one in transactions}
        self._statuses = {
            one.id: before if (before := seen[one.id]) and before[0] == one.status_name else (one.status_name, now)
            for one in transactions
        }
        self._last_transaction = min(transactions, key=lambda one: self._status_changed_at(one, now))
        self._last_transaction_at = now

    def _status_changed_at(self, transaction: Transaction, now: datetime) -> datetime:
        told = transaction.status_change_date or transaction.modify_date or transaction.create_date
        if told is not None and told.tzinfo is not None:
            return min(told, now)
        seen = self._statuses.get(transaction.id)
        since = seen[1] if seen else now
        if transaction.elapsed_seconds is not None and self._last_poll is not None:
            # SLGO datatypes/provisioning.go: the time since the transaction was last modified.
            since = min(since, self._last_poll - timedelta(seconds=max(0.0, transaction.elapsed_seconds)))
        return since

    def _overdue(self, busy: bool, now: datetime) -> Verdict | None:
        """Judge a wait that goes on: stuck if the status stands still, slow or fruitless once the deadline is past."""
        terms = self.terms
        last = self._last_transaction if busy and self._last_transaction_at == now else None
        if last is not None:
            still = now - self._status_changed_at(last, now)
            # A status that stood still before this wait began is old news, not this wait's: count from its start.
            still = min(still, now - terms.started_at)
            if still >= timedelta(seconds=terms.stuck_seconds):
                return self._failed(
                    ReasonCode.STUCK,
                    f"The {self.what} of {self._who} is stuck. {self._transaction_words(now)} It goes on "
                    "remotely: the API offers no cancel. Open a support case with IBM that names it; when it has "
                    "ended, clear this task, which takes up the same template.",
                )
        if not self._deadline_passed(now):
            return None
        if 0 < self._idle_polls < IDLE_POLLS:
            # Nobody may have looked until now. The next poll says whether this was the end that was waited for.
            return None
        if busy:
            usual = self._expected_words(", and ")
            return self._failed(
                ReasonCode.SLOW,
                f"The {self.what} of {self._who} is slow: not done after {self._waited(now)}{usual}. "
                f"{self._transaction_words(now)} It goes on remotely: clear this task to wait on, or set a longer "
                "deadline.",
            )
        return self._failed(
            ReasonCode.NOTHING_HAPPENED,
            f"The {self.what} of {self._who} did not end within {self._waited(now)}. {self.progress} "
            f"{self._transaction_words(now)} Clear this task to wait on, or look at the template in the console.",
        )

    def _deadline_passed(self, now: datetime) -> bool:
        return now - self.terms.started_at >= timedelta(seconds=self.terms.deadline_seconds)

    # Verdicts

    def _done(self, reason: ReasonCode, sentence: str) -> Verdict:
        ended = None
        seen_twice = self._whole_at is not None and self._whole_at != self._last_poll
        if self._unfinished_at is not None and self._whole_at is not None and seen_twice:
            ended = Ended(template_id=self.terms.template_id, unfinished_at=self._unfinished_at, over_at=self._whole_at)
        return Verdict(kind="done", reason=reason, sentence=sentence, ended=ended)

    def _failed(self, reason: ReasonCode, sentence: str) -> Verdict:
        return Verdict(kind="failed", reason=reason, sentence=sentence)

    def _vanished(self, now: datetime) -> Verdict:
        return self._failed(
            ReasonCode.TEMPLATE_VANISHED,
            f"The account has not shown the template of {self._who} for "
            f"{_words(now - self._since['template missing'])}: deleted, or the connection's user may not see it. "
            f"{self._transaction_words(now)} Look for it under Devices > Manage > Images. If it is gone, start a new "
            "run, which captures anew.",
        )


class TemplateJudge(_Judge):
    """Waits until a template is whole and its server is back: children, sizes known, no transaction on the template or
    the server, seen twice; and the server runs again if it ran before.

    :param terms: whom the wait is for and how long it may last.
    """

    what = "template"

    def observe(self, *, template: Template | None, guest: GuestState | None, now: datetime) -> Verdict | None:
        """Look at a poll.

        :param template: the export's template, or None where the poll did not show it.
        :param guest: the server, or None where the poll did not show it.
        :param now: when the poll was made.
        :returns: the verdict, or None to go on waiting.
        """
        if not self._new_poll(now):
            return None
        self._track(template, now)
        if self._lasting("template missing", template is None, now):
            return self._vanished(now)
        # A server that is gone for good holds nothing up: its template stands by itself.
        guest_gone = self._lasting("guest missing", guest is None, now)
        transactions = _transactions(template)
        if guest is not None and guest.active_transaction is not None:
            transactions = [*transactions, guest.active_transaction]
        left = template.transactions_left if template else []
        self._note(transactions, now, left=left)
        busy = bool(transactions or left)
        self.progress = self._progress(template, busy=busy, now=now)
        known = template is not None and not busy and (guest is not None or guest_gone)
        idle = self._idle(known and _whole(template))
        return (
            self._ready(guest, idle=idle, now=now)
            or self._broken(template, guest, known=known, busy=busy, now=now)
            or self._overdue(busy, now)
        )

    def _progress(self, template: Template | None, *, busy: bool, now: datetime) -> str:
        if template is None:
            return "The last poll did not show the template."
        if busy:
            return f"The template is being made{self._expected_words('; ')}. {self._transaction_words(now)}"
        if not template.children:
            return "The template has no copy in any data center yet."
        return "The template is whole." if _sized(template) else "The template's sizes are not known yet."

    def _ready(self, guest: GuestState | None, *, idle: bool, now: datetime) -> Verdict | None:
        """Judge what is idle: the wait is over if the server is back as it was, or does not come back."""
        running = guest is None or guest.power_state == "RUNNING" or not self.terms.was_running
        if idle and running:
            return self._done(ReasonCode.TEMPLATE_READY, f"The template of {self._who} is whole.")
        if self._lasting("stopped", idle and not running, now):
            return self._done(
                ReasonCode.TEMPLATE_READY_LEFT_STOPPED,
                f"The template of {self._who} is whole, but the server, which ran before, is now "
                f"{(guest.power_state if guest else None) or 'in a power state that is not told'}. Start it if it "
                "should run.",
            )
        if idle and not running:
            self.progress += " The server is not running yet."
        return None

    def _broken(
        self, template: Template | None, guest: GuestState | None, *, known: bool, busy: bool, now: datetime
    ) -> Verdict | None:
        """Judge a template that is not whole and on which nothing runs."""
        unfinished = template is not None and not busy and not _whole(template)
        if self._lasting("unfinished without its server", unfinished and guest is None, now):
            return self._failed(
                ReasonCode.GUEST_VANISHED,
                f"The account has not shown the virtual server of {self._who} for "
                f"{_words(now - self._since['guest missing'])}, and its template is not whole: the server was "
                "cancelled during its capture, or the connection's user may not see it. "
                f"{self._transaction_words(now)} If the server still exists, give the user access to it and clear this "
                "task; its template stays under Devices > Manage > Images.",
            )
        if self._lasting("empty", known and template is not None and not template.children, now):
            return self._failed(
                ReasonCode.NO_CHILDREN,
                f"The template of {self._who} has no transaction left and no copy in any data center: the capture "
                f"failed. {self._transaction_words(now)} Look at the server, delete the template, and start a new run.",
            )
        if self._lasting("zero", known and template is not None and not _sized(template), now):
            return self._failed(
                ReasonCode.ZERO_SIZE,
                f"The template of {self._who} has no transaction left, and its copy in "
                f"{', '.join(_unsized(template))} has no size: the capture failed. {self._transaction_words(now)} Look "
                "at the server, delete the template, and start a new run.",
            )
        return None


class ExportJudge(_Judge):
    """Waits until an export is over: no transaction left, and every expected object there with a size.

    It has to be so in two polls, :data:`~sealift.exports.terms.SECOND_LOOK_SECONDS` apart or more, with the same ETags,
    so that nobody has to hold a worker process for as long to see it.

    :param terms: as for :class:`TemplateJudge`.
    """

    what = "export"
    again_after = SECOND_LOOK_SECONDS
    _first: Look | None = None

    def observe(self, *, template: Template | None, objects: Sequence[ObjectInfo], now: datetime) -> Verdict | None:
        """Look at a poll.

        :param template: the export's template, or None where the poll did not show it.
        :param objects: what the bucket holds under the export's ``disk-`` prefix.
        :param now: when the poll was made.
        :returns: the verdict, or None to go on waiting.
        """
        if not self._new_poll(now):
            return None
        terms = self.terms
        sizes = {one.key: one.size for one in objects}
        missing = [key for key in terms.expected_keys if sizes.get(key, 0) <= 0]
        there = len(terms.expected_keys) - len(missing)
        transactions = _transactions(template)
        left = template.transactions_left if template else []
        self._note(transactions, now, left=left)
        busy = bool(transactions or left)
        template_gone = self._lasting("template missing", template is None, now)
        # An object shows only when its upload is complete: with all of them there, a deleted template takes nothing.
        known = not busy and (template is not None or template_gone)
        idle = self._stable(objects if known and not missing else None, now)
        if busy:
            self.progress = f"The export runs{self._expected_words('; ')}. {self._transaction_words(now)}"
        else:
            self.progress = f"{there} of {len(terms.expected_keys)} objects are there. {self._transaction_words(now)}"
        if idle:
            return self._done(
                ReasonCode.EXPORTED,
                f"The export of {self._who} is over: {there} of {there} objects are in {terms.bucket}.",
            ).model_copy(update={"look": self._first})
        if template_gone and missing:
            return self._vanished(now)
        settled = now - terms.started_at >= timedelta(seconds=terms.grace_seconds)
        if self._lasting("objects missing", template is not None and not busy and bool(missing), now) and settled:
            return self._failed(
                ReasonCode.OBJECTS_MISSING,
                f"The export of {self._who} has no transaction left, and {terms.bucket} does not hold "
                f"{', '.join(missing)}: the export failed.{self._strange(sizes)} {self._transaction_words(now)} Check "
                "that the key of the COS connection may write to the bucket, then clear the task wait_for_template: "
                "it submits the same template again, without a new capture.",
            )
        return self._overdue(busy, now)

    def _stable(self, objects: Sequence[ObjectInfo] | None, now: datetime) -> bool:
        """Say whether the objects have been the same for long enough.

        :param objects: those of an export that seems to be over; None of one that is not.
        """
        if objects is None:
            self._first = None
            return self._idle(False)
        seen = {one.key: (one.etag, one.size) for one in objects}
        if self._first is not None and self._first.objects != seen:
            # It was not over: this poll confirms nothing, so that a deadline counts.
            self._first = Look(at=now, objects=seen)
            return self._idle(False)
        self._first = self._first or Look(at=now, objects=seen)
        stable = now - self._first.at >= timedelta(seconds=SECOND_LOOK_SECONDS)
        self._idle_polls = IDLE_POLLS if stable else 1
        return stable

    def _strange(self, sizes: Mapping[str, int]) -> str:
        """Name what is there instead of what should be."""
        empty = [key for key in self.terms.expected_keys if sizes.get(key) == 0]
        others = sorted(sizes.keys() - set(self.terms.expected_keys))
        words = f" Of these, {', '.join(empty)} is there without contents." if empty else ""
        return words + (f" There are others that were not expected: {', '.join(others)}." if others else "")


def _transactions(template: Template | None) -> list[Transaction]:
    if template is None:
        return []
    return [one for one in (template.transaction, *(child.transaction for child in template.children)) if one]


def _sized(template: Template) -> bool:
    return not _unsized(template)


def _unsized(template: Template | None) -> list[str]:
    return [
        child.datacenter or f"child {child.id}"
        for child in (template.children if template else [])
        if not child.block_devices_disk_space_total or child.block_devices_disk_space_total <= 0
    ]


def _whole(template: Template | None) -> bool:
    return (
        template is not None
        and bool(template.children)
        and not template.transactions_left
        and not _transactions(template)
        and _sized(template)
    )


def _words(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes < 1:
        return f"{int(age.total_seconds())} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
