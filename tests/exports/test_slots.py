"""Offline slots: the cap holds whoever submits at the same moment, and a slot is free when the account says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.classic.errors import ClassicLoadError
from sealift.classic.models import Transaction
from sealift.cos.errors import CosTransientError
from sealift.exports import deadlines
from sealift.exports.caps import LearnedCap
from sealift.exports.errors import OfflineCapReached, OutcomeOpen
from sealift.exports.offline import CLOCKS, Account
from sealift.exports.plan import PlanItem
from sealift.exports.registers import is_label
from sealift.exports.slots import OfflineSlots
from sealift.exports.surveying import SlotsPlace, read_slots, settle_time, survey

PLACE = SlotsPlace(bucket="sealift-exports", root="offline-slots/307608", settle=timedelta(minutes=15))


@pytest.fixture
def classic(make_guest: Callable[..., Any], make_classic: Any) -> Any:
    return make_classic(guests=[make_guest(number) for number in range(101, 111)])


@pytest.fixture
def item(make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]) -> Callable[..., PlanItem]:
    made = item_of(make_guest(101))

    def of(guest_id: int, datacenter: str | None = "dal13") -> PlanItem:
        export = f"{guest_id}-20261123T0200Z"
        update = {"guest_id": guest_id, "export_id": export, "hostname": f"web{guest_id}", "datacenter": datacenter}
        return made.model_copy(update=update)

    return of


@pytest.fixture
def submit(classic: Any, item: Callable[..., PlanItem], gate_of: Callable[..., OfflineSlots]) -> Callable[..., None]:
    """Submit a capture; the template shows at once unless it is told to show late."""

    def run(guest_id: int, *, late: bool = False, datacenter: str | None = "dal13", **changes: Any) -> None:
        with gate_of(**changes).admit(classic, item(guest_id, datacenter)) as admission:
            admission.submitting()
            if not late:
                classic.add_template(item(guest_id).template_name, sizes=())

    return run


def seen(classic: Any, cos: Any, time: Any) -> set[int]:
    return survey(classic, cos, PLACE, now=time.now).guests()


def finish(classic: Any, guest_id: int) -> None:
    (old,) = [one for one in classic.templates.values() if one.name.startswith(f"sealift-{guest_id}-")]
    del classic.templates[old.id]
    classic.add_template(old.name)


def test_a_slot_is_taken_until_the_account_shows_that_the_capture_is_over(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    submit(101, max_offline=1)
    with pytest.raises(OfflineCapReached, match=r"web102 .*: 1 of at most 1 servers are offline") as caught:
        submit(102, max_offline=1)
    assert (caught.value.in_flight, caught.value.max_offline) == (1, 1)

    finish(classic, 101)
    submit(102, max_offline=1)
    assert seen(classic, cos, time) == {102}


def test_a_server_whose_last_transaction_ended_a_moment_ago_keeps_its_slot(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    """All sizes are known and nothing is active, and yet another transaction of the capture may follow."""
    submit(101, max_offline=1)
    finish(classic, 101)
    time.now += timedelta(minutes=10)
    classic.last_transactions[101] = Transaction(id=7, elapsed_seconds=29)
    with pytest.raises(OfflineCapReached):
        submit(102, max_offline=1)
    classic.last_transactions[101] = Transaction(id=7, elapsed_seconds=30)
    assert seen(classic, cos, time) == set()
    submit(102, max_offline=1)


def test_a_short_capture_keeps_its_slot_for_a_twentieth_of_its_time_only(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    submit(101, max_offline=1)
    finish(classic, 101)
    time.now += timedelta(seconds=60)
    classic.last_transactions[101] = Transaction(id=7, elapsed_seconds=2)
    assert seen(classic, cos, time) == {101}
    classic.last_transactions[101] = Transaction(id=7, elapsed_seconds=3)
    assert seen(classic, cos, time) == set()


def test_those_who_come_at_the_same_moment_begin_at_different_slots(
    classic: Any, cos: Any, submit: Callable[..., None]
) -> None:
    for guest_id in (101, 102, 103, 104):
        submit(guest_id, max_offline=20)
        classic.templates.clear()
        cos.objects = {key: body for key, body in cos.objects.items() if "offline-slots" not in key}
    tried = [key.split("/")[2] for key in cos.writes if key.startswith("offline-slots/")]
    assert len(set(tried)) == 4


# A look that somebody else took


def test_a_look_that_was_handed_on_spares_the_one_before_the_slot_is_taken(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    submit(101, max_offline=3)
    handed = Account.unpacked(survey(classic, cos, PLACE, now=time.now).brief())
    classic.calls.clear()
    cos.reads.clear()
    submit(102, max_offline=3, seen=handed)
    assert classic.count("newest_templates") == 1
    assert [key for key in cos.reads if "offline-slots" in key] == []


def test_many_that_were_handed_the_same_look_read_no_slot_and_ask_the_account_once_each(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    """Half of them find the slot taken that they wanted: then they list the slots again, and no more."""
    handed = Account.unpacked(survey(classic, cos, PLACE, now=time.now).brief())
    guests = (101, 103, 105, 107)  # two of them want the slot of another one
    classic.calls.clear()
    for guest_id in guests:
        submit(guest_id, max_offline=len(guests), seen=handed)

    assert [key for key in cos.reads if "offline-slots" in key] == []
    assert classic.count("newest_templates") == len(guests)
    taken = {one.entry.guest_id: number for number, one in read_slots(cos, PLACE).items()}
    assert sorted(taken) == sorted(guests)
    assert sorted(taken.values()) == [0, 1, 2, 3]


def back_to(classic: Any) -> Any:
    return [asked for name, asked in classic.calls if name == "newest_templates"][-1]


def test_a_look_that_builds_on_another_reads_what_is_new_since_then(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    submit(101)
    first = survey(classic, cos, PLACE, now=time.now)
    assert back_to(classic) == time.now - deadlines.CAPTURE_MOST
    time.now += timedelta(minutes=20)
    survey(classic, cos, PLACE, now=time.now, earlier=first)
    assert back_to(classic) == first.account.taken_at - CLOCKS


def test_where_a_template_has_not_shown_yet_a_look_reads_back_to_its_slot(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any, item: Callable[..., PlanItem]
) -> None:
    submit(101, late=True)
    taken, before = time.now, survey(classic, cos, PLACE, now=time.now)
    for _ in range(5):
        time.now += timedelta(minutes=4)
        before = survey(classic, cos, PLACE, now=time.now, earlier=before)
        assert back_to(classic) == taken - CLOCKS
    time.now += timedelta(minutes=20)
    survey(classic, cos, PLACE, now=time.now, earlier=before)
    assert back_to(classic) == time.now - 2 * PLACE.settle - CLOCKS, "a capture that was never submitted is given up"

    time.now -= timedelta(minutes=20)
    classic.add_template(item(101).template_name, sizes=())  # as old as its slot
    late = survey(classic, cos, PLACE, now=time.now, earlier=before)
    assert late.account.offline == {101}


def test_what_is_handed_on_stays_small(classic: Any, cos: Any, time: Any) -> None:
    """A hundred captures of a wave get it at the same moment, all through one pipe of Airflow's triggerer."""
    guests = range(120_000_000, 120_002_000, 20)
    account = Account(
        taken_at=time.now,
        offline=frozenset(guests),
        exports=frozenset(f"{one}-20261123T0200Z" for one in guests),
        watched=frozenset(range(12_700_001, 12_700_201, 2)),
        busy=frozenset(guests),
        datacenters=dict.fromkeys(guests, "dal13"),
    )
    assert len(account.packed()) < 2000
    assert Account.unpacked(account.packed()) == account


