"""The work that is measured: one event, one visitor, one request, in the shapes that servers give it."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

EVENT = "order_processed"

PROPERTIES: dict[str, Any] = {
    "order_id": "ord_10492",
    "amount": Decimal("49.90"),
    "currency": "EUR",
    "items": 3,
    "express": True,
    "weight": 1.25,
    "plan": "pro",
    "placed_at": datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC),
}

_AGENT = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
_SYSTEMS = (
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "Linux; Android 10",
)


class Visitor(NamedTuple):
    """Headers that one visitor's browser sends with one request."""

    session_id: str
    visitor_id: str
    signal_session_id: str
    signal_window_id: str
    signal_distinct_id: str
    path: str
    query: str
    user_agent: str

    @property
    def url(self) -> str:
        return f"https://shop.example{self.path}?utm_source=newsletter"

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("host", "shop.example"),
            ("user-agent", self.user_agent),
            ("accept", "text/html,application/xhtml+xml"),
            ("accept-language", "en-GB,en;q=0.9"),
            ("accept-encoding", "gzip, deflate, br"),
            ("cookie", f"theme=dark; ss_sid={self.session_id}; ss_vid={self.visitor_id}; csrftoken=wq9s7d2kfj"),
            ("x-signal-session-id", self.signal_session_id),
            ("x-signal-window-id", self.signal_window_id),
            ("x-signal-distinct-id", self.signal_distinct_id),
        ]


def visitor(number: int) -> Visitor:
    """The same visitor for the same number; everything but the user agent is theirs alone."""
    chance = random.Random(number)
    ids = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(5)]
    agent = _AGENT.format(_SYSTEMS[number % 4], 120 + number // 4 % 20)
    sid, vid, session, window, distinct = ids
    return Visitor(
        session_id=sid,
        visitor_id=vid,
        signal_session_id=session,
        signal_window_id=window,
        signal_distinct_id=distinct,
        path=f"/orders/{100_000 + number}",
        query=f"token={number}&utm_source=newsletter",
        user_agent=agent,
    )


def environ(number: int) -> dict[str, Any]:
    """The visitor's request as a WSGI server gives it."""
    who = visitor(number)
    names = {name: f"HTTP_{name.upper().replace('-', '_')}" for name, _ in who.headers}
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": who.path,
        "QUERY_STRING": who.query,
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": BytesIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **{names[name]: value for name, value in who.headers},
    }


def scope(number: int) -> dict[str, Any]:
    """The visitor's request as an ASGI server gives it."""
    who = visitor(number)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": who.path,
        "raw_path": who.path.encode(),
        "query_string": who.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in who.headers],
        "client": ("192.0.2.1", 50_123),
        "server": ("shop.example", 443),
    }
