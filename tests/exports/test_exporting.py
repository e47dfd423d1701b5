"""An export is submitted with its own URI and key, and adopted where one runs or is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sealift.classic.errors import (
    ClassicActiveTransactionError,
    ClassicBadReplyError,
    ClassicError,
    ClassicLoadError,
    ClassicOutcomeUnknownError,
    ClassicPermissionError,
)
from sealift.exports.caps import LearnedCap
from sealift.exports.errors import OutcomeOpen, OutcomeUnknownError, ServerBusyError, StepError, TemplateMissingError
from sealift.exports.plan import PlanItem
from sealift.exports.registers import Entry
from sealift.exports.steps import ExportStarted, ensure_export_started, forget_claim

KEY = "PLANTED-ibm-api-key"
LOST = ClassicOutcomeUnknownError("The reply was lost.", call="copyToIcos")


@pytest.fixture
def item(make_guest: Callable[..., Any], item_of: Callable[..., PlanItem]) -> PlanItem:
    return item_of(make_guest(101, data_disks=1))


@pytest.fixture
def classic(make_guest: Callable[..., Any], make_classic: Any, item: PlanItem) -> Any:
    account = make_classic(guests=[make_guest(101, data_disks=1)])
    account.add_template(item.template_name)
    return account


@pytest.fixture
def export(
    classic: Any, cos: Any, item: PlanItem, time: Any, make_settings: Callable[..., Any]
) -> Callable[..., ExportStarted]:
    def run(template_id: int = 900) -> ExportStarted:
        return ensure_export_started(
            classic=classic,
            cos=cos,
            item=item,
            settings=make_settings(),
            template_id=template_id,
            ibm_api_key=KEY,
            clock=time.clock,
            monotonic=time.monotonic,
            sleep=time.sleep,
        )

    return run


def fails(error: ClassicError, then: Callable[[], object] = lambda: None) -> Callable[[], None]:
    def act() -> None:
        then()
        raise error

    return act


def test_an_export_is_submitted_to_the_exports_own_keys(
    export: Callable[..., ExportStarted], classic: Any, item: PlanItem
) -> None:
    started = export()

    assert started == ExportStarted(template_id=900, export_id=item.export_id, keys=item.disk_keys, adopted=False)
    uri = f"cos://us-south/sealift-exports/{item.images}/disk.vhd"
    assert classic.calls[-1] == ("export_template", (900, uri, KEY))


def test_an_export_that_is_proven_already_is_not_submitted_again(
    export: Callable[..., ExportStarted], classic: Any, cos: Any, period: str
) -> None:
    cos.store(f"nightly/manifests/101/{period}.json", b"{}")

    started = export()

    assert started.adopted
    assert started.exported
    assert classic.count("export_template") == 0


def test_an_export_whose_objects_are_all_there_is_adopted(
    export: Callable[..., ExportStarted], classic: Any, cos: Any, item: PlanItem
) -> None:
    cos.store(item.disk_keys[0], b"x")
    cos.store(item.disk_keys[1], b"")
    assert not export().adopted
    cos.store(item.disk_keys[1], b"x")
    classic.templates.clear()

    started = export()

    assert started.adopted
    assert not started.exported
    assert classic.count("export_template") == 1


def test_an_export_that_runs_is_adopted(
    export: Callable[..., ExportStarted], classic: Any, make_template: Callable[..., Any], item: PlanItem
) -> None:
    export()
    classic.templates[900] = make_template(900, item.template_name, busy=True)

    assert export().adopted
    assert classic.count("export_template") == 1


def test_a_transaction_that_is_nobodys_export_is_waited_for_and_not_taken_for_one(
    export: Callable[..., ExportStarted],
    classic: Any,
    make_template: Callable[..., Any],
    item: PlanItem,
    time: Any,
    now: Any,
) -> None:
    """A second transaction of the capture, or a copy to another data center."""
    whole = classic.templates[900]
    classic.templates[900] = make_template(900, item.template_name, busy=True)
    with pytest.raises(OutcomeOpen, match="something else is done with it") as caught:
        export()
    assert caught.value.until == now + timedelta(minutes=2)
    time.now += timedelta(hours=12)
    with pytest.raises(ServerBusyError, match="not the transaction of this export"):
        export()
    assert classic.count("export_template") == 0
    classic.templates[900] = whole
    assert not export().adopted


def test_an_export_whose_outcome_is_never_known_ends_as_a_failure(
    export: Callable[..., ExportStarted], classic: Any, time: Any
) -> None:
    classic.export_acts = [fails(LOST) for _ in range(5)]
    for _ in range(3):
        with pytest.raises(OutcomeOpen) as opened:
            export()
        time.now = opened.value.until
    with pytest.raises(OutcomeUnknownError, match="was submitted 4 times"):
        export()


def test_an_error_in_the_apis_own_words_after_the_export_began_is_settled_by_looking(
    export: Callable[..., ExportStarted], classic: Any, make_template: Callable[..., Any], item: PlanItem
) -> None:
    def runs() -> None:
        classic.templates[900] = make_template(900, item.template_name, busy=True)

    classic.export_acts = [fails(ClassicError("Error processing your request."), runs)]

    assert export().adopted


def test_a_template_that_does_not_show_or_is_another_is_refused(
    export: Callable[..., ExportStarted], classic: Any
) -> None:
    other = classic.add_template("sealift-102-20261123T0200Z")

    with pytest.raises(TemplateMissingError, match="template 4711") as caught:
        export(4711)
    assert caught.value.retryable
    with pytest.raises(StepError, match="not 'sealift-101"):
        export(other.id)
    assert classic.count("export_template") == 0


@pytest.mark.parametrize(
    "error",
    [LOST, ClassicBadReplyError("copyToIcos answered null."), ClassicActiveTransactionError("Busy.")],
    ids=["lost", "not true", "busy"],
)
def test_a_lost_or_strange_reply_is_settled_by_looking(
    export: Callable[..., ExportStarted],
    classic: Any,
    make_template: Callable[..., Any],
    item: PlanItem,
    error: ClassicError,
) -> None:
    def runs() -> None:
        classic.templates[900] = make_template(900, item.template_name, busy=True)

    classic.export_acts = [fails(error, runs)]

    assert export().adopted
    assert classic.count("export_template") == 1


def test_a_lost_reply_that_looking_does_not_settle_stays_open_until_it_is_certain(
    export: Callable[..., ExportStarted], classic: Any, time: Any, now: Any
) -> None:
    classic.export_acts = [fails(LOST)]

    with pytest.raises(OutcomeOpen, match="Nothing is submitted again before 02:15:00 UTC") as caught:
        export()

    assert caught.value.retryable
    assert sum(time.slept) == 30
    assert caught.value.until == now + timedelta(minutes=15)
    with pytest.raises(OutcomeOpen, match="Another try"):
        export()
    assert classic.count("export_template") == 1
    time.now = caught.value.until
    assert not export().adopted
    assert classic.count("export_template") == 2


def test_a_failed_export_is_submitted_again_from_the_same_template(
    export: Callable[..., ExportStarted], time: Any, classic: Any
) -> None:
    """Its transaction is gone and its objects are not there; that took longer than a request is on its way."""
    export()
    time.now += timedelta(minutes=20)

    assert not export().adopted
    assert classic.count("export_template") == 2


def test_a_try_that_was_held_up_submits_nothing(export: Callable[..., ExportStarted], classic: Any, time: Any) -> None:
    asked = classic.template_states
    looks: list[Any] = []

    def stalled(ids: Any) -> Any:
        looks.append(ids)
        if len(looks) == 2:  # the look after the claim
            time.now += timedelta(minutes=8)
        return asked(ids)

    classic.template_states = stalled
    with pytest.raises(OutcomeOpen, match="Too much time passed"):
        export()
    assert classic.count("export_template") == 0
    classic.template_states = asked
    assert not export().adopted, "the claim was given back"


def test_a_try_that_finds_the_export_done_after_its_claim_does_not_write_over_it(
    export: Callable[..., ExportStarted], classic: Any, cos: Any, period: str
) -> None:
    """Another try submitted, proved and removed its claim while this one was held up before its own."""

    def prove(key: str) -> None:
        if "/claims/" in key:
            cos.before_write = lambda _key: None
            cos.store(f"nightly/manifests/101/{period}.json", b"{}")

    cos.before_write = prove

    assert export().exported
    assert classic.count("export_template") == 0


def test_a_proven_export_leaves_no_claim(
    export: Callable[..., ExportStarted], cos: Any, item: PlanItem, make_settings: Callable[..., Any]
) -> None:
    export()
    assert [key for key in cos.objects if "/claims/" in key]

    forget_claim(cos=cos, item=item, settings=make_settings())

    assert not [key for key in cos.objects if "/claims/" in key]


@pytest.mark.parametrize(
    "error", [ClassicBadReplyError("copyToIcos answered false."), ClassicPermissionError("You may not.")]
)
def test_anything_but_true_is_a_failure_in_the_apis_own_words(
    export: Callable[..., ExportStarted], classic: Any, error: ClassicError
) -> None:
    classic.export_acts = [fails(error)]

    with pytest.raises(type(error)) as caught:
        export()

    assert caught.value is error


def test_the_key_is_in_no_message(export: Callable[..., ExportStarted], classic: Any, caplog: Any) -> None:
    classic.export_acts = [fails(LOST)]

    with pytest.raises(OutcomeOpen) as caught:
        export()

    assert KEY not in str(caught.value)
    assert KEY not in caplog.text


def test_a_refusal_for_the_load_gives_the_claim_back_and_teaches_a_cap(
    export: Callable[..., ExportStarted], classic: Any, cos: Any, item: PlanItem
) -> None:
    classic.export_acts = [fails(ClassicLoadError("Only 2 image exports may run at once."))]
    with pytest.raises(ClassicLoadError, match="Only 2"):
        export()
    notes = {key.rpartition("/")[2]: body for key, (body, *_) in cos.objects.items() if "/claims/caps/" in key}
    assert set(notes) == {"export-account.json"}, "nothing else runs in its data center"
    assert LearnedCap.model_validate_json(notes["export-account.json"]).cap == 1
    assert not export().adopted, "the next try need not wait: nobody submitted"
    claimed = [body for key, (body, *_) in cos.objects.items() if "/claims/101/" in key]
    entry = Entry.model_validate_json(claimed[0])
    assert (entry.datacenter, entry.template_id, entry.lasts_seconds) == ("dal13", 900, 6 * 3600)
