"""A program without a framework: a job, a webhook, a script."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, assert_type
from uuid import uuid4

import sessionsight
from sessionsight import (
    Analytics,
    CheckoutFinished,
    Client,
    Receipt,
    Settings,
    TrackingContext,
    bind,
    carry,
    configure,
    current,
    for_request,
    get_client,
    scope,
)
from sessionsight.capture.current import reset_current, set_current
from sessionsight.destinations import SessionSight, Signal

settings = Settings(
    destinations=(
        SessionSight(secret_api_key=lambda: "sec", property_id="shop"),
        Signal(api_key="key", project_id="shop", distinct_id="header"),
    ),
    consent=lambda data: "consent=yes" in data.headers.get("cookie", ""),
    user="always",
    before_send=lambda record, destination: record if destination == "signal" else None,
)
client = Client(settings)
assert_type(configure(destinations={"analyse": {"public_key": "pk"}}), Client)
assert_type(current(), Analytics)
assert_type(current().capture("seen"), Receipt)
assert_type(current().goals.increment("signups").reason, str | None)
assert_type(sessionsight.current(), Analytics)
assert_type(for_request({"cookie": "ss_sid=x"}), Analytics)
assert_type(client.analytics.context.session_id, str | None)
assert_type(client.flush(1), bool)
assert_type(client.stats().lanes["signal"].dropped, dict[str, int])


def webhook(metadata: Mapping[str, str] | None) -> None:
    context = TrackingContext.from_carrier(metadata)
    analytics = client.bind(context, user_id=uuid4())
    analytics.capture("order_processed", {"amount": Decimal("49.90"), "tags": {"a"}}, key="order:1")
    analytics.capture(
        CheckoutFinished(payment_type="subscription", billing_interval="month", amount=4900, currency="USD"), user_id=5
    )
    analytics.identify(5, {"plan": "pro"}, anonymous_id="a1")
    analytics.identify(user_id=5, traits={"plan": "pro"})
    analytics.group("company", 7, {"name": "Acme"}, distinct_id="d1")
    analytics.goals.increment("monthly-revenue", amount=49, metadata={"plan": "pro"}, destinations=["sessionsight"])
    analytics.feedback.submit("nps", option="9", metadata={"plan": "pro"})
    assert_type(analytics.flags.target(plan="pro").get("new-checkout"), bool)
    assert_type(analytics.flags.get("cta-color", default="blue"), str)
    assert_type(analytics.flags.all(), dict[str, bool | str])
    assert_type([flag.key for flag in analytics.flags.list()], list[str])
    assert_type(context.to_carrier(), dict[str, str])
    token = set_current(analytics)
    current().tag(job="webhook")
    reset_current(token)


async def job() -> None:
    assert_type(await client.aflush(), bool)
    async with scope(TrackingContext(), user_id="ada", flush=True) as analytics:
        assert_type(analytics, Analytics)


def send(order_id: str, *, copies: int = 1) -> int:
    with scope(user_id=5) as analytics, client.scope(anonymous_id="a1"):
        assert_type(analytics, Analytics)
    assert_type(bind(TrackingContext(), user_id=uuid4()), Analytics)
    assert_type(get_client(), Client)
    return copies


assert_type(carry(send)("ord_1", copies=2), int)
plain: Callable[[], Any] = carry(job)


def wrong(analytics: Analytics, settings: Settings, anything: dict[str, Any]) -> None:
    """Each line is an error that a type checker must find."""
    analytics.capture(5)  # type: ignore[arg-type]
    analytics.capture("x", userid=5)  # type: ignore[call-arg]
    analytics.capture("x", timestamp="now")  # type: ignore[arg-type]
    analytics.identify("u", user_id="v")  # type: ignore[misc]
    analytics.capture()  # type: ignore[call-arg]
    analytics.capture("x", {}, "u")  # type: ignore[call-arg, arg-type]
    analytics.alias()  # type: ignore[call-arg]
    analytics.group("company")  # type: ignore[call-arg]
    analytics.set_person_properties(plan="pro")  # type: ignore[call-arg]
    analytics.tag("experiment", "b")  # type: ignore[call-arg]
    analytics.only(destinations=["signal"])  # type: ignore[call-arg]
    analytics.goals.increment()  # type: ignore[call-arg]
    analytics.goals.decrement("signups", quantity=2)  # type: ignore[call-arg]
    analytics.goals.increment("signups", "5")  # type: ignore[arg-type]
    CheckoutFinished(payment_type="monthly", amount=1)  # type: ignore[arg-type]
    CheckoutFinished(payment_type="one_time")  # type: ignore[call-arg]
    carry(send)(5)  # type: ignore[arg-type]
    Settings(flush="later")  # type: ignore[arg-type]
    Settings(lingr=1)  # type: ignore[call-arg]
    Signal(project_id="shop")  # type: ignore[call-arg]
    settings.linger = 1  # type: ignore[misc]
    analytics.context.user_id = "x"  # type: ignore[misc]
