"""Where the shops keep records that are not delivered yet, and the keys of those that must not be counted twice."""

import os
from pathlib import Path

DATA = Path(os.environ.get("SHOP_DATA") or Path(__file__).resolve().parents[2] / ".demo")
# Stripe sends a webhook again for up to three days: https://docs.stripe.com/webhooks
DEDUPE_WINDOW = 4 * 24 * 3600.0


def spool(shop: str) -> str:
    DATA.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{DATA / shop}.db"