def test_a_look_that_was_handed_on_is_never_believed_about_the_cap(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    handed = survey(classic, cos, PLACE, now=time.now).account
    submit(101, max_offline=1)
    with pytest.raises(OfflineCapReached, match="1 of at most 1"):
        submit(102, max_offline=1, seen=handed)
    assert seen(classic, cos, time) == {101}, "the slot that it took was given back"


def test_who_finds_the_slot_gone_looks_again(submit: Callable[..., None], classic: Any, cos: Any, time: Any) -> None:
    handed = survey(classic, cos, PLACE, now=time.now).account
    submit(104, max_offline=3)
    submit(101, max_offline=3, seen=handed)  # the handed look shows both of them the same slot
    assert seen(classic, cos, time) == {101, 104}


def test_a_full_look_that_was_handed_on_may_be_old(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any
) -> None:
    submit(101, max_offline=1)
    handed = survey(classic, cos, PLACE, now=time.now).account
    finish(classic, 101)
    submit(102, max_offline=1, seen=handed)
    assert seen(classic, cos, time) == {102}


def test_a_task_that_ends_badly_after_it_submitted_frees_nothing(
    classic: Any, item: Callable[[int], PlanItem], gate_of: Callable[..., OfflineSlots], submit: Callable[..., None]
) -> None:
    with suppress(ZeroDivisionError), gate_of(max_offline=1).admit(classic, item(101)) as admission:
        admission.submitting()
        raise ZeroDivisionError
    with pytest.raises(OfflineCapReached):
        submit(102, max_offline=1)


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "never sent"])
def test_a_slot_is_given_back_where_nothing_was_done(
    classic: Any,
    item: Callable[[int], PlanItem],
    gate_of: Callable[..., OfflineSlots],
    submit: Callable[..., None],
    refused: bool,
) -> None:
    with suppress(ZeroDivisionError), gate_of(max_offline=1).admit(classic, item(101)) as admission:
        if refused:
            admission.submitting()
            admission.refused()
        raise ZeroDivisionError
    submit(102, max_offline=1)


