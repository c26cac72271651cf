"""The webhooks of the guide are checked, and counted once."""

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sessionsight
from tests.support.pages import ROOT, block, run

PAGE = "docs/webhooks.md"
PAYLOADS = ROOT / "tests" / "examples" / "stripe"
SECRET = "whsec_example"


def stripe_signature(payload: bytes, *, at: int, secret: str = SECRET) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256)
    return f"t={at},v1={digest.hexdigest()},v0={'0' * 64}"


@pytest.fixture
def verify() -> Callable[..., None]:
    checked: Callable[..., None] = run(block(PAGE, "signature"))["verify"]
    return checked


@pytest.mark.parametrize("name", ["invoice.paid", "charge.refunded"])
def test_a_signed_webhook_is_accepted(verify: Callable[..., None], name: str) -> None:
    payload = (PAYLOADS / f"{name}.json").read_bytes()
    now = int(time.time())
    verify(payload, stripe_signature(payload, at=now - 200), SECRET)
    replaced = stripe_signature(payload, at=now, secret="the old one")
    verify(payload, replaced + "," + stripe_signature(payload, at=now).partition(",")[2], SECRET)


def test_a_webhook_is_refused_that_was_not_signed_just_now_with_the_secret(verify: Callable[..., None]) -> None:
    payload = (PAYLOADS / "invoice.paid.json").read_bytes()
    now = int(time.time())
    signature = stripe_signature(payload, at=now)
    for body, header in (
        (payload.replace(b"1200", b"9900"), signature),
        (json.dumps(json.loads(payload)).encode(), signature),
        (payload, stripe_signature(payload, at=now, secret="another")),
        (payload, stripe_signature(payload, at=now - 400)),
        (payload, stripe_signature(payload, at=now + 400)),
        (payload, signature.replace(f"t={now}", f"t={now - 1}")),
        (payload, signature.replace("v1=", "v2=")),
        (payload, ""),
    ):
        with pytest.raises(ValueError, match=r"was not signed|too old"):
            verify(body, header, SECRET)


def test_a_payment_and_its_refund_count_once_however_often_the_webhook_comes(tmp_path: Path) -> None:
    settings = run(block(PAGE, "settings"))["SESSIONSIGHT"]
    client = sessionsight.configure(
        destinations={
            "sessionsight": {"secret_api_key": "...", "property_id": "..."},
            "saytics": {"secret_key": "..."},
        },
        spool=re.sub(r"/var/lib/shop", str(tmp_path), settings["SPOOL"]),
        dedupe_window=settings["DEDUPE_WINDOW"],
    )
    visitor = client.for_request("ss_sid=0b0e1f9c-55a4-4d53-8a36-1a2a0b7c5c11; ss_vid=5d0a61a5")
    metadata = run(block(PAGE, "checkout"))["metadata_for"](SimpleNamespace(analytics=visitor), "order_1")
    handle = run(block(PAGE, "handle"))["handle"]

    payloads = [with_metadata(name, metadata) for name in ("invoice.paid", "charge.refunded")]
    payloads.append(of_subscription(with_metadata("invoice.paid", {}), metadata))
    for payload in payloads * 3:
        handle(payload)

    lanes = client.stats().lanes
    assert lanes["saytics"].captured == lanes["sessionsight"].captured == 9
    assert lanes["saytics"].dropped == lanes["sessionsight"].dropped == {"duplicate": 6}


def test_nothing_is_counted_of_a_visitor_who_refused() -> None:
    client = sessionsight.configure(destinations={"sessionsight": {"secret_api_key": "...", "property_id": "..."}})
    refusal = {"order_id": "order_1", "ss_opted_out": "1"}
    run(block(PAGE, "handle"))["handle"](with_metadata("invoice.paid", refusal))
    assert client.stats().lanes["sessionsight"].dropped == {"consent": 1}


def test_other_events_and_invoices_of_trials_count_nothing() -> None:
    client = sessionsight.configure(
        destinations={"sessionsight": {"secret_api_key": "...", "property_id": "..."}}, strict=True
    )
    handle = run(block(PAGE, "handle"))["handle"]
    handle(json.dumps({"type": "balance.available", "data": {"object": {"object": "balance"}}}).encode())
    trial = json.loads(with_metadata("invoice.paid", {"ss_sid": "session-1"}))
    trial["data"]["object"]["amount_paid"] = 0
    handle(json.dumps(trial).encode())
    assert client.stats().lanes["sessionsight"].captured == 0


def test_the_shapes_of_other_providers_are_read() -> None:
    run(block(PAGE, "shapes"), {"TrackingContext": sessionsight.TrackingContext})


def with_metadata(name: str, metadata: dict[str, str]) -> bytes:
    event = json.loads((PAYLOADS / f"{name}.json").read_bytes())
    event["data"]["object"]["metadata"] = metadata
    return json.dumps(event).encode()


def of_subscription(payload: bytes, metadata: dict[str, str]) -> bytes:
    """A subscription's invoice, whose own metadata are empty."""
    event: dict[str, Any] = json.loads(payload)
    details = {"metadata": metadata, "subscription": "sub_Example000001"}
    event["data"]["object"] |= {
        "id": "in_1QxT4d2eZvKYlo2CAbCdEf02",
        "parent": {"type": "subscription_details", "subscription_details": details},
    }
    return json.dumps(event).encode()
