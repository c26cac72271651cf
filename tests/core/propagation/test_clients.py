"""One contract for every HTTP library: who receives the visitor's ids, also after redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import aiohttp
import httpx
import httpx2
import pytest
import requests

from sessionsight import SessionSightIds, SignalIds, TrackingContext
from sessionsight.propagation import aiohttp as for_aiohttp
from sessionsight.propagation import httpx as for_httpx
from sessionsight.propagation import requests as for_requests
from sessionsight.request.context import OPTED_OUT
from tests.core.box import Recorder
from tests.support.server import PATIENCE, Answer, Request, Server, reply

VISITOR = TrackingContext(
    sessionsight=SessionSightIds(session_id="session-1", visitor_id="visitor-1"),
    signal=SignalIds(session_id="signal-1", window_id="window-1", distinct_id="person-1"),
)
IDS = {
    "x-signal-session-id": "signal-1",
    "x-signal-window-id": "window-1",
    "x-signal-distinct-id": "person-1",
    "cookie": "ss_sid=session-1; ss_vid=visitor-1",
}
REFUSAL = {"sec-gpc": "1", "cookie": "ss_opted_out=1"}
Fetch = Callable[..., None]


def httpx_hook(library: ModuleType) -> Fetch:
    def fetch(hosts: list[str], *urls: str, headers: Mapping[str, str] | None = None) -> None:
        hooks = {"request": [for_httpx.propagate(*hosts)]}
        with library.Client(event_hooks=hooks, follow_redirects=True, trust_env=False, timeout=PATIENCE) as client:
            for url in urls:
                assert client.get(url, headers=headers).status_code == 200

    return fetch


def httpx_async_hook(library: ModuleType) -> Fetch:
    async def fetch(hosts: list[str], *urls: str, headers: Mapping[str, str] | None = None) -> None:
        hooks = {"request": [for_httpx.propagate(*hosts)]}
        options = {"event_hooks": hooks, "follow_redirects": True, "trust_env": False, "timeout": PATIENCE}
        async with library.AsyncClient(**options) as client:
            for url in urls:
                assert (await client.get(url, headers=headers)).status_code == 200

    return lambda *given, **options: asyncio.run(fetch(*given, **options))


def httpx_transport(library: ModuleType) -> Fetch:
    def fetch(hosts: list[str], *urls: str, headers: Mapping[str, str] | None = None) -> None:
        transport = for_httpx.propagating_transport(library.HTTPTransport(), *hosts)
        with library.Client(transport=transport, follow_redirects=True, timeout=PATIENCE) as client:
            for url in urls:
                response = client.get(url, headers=headers)
                assert response.status_code == 200
                assert not response.request.headers.keys() & {"x-signal-session-id", "sec-gpc"}

    return fetch


def httpx_async_transport(library: ModuleType) -> Fetch:
    async def fetch(hosts: list[str], *urls: str, headers: Mapping[str, str] | None = None) -> None:
        transport = for_httpx.propagating_transport(library.AsyncHTTPTransport(), *hosts)
        async with library.AsyncClient(transport=transport, follow_redirects=True, timeout=PATIENCE) as client:
            for url in urls:
                assert (await client.get(url, headers=headers)).status_code == 200

    return lambda *given, **options: asyncio.run(fetch(*given, **options))


def requests_adapter(hosts: list[str], *urls: str, headers: Mapping[str, str] | None = None) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", for_requests.PropagatingAdapter(*hosts))
        for url in urls:
            response = session.get(url, headers=headers, timeout=PATIENCE)
            assert response.status_code == 200
            assert not response.request.headers.keys() & {"x-signal-session-id", "sec-gpc"}


def aiohttp_middleware(hosts: list[str], *urls: str, headers: Mapping[str, str] | None = None) -> None:
    async def fetch() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of addresses too
        middlewares = [for_aiohttp.propagate(*hosts)]
        timeout = aiohttp.ClientTimeout(PATIENCE)
        async with aiohttp.ClientSession(cookie_jar=jar, middlewares=middlewares, timeout=timeout) as session:
            for url in urls:
                async with session.get(url, headers=headers) as response:
                    assert response.status == 200

    asyncio.run(fetch())


CLIENTS: dict[str, Fetch] = {
    "requests": requests_adapter,
    "aiohttp": aiohttp_middleware,
    **{
        f"{library.__name__}-{make.__name__}": make(library)
        for library in (httpx, httpx2)
        for make in (httpx_hook, httpx_async_hook, httpx_transport, httpx_async_transport)
    },
}


@pytest.fixture(params=CLIENTS)
def fetch(request: pytest.FixtureRequest) -> Fetch:
    return CLIENTS[request.param]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def redirect(url: str) -> Answer:
    return reply(307, {"Location": url}, b"")


def passed_on(request: Request) -> dict[str, str]:
    """The headers of a request that concern a visitor."""
    return {
        name: value
        for name, value in request.headers.items()
        if name in {"cookie", "sec-gpc"} or name.startswith("x-signal-")
    }


def here(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


def elsewhere(server: Server) -> str:
    """The same server under a name that is not listed."""
    return f"http://localhost:{server.port}/"


def test_a_listed_host_receives_the_ids(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    with recorder.client.scope(VISITOR):
        fetch([f"127.0.0.1:{server.port}"], here(server))
    assert [passed_on(request) for request in server.requests] == [IDS]


def test_no_other_host_receives_them(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    with recorder.client.scope(VISITOR):
        fetch(["127.0.0.1"], elsewhere(server))
    assert [passed_on(request) for request in server.requests] == [{}]


def test_outside_a_request_nobody_does(fetch: Fetch, server: Server) -> None:
    fetch(["127.0.0.1"], here(server))
    assert [passed_on(request) for request in server.requests] == [{}]


def test_a_redirect_to_another_host_is_followed_without_ids(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    server.will(redirect(elsewhere(server)))
    with recorder.client.scope(VISITOR):
        fetch(["127.0.0.1"], here(server))
    assert [passed_on(request) for request in server.requests] == [IDS, {}]


def test_a_redirect_from_another_host_is_followed_with_ids(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    server.will(redirect(here(server)))
    with recorder.client.scope(VISITOR):
        fetch(["127.0.0.1"], elsewhere(server))
    assert [passed_on(request) for request in server.requests] == [{}, IDS]


def test_redirects_there_and_back_are_followed_correctly(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    server.will(redirect(here(server)), redirect(elsewhere(server)), redirect(here(server)))
    with recorder.client.scope(VISITOR):
        fetch(["127.0.0.1"], here(server))
    assert [passed_on(request) for request in server.requests] == [IDS, IDS, {}, IDS]


def test_a_refusal_is_passed_on_and_no_id(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    server.will(redirect(elsewhere(server)))
    with recorder.client.scope(OPTED_OUT, user_id="ada"):
        fetch(["127.0.0.1"], here(server))
    assert [passed_on(request) for request in server.requests] == [REFUSAL, {}]


def test_headers_and_cookies_of_the_caller_are_kept(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    given = {"Cookie": "theme=dark; ss_sid=mine", "X-Signal-Window-Id": "mine"}
    with recorder.client.scope(VISITOR):
        fetch(["127.0.0.1"], here(server), headers=given)
    received = passed_on(server.requests[0])
    cookies = sorted(received.pop("cookie").split("; "))  # aiohttp sorts them
    assert cookies == ["ss_sid=mine", "ss_vid=visitor-1", "theme=dark"]
    assert {**received, "cookie": ""} == {**IDS, "x-signal-window-id": "mine", "cookie": ""}


def test_the_cookie_jar_keeps_working_and_stores_no_ids(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    server.will(reply(200, {"Set-Cookie": "basket=7; Path=/"}))
    with recorder.client.scope(VISITOR):
        fetch(["127.0.0.1"], here(server), here(server))
    first, second = map(passed_on, server.requests)
    assert first == IDS
    assert sorted(second["cookie"].split("; ")) == ["basket=7", "ss_sid=session-1", "ss_vid=visitor-1"]


def test_a_cookie_of_the_jar_survives_a_redirect(fetch: Fetch, server: Server, recorder: Recorder) -> None:
    server.will(reply(307, {"Set-Cookie": "basket=7; Path=/", "Location": "/next"}, b""))
    with recorder.client.scope(VISITOR):
        fetch(["127.0.0.1"], here(server))
    assert [request.target for request in server.requests] == ["/", "/next"]
    second = passed_on(server.requests[1])
    assert sorted(second["cookie"].split("; ")) == ["basket=7", "ss_sid=session-1", "ss_vid=visitor-1"]


def test_requests_for_two_visitors_by_one_client_are_kept_apart(
    fetch: Fetch, server: Server, recorder: Recorder
) -> None:
    for session in ("session-1", "session-2"):
        with recorder.client.scope(TrackingContext(sessionsight=SessionSightIds(session_id=session))):
            fetch(["127.0.0.1"], here(server))
    assert [passed_on(request) for request in server.requests] == [
        {"cookie": "ss_sid=session-1"},
        {"cookie": "ss_sid=session-2"},
    ]
