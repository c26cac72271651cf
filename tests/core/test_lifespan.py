"""The end of an ASGI app's lifespan waits for delivery, and never fails because of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from sessionsight import Client, NoClientError
from sessionsight.lifespan import flush_on_shutdown


async def test_a_shutdown_goes_on_if_delivery_cannot_be_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    def no_client() -> Client:
        raise NoClientError("no client is configured")

    await flush_on_shutdown(send, no_client)({"type": "lifespan.shutdown.complete"})

    assert sent == [{"type": "lifespan.shutdown.complete"}]
    assert "delivery could not be waited for at shutdown" in caplog.text
