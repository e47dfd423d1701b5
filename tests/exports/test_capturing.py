"""A capture is submitted once, adopted where it is found, and refused where it cannot be certain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicAuthError,
    ClassicBadReplyError,
    ClassicError,
    ClassicOutcomeUnknownError,
    ClassicRateLimitedError,
)
from sealift.classic.models import Template
from sealift.exports.errors import (
    DisksChangedError,
    DuplicateTemplatesError,
    ExportsError,
    OfflineCapReached,
    OutcomeOpen,
    OutcomeUnknownError,
    OutsideWindow,
    PastSlotError,
    ServerBusyError,
    ServerGoneError,
    StepError,
    TemplateMissingError,
    WindowClosedError,
)
from sealift.exports.jsontext import canonical_json
from sealift.exports.manifest import Manifest
from sealift.exports.offline import look_at_account
from sealift.exports.plan import PlanItem
from sealift.exports.slots import OfflineSlots
from sealift.exports.steps import Captured, ensure_captured
from sealift.exports.surveying import SlotsPlace

from .test_manifest import RAW

NAME = "sealift-101-20261123T0200Z"


@pytest.fixture
def classic(make_guest: Callable[..., Any], make_classic: Any) -> Any:
    return make_classic(guests=[make_guest(101, data_disks=1)])


@pytest.fixture
def item(make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]) -> PlanItem:
    return item_of(make_guest(101, data_disks=1))


@pytest.fixture
def capture(
    classic: Any,
    cos: Any,
    item: PlanItem,
    time: Any,
    make_settings: Callable[..., Any],
    gate_of: Callable[..., OfflineSlots],
) -> Callable[..., Captured]:
    def run(**changes: Any) -> Captured:
        settings = make_settings(**changes.pop("settings", {}))
        given = {"item": item, "gate": gate_of(max_offline=settings.max_offline), **changes}
        return ensure_captured(classic=classic, cos=cos, settings=settings, clock=time.clock, sleep=time.sleep, **given)

    return run


def fails(error: ClassicError, then: Callable[[], object] = lambda: None) -> Callable[[], Template | None]:
    def act() -> Template | None:
        then()
        raise error

    return act


LOST = ClassicOutcomeUnknownError("The reply was lost.", call="SoftLayer_Virtual_Guest::createArchiveTemplate")


def test_a_capture_is_submitted_with_the_exports_name_and_the_disks_that_may_be_captured(
    capture: Callable[..., Captured], classic: Any, item: PlanItem
) -> None:
    captured = capture()

    assert captured == Captured(template_id=900, guest_id=101, export_id=item.export_id, adopted=False, disk_count=2)
    note = f"Sealift export {item.export_id} to sealift-exports/{item.images}/"
    assert [call for call in classic.calls if call[0] == "capture"] == [("capture", (101, NAME, [1010, 1012], note))]


def test_running_it_again_adopts(capture: Callable[..., Captured], classic: Any) -> None:
    first = capture()

    again = capture(recall=lambda: first.template_id)

    assert again == first.model_copy(update={"adopted": True})
    assert classic.count("capture") == 1


def test_a_template_is_adopted_in_whatever_state_it_is_and_whatever_hinders_a_capture(
    capture: Callable[..., Captured], classic: Any, make_guest: Callable[..., Any], make_transaction: Callable[..., Any]
) -> None:
    classic.add_template(NAME, sizes=())
    classic.guests[101] = make_guest(101, activeTransaction=make_transaction())

    assert capture(settings={"window": "03:00-04:00"}).adopted
    assert classic.count("capture") == 0


def test_a_name_that_only_looks_alike_is_not_adopted(capture: Callable[..., Captured], classic: Any) -> None:
    classic.add_template(NAME.upper())

    assert not capture().adopted


def test_two_templates_of_one_export_are_quarantined(capture: Callable[..., Captured], classic: Any) -> None:
    classic.add_template(NAME)
    classic.add_template(NAME)

    with pytest.raises(DuplicateTemplatesError, match=r"900 and 910.*quarantined") as caught:
        capture(recall=lambda: 900)
    assert caught.value.template_ids == [900, 910]
    assert not caught.value.retryable
    assert classic.count("capture") == 0


@pytest.mark.parametrize("error", [LOST, ClassicBadReplyError("Empty reply.")])
@pytest.mark.parametrize("looks", [0, 1, 5])
def test_a_lost_reply_is_settled_by_looking_however_late_the_template_shows(
    capture: Callable[..., Captured], classic: Any, time: Any, error: ClassicError, looks: int
) -> None:
    hidden = [looks]
    seen = classic.templates_named

    def late(name: str) -> list[Template]:
        if classic.count("capture") and hidden[0] > 0:
            hidden[0] -= 1
            return []
        return list(seen(name))

    classic.templates_named = late
    classic.capture_acts = [fails(error, lambda: classic.add_template(NAME))]

    captured = capture()

    assert (captured.template_id, captured.adopted) == (900, True)
    assert classic.count("capture") == 1
    assert len(time.slept) == looks


def test_a_lost_reply_that_looking_does_not_settle_stays_open_until_it_is_certain(
    capture: Callable[..., Captured], classic: Any, time: Any, now: Any
) -> None:
    classic.capture_acts = [fails(LOST)]

    with pytest.raises(OutcomeOpen, match=r"web101.*lost.*Nothing is submitted again before 02:15:00 UTC") as caught:
        capture()

    assert caught.value.retryable
    assert sum(time.slept) == 30
    assert caught.value.until == now + timedelta(minutes=15)
    with pytest.raises(OutcomeOpen, match="Another try") as again:
        capture()
    assert again.value.until == caught.value.until
    assert classic.count("capture") == 1, "no submission while the first may be on its way"
    classic.add_template(NAME)
    assert capture().adopted
    assert classic.count("capture") == 1


def test_a_lost_reply_that_was_not_processed_is_submitted_again_once_that_is_certain(
    capture: Callable[..., Captured], classic: Any, time: Any
) -> None:
    classic.capture_acts = [fails(LOST)]
    with pytest.raises(OutcomeOpen) as caught:
        capture()

    time.now = caught.value.until

    assert not capture().adopted
    assert len(classic.templates) == 1


def test_a_try_that_ended_between_its_slot_and_its_submission_delays_the_next_and_no_more(
    capture: Callable[..., Captured], classic: Any, time: Any
) -> None:
    class Killed(BaseException):
        pass

    def kill() -> Template | None:
        raise Killed

    classic.capture_acts = [kill]
    with pytest.raises(Killed):
        capture()
    with pytest.raises(OutcomeOpen) as caught:
        capture()
    time.now = caught.value.until

    assert not capture().adopted
    assert classic.count("capture") == 2
    assert len(classic.templates) == 1


def test_a_try_that_was_held_up_after_it_took_its_slot_submits_nothing(
    capture: Callable[..., Captured], classic: Any, time: Any
) -> None:
    asked = classic.get_guests

    def stalled(ids: Any) -> Any:
        time.now += timedelta(minutes=8)
        return asked(ids)

    classic.get_guests = stalled
    with pytest.raises(OutcomeOpen, match="Too much time passed"):
        capture()
    assert classic.count("capture") == 0
    classic.get_guests = asked
    assert not capture().adopted, "the slot was given back, so that nothing has to be waited for"


def test_an_export_that_is_done_needs_no_template(
    capture: Callable[..., Captured], cos: Any, classic: Any, item: PlanItem
) -> None:
    manifest = Manifest.model_validate({**RAW, "template": {"id": 4711, "name": NAME}})
    cos.store(f"nightly/manifests/101/{item.period}.json", canonical_json(manifest))

    captured = capture(recall=lambda: 4711)

    assert (captured.template_id, captured.adopted, captured.exported) == (4711, True, True)
    assert classic.count("capture") == 0


def test_what_the_api_refuses_is_passed_on_in_its_own_words_and_frees_the_slot(
    capture: Callable[..., Captured], classic: Any
) -> None:
    for error in (ClassicRateLimitedError("Rate limit exceeded."), ClassicAuthError("Invalid API token.")):
        classic.capture_acts = [fails(error)]
        with pytest.raises(type(error)) as caught:
            capture()
        assert caught.value is error


def test_a_capture_refused_as_busy_adopts_what_another_worker_submitted(
    capture: Callable[..., Captured], classic: Any
) -> None:
    busy = ClassicActiveTransactionError("There is currently an active transaction.")
    classic.capture_acts = [fails(busy, lambda: classic.add_template(NAME))]

    assert capture().adopted


def test_a_capture_refused_as_busy_may_be_our_own_and_keeps_its_slot_until_that_is_certain(
    capture: Callable[..., Captured], classic: Any, time: Any
) -> None:
    """A request that is delivered twice is accepted and then refused, and the template may show late."""
    busy = ClassicActiveTransactionError("There is currently an active transaction.")
    classic.capture_acts = [fails(busy)]
    with pytest.raises(ServerBusyError, match="There is currently an active transaction") as caught:
        capture()
    assert caught.value.retryable
    with pytest.raises(OutcomeOpen) as opened:
        capture()
    classic.add_template(NAME)
    time.now = opened.value.until
    assert capture().adopted
    assert classic.count("capture") == 1


def test_a_capture_whose_outcome_is_never_known_ends_as_a_failure(
    capture: Callable[..., Captured], classic: Any, time: Any
) -> None:
    """Something on the way cuts every reply: the server must not hold a slot for ever."""
    classic.capture_acts = [fails(LOST) for _ in range(6)]
    for _ in range(3):
        with pytest.raises(OutcomeOpen) as opened:
            capture()
        time.now = opened.value.until
    with pytest.raises(OutcomeUnknownError, match="was submitted 4 times") as caught:
        capture()
    assert caught.value.retryable


def test_an_error_in_the_apis_own_words_frees_the_slot_only_where_nothing_shows(
    capture: Callable[..., Captured], classic: Any, make_guest: Callable[..., Any], make_transaction: Callable[..., Any]
) -> None:
    error = ClassicError("Error processing your request.")
    classic.capture_acts = [fails(error)]
    with pytest.raises(ClassicError, match="Error processing"):
        capture()

    def accepted() -> None:
        classic.guests[101] = make_guest(101, data_disks=1, activeTransaction=make_transaction())

    classic.capture_acts = [fails(error, accepted)]
    with pytest.raises(ClassicError, match="Error processing"):
        capture()
    with pytest.raises(OutcomeOpen):
        capture()


def test_an_error_in_the_apis_own_words_after_the_capture_began_is_adopted(
    capture: Callable[..., Captured], classic: Any
) -> None:
    classic.capture_acts = [fails(ClassicError("Could not obtain lock."), lambda: classic.add_template(NAME))]
    assert capture().adopted


def test_after_an_error_in_the_apis_own_words_the_last_look_is_for_the_template(
    capture: Callable[..., Captured], classic: Any
) -> None:
    """A capture that ends while the server is asked about is no longer seen there: its template is."""
    asked = classic.guest_states

    def ends(ids: Any) -> Any:
        if classic.count("capture"):
            classic.add_template(NAME)
        return asked(ids)

    classic.guest_states = ends
    classic.capture_acts = [fails(ClassicError("Could not obtain lock."))]
    assert capture().adopted
    assert classic.count("capture") == 1


def test_a_slot_of_an_earlier_try_stays_while_the_server_is_busy(
    capture: Callable[..., Captured],
    classic: Any,
    cos: Any,
    time: Any,
    make_guest: Callable[..., Any],
    make_transaction: Callable[..., Any],
) -> None:
    """The capture runs, and its template shows later than a request can be on its way."""
    classic.capture_acts = [fails(LOST)]
    with pytest.raises(OutcomeOpen) as opened:
        capture()
    classic.guests[101] = make_guest(101, data_disks=1, activeTransaction=make_transaction())
    time.now = opened.value.until
    before = sorted(key for key in cos.objects if "offline-slots" in key)
    with pytest.raises(ServerBusyError, match="may be the capture"):
        capture()
    assert sorted(key for key in cos.objects if "offline-slots" in key) == before, "neither freed nor taken anew"
    assert classic.count("capture") == 1


def test_a_server_that_a_list_lacks_for_a_moment_is_looked_for_again(
    capture: Callable[..., Captured], classic: Any
) -> None:
    asked = classic.get_guests
    looks: list[Any] = []

    def flaky(ids: Any) -> Any:
        looks.append(ids)
        return asked(ids) if len(looks) > 1 else {}

    classic.get_guests = flaky
    assert not capture().adopted


def test_a_finished_export_that_is_cleared_waits_for_nothing_where_its_template_is_still_there(
    capture: Callable[..., Captured], classic: Any, cos: Any, item: PlanItem
) -> None:
    made = classic.add_template(NAME)
    manifest = Manifest.model_validate({**RAW, "template": {"id": made.id, "name": NAME}})
    cos.store(f"nightly/manifests/101/{item.period}.json", canonical_json(manifest))
    classic.guests.clear()

    captured = capture()

    assert (captured.template_id, captured.exported) == (made.id, True)


def test_a_worker_that_stalls_between_its_look_and_its_check_does_not_capture_twice(
    capture: Callable[..., Captured], classic: Any
) -> None:
    """The other worker's capture comes and goes between our first look and our check of the transaction."""
    asked = classic.get_guests

    def stalled(ids: Any) -> Any:
        if not classic.templates:
            classic.add_template(NAME)
        return asked(ids)

    classic.get_guests = stalled

    assert capture().adopted
    assert classic.count("capture") == 0


