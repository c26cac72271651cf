"""Visitors of a site, who record which of their requests had a complete response.

    python -m tests.chaos.visitors PORT VISITS AT_ONCE FILE [VISITS_A_SECOND]

Nothing is tried again: a visit whose response breaks off has perhaps been captured and perhaps not.
"""

from __future__ import annotations

import http.client
import itertools
import math
import sys
import threading
import time
from pathlib import Path

_REFUSED_FOR = 20.0
"""The timeout for connecting to a site, in seconds."""


def come(port: int, visits: int, at_once: int, pace: float = math.inf) -> tuple[list[int], list[int]]:
    """Make all visits, and return the numbers of those with a complete and with an incomplete response."""
    served: list[int] = []
    cut: list[int] = []
    numbers = iter(range(visits))
    lock = threading.Lock()
    begun = time.monotonic()

    def visitor() -> None:
        connection = _connect(port)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            time.sleep(max(begun + number / pace - time.monotonic(), 0.0))
            try:
                connection.request("GET", f"/{number}")
                response = connection.getresponse()
                body = response.read()
                (served if response.status == 200 and body == b"welcome" else cut).append(number)
                if not response.will_close:
                    continue
            except (OSError, http.client.HTTPException):
                cut.append(number)
            connection.close()
            connection = _connect(port)

    threads = [threading.Thread(target=visitor) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return served, cut


def _connect(port: int) -> http.client.HTTPConnection:
    """Connect as soon as the site accepts connections, before any visit begins."""
    deadline = time.monotonic() + _REFUSED_FOR
    for _ in itertools.count():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_REFUSED_FOR)
        try:
            connection.connect()
            return connection
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    raise AssertionError


if __name__ == "__main__":
    port, visits, at_once = map(int, sys.argv[1:4])
    served, cut = come(port, visits, at_once, *map(float, sys.argv[5:]))
    Path(sys.argv[4]).write_text("\n".join((" ".join(map(str, served)), " ".join(map(str, cut)))))