def test_a_slot_that_cannot_be_given_back_frees_itself(
    classic: Any,
    cos: Any,
    time: Any,
    item: Callable[[int], PlanItem],
    gate_of: Callable[..., OfflineSlots],
    submit: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(key: str) -> None:
        raise CosTransientError("the store failed", bucket="b", key=key)

    with suppress(ZeroDivisionError), gate_of(max_offline=1).admit(classic, item(101)):
        cos.before_write = fail
        raise ZeroDivisionError
    assert "frees itself" in caplog.text
    cos.before_write = lambda _key: None
    with pytest.raises(OfflineCapReached):
        submit(102, max_offline=1)
    time.now += timedelta(minutes=30)
    submit(102, max_offline=1)


def test_a_capture_whose_template_shows_late_keeps_its_slot_while_it_may_show(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any, make_guest: Any, make_transaction: Any
) -> None:
    submit(101, late=True, max_offline=1)
    time.now += timedelta(minutes=29)
    assert seen(classic, cos, time) == {101}
    classic.guests[101] = make_guest(101, activeTransaction=make_transaction())
    time.now += timedelta(hours=5)
    assert seen(classic, cos, time) == {101}, "the server is busy, and nothing says with something else"
    classic.guests[101] = make_guest(101)
    assert seen(classic, cos, time) == set()


def test_another_try_of_the_export_waits_until_it_is_certain(
    submit: Callable[..., None], classic: Any, cos: Any, time: Any, now: Any
) -> None:
    submit(101, late=True)
    time.now += timedelta(minutes=14)
    with pytest.raises(OutcomeOpen, match=r"took an offline slot at 02:00:00 UTC.*before 02:15:00 UTC") as caught:
        submit(101, late=True)
    assert caught.value.until == now + timedelta(minutes=15)
    time.now = caught.value.until
    submit(101)
    assert [key for key in cos.objects if "offline-slots" in key and not is_label(key)] == [
        "offline-slots/307608/001/00000002.json"
    ], "the same slot"


def test_two_tries_of_one_export_that_take_two_slots_at_the_same_moment_do_not_both_go_on(
    classic: Any, cos: Any, item: Callable[[int], PlanItem], gate_of: Callable[..., OfflineSlots], submit: Any
) -> None:
    """The first slot falls free between the looks of the two, so that they choose different ones."""
    submit(102)
    with ExitStack() as other:

        def interfere(key: str) -> None:
            if "/001/" in key:
                cos.before_write = lambda _key: None
                finish(classic, 102)
                other.enter_context(gate_of().admit(classic, item(101)))

        cos.before_write = interfere
        with pytest.raises(OutcomeOpen), gate_of().admit(classic, item(101)):
            raise AssertionError("admitted beside another try of the same export")


def test_a_run_with_a_lower_cap_counts_the_slots_of_one_with_a_higher(submit: Callable[..., None]) -> None:
    for guest_id in (101, 102, 103):
        submit(guest_id, max_offline=5)
    with pytest.raises(OfflineCapReached) as caught:
        submit(104, max_offline=2)
    assert caught.value.in_flight == 3
    submit(104, max_offline=5)


def test_captures_that_no_slot_stands_for_count_as_well(submit: Callable[..., None], classic: Any) -> None:
    classic.add_template("sealift-105-x", sizes=())
    with pytest.raises(OfflineCapReached):
        submit(101, max_offline=1)
    submit(101, max_offline=2)


def test_a_slot_that_was_free_at_the_first_look_is_seen_taken_at_the_second(
    classic: Any, cos: Any, item: Callable[[int], PlanItem], gate_of: Callable[..., OfflineSlots], submit: Any
) -> None:
    """A run with a higher cap takes slot 1 after we have looked and before we have slot 0: two are one too many."""

    def interfere(key: str) -> None:
        cos.before_write = lambda _key: None
        submit(103, max_offline=5)
        submit(104, max_offline=5)

    cos.before_write = interfere
    with pytest.raises(OfflineCapReached), gate_of(max_offline=2).admit(classic, item(101)):
        raise AssertionError("admitted as the third of two")


def test_settling_takes_at_least_four_timeouts_of_the_client() -> None:
    assert settle_time(timeout=60, minutes=None) == timedelta(minutes=15)
    assert settle_time(timeout=60, minutes=0.1) == timedelta(minutes=4)
    assert settle_time(timeout=600, minutes=None) == timedelta(minutes=40)


# Data centers, and what the account teaches


def test_a_full_data_center_holds_up_its_own_servers_only(submit: Callable[..., None], classic: Any) -> None:
    submit(101, max_offline_per_datacenter=1)
    with pytest.raises(OfflineCapReached, match=r"1 of at most 1 .* in the data center dal13\. Nothing"):
        submit(102, max_offline_per_datacenter=1)
    submit(103, datacenter="fra02", max_offline_per_datacenter=1)
    submit(104, datacenter=None, max_offline_per_datacenter=1)
    with pytest.raises(OfflineCapReached, match="data center dal10"):
        submit(105, datacenter="dal10", max_offline_per_datacenter=1)
    submit(106, datacenter="dal10", max_offline=4, max_offline_per_datacenter=3)
    with pytest.raises(OfflineCapReached, match="4 of at most 4"):
        submit(107, datacenter="dal10", max_offline=4, max_offline_per_datacenter=3)
    finish(classic, 104)
    submit(105, datacenter="dal10", max_offline_per_datacenter=3)


def test_a_capture_that_no_slot_stands_for_counts_in_the_data_center_of_its_copy(
    submit: Callable[..., None], classic: Any
) -> None:
    made = classic.add_template("sealift-105-x", sizes=(None,))
    assert made.children[0].datacenter == "dal0"
    submit(101, max_offline_per_datacenter=1)
    with pytest.raises(OfflineCapReached):
        submit(102, datacenter="dal0", max_offline_per_datacenter=1)
    classic.add_template("sealift-106-x", sizes=())
    with pytest.raises(OfflineCapReached, match="data center fra02"):
        submit(103, datacenter="fra02", max_offline_per_datacenter=1)


def test_of_two_that_take_slots_in_one_data_center_at_the_same_moment_the_later_gives_its_own_back(
    classic: Any, cos: Any, item: Callable[..., PlanItem], gate_of: Callable[..., OfflineSlots], submit: Any
) -> None:
    def interfere(key: str) -> None:
        cos.before_write = lambda _key: None
        submit(103)

    cos.before_write = interfere
    gate = gate_of(max_offline_per_datacenter=1)
    with pytest.raises(OfflineCapReached, match="data center"), gate.admit(classic, item(101)):
        raise AssertionError("admitted as the second of one")


def refuse(classic: Any, one: PlanItem, gate: OfflineSlots) -> None:
    """The account refuses a capture for its load, and nothing of it shows."""
    with suppress(ClassicLoadError), gate.admit(classic, one) as admission:
        admission.submitting()
        admission.refused()
        raise ClassicLoadError("Only 2 image captures may run at once.")


def test_a_refusal_for_the_load_lowers_the_cap_to_what_was_running(
    submit: Callable[..., None],
    classic: Any,
    cos: Any,
    time: Any,
    item: Callable[..., PlanItem],
    gate_of: Callable[..., OfflineSlots],
) -> None:
    submit(101)
    submit(102, datacenter="fra02")
    submit(103, late=True)
    refuse(classic, item(104), gate_of())
    learned = survey(classic, cos, PLACE, now=time.now).caps
    assert learned.in_force("capture", "", 5, time.now) == 2, "103 may be refused as well: it does not show"
    assert learned.in_force("capture", "dal13", 0, time.now) == 1
    assert learned.in_force("capture", "fra02", 0, time.now) == 0
    (note,) = [
        body for key, (body, *_) in cos.objects.items() if key == "offline-slots/307608/caps/capture-account.json"
    ]
    assert LearnedCap.model_validate_json(note).words == "Only 2 image captures may run at once."
    with pytest.raises(OfflineCapReached, match=r"3 of at most 2"):
        submit(105, datacenter="fra02")
    time.now += timedelta(minutes=59)
    with pytest.raises(OfflineCapReached, match=r"2 of at most 2"):
        submit(105, datacenter="fra02")
    time.now += timedelta(minutes=1)
    submit(105, datacenter="fra02")


def test_an_account_that_refuses_while_nothing_of_ours_runs_gets_one_at_a_time(
    submit: Callable[..., None], classic: Any, item: Callable[..., PlanItem], gate_of: Callable[..., OfflineSlots]
) -> None:
    refuse(classic, item(104), gate_of())
    submit(104)
    with pytest.raises(OfflineCapReached, match="1 of at most 1"):
        submit(105)


def test_a_refusal_while_the_server_is_busy_teaches_nothing_and_frees_nothing(
    classic: Any, cos: Any, item: Callable[..., PlanItem], gate_of: Callable[..., OfflineSlots]
) -> None:
    with suppress(ClassicLoadError), gate_of().admit(classic, item(104)) as admission:
        admission.submitting()
        raise ClassicLoadError("Too many.")
    assert not [key for key in cos.objects if "/caps/" in key]
    with pytest.raises(OutcomeOpen), gate_of().admit(classic, item(104)):
        raise AssertionError("admitted although it may have been submitted")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from(["submit", "submit late", "killed before", "killed after", "refused", "finish", "wait"]),
            st.integers(101, 106),
            st.sampled_from([(1, 0), (2, 0), (4, 0), (4, 1), (6, 2)]),
        ),
        max_size=40,
    )
)
def test_whatever_happens_one_after_the_other_no_submission_exceeds_its_cap(
    acts: list[tuple[str, int, tuple[int, int]]],
    make_guest: Any,
    make_transaction: Any,
    make_classic: Any,
    make_cos: Any,
    make_time: Any,
    item_of: Any,
) -> None:
    guests = {number: make_guest(number) for number in range(101, 107)}
    classic, cos, time = make_classic(guests=list(guests.values())), make_cos(), make_time()
    cos.clock = time.clock
    base = item_of(guests[101])
    offline: set[int] = set()

    class Killed(BaseException):
        pass

    for act, guest_id, (cap, part) in acts:
        if act == "wait":
            time.now += timedelta(minutes=10)
            continue
        if act == "finish":
            if guest_id in offline:
                offline.discard(guest_id)
                finish(classic, guest_id)
                classic.guests[guest_id] = guests[guest_id]
            continue
        if any(one.name.startswith(f"sealift-{guest_id}-") for one in classic.templates.values()):
            continue
        export = f"{guest_id}-20261123T0200Z"
        one = base.model_copy(
            update={"guest_id": guest_id, "export_id": export, "datacenter": ("dal13", "fra02")[guest_id % 2]}
        )
        gate = OfflineSlots(
            cos=cos,
            place=PLACE,
            max_offline=cap,
            max_offline_per_datacenter=part,
            clock=time.clock,
            monotonic=time.monotonic,
        )
        stopped = gate.admit(classic, one)
        try:
            admission = stopped.__enter__()
        except (OfflineCapReached, OutcomeOpen):
            continue
        if act == "killed before":
            continue  # nothing runs any more, so the slot is not given back
        admission.submitting()
        if act == "refused":
            admission.refused()
            refusal = ClassicLoadError("Too many at once.")
            with suppress(ClassicLoadError):
                stopped.__exit__(type(refusal), refusal, None)
            continue
        offline.add(guest_id)
        classic.add_template(one.template_name, sizes=())
        classic.guests[guest_id] = make_guest(guest_id, activeTransaction=make_transaction())
        assert len(offline) <= cap
        assert not part or len({other for other in offline if other % 2 == guest_id % 2}) <= part
        if act != "killed after":
            stopped.__exit__(None, None, None)
