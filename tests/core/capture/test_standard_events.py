"""Typed standard events: their properties, and what is wrong with them."""

from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.capture import standard_events
from sessionsight.capture.encoding import PropertyEncoder
from sessionsight.capture.standard_events import (
    CheckoutCancelled,
    CheckoutFinished,
    CheckoutStarted,
    ContentViewed,
    SignupCompleted,
    StandardEvent,
    SubscriptionCancelled,
    TrialEnded,
    TrialStarted,
)

EVENTS: list[type[StandardEvent]] = [
    ContentViewed,
    SignupCompleted,
    CheckoutStarted,
    CheckoutCancelled,
    CheckoutFinished,
    TrialStarted,
    TrialEnded,
    SubscriptionCancelled,
]


def test_unset_is_left_out_and_none_is_kept() -> None:
    assert ContentViewed(content_id="c", title=None).properties() == {"content_id": "c", "title": None}


@pytest.mark.parametrize(
    ("currency", "expected"),
    [
        ("usd", {"currency": "USD"}),
        (" Eur\n", {"currency": "EUR"}),
        ("\ufeffeur", {"currency": "EUR"}),
        ("", {}),
        ("  ", {}),
        (None, {"currency": None}),
    ],
)
def test_a_currency_is_trimmed_and_upper_cased_and_disappears_when_empty(currency: Any, expected: Any) -> None:
    properties = CheckoutStarted(payment_type="one_time", currency=currency).properties()
    assert properties == {"payment_type": "one_time", **expected}


def test_a_currency_among_the_extra_keys_is_normalised_too() -> None:
    assert ContentViewed(content_id="c", extra={"currency": " usd"}).properties() == {
        "content_id": "c",
        "currency": "USD",
    }


def test_a_currency_that_is_not_a_string_stays() -> None:
    wrong: Any = 840
    assert CheckoutStarted(payment_type="one_time", currency=wrong).properties()["currency"] == 840


def test_extra_keys_pass() -> None:
    assert ContentViewed(content_id="c", extra={"lang": "en", "x": None}).properties() == {
        "content_id": "c",
        "lang": "en",
        "x": None,
    }


def test_a_field_that_is_set_overrides_an_extra_key() -> None:
    assert ContentViewed(content_id="c", extra={"content_id": "x", "title": "t"}).properties() == {
        "content_id": "c",
        "title": "t",
    }


def test_the_callers_mapping_is_not_changed() -> None:
    extra = {"currency": " usd "}
    ContentViewed(content_id="c", extra=extra).properties()
    assert extra == {"currency": " usd "}


def test_a_normal_event_has_no_problems() -> None:
    assert (
        CheckoutFinished(
            payment_type="subscription",
            billing_interval="month",
            amount=4900,
            currency="USD",
            plan="pro",
            order_id="ord_1",
            subscription_id="sub_1",
        ).validation_errors()
        == []
    )


