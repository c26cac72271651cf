"""Calls of the stock service, in which what that service captures belongs to the visitor's session."""

import os

import httpx

from sessionsight.propagation.httpx import propagate
from shop_common.accounts import Order

URL = os.environ.get("STOCK_URL")  # without it the shop works alone
http = httpx.Client(event_hooks={"request": [propagate("127.0.0.1")]}, trust_env=False)


def reserve(order: Order) -> None:
    if URL is not None:
        reservation = {"order_id": order.id, "product_id": order.product.slug}
        http.post(f"{URL}reservations", json=reservation).raise_for_status()
