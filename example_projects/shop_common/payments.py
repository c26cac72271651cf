"""Webhooks of the payment provider: the revenue is counted in the session in which the visitor paid."""

import json
from decimal import Decimal

import sessionsight
from sessionsight import CheckoutFinished, TrackingContext
from shop_common.accounts import Accounts
from shop_common.jobs import send_receipt
from shop_common.signature import SECRET, verify


def handle(payload: bytes, signature: str, accounts: Accounts) -> None:
    """Act on a webhook. A provider sends it again until it gets a response, so each may come several times.

    Raises `SignatureError` if the webhook is not from the provider.
    """
    verify(payload, signature, SECRET)
    event = json.loads(payload)
    subject = event["data"]["object"]
    metadata = subject.get("metadata")  # as the shop gave it to the provider: the carrier, and the order
    with sessionsight.scope(TrackingContext.from_carrier(metadata)) as analytics:
        if event["type"] == "invoice.paid":
            key = f"invoice:{subject['id']}"  # what has been counted under this key is not counted again
            currency = subject["currency"].upper()
            paid = CheckoutFinished(
                payment_type="one_time", order_id=metadata["order_id"], amount=subject["amount_paid"], currency=currency
            )
            analytics.capture(paid, key=key)
            analytics.goals.increment("shop-revenue", amount=dollars(subject["amount_paid"]), key=key)
            if accounts.pay(metadata["order_id"]):
                send_receipt.delay(metadata["order_id"])
        elif event["type"] == "charge.refunded":
            # A charge may be refunded in parts. Its refunds are not part of it since Stripe's API of 2022-11-15.
            key = f"refund:{subject['id']}:{subject['amount_refunded']}"
            amount = dollars(subject["amount_refunded"] - event["data"]["previous_attributes"]["amount_refunded"])
            refunded = {"order_id": metadata["order_id"], "amount": amount}
            analytics.capture("Order Refunded", refunded, key=key)
            analytics.goals.decrement("shop-revenue", amount=amount, key=key)


def dollars(cents: int) -> Decimal:
    return Decimal(cents) / 100