PROBLEMS: list[tuple[type[StandardEvent], dict[str, Any], list[str]]] = [
    # The vendor's three warnings
    (
        CheckoutStarted,
        {"payment_type": "subscription"},
        ["a subscription needs a billing_interval: month, year or week"],
    ),
    (CheckoutFinished, {"payment_type": "one_time", "amount": None}, ["amount is missing"]),
    (CheckoutFinished, {"payment_type": "one_time", "amount": -1}, ["amount must not be negative, and is -1"]),
    (CheckoutFinished, {"payment_type": "one_time", "amount": 0}, []),
    (ContentViewed, {"content_id": ""}, ["content_id is blank"]),
    (ContentViewed, {"content_id": " \t"}, ["content_id is blank"]),
    (ContentViewed, {"content_id": "\ufeff"}, ["content_id is blank"]),
    (ContentViewed, {"content_id": "\x85"}, []),
    (ContentViewed, {"content_id": 7}, ["content_id must be a string, not 7"]),
    (ContentViewed, {"content_id": None}, ["content_id is missing"]),
    # Types
    (ContentViewed, {"content_id": "c", "title": 7}, ["title must be a string, not 7"]),
    (ContentViewed, {"content_id": "c", "title": None}, []),
    (ContentViewed, {"content_id": "c", "extra": 7}, ["extra must be a mapping of names to values, not 7"]),
    (SignupCompleted, {"trial_days": "14"}, ["trial_days must be a number, not '14'"]),
    (SignupCompleted, {"trial_days": True}, ["trial_days must be a number, not True"]),
    (SignupCompleted, {"trial_days": 14.5}, []),
    (TrialStarted, {"plan": "pro", "trial_days": float("nan")}, ["trial_days must be a number, not nan"]),
    (TrialStarted, {"plan": "pro", "trial_days": None}, ["trial_days is missing"]),
    (TrialEnded, {"plan": "pro", "converted": 1}, ["converted must be True or False, not 1"]),
    (TrialEnded, {"plan": None, "converted": True}, ["plan is missing"]),
    (
        CheckoutStarted,
        {"payment_type": "one_time", "amount": Decimal("sNaN")},
        ["amount must be a number, not Decimal('sNaN')"],
    ),
    (
        CheckoutFinished,
        {"payment_type": "one_time", "amount": Decimal("-Infinity")},
        ["amount must be a number, not Decimal('-Infinity')"],
    ),
    (
        CheckoutStarted,
        {"payment_type": "one_time", "plan": "x" * 99, "coupon": ["x" * 99]},
        ["coupon must be a string, not a list"],
    ),
    # Enums
    (
        ContentViewed,
        {"content_id": "c", "content_type": "video"},
        ["content_type must be one of blog_post, article, page, doc, not 'video'"],
    ),
    (SignupCompleted, {"method": "fax"}, ["method must be one of email, oauth, invite, sso, not 'fax'"]),
    (CheckoutStarted, {"payment_type": "gift"}, ["payment_type must be one of one_time, subscription, not 'gift'"]),
    (CheckoutStarted, {"payment_type": None}, ["payment_type is missing"]),
    (
        CheckoutStarted,
        {"payment_type": "subscription", "billing_interval": "day"},
        ["billing_interval must be one of month, year, week, not 'day'"],
    ),
    (
        CheckoutCancelled,
        {"payment_type": "one_time", "reason": "bored"},
        ["reason must be one of user_abandoned, payment_failed, validation_error, other, not 'bored'"],
    ),
    (
        TrialStarted,
        {"plan": "p", "trial_days": 1, "payment_type": "one_time"},
        ["payment_type must be subscription, not 'one_time'"],
    ),
    (
        TrialEnded,
        {"plan": "p", "converted": True, "reason": "x"},
        ["reason must be one of expired, converted, cancelled, not 'x'"],
    ),
    (
        SubscriptionCancelled,
        {"plan": "p", "payment_type": "one_time"},
        ["payment_type must be subscription, not 'one_time'"],
    ),
    (
        SubscriptionCancelled,
        {"plan": "p", "reason": "x"},
        ["reason must be one of user_request, payment_failed, admin, other, not 'x'"],
    ),
    # What belongs together
    (
        CheckoutStarted,
        {"payment_type": "one_time", "billing_interval": "month"},
        ["a one-time payment has no billing_interval"],
    ),
    (CheckoutStarted, {"payment_type": "one_time", "billing_interval": None}, []),
    (
        CheckoutFinished,
        {"payment_type": "one_time", "amount": 1, "subscription_id": "sub_1"},
        ["a one-time payment has no subscription_id"],
    ),
    # Minor units
    (CheckoutStarted, {"payment_type": "one_time", "amount": 4900.0}, []),
    (CheckoutStarted, {"payment_type": "one_time", "amount": Decimal("4900.00")}, []),
    (CheckoutStarted, {"payment_type": "one_time", "amount": Decimal("1E+30")}, []),
    (
        CheckoutStarted,
        {"payment_type": "one_time", "amount": Decimal("49.90")},
        ["amount is in minor units, and so a whole number (4990 for 49.90), not 49.90"],
    ),
    (
        CheckoutStarted,
        {"payment_type": "one_time", "amount": 49.9},
        ["amount is in minor units, and so a whole number (4990 for 49.90), not 49.9"],
    ),
    # Dates
    (
        SubscriptionCancelled,
        {"plan": "p", "effective_at": "soon"},
        ["effective_at must be a date of ISO 8601, not 'soon'"],
    ),
    (SubscriptionCancelled, {"plan": "p", "effective_at": 7}, ["effective_at must be a date, not 7"]),
    (SubscriptionCancelled, {"plan": "p", "effective_at": "2026-02-01"}, []),
    (SubscriptionCancelled, {"plan": "p", "effective_at": "2026-02-01T10:00:00.000Z"}, []),
    (SubscriptionCancelled, {"plan": "p", "effective_at": date(2026, 2, 1)}, []),
    (SubscriptionCancelled, {"plan": "p", "effective_at": datetime(2026, 2, 1, tzinfo=UTC)}, []),
]


