"""Ports for servers that bind them themselves, in other processes."""

from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle

__all__ = ["free_port"]

# Below `ip_local_port_range`, so that no connection and no server on port 0 gets one of them; the ports of the nodes of
# a Redis cluster, which are higher by 10,000, are below it too.
_FIRST, _SIZE, _SHARES = 11_000, 100, 100


def free_port() -> int:
    """A port where nobody listens, and which no other process of tests gets."""
    for port in _share():
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    raise AssertionError("unreachable: the ports are cycled through")


@cache
def _share() -> Iterator[int]:
    """Return the ports of this process, the first of which stays bound as long as it runs."""
    for number in range(os.getpid(), os.getpid() + _SHARES):
        first = _FIRST + number % _SHARES * _SIZE
        guard = socket.socket()
        atexit.register(guard.close)
        with suppress(OSError):
            guard.bind(("127.0.0.1", first))
            return cycle(range(first + 1, first + _SIZE))
    raise RuntimeError(f"the ports from {_FIRST} are all in use")