def test_a_busy_server_is_refused_before_anything_is_submitted(
    capture: Callable[..., Captured], classic: Any, make_guest: Callable[..., Any], make_transaction: Callable[..., Any]
) -> None:
    classic.guests[101] = make_guest(101, data_disks=1, activeTransaction=make_transaction())

    with pytest.raises(ServerBusyError, match="transaction 7") as caught:
        capture()
    assert caught.value.retryable
    assert classic.count("capture") == 0


def test_a_server_that_is_gone_or_has_other_disks_than_planned_is_refused(
    capture: Callable[..., Captured], classic: Any, make_guest: Callable[..., Any]
) -> None:
    classic.guests[101] = make_guest(101, data_disks=2)
    with pytest.raises(DisksChangedError, match=r"planned were device 0 .* device 4 with 1 GB"):
        capture()
    classic.guests[101] = make_guest(101, data_disks=1, capacity=2)
    with pytest.raises(DisksChangedError):
        capture()
    classic.guests.clear()
    with pytest.raises(ServerGoneError):
        capture()
    assert classic.count("capture") == 0


def test_a_remembered_template_that_does_not_show_is_never_captured_anew(
    capture: Callable[..., Captured], classic: Any, time: Any
) -> None:
    with pytest.raises(TemplateMissingError, match="template 4711") as caught:
        capture(recall=lambda: 4711)
    assert caught.value.retryable
    assert sum(time.slept) == 30

    renamed = classic.add_template("mine")
    with pytest.raises(StepError, match="now named 'mine'"):
        capture(recall=lambda: renamed.id)
    assert classic.count("capture") == 0


