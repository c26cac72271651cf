"""A hostile browser: whatever it sends, the page is served, and what goes out to the vendors is whole."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionsight import Client, Settings
from sessionsight.delivery.transport import TimeLimits
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.request.context import MAX_ID
from sessionsight.wsgi import ENVIRON_KEY
from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware as AsgiMiddleware
from tests.chaos.fuzz_resolver import HEADERS, look_at
from tests.chaos.storm import KEYS, destinations
from tests.support.examples import examples

LOOPBACK = "http://127.0.0.1:9"
OWNERS = {"x-signal-session-id": "signal", "x-signal-window-id": "signal", "x-signal-distinct-id": "signal"}
"""Header to the only vendor that may see what stands in it."""

# What a server lets through: any byte but NUL and line ends.
header_values = st.binary(max_size=300).map(
    lambda raw: bytes(byte for byte in raw if byte not in b"\0\r\n").strip().decode("latin-1")
)
cookies = st.lists(
    st.tuples(st.sampled_from(["ss_sid", "ss_vid", "anon", "Ss_Sid", ""]), header_values), max_size=4
).map(lambda pairs: "; ".join(f"{name}={value}" for name, value in pairs))
headers = st.fixed_dictionaries({}, optional=dict.fromkeys(HEADERS, header_values) | {"cookie": cookies})
paths = st.binary(max_size=60).map(lambda raw: b"/" + raw)
queries = st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"").decode("latin-1"))


class Wire:
    """A transport that takes everything and keeps it."""

    def __init__(self) -> None:
        self.calls: list[VendorRequest] = []

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        self.calls.append(call)
        return VendorResponse(status=200)

    def close(self) -> None:
        pass


class Lines(logging.Handler):
    """Logged messages."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Site:
    """A client for all four vendors and what it says to them and to the log."""

    def __init__(self) -> None:
        self.wires = {name: Wire() for name in KEYS}
        self.log = Lines()
        options: dict[str, Any] = {"anonymous_id_cookie": "anon", "anonymous_id_header": "x-anonymous"}
        told = Settings(
            destinations=tuple(destinations(dict.fromkeys(KEYS, LOOPBACK))), linger=0, client_ip="full", **options
        )
        self.client = Client(told, make_transport=lambda destination: self.wires[destination.name])
        logging.getLogger("sessionsight").addHandler(self.log)

    def close(self) -> None:
        logging.getLogger("sessionsight").removeHandler(self.log)

    def look(self, given: dict[str, str]) -> None:
        """Hold what went out to what must be true of it."""
        assert self.client.flush(20)
        for name, wire in self.wires.items():
            for call in wire.calls:
                text = call.body.decode("utf-8")
                json.loads(text, parse_constant=pytest.fail)
                assert len(text) < 20_000
                for value in call.headers.values():
                    assert value.isascii()
                    assert value.isprintable()
                for header, owner in OWNERS.items():
                    mark = f"{header} was here"
                    assert name == owner or mark not in text
            wire.calls.clear()
        assert all(line.isprintable() for line in self.log.lines)
        assert all(len(value) <= MAX_ID or value not in line for value in given.values() for line in self.log.lines)
        self.log.lines.clear()
        assert all(lane.balanced for lane in self.client.stats().lanes.values())


@pytest.fixture
def site() -> Iterable[Site]:
    site = Site()
    yield site
    site.close()


def capture(analytics: Any) -> None:
    analytics.capture("page_seen", {"page": 1})
    analytics.goals.increment("seen", metadata={"page": "1"})


def wsgi(site: Site) -> Callable[[dict[str, str], bytes, str], None]:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        capture(environ[ENVIRON_KEY])
        start_response("200 OK", [])
        return [b"seen"]

    served = WsgiMiddleware(app, site.client)

    def visit(given: dict[str, str], path: bytes, query: str) -> None:
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path.decode("latin-1"), "QUERY_STRING": query,
            "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "https",
            **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in given.items()},
        }  # fmt: skip
        statuses: list[str] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            statuses.append(status)
            return lambda data: None

        body: Any = served(environ, start_response)
        assert b"".join(body) == b"seen"
        getattr(body, "close", lambda: None)()
        assert statuses == ["200 OK"]

    return visit


def asgi(site: Site) -> Callable[[dict[str, str], bytes, str], None]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        capture(scope["analytics"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"seen"})

    served = AsgiMiddleware(app, site.client)

    def visit(given: dict[str, str], path: bytes, query: str) -> None:
        scope = {
            "type": "http", "method": "GET", "path": path.decode("utf-8", "replace"), "raw_path": path,
            "query_string": query.encode("latin-1"), "scheme": "https", "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(served(scope, receive, send))
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]

    return visit


@pytest.mark.parametrize("server", [wsgi, asgi])
def test_whatever_a_browser_sends_the_page_is_served_and_what_goes_out_is_whole(
    site: Site, server: Callable[[Site], Callable[[dict[str, str], bytes, str], None]]
) -> None:
    visit = server(site)

    @settings(max_examples=examples(0.8))
    @given(headers, paths, queries)
    def play(given: dict[str, str], path: bytes, query: str) -> None:
        marked = {name: f"{name} was here {value}"[:200] if name in OWNERS else value for name, value in given.items()}
        visit(marked, path, query)
        site.look(marked)

    play()


@pytest.mark.parametrize("server", [wsgi, asgi])
def test_oversized_ids_reach_neither_the_wire_nor_the_log(
    site: Site, server: Callable[[Site], Callable[[dict[str, str], bytes, str], None]]
) -> None:
    huge = "a" * 20_000
    given = dict.fromkeys(HEADERS, huge) | {"cookie": f"ss_sid={huge}; ss_vid={huge}; anon={huge}"}

    server(site)(given, b"/" + huge.encode(), huge)
    site.look(given)

    assert site.client.stats().invalid_ids.keys() == {
        "ss_sid", "ss_vid", "x-anonymous", "anon", "x-signal-session-id", "x-signal-window-id", "x-signal-distinct-id",
    }  # fmt: skip


def test_a_claimed_distinct_id_does_not_displace_the_signed_in_user(site: Site) -> None:
    given = {"x-signal-distinct-id": "admin"}
    site.client.bind(site.client.for_request({"headers": given}).context, user_id="user_1").capture("paid")

    assert site.client.flush(20)
    [call] = site.wires["signal"].calls
    assert [event["distinctId"] for event in json.loads(call.body)["events"]] == ["user_1"]
    assert site.client.stats().mismatched_ids == 1


@settings(max_examples=examples(2))
@given(headers, st.text(max_size=80), st.text(max_size=80))
def test_no_request_makes_a_context_that_a_vendor_would_refuse(given: dict[str, str], query: str, path: str) -> None:
    look_at(given, query, path)