@pytest.mark.parametrize(("event", "fields", "problems"), PROBLEMS)
def test_what_the_vendor_objects_to_is_said_in_a_sentence(
    event: type[StandardEvent], fields: dict[str, Any], problems: list[str]
) -> None:
    assert event(**fields).validation_errors() == [f"{event.event_name}: {problem}" for problem in problems]


def test_members_of_an_enumeration_count_as_their_values() -> None:
    class Method(Enum):
        EMAIL = "email"
        FAX = "fax"

    right, wrong = Method.EMAIL, Method.FAX
    assert SignupCompleted(method=right).validation_errors() == []  # type: ignore[arg-type]
    assert len(SignupCompleted(method=wrong).validation_errors()) == 1  # type: ignore[arg-type]


def names_of(event: Any) -> list[str]:
    return [field.name for field in fields(event)]


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.decimals(),
    st.text(),
    st.lists(st.integers()),
    st.dates(),
    st.sampled_from(["subscription", "one_time", "month", object(), ValueError, b"x", {}]),
)


@pytest.mark.parametrize("event", EVENTS)
@given(data=st.data())
def test_any_value_is_taken_and_can_be_sent(event: type[StandardEvent], data: st.DataObject) -> None:
    made = event(**{name: data.draw(anything, name) for name in names_of(event) if name != "extra"})
    assert all(problem.startswith(f"{event.event_name}: ") for problem in made.validation_errors())
    PropertyEncoder()(made.properties())


@pytest.mark.parametrize("event", EVENTS)
def test_a_wrong_name_is_said_and_passes_as_the_vendor_lets_it(event: Any) -> None:
    made = event(no_such_field=1)
    assert made.validation_errors()[0].startswith(f"{event.event_name}: unknown field 'no_such_field'; ")
    assert made.properties()["no_such_field"] == 1


def test_a_missing_required_field_is_said_and_left_out() -> None:
    made = CheckoutFinished(payment_type="one_time")  # type: ignore[call-arg]
    assert made.validation_errors() == ["checkout_finished: amount is missing"]
    assert made.properties() == {"payment_type": "one_time"}


def test_numbers_of_other_libraries_count_as_pythons() -> None:
    amount: Any = np.int64(4900)
    assert CheckoutFinished(payment_type="one_time", amount=amount).validation_errors() == []
    assert CheckoutFinished(payment_type="one_time", amount=-amount).validation_errors() == [
        "checkout_finished: amount must not be negative, and is -4900"
    ]


def test_a_subclass_of_a_standard_event_keeps_its_name_and_checks() -> None:
    class ShopCheckout(CheckoutFinished):
        shop: str

    event = ShopCheckout(payment_type="subscription", amount=1, shop="a")
    assert event.event_name == "checkout_finished"
    assert event.validation_errors() == [
        "checkout_finished: a subscription needs a billing_interval: month, year or week"
    ]
    assert event.properties()["shop"] == "a"


def test_every_event_of_the_vendor_is_there() -> None:
    assert [event.event_name for event in EVENTS] == [
        "content_viewed",
        "signup_completed",
        "checkout_started",
        "checkout_cancelled",
        "checkout_finished",
        "trial_started",
        "trial_ended",
        "subscription_cancelled",
    ]
    assert {event.__name__ for event in EVENTS} | {"StandardEvent"} == set(standard_events.__all__)


@pytest.mark.parametrize("event", EVENTS)
def test_every_field_is_a_property_of_its_own_name(event: Any) -> None:
    names = [name for name in names_of(event) if name != "extra"]
    assert list(event(**dict.fromkeys(names, "x")).properties()) == names
    assert set(names) <= get_type_hints(event).keys()


def test_an_event_is_a_frozen_value() -> None:
    event = ContentViewed(content_id="c")
    assert event == ContentViewed(content_id="c")
    with pytest.raises(AttributeError):
        event.content_id = "d"  # type: ignore[misc]