def test_a_run_for_a_past_slot_only_adopts(capture: Callable[..., Captured], classic: Any, item: PlanItem) -> None:
    past = item.model_copy(update={"adopt_only": True})

    with pytest.raises(PastSlotError, match="20261123T0200Z") as caught:
        capture(item=past)
    assert caught.value.rule == "past-slot"
    classic.add_template(NAME)
    assert capture(item=past).adopted


def test_outside_the_window_a_capture_waits_or_is_refused_as_asked(
    capture: Callable[..., Captured], classic: Any, now: Any
) -> None:
    with pytest.raises(OutsideWindow, match="opens at 2026-11-23 03:00 UTC") as caught:
        capture(settings={"window": "03:00-04:00"})
    assert caught.value.retryable
    assert caught.value.opens_at == now + timedelta(hours=1)
    with pytest.raises(WindowClosedError) as refused:
        capture(settings={"window": "03:00-04:00", "outside_window": "refuse"})
    assert not refused.value.retryable
    assert classic.count("capture") == 0
    assert not capture(settings={"window": "01:00-04:00"}).adopted


# The offline cap


def test_no_more_servers_than_the_cap_are_captured_at_once(
    capture: Callable[..., Captured], classic: Any, make_guest: Callable[..., Any], make_transaction: Callable[..., Any]
) -> None:
    for other in (1, 2):
        classic.guests[other] = make_guest(other, activeTransaction=make_transaction())
        classic.add_template(f"sealift-{other}-x", busy=True, sizes=(None,))

    with pytest.raises(OfflineCapReached, match="at most 2 servers") as caught:
        capture(settings={"max_offline": 2})
    assert (caught.value.in_flight, caught.value.max_offline, caught.value.retryable) == (2, 2, True)
    assert classic.count("capture") == 0
    assert not capture(settings={"max_offline": 3}).adopted


