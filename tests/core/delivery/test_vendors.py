"""The protocols of the four vendors in a lane."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import EventRecord, Goal, Identify, Record, record_id
from sessionsight.delivery.engine import Engine
from sessionsight.destinations import Analyse, Saytics, SessionSight, Signal
from sessionsight.destinations.base import Destination
from sessionsight.log import ThrottledLogger
from sessionsight.request.context import SessionSightIds, TrackingContext
from tests.core.delivery.kit import deaths, quick, tally
from tests.support.server import PATIENCE, Answer, Request, Server, after, reply, reset

CONTEXT = TrackingContext(user_id="user_1", sessionsight=SessionSightIds(session_id="6f1d2c3b"))

MakeEngine = Callable[..., Engine]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def engine() -> Iterator[MakeEngine]:
    engines: list[Engine] = []

    def make(*destinations: Destination, **options: Any) -> Engine:
        engines.append(Engine(destinations, quick(trust_env=False, **options), ThrottledLogger()))
        return engines[-1]

    yield make
    for each in engines:
        each.close()


def goal(name: str = "user-signups", number: int = 0) -> Goal:
    return Goal(random=number.to_bytes(10, "big"), time=0, goal_id=name, direction="increment")


def event(name: str, number: int = 0) -> EventRecord:
    return EventRecord(random=number.to_bytes(10, "big"), time=1_767_225_600.0, name=name)


def counts(engine: Engine, name: str) -> dict[str, Any]:
    assert engine.flush(time.monotonic() + PATIENCE), engine.stats()
    return tally(engine.stats()[name])


def goals_at(server: Server) -> SessionSight:
    return SessionSight(secret_api_key="sessionsight_sec_1", property_id="shop", api_url=server.url)


def events_at(server: Server, **options: Any) -> list[Destination]:
    return [
        Signal(api_key="key", endpoint=server.url, **options),
        Saytics(secret_key="sk_live_1", api_url=server.url, **options),
        Analyse(public_key="pk_live_1", host=server.url, **options),
    ]


def test_a_goal_that_may_have_been_counted_is_not_counted_twice(engine: MakeEngine, server: Server) -> None:
    server.will(reply(200), reset(), reply(502), reply(429))
    lanes = engine(goals_at(server))

    lanes.submit(Batch([goal(number=0)], CONTEXT))
    counts(lanes, "sessionsight")
    lanes.submit(Batch([goal(number=1)], CONTEXT))
    counts(lanes, "sessionsight")
    lanes.submit(Batch([goal(number=2)], CONTEXT))
    counts(lanes, "sessionsight")
    lanes.submit(Batch([goal(number=3)], CONTEXT))

    assert counts(lanes, "sessionsight") == {"captured": 4, "delivered": 2, "dead": 2}
    assert [letter.reason for letter in lanes.dead_letters()] == ["unknown", "unknown"]
    assert len(server.requests) == 5


def test_goals_carry_two_headers_and_eight_are_in_flight_at_a_time(engine: MakeEngine, server: Server) -> None:
    server.answer = after(threading.Barrier(8), reply(200))
    lanes = engine(goals_at(server))

    lanes.submit(Batch([goal(number=number) for number in range(8)], CONTEXT))

    assert counts(lanes, "sessionsight") == {"captured": 8, "delivered": 8}
    for request in server.requests:
        transport_headers = {"host", "user-agent", "accept-encoding", "content-length"}
        assert request.headers.keys() - transport_headers == {"content-type", "x-api-key"}
        assert request.headers["user-agent"].startswith("sessionsight-python/")


@pytest.mark.parametrize("name", ["signal", "saytics", "analyse"])
def test_an_event_keeps_its_id_through_all_attempts(engine: MakeEngine, server: Server, name: str) -> None:
    server.will(reply(500), reply(429))
    lanes = engine(*[each for each in events_at(server) if each.name == name])
    record = event("a", 7)

    lanes.submit(Batch([record], CONTEXT))

    assert counts(lanes, name) == {"captured": 1, "delivered": 1}
    assert {request.headers["idempotency-key"] for request in server.requests} == {record_id(record)}


@pytest.mark.parametrize("name", ["signal", "saytics", "analyse"])
def test_an_event_that_a_vendor_rejects_does_not_affect_others(engine: MakeEngine, server: Server, name: str) -> None:
    def decide(request: Request) -> Answer:
        bad = b'"bad"' in request.body
        return reply(422, body=b'{"error":{"code":"VALIDATION_ERROR","message":"bad is bad"}}') if bad else reply(200)

    server.decide = decide
    lanes = engine(*[each for each in events_at(server) if each.name == name])
    names = ["a", "b", "bad", "c", "d", "e"]

    lanes.submit(Batch([event(label, number) for number, label in enumerate(names)], CONTEXT))

    assert counts(lanes, name) == {"captured": 6, "delivered": 5, "dead": 1}
    [letter] = lanes.dead_letters()
    assert (letter.reason, letter.message, letter.status) == ("refused", "bad is bad", 422)
    assert deaths([letter]) == {"bad": "refused"}


def test_saytics_identifications_and_events_get_a_verdict_for_each_request(engine: MakeEngine, server: Server) -> None:
    server.decide = lambda request: reply(400 if request.target == "/v1/users/identify" else 200)
    lanes = engine(Saytics(secret_key="sk_live_1", api_url=server.url))
    records: list[Record] = [event("a", 1), Identify(random=bytes(10), time=0), event("b", 2)]

    lanes.submit(Batch(records, CONTEXT))

    assert counts(lanes, "saytics") == {"captured": 3, "delivered": 2, "dead": 1}
    assert sorted(request.target for request in server.requests) == ["/v1/events/batch", "/v1/users/identify"]


def test_large_bodies_for_signal_are_compressed_and_small_ones_are_not(engine: MakeEngine, server: Server) -> None:
    lanes = engine(Signal(api_key="key", endpoint=server.url))
    lanes.submit(Batch([event("small")], CONTEXT))
    counts(lanes, "signal")
    lanes.submit(Batch([event(f"number {number}", number) for number in range(20)], CONTEXT))
    counts(lanes, "signal")

    assert [request.headers.get("content-encoding") for request in server.requests] == [None, "gzip"]


def test_each_kind_of_record_goes_to_the_vendors_that_support_it(engine: MakeEngine, server: Server) -> None:
    lanes = engine(goals_at(server), *events_at(server))

    lanes.submit(Batch([goal(), event("a"), Identify(random=bytes(10), time=0)], CONTEXT))

    assert {name: counts(lanes, name) for name in lanes.stats()} == {
        "sessionsight": {"captured": 1, "delivered": 1},
        "signal": {"captured": 2, "delivered": 2},
        "saytics": {"captured": 2, "delivered": 2},
        "analyse": {"captured": 2, "delivered": 2},
    }


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("sessionsight", "secret_api_key"),
        ("signal", "api_key"),
        ("saytics", "secret_key"),
        ("analyse", "public_key"),
    ],
)
def test_the_log_names_the_setting_of_a_rejected_key(
    engine: MakeEngine, server: Server, name: str, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.will(reply(401))
    lanes = engine(*[each for each in (goals_at(server), *events_at(server)) if each.name == name])

    lanes.submit(Batch([goal(), event("a")], CONTEXT))

    assert counts(lanes, name) == {"captured": 1, "delivered": 1}
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"check {option} and the address {server.url}/v1/" in line
