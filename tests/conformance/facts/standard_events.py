"""The standard events, and their money, at each vendor that takes events."""

from decimal import Decimal
from typing import Any

from sessionsight.capture.records import EventRecord
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
from tests.conformance.facts import analyse, saytics, signal
from tests.conformance.facts.fact import OURS, Fact
from tests.core.destinations.factories import USER, event, standard

DOCS = "https://analyse.net/docs/standard-events; https://github.com/track/sdk (src/events/*)"

ATTRIBUTION = {
    f"{when}_{what}": "x"
    for when in ("first", "last")
    for what in (
        *("content_id", "content_type", "content_title", "referrer_domain", "touched_at"),
        *("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"),
    )
} | {"content_touchpoint_count": 3}
CHECKOUT: dict[str, Any] = {
    "payment_type": "subscription",
    "billing_interval": "month",
    "checkout_id": "chk_1",
    "amount": 4900,
    "currency": "USD",
    "product_id": "prod_1",
    "plan": "pro",
    "items_count": 1,
    "coupon": "SPRING",
}

# Each event with its required properties alone, then with all.
EVENTS: list[tuple[StandardEvent, str, dict[str, Any]]] = [
    (ContentViewed(content_id="c1"), "content_viewed", {"content_id": "c1"}),
    (
        ContentViewed(content_id="c1", content_type="blog_post", title="On Tea"),
        "content_viewed",
        {"content_id": "c1", "content_type": "blog_post", "title": "On Tea"},
    ),
    (SignupCompleted(), "signup_completed", {}),
    (
        SignupCompleted(method="oauth", plan="pro", trial_days=14, extra=ATTRIBUTION),
        "signup_completed",
        {"method": "oauth", "plan": "pro", "trial_days": 14, **ATTRIBUTION},
    ),
    (CheckoutStarted(payment_type="one_time"), "checkout_started", {"payment_type": "one_time"}),
    (CheckoutStarted(**CHECKOUT), "checkout_started", CHECKOUT),
    (CheckoutCancelled(payment_type="one_time"), "checkout_cancelled", {"payment_type": "one_time"}),
    (
        CheckoutCancelled(**CHECKOUT, reason="user_abandoned", step="address"),
        "checkout_cancelled",
        {**CHECKOUT, "reason": "user_abandoned", "step": "address"},
    ),
    (
        CheckoutFinished(payment_type="one_time", amount=0),
        "checkout_finished",
        {"payment_type": "one_time", "amount": 0},
    ),
    (
        CheckoutFinished(**CHECKOUT, order_id="ord_1", subscription_id="sub_1"),
        "checkout_finished",
        {**CHECKOUT, "order_id": "ord_1", "subscription_id": "sub_1"},
    ),
    (TrialStarted(plan="pro", trial_days=14), "trial_started", {"plan": "pro", "trial_days": 14}),
    (
        TrialStarted(plan="pro", trial_days=14, payment_type="subscription"),
        "trial_started",
        {"plan": "pro", "trial_days": 14, "payment_type": "subscription"},
    ),
    (TrialEnded(plan="pro", converted=False), "trial_ended", {"plan": "pro", "converted": False}),
    (
        TrialEnded(plan="pro", converted=True, reason="converted", payment_type="subscription"),
        "trial_ended",
        {"plan": "pro", "converted": True, "reason": "converted", "payment_type": "subscription"},
    ),
    (
        SubscriptionCancelled(plan="pro"),
        "subscription_cancelled",
        {"plan": "pro", "payment_type": "subscription"},
    ),
    (
        SubscriptionCancelled(
            plan="pro",
            payment_type="subscription",
            billing_interval="year",
            reason="user_request",
            effective_at="2026-02-01",
        ),
        "subscription_cancelled",
        {
            "plan": "pro",
            "payment_type": "subscription",
            "billing_interval": "year",
            "reason": "user_request",
            "effective_at": "2026-02-01",
        },
    ),
]


def paid(amount: Any, currency: str | None) -> EventRecord:
    properties = {"amount": amount} if currency is None else {"amount": amount, "currency": currency}
    return event("checkout_finished", properties, standard=True)


def at_saytics(id_: str, record: EventRecord, properties: dict[str, Any], **options: Any) -> Fact:
    requests = saytics.sent(event=record.name, properties=properties)
    return Fact(f"money: Saytics, {id_}", OURS, "saytics", [record], requests, context=USER, options=options)


FACTS = [
    *(
        Fact(
            f"standard: {name} with {len(properties)} properties",
            DOCS,
            "analyse",
            [standard(typed)],
            analyse.sent(analyse.wire(event_name=name, properties=properties)),
            context=USER,
        )
        for typed, name, properties in EVENTS
    ),
    Fact(
        "money: minor units at Analyse.net",
        DOCS,
        "analyse",
        [paid(4900, "USD")],
        analyse.sent(analyse.wire(event_name="checkout_finished", properties={"amount": 4900, "currency": "USD"})),
        context=USER,
    ),
    Fact(
        "money: minor units at Signal",
        OURS,
        "signal",
        [paid(4900, "USD")],
        signal.sent(signal.wire("checkout_finished", properties={"amount": 4900, "currency": "USD"})),
        context=USER,
    ),
    *(
        at_saytics(
            f"{amount} {currency} is {wire}",
            paid(amount, currency),
            {"amount": Decimal(wire), "currency": currency},
        )
        for amount, currency, wire in (
            (4900, "USD", "49.00"),
            (4999, "EUR", "49.99"),
            (5, "GBP", "0.05"),
            (0, "USD", "0.00"),
            (-250, "USD", "-2.50"),
            (4900, "JPY", "4900"),
            (4900, "KWD", "4.900"),
            (4900, "CLF", "0.4900"),
            (Decimal("4900.5"), "USD", "49.005"),
            (12345678901234567890123456789012345, "USD", "123456789012345678901234567890123.45"),
        )
    ),
    at_saytics("no currency: untouched", paid(4900, None), {"amount": 4900}),
    at_saytics("unknown currency: untouched", paid(4900, "BTC"), {"amount": 4900, "currency": "BTC"}),
    at_saytics("no number: untouched", paid("free", "USD"), {"amount": "free", "currency": "USD"}),
    at_saytics("as given", paid(4900, "USD"), {"amount": 4900, "currency": "USD"}, money="keep"),
    at_saytics(
        "free-form amounts are never converted",
        event("Order Paid", {"amount": 4900, "currency": "USD"}),
        {"amount": 4900, "currency": "USD"},
    ),
    at_saytics(
        "money and fitting together",
        event(
            "checkout_finished", {"amount": 4900, "currency": "USD", "coupon": None, "cart": {"n": 1}}, standard=True
        ),
        {"amount": Decimal("49.00"), "currency": "USD", "cart_n": 1},
    ),
]