@pytest.mark.parametrize(
    ("template", "busy_guest", "age_hours", "counts"),
    [
        ({"busy": True, "sizes": (None,)}, True, 0, True),
        ({"sizes": ()}, False, 0, True),
        ({"sizes": ()}, False, 2, False),
        ({"sizes": ()}, True, 2, True),
        ({"busy": True, "sizes": (None,)}, False, 2, True),
        ({"sizes": (5e9,)}, True, 2, True),
        ({"sizes": (5e9,)}, False, 0, False),
        ({"busy": True, "sizes": (5e9,)}, False, 0, False),
        ({"sizes": (5e9,)}, True, 100, False),
    ],
    ids=[
        "just submitted",
        "no children yet",
        "broken",
        "no children, server busy",
        "no sizes, transaction left",
        "server still busy",
        "done",
        "being exported",
        "old, server busy with something else",
    ],
)
def test_what_counts_as_a_capture_in_flight(
    make_guest: Callable[..., Any],
    make_transaction: Callable[..., Any],
    make_classic: Any,
    now: Any,
    template: dict[str, Any],
    busy_guest: bool,
    age_hours: int,
    counts: bool,
) -> None:
    classic = make_classic(
        guests=[make_guest(101, **({"activeTransaction": make_transaction()} if busy_guest else {}))]
    )
    classic.add_template(NAME, created=now - timedelta(hours=age_hours), **template)
    classic.add_template("somebody else's", busy=True, sizes=())

    seen = look_at_account(classic, holders=(), now=now, slack=timedelta(minutes=30))
    assert seen.offline == ({101} if counts else set())


