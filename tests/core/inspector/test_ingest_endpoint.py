"""A request whose client hangs up before its end is not kept."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from sessionsight.inspector.app import create_app
from sessionsight.inspector.store import Store

REQUEST = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b""}


async def test_a_request_that_is_broken_off_is_not_kept(store: Store) -> None:
    received: list[MutableMapping[str, Any]] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"{", "more_body": True},
    ]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return received.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await create_app(store)({**REQUEST, "headers": [(b"host", b"localhost")]}, receive, send)

    assert sent[0]["status"] == 400
    assert store.counts().total == 0
