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

from benchmarks.apps.kinds import DEFAULT_LINGER, Look, Served, View
from benchmarks.timing import Serve
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

    async def serve(number: int) -> float:
        started = perf_counter()
        for _ in range(number):
            await app(dict(next(requests)), _receive, _send)
        return perf_counter() - started

    return lambda number: loop.run_until_complete(serve(number))


def bare(view: View) -> Serve:
    async def order(request: Request) -> PlainTextResponse:
        view()
        return PlainTextResponse("ok")

    return _server(Starlette(routes=[Route("/orders/{order_id:int}", order)]))


def ours(destinations: Destinations, look: Look | None, *, linger: float = DEFAULT_LINGER) -> Served:
    async def order(request: Request) -> PlainTextResponse:
        if look is not None:
            look(request.analytics)  # type: ignore[attr-defined]
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/orders/{order_id:int}", order)])
    client = Client(Settings.from_mapping({"destinations": destinations, "linger": linger}))
    app.add_middleware(AnalyticsMiddleware, client=client)
    return Served(_server(app), client.flush)
