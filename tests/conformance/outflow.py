"""Captures everything there is, and says which fields leave the process, for docs/privacy.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import fields, replace
from opentelemetry.sdk.trace import TracerProvider

from sessionsight import Analytics, Client, Receipt, Settings, TrackingContext
from sessionsight.capture.records import Record
from sessionsight.capture.scope import RequestScope
from sessionsight.destinations import Signal
from tests.conformance.receiver import Received, Receiver
from tests.core.box import Visit
from tests.support.server import PATIENCE

GIVEN = "given_"
"""How the names begin that the calls give: what is below them is the caller's, and not listed field by field."""
_GIVEN = {f"{GIVEN}plan": "pro"}
UNLISTED = "marker-unlisted-x"
"""The value of what a browser sends that is in no field of the context."""
ADDRESS = "203.0.113.77"
VENDORS = ("sessionsight", "signal", "saytics", "analyse")
_Context = TypeVar("_Context", bound=Struct)
Fields = dict[str, dict[str, set[str]]]
"""Vendor to request to fields, such as `header Authorization` and `events[].event`."""


class Outflow(Struct):
    """The requests that each vendor has received."""

    received: dict[str, list[Received]]

    def fields(self) -> Fields:
        found: Fields = {vendor: defaultdict(set) for vendor in self.received}
        for vendor, requests in self.received.items():
            for request in requests:
                path, _, query = request.path.partition("?")
                names = found[vendor][f"{request.method} {_pattern(path)}"]
                names |= {f"header {name}" for name in request.headers}
                names |= {f"query {pair.partition('=')[0]}" for pair in query.split("&") if pair}
                if request.body:
                    names |= set(_paths(json.loads(request.body)))
        return {vendor: dict(requests) for vendor, requests in found.items()}

    def contains(self, vendor: str, text: str) -> bool:
        """Return whether this text is anywhere in a request to the vendor."""
        return any(
            text in request.path or text in request.body.decode() or text in "".join(request.headers.values())
            for request in self.received[vendor]
        )


def capture_everything() -> Outflow:
    """Capture every kind of record under contexts with everything, and call everything else that sends."""
    everything = _marked(TrackingContext, "")
    contexts = [
        everything,
        replace(everything, anonymous_id=None),
        replace(everything, anonymous_id=None, user_id=None),
    ]
    with ExitStack() as stack:
        receivers = {vendor: stack.enter_context(Receiver()) for vendor in VENDORS}
        options: dict[str, dict[str, Any]] = {vendor: receivers[vendor].destinations()[vendor] for vendor in VENDORS}
        options["sessionsight"]["flags_timeout"] = 10.0
        base = Settings.from_mapping(
            {
                "destinations": options,
                "trust_env": False,
                "linger": 0.0,
                "trace_id": True,
                "pageviews": True,
                "client_ip": "full",
                "anonymous_id_cookie": "shop_visitor",
            }
        )
        keys_elsewhere = tuple(
            Signal(name=f"signal_{place}", api_key="signal_1", endpoint=receivers["signal"].url, api_key_in=place)
            for place in ("body", "x-api-key")
        )
        client = Client(replace(base, destinations=(*base.destinations, *keys_elsewhere)))
        with TracerProvider(shutdown_on_exit=False).get_tracer("tests").start_as_current_span("request"):
            for context in contexts:
                _capture(client, client.bind(context))
            for orders in (False, True):
                _visit(client, orders=orders)
        client.bind(everything).flags.target(given_plan="pro").all()
        client.analytics.flags.list()
        client.erase("user_1")
        rejected, dead_letters = client.stats().rejected, client.dead_letters()
        client.shutdown(0)
        assert not rejected
        assert not dead_letters
        return Outflow({vendor: receivers[vendor].take() for vendor in VENDORS})


