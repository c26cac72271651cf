"""The code of the page on other services runs: what it sends contains the visitor's ids."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from sessionsight import Client, Settings, TrackingContext
from tests.support.pages import block, run
from tests.support.server import Server

CONTEXT = TrackingContext.from_carrier({"ss_sid": "6f1d2c3b", "ss_signal_session_id": "s-1"})


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.mark.parametrize("name", ["httpx", "httpx-transport", "requests", "aiohttp"])
def test_the_pages_clients_pass_ids_on(name: str) -> None:
    client = Client(Settings(disabled=True))
    with Server() as server, client.scope(CONTEXT):
        code = block("docs/services.md", name).replace("https://api.example.com", server.url)
        example = run(code.replace("api.example.com", f"127.0.0.1:{server.port}"))
        pay = example["pay"]
        asyncio.run(pay("ord_1")) if inspect.iscoroutinefunction(pay) else pay("ord_1")
        for kept in {"client", "session"} & example.keys():
            example[kept].close()
    [request] = server.requests
    assert (request.method, request.target, request.json) == ("POST", "/payments", {"order_id": "ord_1"})
    assert request.headers["cookie"] == "ss_sid=6f1d2c3b"
    assert request.headers["x-signal-session-id"] == "s-1"
