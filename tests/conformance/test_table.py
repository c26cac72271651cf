"""The same request gives the same bytes on the wire in every framework.

`UPDATE_EXPECTED=1` rewrites the expectations, to be reviewed before they are committed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from sessionsight import Client
from sessionsight.capture.current import default_client, set_default_client
from sessionsight.delivery.stats import Stats
from sessionsight.relay import Relay
from sessionsight_django import clients as django_clients
from tests.conformance.apps import django_app, fastapi_app, flask_app, plain_wsgi, starlette_app
from tests.conformance.cases import CASES, Case, missing
from tests.conformance.receiver import Receiver
from tests.conformance.servers import Answer, Served, asgi_server, wsgi_server
from tests.conformance.wire import normalise

EXPECTED = Path(__file__).parent / "expected"


@dataclass(frozen=True)
class Host:
    """An app of the table, and how it is served."""

    make: Callable[[dict[str, Any]], Any]
    server: str
    later: list[Callable[[], object]]
    route: str | None
    """How this framework writes the template of the table's route."""


HOSTS = {
    "django-wsgi": Host(django_app.make_wsgi, "wsgi", django_app.LATER, "cases/<str:name>"),
    "django-asgi": Host(django_app.make_asgi, "asgi", django_app.LATER, "cases/<str:name>"),
    "flask": Host(flask_app.make, "wsgi", flask_app.LATER, "/cases/<name>"),
    "plain-wsgi": Host(plain_wsgi.make, "wsgi", plain_wsgi.LATER, None),
    "starlette": Host(starlette_app.make, "asgi", starlette_app.LATER, "/cases/{name}"),
    "fastapi": Host(fastapi_app.make, "asgi", fastapi_app.LATER, "/cases/{name}"),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Served]]:
    with wsgi_server() as wsgi, asgi_server() as asgi:
        yield {"wsgi": wsgi, "asgi": asgi}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    return HOSTS[request.param]


@contextmanager
def serving(host: Host, servers: dict[str, Served], options: dict[str, Any]) -> Iterator[Served]:
    """Serve the app under these settings; at the end its client is closed."""
    django_clients._clients.clear()
    django_clients._closing_clients.clear()
    set_default_client(None)
    served = servers[host.server]
    served.app = host.make(options)
    try:
        yield served
        client_of_the_app().shutdown()
    finally:
        served.app = None
        django_clients._closing_clients.clear()
        set_default_client(None)


def client_of_the_app() -> Client:
    """Each adapter makes its client the process's own. Django's handler keeps the one it was made with."""
    return django_clients._closing_clients[-1] if django_clients._closing_clients else cast("Client", default_client())


def options_for(receiver: Receiver, **settings: Any) -> dict[str, Any]:
    return {"strict": True, "destinations": receiver.destinations(), **settings}


def visit(served: Served, case: Case) -> Answer:
    query = f"?{case.query}" if case.query else ""
    cookies = (("Cookie", case.cookie),) if case.cookie is not None else ()
    return served.send(f"/cases/{case.name}{case.rest}{query}", (*cookies, *case.headers))


def outcome(answer: Answer, receiver: Receiver, stats: Stats, since: float) -> dict[str, Any]:
    for lane in stats.lanes.values():
        assert lane.balanced
        assert lane.pending == lane.dead == 0
    body = answer.body.decode()
    return {
        "status": answer.status,
        "body": json.loads(body) if body.startswith("{") else body,
        "wire": normalise(receiver.take(), since=since),
        "dropped": {name: lane.dropped for name, lane in stats.lanes.items() if lane.dropped},
        "rejected": stats.rejected,
        "invalid_ids": stats.invalid_ids,
        "mismatched_ids": stats.mismatched_ids,
    }


def compare(found: dict[str, Any], name: str) -> None:
    file = EXPECTED / f"{name}.json"
    if os.environ.get("UPDATE_EXPECTED"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CASES)
def test_one_request_is_one_wire_in_every_framework(
    name: str, host: Host, servers: dict[str, Served], receiver: Receiver
) -> None:
    case = CASES[name]
    since = time.time()
    with serving(host, servers, options_for(receiver, **case.settings)) as served:
        answer = visit(served, case)
        client = client_of_the_app()
        assert client.flush(10)
        while host.later:
            thread = threading.Thread(target=host.later.pop())
            thread.start()
            thread.join()
            assert client.flush(10)
        found = outcome(answer, receiver, client.stats(), since)
    if isinstance(found["body"], dict):
        assert found["body"].pop("ss_page_route", None) == host.route
    if answer.status == 500:
        found["body"] = "<the framework's page>"
    compare(found, name)


@pytest.mark.parametrize("name", ["event_of_a_visitor", "goals", "identify_completes_what_came_before", "stream"])
def test_a_relay_sends_the_same_as_the_app(
    name: str, host: Host, servers: dict[str, Served], receiver: Receiver, tmp_path: Path
) -> None:
    since = time.time()
    options = options_for(receiver, delivery="relay", spool=f"sqlite:///{tmp_path}/spool.db", spool_timeout=20.0)
    with serving(host, servers, {**options, **CASES[name].settings}) as served:
        answer = visit(served, CASES[name])
        client = client_of_the_app()
        assert client.flush(10)
        assert receiver.take() == []
        relay = Relay(Client(client.settings))
        relay.start()
        assert relay.client.flush(10)
        relay.stop()
        found = outcome(answer, receiver, client.stats(), since)
    if isinstance(found["body"], dict):
        found["body"].pop("ss_page_route", None)
    compare(found, name)


def test_a_path_that_no_route_serves_has_analytics_as_well(
    host: Host, servers: dict[str, Served], receiver: Receiver
) -> None:
    since = time.time()
    with serving(host, servers, options_for(receiver)) as served:
        answer = served.send("/nowhere", (("Cookie", "ss_vid=a-visitor"),))
        client = client_of_the_app()
        assert client.flush(10)
        found = outcome(answer, receiver, client.stats(), since)
    compare(found, missing.__name__)


def test_a_key_is_good_for_one_record_over_several_requests(
    host: Host, servers: dict[str, Served], receiver: Receiver
) -> None:
    case = CASES["a_goal_twice_with_one_key"]
    with serving(host, servers, options_for(receiver)) as served:
        for _ in range(3):
            assert visit(served, case).status == 200
        client = client_of_the_app()
        assert client.flush(10)
        lane = client.stats().lanes["sessionsight"]
    assert (lane.captured, lane.delivered, lane.dropped) == (12, 3, {"duplicate": 9})


def test_inline_delivery_is_over_when_the_visitor_has_the_response(
    host: Host, servers: dict[str, Served], receiver: Receiver
) -> None:
    with serving(host, servers, options_for(receiver, flush="inline")) as served:
        for name in ("event_of_a_visitor", "goals", "stream"):
            delivered: list[int] = []
            served.on_body = lambda: delivered.append(len(receiver.take()))  # noqa: B023
            assert visit(served, CASES[name]).status == 200
            assert delivered[0] > 0, name


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
