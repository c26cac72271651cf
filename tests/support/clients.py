"""Clients that a test leaves behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sessionsight.capture.current import set_default_client
from sessionsight.delivery import lifecycle
from tests.support.server import PATIENCE


@contextmanager
def closed_at_the_end() -> Iterator[None]:
    """Close the clients that are made within, without waiting for delivery; none of them stays the process's own.

    A client that nobody holds goes on to deliver what it has taken in, so its engine is closed as well.
    """
    clients, engines = set(lifecycle._open), lifecycle._engines.copy()
    yield
    set_default_client(None)
    for client in set(lifecycle._open) - clients:
        client.finish_shutdown(time.monotonic())
    for engine in lifecycle._engines - engines:
        engine.finish_shutdown(time.monotonic())
    for thread in threading.enumerate():
        if thread.name.startswith("sessionsight-console"):  # it would print among the output of the next test
            thread.join(PATIENCE)
