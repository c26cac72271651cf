"""A Starlette app, called by hand: no server, no HTTP client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from itertools import cycle
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.apps.kinds import Captures, Served, View
from benchmarks.timing import Clock, Serve
from benchmarks.vendors import Destinations
from benchmarks.workload import scope
from sessionsight import Client, Settings
from sessionsight_asgi import AnalyticsMiddleware


async def _receive() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: MutableMapping[str, Any]) -> None:
    pass


def _server(app: Starlette) -> Serve:
    requests: Iterator[dict[str, Any]] = cycle([scope(number) for number in range(100)])
    loop = asyncio.new_event_loop()

    async def serve(number: int, clock: Clock) -> float:
        started = clock()
        for _ in range(number):
            await app(dict(next(requests)), _receive, _send)
        return clock() - started

    return lambda number, clock=perf_counter: loop.run_until_complete(serve(number, clock))


def bare(view: View) -> Serve:
    async def order(request: Request) -> PlainTextResponse:
        view()
        return PlainTextResponse("ok")

    return _server(Starlette(routes=[Route("/orders/{order_id:int}", order)]))


def ours(destinations: Destinations, captures: Captures | None) -> Served:
    async def order(request: Request) -> PlainTextResponse:
        if captures is not None:
            captures(request.analytics)  # type: ignore[attr-defined]
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/orders/{order_id:int}", order)])
    client = Client(Settings.from_mapping({"destinations": destinations}))
    app.add_middleware(AnalyticsMiddleware, client=client)
    return Served(_server(app), client)