def test_finished_templates_of_past_years_cost_no_request(make_classic: Any, now: Any) -> None:
    classic = make_classic()
    for number in range(1, 50):
        classic.add_template(f"sealift-{number}-x", created=now - timedelta(days=400))

    assert look_at_account(classic, holders=(), now=now, slack=timedelta(minutes=30)).offline == set()
    assert classic.count("guest_states") == 0


# For all histories


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(
        st.sampled_from(["ok", "lost before", "lost after", "empty after", "busy", "rate limit"]), max_size=6
    ),
    remembers=st.booleans(),
)
def test_whatever_is_lost_and_retried_one_template_comes_of_it(
    make_guest: Callable[..., Any],
    make_classic: Any,
    make_settings: Callable[..., Any],
    make_cos: Any,
    make_time: Any,
    item: PlanItem,
    faults: list[str],
    remembers: bool,
) -> None:
    classic, cos, time = make_classic(guests=[make_guest(101, data_disks=1)]), make_cos(), make_time()
    cos.clock = time.clock
    place = SlotsPlace(bucket="sealift-exports", root="offline-slots/1", settle=timedelta(minutes=15))

    def act(fault: str) -> Callable[[], Template | None]:
        def run() -> Template | None:
            if fault.endswith("after"):
                classic.add_template(NAME)
            if fault.startswith("lost"):
                raise LOST
            if fault.startswith("empty"):
                raise ClassicBadReplyError("Empty reply.")
            if fault == "busy":
                raise ClassicActiveTransactionError("There is currently an active transaction.")
            if fault == "rate limit":
                raise ClassicRateLimitedError("Rate limit exceeded.")
            return None

        return run

    classic.capture_acts = [act(fault) for fault in faults]
    remembered: int | None = None
    retryable: list[bool] = []
    for _ in range(2 * len(faults) + 2):
        try:
            captured = ensure_captured(
                classic=classic,
                cos=cos,
                item=item,
                settings=make_settings(),
                gate=OfflineSlots(cos=cos, place=place, max_offline=1, clock=time.clock),
                recall=lambda known=remembered: known,  # type: ignore[misc]
                clock=time.clock,
                sleep=time.sleep,
            )
        except OutcomeOpen as opened:
            time.now = opened.until
            continue
        except (ExportsError, ClassicError) as error:
            retryable.append(error.retryable)
            continue
        remembered = captured.template_id if remembers else None

    assert len(classic.templates) == 1
    assert captured.adopted
    assert all(retryable)
