"""Where the shop keeps records that are not delivered yet, and the keys of those that must not be counted twice."""

import os
from pathlib import Path

DATA = Path(os.environ.get("SHOP_DATA") or Path(__file__).resolve().parents[2] / ".demo")
DATA.mkdir(parents=True, exist_ok=True)
SPOOL = f"sqlite:///{DATA}/analytics.db"
# Stripe sends a webhook again for up to three days: https://docs.stripe.com/webhooks
DEDUPE_WINDOW = 4 * 24 * 3600.0
