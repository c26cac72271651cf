"""Shared code of the four small apps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.timing import Clock, Serve
from benchmarks.workload import environ
from sessionsight import Analytics, Client

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Captures = Callable[[Analytics], object]
"""Captures that a view makes."""

View = Callable[[], object]
"""Work of a view besides its response, without sessionsight."""


class Served(NamedTuple):
    """An app with our middleware."""

    serve: Serve
    client: Client


def nothing() -> None:
    """A view's work where there is none."""


def wsgi_server(app: WSGIApplication) -> Serve:
    """The least a WSGI server does: call, iterate, close. A hundred different requests in turn."""
    requests: Iterator[dict[str, Any]] = cycle([environ(number) for number in range(100)])

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        return len

    def serve(number: int, clock: Clock = perf_counter) -> float:
        started = clock()
        for _ in range(number):
            body = app(dict(next(requests)), start_response)
            for _chunk in body:
                pass
            if (close := getattr(body, "close", None)) is not None:
                close()
        return clock() - started

    return serve
