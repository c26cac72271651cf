"""The shops count a payment once, however often and to whichever process the provider sends its webhook."""

import hashlib
import hmac
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.examples.shops import SHOPS, Demo, dropped

PAYLOADS = Path(__file__).with_name("stripe")
SECRET = "whsec_example"
VISITOR = {
    "ss_sid": "0b0e1f9c-55a4-4d53-8a36-1a2a0b7c5c11",
    "ss_vid": "4f9c5a36-6a4e-4d0e-8f0b-0f5f6f6c2a11",
    "ss_signal_session_id": "01977e2a-signal",
    "ss_user_id": "user_1",
}


def send(demo: Demo, payload: bytes, *, at: int | None = None, secret: str = SECRET) -> int:
    """Send a webhook with a signature of our own, and return the status."""
    at = int(time.time()) if at is None else at
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "Stripe-Signature": f"t={at},v1={digest}"}
    url = f"{demo.url}webhooks/payments"
    return httpx.post(url, content=payload, headers=headers, timeout=30, trust_env=False).status_code


def webhook(name: str, metadata: dict[str, str] = VISITOR, **changed: Any) -> bytes:
    event = json.loads((PAYLOADS / f"{name}.json").read_bytes())
    event["data"]["object"]["metadata"] |= metadata
    event["data"]["object"] |= changed
    return json.dumps(event).encode()


@pytest.mark.processes
@pytest.mark.parametrize("shop", SHOPS)
def test_a_payment_counts_once_in_its_session_however_often_the_webhook_comes(shop: str, tmp_path: Path) -> None:
    paid, refunded = webhook("invoice.paid"), webhook("charge.refunded")
    demo = Demo(shop, WEBHOOK_SECRET=SECRET, SHOP_DATA=str(tmp_path))
    try:
        assert send(demo, paid, secret="another") == 400
        assert send(demo, paid, at=int(time.time()) - 400) == 400
        assert httpx.post(f"{demo.url}webhooks/payments", content=paid, trust_env=False).status_code == 400
        assert send(demo, b'{"type": "balance.available", "data": {"object": {"object": "balance"}}}') == 204
        assert send(demo, webhook("invoice.paid", {"ss_opted_out": "1"}, id="in_of_somebody_who_refused")) == 204
        assert [send(demo, payload) for payload in (paid, refunded) * 3] == [204] * 6
        assert send(demo, webhook("invoice.paid", id="in_2", amount_paid=4900)) == 204
        records = demo.wait_for_records(12)
    finally:
        demo.interrupt()
    # In the file, so that it holds for other processes too, and after a restart.
    assert dropped(tmp_path / "analytics.db") == {
        vendor: {"consent": 1, "duplicate": 4} for vendor in ("sessionsight", "signal", "saytics", "analyse")
    }

    session, visitor, signal, user = VISITOR.values()
    goals = Counter((goal["session_id"], goal["amount"]) for goal in records if goal["vendor"] == "sessionsight")
    assert goals == {(session, 12.0): 1, (session, -7.0): 1, (session, 49.0): 1}
    names = Counter({"checkout_finished": 2, "Order Refunded": 1})
    for vendor, ids in {
        "signal": (signal, user, None),
        "saytics": (None, user, visitor),
        "analyse": (None, user, visitor),
    }.items():
        events = [record for record in records if record["vendor"] == vendor]
        assert Counter(event["name"] for event in events) == names
        assert {(event["session_id"], event["user_id"], event["visitor_id"]) for event in events} == {ids}
