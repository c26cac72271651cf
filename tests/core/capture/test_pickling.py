"""Copies of a request have its analytics; a pickle has its context, wherever it is loaded."""

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sessionsight import Analytics, CaptureError
from sessionsight.capture import pickling
from sessionsight.capture.analytics import Goals
from sessionsight.capture.current import set_default_client
from sessionsight.capture.encoding import decode
from sessionsight.capture.scope import RequestScope
from sessionsight.log import ThrottledLogger
from sessionsight.request.context import OPTED_OUT
from tests.core.box import Recorder, Visit
from tests.core.conftest import MakeRecorder
from tests.support.server import Server

COOKIE = "ss_sid=session-1; ss_vid=visitor-1"
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture(autouse=True)
def _no_default_client() -> Iterator[None]:
    set_default_client(None)
    pickling._logger = ThrottledLogger()
    yield
    set_default_client(None)
    pickling._logger = ThrottledLogger()  # which other modules look at as well


def visit(recorder: Recorder, request: object = COOKIE, **facts: Any) -> Analytics:
    return Analytics(RequestScope(recorder.client, Visit(request, **facts)))


def pickled(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


# --- copies -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Request:
    analytics: Analytics
    path: str = "/"


def test_copies_of_whatever_holds_analytics_hold_the_same(recorder: Recorder) -> None:
    analytics = visit(recorder)
    request = Request(analytics)
    copies = [
        copy.copy(analytics),
        copy.deepcopy(analytics),
        copy.deepcopy(request).analytics,
        copy.deepcopy({"scope": [analytics]})["scope"][0],
        dataclasses.replace(request, path="/x").analytics,
        dataclasses.asdict(request)["analytics"],
    ]
    assert all(one is analytics for one in copies)


@pytest.mark.parametrize("name", ["goals", "flags", "feedback"])
def test_parts_of_analytics_are_copied_and_pickled_with_them(recorder: Recorder, name: str) -> None:
    analytics = visit(recorder)
    part = getattr(analytics, name)
    for copied in (copy.copy(part), copy.deepcopy(part)):
        assert type(copied) is type(part)
        assert getattr(copied, "_analytics", copied)._scope is analytics._scope
    for protocol in PROTOCOLS:
        again = pickled(part, protocol)
        assert type(again) is type(part)
        assert getattr(again, "_analytics", again)._scope.context.sessionsight.session_id == "session-1"


def test_copies_of_goals_count_for_the_same_request(recorder: Recorder) -> None:
    analytics = visit(recorder)
    for goals in (copy.copy(analytics.goals), copy.deepcopy(analytics.goals)):
        goals.increment("signups")
    assert recorder.records() == [], "the response has not ended"
    analytics._scope.end()
    assert len(recorder.records()) == 2


def test_a_client_that_an_app_holds_is_the_same_in_a_copy_of_the_app(recorder: Recorder) -> None:
    assert copy.copy(recorder.client) is recorder.client
    assert copy.deepcopy([recorder.client]) == [recorder.client]


# --- pickles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_out_of_a_pickle_analytics_capture_at_once_as_whoever_they_were(recorder: Recorder, protocol: int) -> None:
    analytics = visit(recorder, user="user_1", route="/orders")
    analytics.capture("waits for the end of the response")
    analytics.tag(experiment="b")
    copied = pickled(analytics, protocol)
    assert copied.context == analytics.context
    set_default_client(recorder.client)
    copied.capture("seen")
    copied.goals.increment("signups")
    event, goal = recorder.entries()
    assert {event.record.label, goal.record.label} == {"seen", "signups"}
    assert event.context == goal.context == analytics.context
    assert event.user_id == "user_1"
    assert recorder.events() == {"seen": {"experiment": "b"}}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_goals_are_pickled_with_their_analytics(recorder: Recorder, protocol: int) -> None:
    set_default_client(recorder.client)
    goals = pickled(visit(recorder).goals, protocol)
    assert isinstance(goals, Goals)
    goals.increment("signups")
    assert recorder.entries()[0].context.sessionsight.session_id == "session-1"


def test_what_was_bound_or_identified_stays_so(recorder: Recorder) -> None:
    set_default_client(recorder.client)
    bound = recorder.client.bind(user_id="user_1", distinct_id="d1", anonymous_id="a1")
    pickled(bound).capture("bound")
    identified = visit(recorder, user="framework")
    identified.identify("user_2")
    pickled(identified).capture("identified")
    pickled(pickled(bound)).capture("twice")
    first, second, third = recorder.entries()
    assert (first.user_id, first.record.distinct_id, first.record.anonymous_id) == ("user_1", "d1", "a1")
    assert second.user_id == "user_2"
    assert (third.user_id, third.record.distinct_id) == ("user_1", "d1")


def test_where_records_may_go_travels_as_well(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("one", "two", choose_destinations=lambda request: "one")
    set_default_client(recorder.client)
    pickled(visit(recorder)).capture("chosen")
    pickled(visit(recorder).only("two")).capture("only")
    assert [entry.record.label for entry in recorder.entries("one")] == ["chosen"]
    assert [entry.record.label for entry in recorder.entries("two")] == ["only"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"consent": lambda data: False}, "consent"), ({"should_capture": lambda request: False}, "excluded")],
)
def test_what_must_not_be_sent_of_the_request_must_not_be_sent_later(
    make_recorder: MakeRecorder, settings: dict[str, Any], reason: str
) -> None:
    recorder = make_recorder(**settings)
    set_default_client(recorder.client)
    copied = pickled(visit(recorder, user="user_1"))
    copied.identify("user_1")
    copied.capture("x", user_id="user_1")
    assert recorder.records() == []
    assert recorder.dropped() == {reason: 2}
    assert (copied.context == OPTED_OUT) is (reason == "consent")