def context_fields(kind: type[Struct] = TrackingContext, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all texts in a context, such as `page.url`."""
    for field in fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from context_fields(field.type, f"{prefix}{field.name}.")
        elif field.type is not bool:
            yield f"{prefix}{field.name}"


def marker(path: str) -> str:
    """Return the value of a field of the context, which occurs nowhere else and is valid as any id."""
    return f"marker-{path.replace('.', '-').replace('_', '-')}-x"


def _marked(kind: type[_Context], prefix: str) -> _Context:
    """Return a context in which every text is set."""
    values: dict[str, Any] = {}
    for field in fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            values[field.name] = _marked(field.type, f"{prefix}{field.name}.")
        elif field.type is not bool:
            values[field.name] = marker(f"{prefix}{field.name}")
    return msgspec.convert(values, kind)


def _capture(client: Client, analytics: Analytics) -> None:
    """Capture a record of each kind, each of which is sent in a request of its own."""
    calls: tuple[Callable[[], Receipt], ...] = (
        lambda: analytics.capture("order_processed", _GIVEN, groups={f"{GIVEN}company": "acme"}),
        lambda: analytics.capture("order_processed", {f"{GIVEN}text": "x" * 2000}),  # compressed
        lambda: analytics.identify("user_1", _GIVEN),
        lambda: analytics.alias("earlier-1"),
        lambda: analytics.group("company", "acme", _GIVEN),
        lambda: analytics.set_person_properties(_GIVEN),
        lambda: analytics.set_person_properties_once(_GIVEN),
        lambda: analytics.goals.increment("signups", amount=2, metadata=_GIVEN),
        lambda: analytics.goals.decrement("signups", metadata=_GIVEN),
        lambda: analytics.feedback.submit("nps", option="good", message="Clear", metadata=_GIVEN),
    )
    kinds: set[type[Record]] = set()
    for call in calls:
        record = call()._record
        assert record is not None
        kinds.add(type(record))
        assert client.flush(PATIENCE)
    assert kinds == set(Record.__subclasses__())


def _visit(client: Client, *, orders: bool) -> None:
    """Serve a page to a browser that sends everything.

    Args:
        client: Captures the page.
        orders: Capture more than the page, which is sent together.
    """
    cookies = {
        "ss_sid": marker("sessionsight.session_id"),
        "ss_vid": marker("sessionsight.visitor_id"),
        "shop_visitor": marker("anonymous_id"),
        "basket": UNLISTED,
    }
    request = {
        "REQUEST_METHOD": "GET",
        "wsgi.url_scheme": "https",
        "HTTP_HOST": "shop.example.com",
        "PATH_INFO": f"/{marker('page.path')}",
        "QUERY_STRING": f"utm_source={marker('page.utm_source')}&token={UNLISTED}",
        "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "HTTP_REFERER": f"https://www.example.com/{marker('page.referrer')}?q={UNLISTED}",
        "HTTP_USER_AGENT": marker("page.user_agent"),
        "HTTP_X_SIGNAL_SESSION_ID": marker("signal.session_id"),
        "HTTP_X_SIGNAL_WINDOW_ID": marker("signal.window_id"),
        "HTTP_X_SIGNAL_DISTINCT_ID": marker("signal.distinct_id"),
        "HTTP_ACCEPT_LANGUAGE": UNLISTED,
        "HTTP_AUTHORIZATION": UNLISTED,
        "REMOTE_ADDR": ADDRESS,
    }
    scope = RequestScope(client, Visit(request, user=marker("user_id"), route=marker("page.route")))
    scope.response_started("GET", 200, "text/html")
    if orders:
        Analytics(scope).capture("order_processed", _GIVEN)
        Analytics(scope).goals.increment("signups")
    assert Analytics(scope).context.page.client_ip == ADDRESS
    scope.end()
    scope.close()
    assert client.flush(PATIENCE)


def _pattern(path: str) -> str:
    return "/v1/users/:id" if path == "/v1/users/user_1" else path


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all values that the calls have not given."""
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, f"{path}[]")
        return
    if not isinstance(value, dict):
        yield path
        return
    if not value or any(name.startswith(GIVEN) for name in value):
        yield path
    for name, item in value.items():
        if not name.startswith(GIVEN):
            yield from _paths(item, f"{path}.{name}" if path else name)
