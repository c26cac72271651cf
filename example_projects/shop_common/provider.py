"""A stand-in for a payment provider: it accepts each payment, and sends webhooks in the shape of Stripe's.

A real one runs elsewhere, shows its payment page first, and sends a webhook again if the response got lost. This one
always sends it three times, and returns when they have been answered.
"""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from shop_common.signature import SECRET, sign

PATH = "webhooks/payments"
TIMES = 3
TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Charge:
    id: str
    cents: int
    metadata: Mapping[str, str]


def charge(shop: str, cents: int, metadata: Mapping[str, str]) -> Charge:
    """Take a payment, and send the webhook to the shop at this address."""
    charge = Charge(new_id("ch"), cents, metadata)
    invoice = {"id": new_id("in"), "object": "invoice", "status": "paid", "amount_paid": cents}
    send(shop, "invoice.paid", {"object": {**invoice, "currency": "usd", "metadata": dict(metadata)}})
    return charge


def refund(shop: str, charge: Charge) -> None:
    """Pay a charge back, and send the webhook to the shop."""
    refunded = {"id": charge.id, "object": "charge", "amount": charge.cents, "amount_refunded": charge.cents}
    subject = {**refunded, "refunded": True, "currency": "usd", "metadata": dict(charge.metadata)}
    before = {"amount_refunded": 0, "refunded": False}
    send(shop, "charge.refunded", {"object": subject, "previous_attributes": before})


def send(shop: str, kind: str, data: object) -> None:
    at = int(time.time())
    event = {"id": new_id("evt"), "object": "event", "type": kind, "created": at, "livemode": False, "data": data}
    payload = json.dumps(event).encode()
    headers = {"Content-Type": "application/json", "Stripe-Signature": sign(payload, SECRET, at=at)}
    with httpx.Client(base_url=shop, timeout=TIMEOUT, trust_env=False) as http:
        for _ in range(TIMES):
            http.post(PATH, content=payload, headers=headers).raise_for_status()


def new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(8)}"