def test_tags_travel_as_they_are_sent(recorder: Recorder, lenient: Recorder) -> None:
    analytics = visit(lenient)
    analytics.tag(lock=threading.Lock(), when=dataclasses.make_dataclass("When", ["day"])(1))
    set_default_client(lenient.client)
    pickled(analytics).capture("x")
    assert lenient.events() == {"x": {"lock": "<lock>", "when": {"day": 1}}}


def test_tags_that_cannot_be_sent_stay_behind(recorder: Recorder, lenient: Recorder) -> None:
    circular: list[Any] = []
    circular.append(circular)
    analytics = visit(lenient)
    analytics.tag(circular=circular)
    set_default_client(lenient.client)
    pickled(analytics).capture("x")
    assert lenient.events() == {"x": {}}
    strict = visit(recorder)
    strict.tag(circular=circular)
    with pytest.raises(CaptureError):
        pickle.dumps(strict)


# --- other processes ----------------------------------------------------------------------------------


async def test_without_a_client_nothing_is_captured_and_nothing_raised(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    copied = pickled(visit(recorder))
    for _ in range(2):
        copied.capture("x")
        copied.goals.increment("")
    assert copied.flush(1)
    assert copied.flush(1, "more")
    assert await copied.aflush(1)
    assert copied.context.sessionsight.session_id == "session-1"
    assert "there is no analytics client in this process" in caplog.text
    assert recorder.records() == []


async def test_a_client_may_be_set_up_after_the_pickle_was_loaded(recorder: Recorder, lenient: Recorder) -> None:
    copied = pickled(visit(recorder))
    set_default_client(lenient.client)
    copied.capture("x")
    copied.capture("")
    assert copied.flush(10)
    assert await copied.aflush(10)
    assert list(lenient.events()) == ["x"]
    assert lenient.client.stats().rejected == 1


PROGRAM = """
import pickle, sys
analytics = pickle.load(sys.stdin.buffer)
import sessionsight
client = sessionsight.configure(destinations={"analyse": {"public_key": "pk", "host": sys.argv[1]}})
analytics.capture("receipt_sent", {"order_id": "o1"})
assert client.shutdown(10)
"""


@pytest.mark.processes
def test_another_process_captures_for_the_same_visitor(recorder: Recorder) -> None:
    data = pickle.dumps(visit(recorder, user="user_1"))
    with Server() as server:
        subprocess.run([sys.executable, "-c", PROGRAM, server.url], input=data, check=True, timeout=60)
        [request] = server.requests
    [event] = json.loads(request.body)["events"]
    assert (event["event_name"], event["person_id"]) == ("receipt_sent", "user_1")
    assert decode(json.dumps(event["properties"]).encode()) == {"order_id": "o1"}
