"""Records about one person or group arrive in the order of their capture, across retries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessionsight import Client, Settings
from sessionsight.capture.records import Alias, Group, Identify, PersonProperties, QueuedRecord, Record
from sessionsight.delivery.schedule import SendOrder
from sessionsight.destinations import Analyse, Saytics, Signal
from sessionsight.destinations.base import Destination
from sessionsight.request.context import SignalIds, TrackingContext
from tests.core.delivery.kit import event, goal
from tests.support.server import PATIENCE, Request, Server, reply


def said(
    kind: Callable[..., Record] = Identify, *, context: TrackingContext | None = None, **fields: Any
) -> QueuedRecord:
    return QueuedRecord(kind(random=os.urandom(10), time=0.0, **fields), context or TrackingContext())


def test_events_and_goals_do_not_wait() -> None:
    order = SendOrder()
    claimed = [event("a"), goal("G"), event("b")]
    order.add(claimed)

    assert order.divide(claimed[1:]) == (claimed[1:], ())
    assert not order.remove(claimed)


def test_a_later_record_about_a_person_waits_for_an_earlier_one() -> None:
    order = SendOrder()
    first, other, second, third = (said(user_id=user) for user in ("u1", "u2", "u1", "u1"))
    order.add([first, other])
    order.add([second, third, event("a")])

    assert order.divide([other, second, third]) == ([other], [second, third])
    assert not order.remove([other])
    assert order.remove([first])
    assert order.divide([second, third]) == ([second, third], [])
    assert order.divide([third]) == ([], [third])


def test_records_of_one_call_keep_their_order() -> None:
    order = SendOrder()
    first, second = said(user_id="u1"), said(user_id="u1")
    order.add([first, second])

    assert order.divide([first, second]) == ([first, second], [])
    assert order.divide([second, first]) == ([first], [second])


@pytest.mark.parametrize(
    "later",
    [
        said(PersonProperties, user_id="u1"),
        said(PersonProperties, distinct_id="u1", once=True),
        said(context=TrackingContext(user_id="u1")),
        said(PersonProperties, context=TrackingContext(signal=SignalIds(distinct_id="u1"))),
        said(Alias, user_id="another", alias="u1"),
        said(Group, user_id="u1", group_type="company", group_key="c1"),
    ],
    ids=["properties", "distinct id", "context", "browser", "alias", "group"],
)
def test_a_person_is_identified_by_each_id_that_a_vendor_may_use(later: QueuedRecord) -> None:
    order = SendOrder()
    first = said(user_id="u1")
    order.add([first, later])

    assert order.divide([later]) == ([], [later])
    assert order.remove([first])
    assert order.divide([later]) == ([later], [])


def test_a_group_is_a_separate_subject() -> None:
    order = SendOrder()
    company, same, other = (
        said(Group, user_id=user, group_type="company", group_key=key)
        for user, key in (("u1", "c1"), ("u2", "c1"), ("u3", "c2"))
    )
    order.add([company, same, other])

    assert order.divide([same, other]) == ([other], [same])


def test_settled_records_are_forgotten() -> None:
    order = SendOrder()
    claimed = [said(user_id=f"u{number % 3}") for number in range(10)]
    order.add(claimed)
    order.remove(claimed)

    assert not order._queues


# --- with the vendors -----------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def saytics(url: str) -> Destination:
    return Saytics(secret_key="sk_live_1", api_url=url)


def signal(url: str) -> Destination:
    return Signal(api_key="key", endpoint=url, batch_size=1, compression=False)


def analyse(url: str) -> Destination:
    return Analyse(public_key="pk_live_1", host=url, batch_size=1)


def plan(request: Request) -> str | None:
    """Return the plan in a request of an identification, for any vendor."""
    body = request.json
    if "traits" in body:
        return str(body["traits"]["plan"])
    events = body.get("events", [])
    return str(events[0]["properties"]["plan"]) if events and "plan" in events[0].get("properties", {}) else None


@pytest.mark.parametrize("make", [saytics, signal, analyse])
@pytest.mark.parametrize("failure", [reply(503), reply(429), reply(500)], ids=["503", "429", "500"])
@pytest.mark.parametrize("spool", ["memory", "sqlite"])
def test_a_person_ends_with_the_last_identified_properties(
    make: Callable[[str], Destination], failure: Any, spool: str, server: Server, tmp_path: Any
) -> None:
    failed: list[Request] = []

    def decide(request: Request) -> Any:
        if plan(request) == "free" and len(failed) < 3:
            failed.append(request)
            return failure
        return reply()

    server.decide = decide
    client = Client(
        Settings(
            destinations=(make(server.url),),
            linger=0,
            backoff_base=0.05,
            trust_env=False,
            spool="memory" if spool == "memory" else f"sqlite:///{tmp_path}/spool.db",
            spool_timeout=PATIENCE,  # a record that waited in memory would be sent after later ones
        )
    )
    try:
        for traits in ({"plan": "free"}, {"plan": "trial"}, {"plan": "pro"}):
            client.analytics.identify("user_1", traits)
            client.analytics.capture("page_seen", user_id="user_1")
        assert client.flush(PATIENCE), client.stats()
    finally:
        client.shutdown(0)

    plans = [told for request in server.requests if (told := plan(request)) is not None]
    assert plans == ["free"] * 4 + ["trial", "pro"]
