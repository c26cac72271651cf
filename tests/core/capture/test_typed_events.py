"""A team's own events: how they are named, made, checked and captured."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, replace
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NewType

import numpy as np
import pytest

from sessionsight import CheckoutFinished, InvalidEventError
from sessionsight.capture.encoding import PropertyEncoder, decode
from sessionsight.capture.records import EventRecord
from sessionsight.capture.standard_events import StandardEvent
from sessionsight.capture.typed_events import Event
from sessionsight.destinations import Saytics
from tests.core.box import Recorder
from tests.core.destinations.factories import USER, entry

if TYPE_CHECKING:
    from fractions import Fraction

OrderId = NewType("OrderId", str)
MakeRecorder = Callable[..., Recorder]


class Carrier(Enum):
    POST = "post"
    BIKE = "bike"


class OrderEvent(Event):
    order_id: OrderId


class OrderShipped(OrderEvent):
    amount: Decimal
    carrier: Carrier | None = None
    speed: Literal["slow", "fast"] = "slow"
    items: list[str] = field(default_factory=list)
    _note: str = "not sent"


class InvoicePaid(Event, name="Invoice Paid"):
    number: int


def shipped(**fields: Any) -> OrderShipped:
    return OrderShipped(**{"order_id": "ord_1", "amount": Decimal("49.90"), **fields})


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OrderShipped", "order_shipped"),
        ("Signup", "signup"),
        ("HTTPRequestFailed", "http_request_failed"),
        ("Step2Done", "step2_done"),
        ("_Internal", "internal"),
        ("plan_changed", "plan_changed"),
    ],
)
def test_an_event_is_named_after_its_class(name: str, expected: str) -> None:
    assert type(name, (Event,), {}).event_name == expected  # type: ignore[attr-defined]


def test_a_name_of_its_own_is_kept_word_for_word_and_not_inherited() -> None:
    class InvoiceRefunded(InvoicePaid):
        pass

    class Renamed(InvoicePaid, name="x"):
        pass

    class InItsBody(Event):
        event_name = "In Its Body"

    found = [kind.event_name for kind in (InvoicePaid, InvoiceRefunded, Renamed, InItsBody)]
    assert found == ["Invoice Paid", "invoice_refunded", "x", "In Its Body"]


@pytest.mark.parametrize("name", ["", "  ", 5])
def test_a_wrong_name_is_an_error_of_the_definition(name: Any) -> None:
    with pytest.raises(InvalidEventError, match="Wrong: name must be a string that is not blank"):
        type("Wrong", (Event,), {}, name=name)


@pytest.mark.parametrize("name", ["properties", "validation_errors", "event_name"])
def test_a_field_may_not_have_the_name_of_what_every_event_has(name: str) -> None:
    with pytest.raises(InvalidEventError, match=f"Wrong: a field may not be named '{name}'"):
        type("Wrong", (Event,), {"__annotations__": {name: str}})


# --- values -----------------------------------------------------------------------------------------------------------


def test_an_event_has_its_fields_its_bases_and_its_defaults() -> None:
    event = shipped(carrier=Carrier.POST)
    assert event.properties() == {
        "order_id": "ord_1",
        "amount": Decimal("49.90"),
        "carrier": Carrier.POST,
        "speed": "slow",
        "items": [],
    }
    assert event.validation_errors() == []
    assert decode(PropertyEncoder()(event.properties()))["carrier"] == "post"
    assert decode(PropertyEncoder()({"event": InvoicePaid(number=5)})) == {"event": {"number": 5}}


def test_an_event_is_a_frozen_value() -> None:
    event = shipped()
    assert event == shipped()
    assert event != shipped(amount=Decimal(1))
    assert shipped().items is not shipped().items
    assert hash(InvoicePaid(number=5)) == hash(InvoicePaid(number=5))
    assert repr(InvoicePaid(number=5)) == "InvoicePaid(number=5)"
    with pytest.raises(FrozenInstanceError):
        event.amount = Decimal(1)  # type: ignore[misc]


def test_an_event_can_be_copied_and_replaced_with_what_is_wrong_with_it() -> None:
    wrong: Any = InvoicePaid
    for event in (shipped(), wrong(nmber=5)):
        for copied in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
            assert copied == event
            assert copied.validation_errors() == event.validation_errors()
    assert replace(shipped(), speed="fast").speed == "fast"


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "problems"),
    [
        (lambda event: event(order_id="a"), ["amount is missing"]),
        (lambda event: event(), ["order_id is missing", "amount is missing"]),
        (lambda event: event(order_id=None, amount=Decimal(1)), ["order_id is missing"]),
        (lambda event: event("a"), ["fields are given by name", "order_id is missing", "amount is missing"]),
        (
            lambda event: event(order_id="a", amout=Decimal(1)),
            ["unknown field 'amout'; did you mean 'amount'?", "amount is missing"],
        ),
        (lambda event: event(order_id=5, amount=Decimal(1)), ["order_id must be a string, not 5"]),
        (lambda event: event(order_id="a", amount=49.9), ["amount must be a Decimal, not 49.9"]),
        (lambda event: event(order_id="a", amount="49"), ["amount must be a Decimal, not '49'"]),
        (lambda event: event(order_id="a", amount=Decimal("NaN")), ["amount must be a Decimal, not Decimal('NaN')"]),
        (
            lambda event: event(order_id="a", amount=1, carrier="post"),
            ["carrier must be a member of Carrier, not 'post'"],
        ),
        (lambda event: event(order_id="a", amount=1, speed="sonic"), ["speed must be one of slow, fast, not 'sonic'"]),
        (lambda event: event(order_id="a", amount=1, items=["a", 5]), ["items must be list[str], not ['a', 5]"]),
        (lambda event: event(order_id="a", amount=1, items="abc"), ["items must be list[str], not 'abc'"]),
        (lambda event: event(order_id="a", amount=49), []),
        (lambda event: event(order_id="a", amount=np.int64(49), carrier=None), []),
    ],
    ids=map(str, range(15)),
)  # fmt: skip
def test_making_an_event_never_raises_and_problems_name_the_event_and_the_field(
    make: Callable[[Any], Event], problems: list[str]
) -> None:
    assert make(OrderShipped).validation_errors() == [f"order_shipped: {problem}" for problem in problems]


class Checked(Event):
    first: int = 1
    last: int = 1
    made: list[int] = field(default_factory=lambda: [1 // 1])

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError("first is after last")


def test_a_check_of_the_classs_own_is_a_problem_like_the_others() -> None:
    assert Checked(first=1, last=2).validation_errors() == []
    assert Checked(first=2, last=1).validation_errors() == ["checked: ValueError: first is after last"]


def test_a_default_that_fails_is_a_problem_too() -> None:
    class Failing(Event):
        number: int = field(default_factory=lambda: int("x"))

    assert Failing().validation_errors()[0] == "failing: ValueError: invalid literal for int() with base 10: 'x'"


def test_a_default_is_right_by_definition() -> None:
    class Loose(Event):
        tags: list[str] = None  # type: ignore[assignment]

    assert Loose().validation_errors() == []
    assert Loose(tags=5).validation_errors() == ["loose: tags must be list[str], not 5"]  # type: ignore[arg-type]


def test_a_type_that_cannot_be_read_is_not_checked_and_the_others_are() -> None:
    class Partial(OrderShipped):
        number: "Fraction"
        more: "int" = 1

    event: Any = Partial
    right = {"order_id": "ord_1", "amount": 5}
    assert event(**right, number="x").validation_errors() == []
    assert event(order_id="ord_1").validation_errors() == ["partial: amount is missing", "partial: number is missing"]
    assert event(order_id=5, amount=5, number="x", more="y").validation_errors() == [
        "partial: order_id must be a string, not 5",
        "partial: more must be an integer, not 'y'",
    ]


def test_a_type_that_cannot_be_read_replaces_that_of_a_base() -> None:
    class Refined(OrderEvent):
        order_id: "Fraction"  # type: ignore[assignment]

    event: Any = Refined
    assert event(order_id=5).validation_errors() == []


# --- captured ---------------------------------------------------------------------------------------------------------


def test_an_own_event_brings_its_name_and_properties(recorder: Recorder) -> None:
    recorder.client.analytics.capture(InvoicePaid(number=5), {"more": 1}, user_id="u1")
    [record] = recorder.records()
    assert isinstance(record, EventRecord)
    assert (record.name, record.standard, record.user_id) == ("Invoice Paid", False, "u1")
    assert recorder.events() == {"Invoice Paid": {"number": 5, "more": 1}}


def test_a_wrong_own_event_raises_in_strict_mode_when_it_is_captured(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(strict=True)
    wrong: Any = OrderShipped
    with pytest.raises(
        InvalidEventError, match=r"^order_shipped: order_id must be a string, not 5; .*amount is missing"
    ):
        recorder.client.analytics.capture(wrong(order_id=5))
    assert recorder.records() == []


def test_a_wrong_own_event_is_a_wrong_call_in_production(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder()
    wrong: Any = OrderShipped
    recorder.client.analytics.capture(wrong(order_id="a", amuont=1))
    assert recorder.records() == []
    assert recorder.client.stats().rejected == 1
    [logged] = [record.getMessage() for record in caplog.records]
    assert logged.startswith(f"{__file__}:")
    assert "order_shipped: unknown field 'amuont'; did you mean 'amount'?; order_shipped: amount is missing" in logged


def test_a_standard_event_without_its_fields_is_logged_and_sent_with_what_is_there(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, strict = make_recorder(), make_recorder(strict=True)
    wrong: Any = CheckoutFinished
    with pytest.raises(InvalidEventError, match="checkout_finished: amount is missing"):
        strict.client.analytics.capture(wrong(payment_type="one_time"))
    recorder.client.analytics.capture(wrong(payment_type="one_time"))
    assert recorder.events() == {"checkout_finished": {"payment_type": "one_time"}}
    assert recorder.client.stats().rejected == 0
    assert "checkout_finished: amount is missing" in caplog.text


def test_a_class_is_not_an_event(make_recorder: MakeRecorder) -> None:
    wrong: Any = OrderShipped
    with pytest.raises(
        InvalidEventError,
        match=r"a typed event, and OrderShipped is a class; make an event of it: OrderShipped\(\.\.\.\)",
    ):
        make_recorder(strict=True).client.analytics.capture(wrong)


def test_money_of_an_own_event_is_sent_as_given_to_all(recorder: Recorder) -> None:
    class Refunded(Event):
        amount: int
        currency: str = "USD"

    recorder.client.analytics.capture(Refunded(amount=4900))
    [record] = recorder.records()
    [call] = Saytics(secret_key="sk").build_requests([entry(record, USER)], now=0)
    assert b'"amount":4900,' in call.body


def test_standard_events_are_of_the_same_kind() -> None:
    assert issubclass(StandardEvent, Event)
    assert CheckoutFinished.event_name == "checkout_finished"
