"""Threads of delivery start without the context of the request that starts them."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from sessionsight import Client
from sessionsight.settings import Settings
from tests.core.delivery.kit import batches
from tests.support.server import Server

visitor: ContextVar[str | None] = ContextVar("visitor", default=None)


def test_threads_start_in_an_empty_context(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, str | None] = {}
    start = threading.Thread.start

    def copy_context_and_start(thread: threading.Thread) -> None:
        """Copy the context to the thread, as Sentry does."""
        taken[thread.name] = visitor.get()
        start(thread)

    with Server() as server:
        client = Client(Settings(destinations=(batches(server.url),), trust_env=False))
        monkeypatch.setattr(threading.Thread, "start", copy_context_and_start)
        token = visitor.set("ada")
        client.analytics.capture("seen", user_id="ada")
        assert client.flush(20.0)
        visitor.reset(token)
        assert client.shutdown(20.0)
    ours = {name: value for name, value in taken.items() if name.startswith("sessionsight-")}
    assert len(ours) >= 2
    assert set(ours.values()) == {None}
