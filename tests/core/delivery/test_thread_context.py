"""What our threads take with them from where they are started."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from sessionsight import Client
from sessionsight.settings import Settings
from tests.core.delivery.kit import batches
from tests.support.server import Server

visitor: ContextVar[str | None] = ContextVar("visitor", default=None)


def test_threads_know_nothing_of_the_request_that_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, str | None] = {}
    start = threading.Thread.start

    def take_over_and_start(thread: threading.Thread) -> None:
        """As Sentry does, which hands each thread the data of the request around it."""
        taken[thread.name] = visitor.get()
        start(thread)

    with Server() as server:
        client = Client(Settings(destinations=(batches(server.url),), trust_env=False))
        monkeypatch.setattr(threading.Thread, "start", take_over_and_start)
        token = visitor.set("ada")
        client.analytics.capture("seen", user_id="ada")
        assert client.flush(20.0)
        visitor.reset(token)
        assert client.shutdown(20.0)
    ours = {name: value for name, value in taken.items() if name.startswith("sessionsight-")}
    assert len(ours) >= 2
    assert set(ours.values()) == {None}
