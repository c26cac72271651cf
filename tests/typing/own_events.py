"""A team's own typed events."""

from dataclasses import field
from decimal import Decimal
from typing import Literal, assert_type

from sessionsight import Analytics, CheckoutFinished, Event
from sessionsight.testing import Recorder


class OrderEvent(Event):
    order_id: str


class OrderShipped(OrderEvent):
    amount: Decimal
    carrier: Literal["post", "bike"] = "post"
    note: str | None = None
    items: list[str] = field(default_factory=list[str])


class InvoicePaid(Event, name="Invoice Paid"):
    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError("numbers begin at 1")


class ShopCheckout(CheckoutFinished):
    shop: str


def ship(analytics: Analytics, recorder: Recorder) -> None:
    event = OrderShipped(order_id="ord_1", amount=Decimal("49.90"), items=["book"])
    assert_type(event.amount, Decimal)
    assert_type(event.note, str | None)
    assert_type(OrderShipped.event_name, str)
    assert_type(event.validation_errors(), list[str])
    analytics.capture(event, {"shop": "a"}, user_id=5)
    analytics.capture(InvoicePaid(number=5), key="invoice:5")
    analytics.capture(ShopCheckout(payment_type="one_time", amount=4900, shop="a"))
    recorder.assert_captured(event)


def wrong(event: OrderShipped) -> None:
    """Each line is an error that a type checker must find."""
    OrderShipped("ord_1", amount=Decimal(1))  # type: ignore[call-arg]
    OrderShipped(order_id="ord_1")  # type: ignore[call-arg]
    OrderShipped(order_id=5, amount=Decimal(1))  # type: ignore[arg-type]
    OrderShipped(order_id="ord_1", amount=Decimal(1), nte="")  # type: ignore[call-arg]
    OrderShipped(order_id="ord_1", amount=Decimal(1), carrier="van")  # type: ignore[arg-type]
    InvoicePaid()  # type: ignore[call-arg]
    event.amount = Decimal(2)  # type: ignore[misc]
