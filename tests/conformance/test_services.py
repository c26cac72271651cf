"""One service calls another while it serves a visitor: what both capture is in one session at the vendors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from sessionsight.capture.current import set_default_client
from sessionsight.propagation import aiohttp as for_aiohttp
from sessionsight.propagation.httpx import propagate, propagating_transport
from sessionsight.propagation.requests import PropagatingAdapter
from sessionsight_asgi import AnalyticsMiddleware
from sessionsight_django import clients as django_clients
from tests.conformance.cases import CASES, IDS, SESSION, SIGNAL_HEADERS, VISITOR, Case, Visit
from tests.conformance.receiver import Received, Receiver
from tests.conformance.servers import Served, asgi_server, wsgi_server
from tests.conformance.test_table import HOSTS
from tests.support.clients import closed_at_the_end
from tests.support.server import PATIENCE

# Each adapter calls and is called once.
PAIRS = [
    ("django-wsgi", "fastapi"),
    ("fastapi", "flask"),
    ("flask", "starlette"),
    ("starlette", "plain-wsgi"),
    ("plain-wsgi", "django-asgi"),
    ("django-asgi", "starlette"),
    ("starlette", "django-wsgi"),
]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _own_clients() -> Iterator[None]:
    def forget_djangos() -> None:
        django_clients._clients.clear()
        django_clients._closing_clients.clear()

    forget_djangos()
    with closed_at_the_end():
        yield
    forget_djangos()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, tuple[Served, Served]]]:
    """Two of each kind, because a view blocks its server's event loop while it calls the other service."""
    with wsgi_server() as wsgi, wsgi_server() as other_wsgi, asgi_server() as asgi, asgi_server() as other_asgi:
        yield {"wsgi": (wsgi, other_wsgi), "asgi": (asgi, other_asgi)}


def by_httpx(url: str) -> int:
    hooks = {"request": [propagate("127.0.0.1")]}
    with httpx.Client(event_hooks=hooks, trust_env=False, timeout=PATIENCE) as client:
        return client.get(url).status_code


def by_requests(url: str) -> int:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", PropagatingAdapter("127.0.0.1"))
        return session.get(url, timeout=PATIENCE).status_code


async def by_async_httpx(url: str) -> int:
    transport = propagating_transport(httpx.AsyncHTTPTransport(), "127.0.0.1")
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as client:
        return (await client.get(url)).status_code


async def by_aiohttp(url: str) -> int:
    options: dict[str, Any] = {"timeout": aiohttp.ClientTimeout(PATIENCE)}
    options["middlewares"] = [for_aiohttp.propagate("127.0.0.1")]
    async with aiohttp.ClientSession(**options) as session, session.get(url) as response:
        return response.status


def ids_of(call: Received) -> dict[str, Any]:
    """The ids that a vendor receives."""
    body = call.json()
    [record] = body.get("events", [body])
    names = {"sessionId", "windowId", "distinctId", "anonymous_id", "anonymousId"}
    return {name: value for name, value in record.items() if name in names}


@pytest.fixture
def serve(
    servers: dict[str, tuple[Served, Served]], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Received]]:
    def serve(pair: tuple[str, str], call: Callable[[str], int], *, consent: Any, **visitor: Any) -> list[Received]:
        """Let a visitor request the first service, whose view calls the second; return what the vendors receive."""
        options = {"strict": True, "destinations": receiver.destinations(), "flush": "inline"}
        first, second = (servers[HOSTS[name].server][number] for number, name in enumerate(pair))
        first.app = HOSTS[pair[0]].make({**options, "consent": consent})
        set_default_client(None)
        second.app = HOSTS[pair[1]].make(options)

        def call_the_second(visit: Visit) -> None:
            assert call(f"http://127.0.0.1:{second.port}/cases/{capture.__name__}") == 200
            capture(visit)

        def capture(visit: Visit) -> None:
            visit.analytics.capture("order_processed")
            visit.analytics.goals.increment("orders")

        for view in (call_the_second, capture):
            monkeypatch.setitem(CASES, view.__name__, Case(view))
        headers = (("Cookie", visitor["cookie"]), *visitor["headers"])
        assert first.send(f"/cases/{call_the_second.__name__}", headers).status == 200
        return receiver.take()

    return serve


@pytest.mark.parametrize("pair", PAIRS, ids="-calls-".join)
@pytest.mark.parametrize("call", [by_httpx, by_requests])
def test_both_services_capture_in_the_visitors_session(
    pair: tuple[str, str], call: Callable[[str], int], serve: Callable[..., list[Received]]
) -> None:
    received = serve(pair, call, consent="all", cookie=f"theme=dark; {IDS}", headers=SIGNAL_HEADERS)
    by_path = {path: [ids_of(call) for call in received if call.path == path] for path in {c.path for c in received}}
    visitor = {"anonymous_id": VISITOR}
    signal = {"sessionId": "signal-session-1", "windowId": "signal-window-1", "distinctId": "signal-person-1"}
    assert by_path == {
        "/v1/goals/increment": [{"sessionId": SESSION}] * 2,
        "/v1/capture": [signal] * 2,
        "/v1/batch": [visitor] * 2,
        "/v1/events": [{"anonymousId": VISITOR}] * 2,
    }
    # Our own deliveries, which the first service makes while it serves the visitor, contain ids in the body only.
    assert not any({"cookie", "x-signal-session-id"} & call.headers.keys() for call in received)


@pytest.mark.parametrize("pair", PAIRS, ids="-calls-".join)
def test_a_refusal_in_the_first_service_holds_in_the_second(
    pair: tuple[str, str], serve: Callable[..., list[Received]]
) -> None:
    def refused(data: Any) -> bool:
        return "consent=no" not in data.headers["cookie"]

    assert serve(pair, by_httpx, consent=refused, cookie=f"consent=no; {IDS}", headers=SIGNAL_HEADERS) == []


@pytest.mark.parametrize("call", [by_async_httpx, by_aiohttp])
def test_an_async_view_passes_the_visitor_on(
    call: Callable[[str], Awaitable[int]], servers: dict[str, tuple[Served, Served]], receiver: Receiver
) -> None:
    options: dict[str, Any] = {"strict": True, "destinations": receiver.destinations(), "flush": "inline"}
    first, second = servers["asgi"][0], servers["wsgi"][1]

    async def index(request: Any) -> Response:
        return Response(status_code=await call(f"http://127.0.0.1:{second.port}/cases/event_of_a_visitor"))

    first.app = AnalyticsMiddleware(Starlette(routes=[Route("/", index)]), **options)
    set_default_client(None)
    second.app = HOSTS["flask"].make(options)
    assert first.send("/", (("Cookie", IDS), *SIGNAL_HEADERS)).status == 200
    assert {call.path: ids_of(call) for call in receiver.take()} == {
        "/v1/capture": {
            "sessionId": "signal-session-1",
            "windowId": "signal-window-1",
            "distinctId": "signal-person-1",
        },
        "/v1/batch": {"anonymous_id": VISITOR},
        "/v1/events": {"anonymousId": VISITOR},
    }
