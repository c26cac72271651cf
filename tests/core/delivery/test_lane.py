"""The table of replies in docs/delivery, row by row, with a real server as the vendor."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, EventRecord, QueuedRecord, Record
from sessionsight.delivery.engine import Engine
from sessionsight.delivery.options import DeliveryProblem
from sessionsight.destinations.base import VendorRequest, VendorResponse, Verdict
from sessionsight.errors import ConfigurationError
from sessionsight.log import ThrottledLogger
from tests.core.delivery.kit import (
    USER,
    OneLane,
    Vendor,
    batches,
    deaths,
    deliver,
    event,
    goal,
    labels,
    lane_threads,
    make_lane,
    offer,
    quick,
    singles,
    tally,
)
from tests.support.ports import free_port
from tests.support.server import PATIENCE, Answer, Request, Server, after, drip, raw, reply, reset, silence, until

MakeLane = Callable[..., OneLane]

LONG = 3600.0
"""Seconds, longer than any test."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def make() -> Iterator[MakeLane]:
    lanes: list[OneLane] = []

    def make(destination: Vendor, **options: Any) -> OneLane:
        lanes.append(make_lane(destination, **options))
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = lane_threads()
    yield
    until(lambda: lane_threads() <= before, "all threads of the test's lanes have ended")


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def sent(server: Server) -> list[Any]:
    return [request.json for request in server.requests]


# --- 2xx ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_means_delivered(make: MakeLane, server: Server, status: int) -> None:
    server.answer = reply(status, body=b"" if status == 204 else b"{}")
    lane = make(batches(server.url))

    offer(lane, [event("a"), event("b")])

    assert deliver(lane) == {"captured": 2, "delivered": 2}
    assert sent(server) == [["a", "b"]]


def test_records_that_a_2xx_lists_as_rejected_become_dead_letters(make: MakeLane, server: Server) -> None:
    server.will(reply(202, body=b'{"refused": {"1": "no such plan"}}'))
    lane = make(batches(server.url))

    offer(lane, [event("a"), event("b"), event("c")])

    assert deliver(lane) == {"captured": 3, "delivered": 2, "dead": 1}
    [letter] = lane.dead_letters()
    assert (letter.entry.record.label, letter.reason, letter.message) == ("b", "refused", "no such plan")
    assert (letter.destination, letter.status, letter.attempts) == ("vendor", 202, 1)
    assert letter.first_attempt == letter.last_attempt
    assert letter.first_attempt is not None


# --- certainly not received -----------------------------------------------------------------------

BOTH = pytest.mark.parametrize("vendor", [batches, singles], ids=["events", "goals"])


@BOTH
@pytest.mark.parametrize(
    "answer",
    [reply(408), reply(429), reply(429, {"Retry-After": "1"}), reply(503, {"Retry-After": "Thu, 01 Jan 1970"})],
    ids=["408", "429", "429-in-a-second", "503-at-a-date"],
)
def test_records_that_were_certainly_not_received_are_sent_again(
    make: MakeLane, server: Server, vendor: Callable[..., Vendor], answer: Answer
) -> None:
    server.will(answer, answer)
    lane = make(vendor(server.url), retry_after_max=0.01)

    offer(lane, [event("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    assert sent(server) == [["a"]] * 3


@BOTH
def test_an_unreachable_vendor_gets_its_records_when_it_is_back(
    make: MakeLane, vendor: Callable[..., Vendor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sessionsight")
    port = free_port()
    lane = make(vendor(f"http://127.0.0.1:{port}"), breaker_failures=3)
    offer(lane, [event("a"), event("b")])
    until(lambda: lane.stats().state in {"open", "half-open"}, "the circuit opens")
    assert tally(lane.stats()) == {"captured": 2, "pending": 2}
    assert "ConnectError" in str(lane.stats().last_error)

    with Server(port=port) as server:
        assert deliver(lane) == {"captured": 2, "delivered": 2}
        assert sorted(label for labels in sent(server) for label in labels) == ["a", "b"]
    assert lane.stats().state == "closed"
    assert lane.stats().last_error is None
    [unreachable, back] = lines(caplog, logging.INFO)
    assert "unreachable or failing (ConnectError" in unreachable
    assert back == f"{lane.name}: delivering again"


# --- unknown outcomes -----------------------------------------------------------------------------

UNKNOWN = pytest.mark.parametrize(
    "answer",
    [
        silence(),
        reset(),
        raw(b""),
        raw(b"220 mail.example ESMTP\r\n"),
        reply(500),
        reply(502),
        reply(503),
        reply(504),
        reply(599),
    ],
    ids=["read-timeout", "reset", "hang-up", "garbage", "500", "502", "503", "504", "599"],
)


@UNKNOWN
def test_an_event_whose_outcome_is_unknown_is_sent_again(make: MakeLane, server: Server, answer: Answer) -> None:
    server.will(answer)
    lane = make(batches(server.url), read_timeout=0.5)

    offer(lane, [event("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    assert sent(server) == [["a"], ["a"]]


@UNKNOWN
def test_a_goal_whose_outcome_is_unknown_becomes_a_dead_letter(
    make: MakeLane, server: Server, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    server.will(answer)
    lane = make(singles(server.url, concurrency=1), read_timeout=0.5)

    offer(lane, [goal("a"), goal("b")])

    assert deliver(lane) == {"captured": 2, "delivered": 1, "dead": 1}
    assert sent(server) == [["a"], ["b"]], "sent once, and others are sent"
    assert deaths(lane.dead_letters()) == {"a": "unknown"}
    [line] = lines(caplog)
    assert "dead letters (unknown)" in line
    assert "might count them twice" in line


@UNKNOWN
def test_a_goal_whose_outcome_is_unknown_is_sent_again_if_configured(
    make: MakeLane, server: Server, answer: Answer
) -> None:
    server.will(answer)
    lane = make(singles(server.url), read_timeout=0.5, goals_on_unknown="retry")

    offer(lane, [goal("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    assert sent(server) == [["a"], ["a"]]


@pytest.mark.parametrize("drop", [b"x-y: z\r\n", b"z"], ids=["headers", "one-header"])
def test_a_call_whose_response_head_drips_times_out(make: MakeLane, server: Server, drop: bytes) -> None:
    server.will(drip(b"HTTP/1.1 200 OK\r\nx: ", drop))
    lane = make(batches(server.url), total_timeout=1.0)

    offer(lane, [event("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    assert sent(server) == [["a"], ["a"]]


def test_a_reply_that_the_destination_cannot_classify_is_an_unknown_outcome(make: MakeLane, server: Server) -> None:
    class Moody(Vendor):
        def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
            if reply.status == 299:
                raise KeyError("secret")
            return super().classify(call, reply)

    server.will(reply(299))
    lane = make(Moody(server.url))
    offer(lane, [event("a")])
    assert deliver(lane) == {"captured": 1, "delivered": 1}

    server.will(reply(299))
    lane = make(Moody(server.url, name="goals", idempotent=False))
    offer(lane, [goal("a")])
    assert deliver(lane) == {"captured": 1, "dead": 1}
    assert [letter.message for letter in lane.dead_letters()] == ["KeyError in classify()"]


# --- too large, or invalid ------------------------------------------------------------------------


def refusing(status: int, *bad: str, above: int = 10**9) -> Callable[[Request], Answer]:
    def decide(request: Request) -> Answer:
        if set(request.json) & set(bad) or len(request.json) > above:
            return reply(status, body=b'{"error": {"message": "no"}}')
        return reply(200)

    return decide


def test_a_batch_that_is_too_large_is_split_until_it_fits(make: MakeLane, server: Server) -> None:
    server.decide = refusing(413, above=2)
    lane = make(batches(server.url))

    offer(lane, [event(name) for name in "abcdefg"])

    assert deliver(lane) == {"captured": 7, "delivered": 7}
    accepted = [names for names in sent(server) if len(names) <= 2]
    assert [name for names in accepted for name in names] == list("abcdefg"), "in order"


def test_a_single_record_that_is_too_large_becomes_a_dead_letter(make: MakeLane, server: Server) -> None:
    server.decide = refusing(413, "b", "c", "d", "e")
    lane = make(batches(server.url), pause_interval=LONG)

    offer(lane, [event(name) for name in "abcdef"])

    assert deliver(lane) == {"captured": 6, "delivered": 2, "dead": 4}
    assert deaths(lane.dead_letters()) == dict.fromkeys("bcde", "too_large"), "all of them, without a pause"


@pytest.mark.parametrize("status", [400, 409, 422])
@pytest.mark.parametrize("bad", ["a", "d", "h", "ah", "dg"])
def test_a_rejected_batch_is_bisected_until_the_invalid_record_is_found(
    make: MakeLane, server: Server, status: int, bad: str
) -> None:
    server.decide = refusing(status, *bad)
    lane = make(batches(server.url))

    offer(lane, [event(name) for name in "abcdefgh"])

    assert deliver(lane) == {"captured": 8, "delivered": 8 - len(bad), "dead": len(bad)}
    assert deaths(lane.dead_letters()) == dict.fromkeys(bad, "refused")
    assert {letter.message for letter in lane.dead_letters()} == {"no"}
    delivered = [name for names in sent(server) if not set(names) & set(bad) for name in names]
    assert sorted(delivered) == sorted(set("abcdefgh") - set(bad)), "each of the others once"
    assert len(server.requests) <= 1 + 2 * 3 * len(bad)


def test_three_single_rejections_in_a_row_pause_the_lane_and_keep_the_third_record(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = reply(400)
    lane = make(singles(server.url, concurrency=1), pause_interval=LONG)

    offer(lane, [goal(name) for name in "abcde"])

    until(lambda: lane.stats().state == "paused", "the lane pauses")
    assert tally(lane.stats()) == {"captured": 5, "dead": 2, "pending": 3}
    assert deaths(lane.dead_letters()) == {"a": "refused", "b": "refused"}
    until(lambda: lines(caplog, logging.ERROR) != [], "it says so")
    assert "check key and the address" in lines(caplog, logging.ERROR)[0]

    server.answer = reply(200)
    lane.resume()
    assert deliver(lane) == {"captured": 5, "dead": 2, "delivered": 3}


def test_rejections_with_a_success_in_between_do_not_pause(make: MakeLane, server: Server) -> None:
    server.decide = refusing(400, "x")
    lane = make(singles(server.url, concurrency=1), pause_interval=LONG)

    offer(lane, [goal(name) for name in "xxaxxbxxc"])

    assert deliver(lane) == {"captured": 9, "dead": 6, "delivered": 3}


def test_a_record_whose_request_cannot_be_built_does_not_affect_others(make: MakeLane, server: Server) -> None:
    class Picky(Vendor):
        def build_requests(self, entries: Any, *, now: float) -> Any:
            if any(entry.record.label == "bad" for entry in entries):
                raise ValueError("secret")
            return super().build_requests(entries, now=now)

    lane = make(Picky(server.url, max_records=10))

    offer(lane, [event("a"), event("b"), event("bad"), event("c")])

    assert deliver(lane) == {"captured": 4, "dead": 1, "delivered": 3}
    [letter] = lane.dead_letters()
    assert (letter.entry.record.label, letter.message, letter.attempts) == ("bad", "ValueError in build_requests()", 0)


def test_requests_that_do_not_carry_each_record_once_are_not_sent(make: MakeLane, server: Server) -> None:
    class Wrong(Vendor):
        def build_requests(self, entries: Any, *, now: float) -> Any:
            [call] = super().build_requests(entries, now=now)
            if len(entries) == 2:
                return [call, VendorRequest(url=call.url, headers={}, body=b"", entries=entries[:1])]
            if entries[0].record.label == "b":
                return [call, VendorRequest(url=call.url, headers={}, body=b"", entries=())]
            return [call]

    lane = make(Wrong(server.url, max_records=10))

    offer(lane, [event("a"), event("b")])

    assert deliver(lane) == {"captured": 2, "dead": 1, "delivered": 1}
    assert deaths(lane.dead_letters()) == {"b": "refused"}
    assert sent(server) == [["a"]]


def test_a_batch_with_several_requests_gets_a_verdict_for_each(make: MakeLane, server: Server) -> None:
    class Apart(Vendor):
        """Sends records with one-letter names together, and each other one alone."""

        def build_requests(self, entries: Any, *, now: float) -> Any:
            together = [entry for entry in entries if len(entry.record.label) == 1]
            for entry in entries:
                if entry not in together:
                    yield from super().build_requests([entry], now=now)
            if together:
                yield from super().build_requests(together, now=now)

    server.decide = refusing(400, "bbb")
    lane = make(Apart(server.url, max_records=10))

    offer(lane, [event("a"), event("bbb"), event("c"), event("ddd")])

    assert deliver(lane) == {"captured": 4, "dead": 1, "delivered": 3}
    assert sorted(map(tuple, sent(server))) == [("a", "c"), ("bbb",), ("ddd",)]


# --- a wrong key or address -----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("status", [301, 302, 307, 401, 402, 403, 404, 405, 410])
def test_a_wrong_key_or_address_pauses_the_lane_and_loses_nothing(
    make: MakeLane, server: Server, vendor: Callable[..., Vendor], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = reply(status, {"Location": "/elsewhere"}, b'{"error": {"message": "who are you?"}}')
    lane = make(vendor(server.url, concurrency=1))
    offer(lane, [event("a"), event("b"), event("c")])
    server.wait_for(5)  # its probes
    assert tally(lane.stats()) == {"captured": 3, "pending": 3}
    assert lane.stats().state == "paused"
    assert lane.stats().last_error == "who are you?"

    server.answer = reply(200)

    assert deliver(lane) == {"captured": 3, "delivered": 3}
    [line] = lines(caplog)
    assert f"{lane.name}: paused, because the vendor rejects our calls (who are you?)" in line
    assert f"check key and the address {server.url}/take" in line
    assert "sk_very_secret" not in line


@pytest.mark.parametrize("place", ["/sk_very_secret", "?api_secret=sk_very_secret", "?api_secret=other_secret"])
def test_a_key_in_a_url_is_not_logged(
    make: MakeLane, server: Server, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    class InAddress(Vendor):
        def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
            return [replace(call, url=call.url + place) for call in super().build_requests(entries, now=now)]

    server.answer = reply(401)
    lane = make(InAddress(server.url), pause_interval=LONG)

    offer(lane, [event("a")])

    until(lambda: lines(caplog, logging.ERROR) != [], "the lane pauses")
    assert f"the address {server.url}/take" in caplog.text
    assert "_secret" not in caplog.text


def test_a_changed_key_ends_a_pause_at_once(make: MakeLane, server: Server) -> None:
    keys = ["old"]
    server.decide = lambda request: reply(200 if request.headers["x-api-key"] == "new" else 401)
    lane = make(batches(server.url, key=lambda: keys[-1]), pause_interval=LONG)
    offer(lane, [event("a")])
    until(lambda: lane.stats().state == "paused", "the lane pauses")

    keys.append("new")

    until(lambda: lane.stats().delivered == 1, "the new key is used")
    assert [request.headers["x-api-key"] for request in server.requests] == ["old", "new"]


def test_a_key_that_becomes_available_ends_a_pause_as_well(make: MakeLane, server: Server) -> None:
    keys: list[str] = []

    def key() -> str:
        if not keys:
            raise ConfigurationError("the file with the key is not there yet")
        return keys[0]

    lane = make(batches(server.url, key=key), pause_interval=LONG)
    offer(lane, [event("a")])
    until(lambda: lane.stats().state == "paused", "the lane pauses")
    assert lane.stats().last_error == "the file with the key is not there yet"
    assert server.requests == []

    keys.append("now")

    until(lambda: lane.stats().delivered == 1, "the key is used")


def test_a_key_with_a_line_break_pauses_the_lane_and_is_not_logged(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    lane = make(batches(server.url, key="sk_very\nsecret"), pause_interval=LONG)

    offer(lane, [event("a")])

    until(lambda: lane.stats().state == "paused", "the lane pauses")
    assert tally(lane.stats()) == {"captured": 1, "pending": 1}
    until(lambda: lines(caplog, logging.ERROR) != [], "it says so")
    assert "LocalProtocolError" in lines(caplog, logging.ERROR)[0]
    assert "sk_very" not in caplog.text


def test_resume_tries_again_at_once(make: MakeLane, server: Server) -> None:
    server.will(reply(401))
    lane = make(batches(server.url), pause_interval=LONG)
    offer(lane, [event("a")])
    until(lambda: lane.stats().state == "paused", "the lane pauses")

    lane.resume()

    assert deliver(lane) == {"captured": 1, "delivered": 1}


def test_resume_ends_a_long_backoff(make: MakeLane, server: Server) -> None:
    server.will(reply(503, {"Retry-After": "200"}))
    lane = make(batches(server.url))
    offer(lane, [event("a")])
    until(lambda: lane.stats().last_error is not None, "the first attempt fails")

    lane.resume()

    assert deliver(lane) == {"captured": 1, "delivered": 1}


# --- limits ---------------------------------------------------------------------------------------


def test_a_full_queue_drops_events_before_goals_and_logs_it_once(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()
    server.will(after(go, reply(200)))
    lane = make(batches(server.url, max_records=1), queue_records=4)
    offer(lane, [event("under way")])
    server.wait_for(1)

    offer(lane, [event("a"), goal("G"), event("b"), event("c")])
    offer(lane, [goal("H"), event("d")])
    assert tally(lane.stats()) == {"captured": 7, "pending": 4, "queue_full": 3}
    go.set()

    assert deliver(lane) == {"captured": 7, "delivered": 4, "queue_full": 3}
    assert sent(server) == [["under way"], ["G"], ["H"], ["d"]]
    assert [line for line in lines(caplog) if "the queue is full" in line] == lines(caplog)
    assert len(lines(caplog)) == 1


def test_expired_records_become_dead_letters_and_are_not_sent(make: MakeLane, server: Server) -> None:
    now = time.time()
    lane = make(batches(server.url), max_age=60)

    offer(lane, [event("old", since=now - 61), event("young", since=now - 30), event("older", since=now - 10**6)])

    assert deliver(lane) == {"captured": 3, "delivered": 1, "dead": 2}
    assert deaths(lane.dead_letters()) == {"old": "expired", "older": "expired"}
    assert sent(server) == [["young"]]


def test_the_maximum_age_of_a_destination_overrides_the_general_one(make: MakeLane, server: Server) -> None:
    lane = make(singles(server.url, max_age=10.0), max_age=1000)

    offer(lane, [goal("old", since=time.time() - 11)])

    assert deliver(lane) == {"captured": 1, "dead": 1}


def test_dead_letters_are_bounded(make: MakeLane, server: Server) -> None:
    server.answer = reply(500)
    lane = make(singles(server.url, concurrency=1), dead_letters=2, breaker_failures=100)

    offer(lane, [goal(name) for name in "abcde"])

    assert deliver(lane) == {"captured": 5, "dead": 2, "dead_letters_full": 3}
    assert labels(lane.dead_letters()) == ["d", "e"]


def test_eight_goals_are_in_flight_at_the_same_time(make: MakeLane, server: Server) -> None:
    together = threading.Barrier(8)
    server.answer = after(together, reply(200))
    lane = make(singles(server.url))

    offer(lane, [goal(str(number)) for number in range(16)])

    assert deliver(lane) == {"captured": 16, "delivered": 16}
    assert server.connections == 8


def test_calls_in_flight_never_exceed_the_concurrency(make: MakeLane, server: Server) -> None:
    lock = threading.Lock()
    now = most = 0

    def answer(connection: Any, server: Server) -> bool:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        again = reply(200)(connection, server)
        with lock:
            now -= 1
        return again

    server.answer = answer
    lane = make(singles(server.url, concurrency=3))
    offer(lane, [goal(str(number)) for number in range(60)])

    assert deliver(lane) == {"captured": 60, "delivered": 60}
    assert most <= 3


# --- batches --------------------------------------------------------------------------------------


def test_a_full_batch_is_sent_at_once_and_the_rest_lingers(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url, max_records=3), linger=LONG)
    offer(lane, [event("a")])
    offer(lane, [event("b"), event("c")])

    server.wait_for(1)

    assert sent(server) == [["a", "b", "c"]]
    offer(lane, [event("d")])
    assert deliver(lane) == {"captured": 4, "delivered": 4}, "a flush does not linger"
    assert sent(server) == [["a", "b", "c"], ["d"]]


def test_records_captured_within_the_linger_share_a_batch(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url), linger=0.3)
    offer(lane, [event("a")])
    offer(lane, [event("b")])

    server.wait_for(1)

    assert sent(server) == [["a", "b"]]


def test_a_batch_is_bounded_in_bytes_as_well(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url, max_bytes=3000), linger=LONG)

    offer(lane, [event(name, size=1000) for name in "abc"])

    server.wait_for(1)
    assert sent(server) == [["a", "b"]]
    assert deliver(lane) == {"captured": 3, "delivered": 3}


def test_records_captured_after_a_flush_linger_again(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url, max_records=2), linger=LONG)
    offer(lane, [event("a")])
    deliver(lane)
    assert not lane.lane._dispatcher.schedule.flushing

    offer(lane, [event("b")])
    offer(lane, [event("c")])
    server.wait_for(2)

    assert sent(server) == [["a"], ["b", "c"]]


def test_an_idle_lane_is_woken_by_the_first_record(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url))
    for number in range(30):
        offer(lane, [event(str(number))])
        server.wait_for(number + 1)

    assert deliver(lane) == {"captured": 30, "delivered": 30}


def test_no_record_is_lost_when_many_threads_enqueue_at_once(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url), linger=0.001)

    def capture() -> None:
        for _ in range(100):
            offer(lane, [event("a")])

    threads = [threading.Thread(target=capture) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    until(lambda: lane.stats().pending == 0, "all is delivered without a flush")
    assert tally(lane.stats()) == {"captured": 800, "delivered": 800}
    assert sum(map(len, sent(server))) == 800


# --- selection ------------------------------------------------------------------------------------


def test_records_that_the_vendor_does_not_accept_are_counted_and_logged_once(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    lane = make(batches(server.url))

    offer(lane, [event("nobody"), event("a")])
    offer(lane, [event("nobody")])

    assert deliver(lane) == {"captured": 3, "delivered": 1, "no_identity": 2}
    [line] = lines(caplog)
    assert line.startswith("vendor: event 'nobody' skipped, no user or visitor to attribute it to: give user_id=")


def test_records_of_an_unsupported_kind_are_not_counted(make: MakeLane, server: Server) -> None:
    class EventsOnly(Vendor):
        def supports(self, kind: type[Record]) -> bool:
            return kind is EventRecord

    lane = make(EventsOnly(server.url))
    record = EventRecord(random=bytes(10), time=0, name="elsewhere", destinations=frozenset({"another"}))

    offer(lane, [goal("G"), QueuedRecord(record, USER, time.time())])

    assert tally(lane.stats()) == {}


def test_records_with_a_drop_reason_are_counted_under_it(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url))

    offer(lane, [event("a"), event("b")], DropReason.CONSENT)

    assert tally(lane.stats()) == {"captured": 2, "consent": 2}


def test_a_destination_that_fails_in_drop_reason_does_not_lose_records(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    class Rude(Vendor):
        def drop_reason(self, record: Record, context: Any) -> DropReason | None:
            raise RuntimeError("no")

    lane = make(Rude(server.url))

    offer(lane, [event("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    assert lines(caplog) == ["vendor: the destination failed with RuntimeError: no"]


def test_a_second_record_with_the_same_key_is_not_sent(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url))

    offer(lane, [event("paid", key="order:1"), event("paid", key="order:2")])
    offer(lane, [event("paid", key="order:1")])

    assert deliver(lane) == {"captured": 3, "delivered": 2, "duplicate": 1}


# --- callbacks ------------------------------------------------------------------------------------


def test_before_send_may_change_or_drop_records_and_its_errors_drop_them(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def before_send(record: dict[str, Any], destination: str) -> dict[str, Any] | None:
        assert threading.current_thread().name == "sessionsight-dispatcher"
        match record["name"]:
            case "drop":
                return None
            case "raise":
                raise KeyError("name")
            case "exit":
                raise SystemExit
            case name:
                return {**record, "name": f"{name} by {destination}"}

    lane = make(batches(server.url), before_send=before_send)

    offer(lane, [event(name) for name in ("a", "drop", "raise", "exit", "b")])

    assert deliver(lane) == {"captured": 5, "delivered": 2, "before_send": 1, "before_send_error": 2}
    assert sent(server) == [["a by vendor", "b by vendor"]]
    [line] = lines(caplog)
    assert line == "vendor: before_send failed with KeyError: 'name'; the record is dropped"


def test_a_batch_that_before_send_drops_entirely_is_not_sent(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url, max_records=2), before_send=lambda record, destination: None)

    offer(lane, [event(name) for name in "abcde"])

    assert deliver(lane) == {"captured": 5, "before_send": 5}
    assert server.requests == []


def test_a_record_that_is_not_acceptable_after_before_send_is_not_sent(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def before_send(record: dict[str, Any], destination: str) -> dict[str, Any]:
        return {**record, "name": "nobody"} if record["name"] == "secret" else record

    lane = make(batches(server.url), before_send=before_send)

    offer(lane, [event(name) for name in ("a", "secret", "b")])

    assert deliver(lane) == {"captured": 3, "delivered": 2, "no_identity": 1}
    assert sent(server) == [["a", "b"]]
    [line] = lines(caplog)
    assert line == "vendor: event 'nobody' is dropped (no_identity), because before_send removed what the vendor needs"


def test_on_error_is_called_for_temporary_and_for_final_failures(make: MakeLane, server: Server) -> None:
    problems: list[DeliveryProblem] = []
    server.will(
        reply(503, {"Retry-After": "1"}), reply(401), reply(400, body=b'{"error": "bad"}'), reply(400), reply(200)
    )
    lane = make(batches(server.url), on_error=problems.append, retry_after_max=0.01)

    offer(lane, [event("a"), event("b")])

    assert deliver(lane) == {"captured": 2, "delivered": 1, "dead": 1}
    told = [(problem.reason, problem.message, problem.status, problem.records) for problem in problems]
    assert told == [
        ("unreachable", "HTTP 503", 503, 2),
        ("paused", "HTTP 401", 401, 2),
        ("refused", "HTTP 400", 400, 1),
    ]
    assert {problem.destination for problem in problems} == {"vendor"}


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1)])
def test_an_exception_of_on_error_is_logged_and_loses_nothing(
    make: MakeLane, server: Server, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(problem: DeliveryProblem) -> None:
        raise error

    server.will(reply(500), reply(500))
    lane = make(batches(server.url), on_error=on_error)

    offer(lane, [event("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    assert lines(caplog) == [f"vendor: on_error failed with {type(error).__name__}: {error}"]


def test_an_on_error_that_returns_an_awaitable_is_logged(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(problem: DeliveryProblem) -> None: ...

    server.will(reply(500))
    lane = make(batches(server.url), on_error=lambda problem: tell(problem))  # noqa: PLW0108

    offer(lane, [event("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    [line] = lines(caplog)
    assert line.startswith("vendor: on_error failed with UnawaitedResult: the function returned a coroutine")


# --- several lanes --------------------------------------------------------------------------------


def test_a_vendor_that_hangs_does_not_delay_others(server: Server) -> None:
    with Server(answer=silence()) as dead:
        engine = Engine(
            [batches(dead.url, name="dead"), batches(server.url, name="alive")], quick(linger=LONG), ThrottledLogger()
        )
        engine.submit(Batch([event("a").record], USER))
        flushed: list[bool] = []
        flush = threading.Thread(target=lambda: flushed.append(engine.flush(time.monotonic() + PATIENCE)))
        flush.start()

        server.wait_for(1)  # although the dead one comes first, and a flush waits for it
        until(lambda: engine.stats()["alive"].delivered == 1, "one has delivered")
        assert engine.stats()["dead"].pending == 1
        assert engine.close() == {"dead": 1, "alive": 0}
        flush.join(PATIENCE)
        assert flushed == [False]


def test_each_lane_has_its_own_bounds_retries_and_counters(server: Server) -> None:
    with Server(answer=reply(500)) as ill:
        engine = Engine(
            [batches(ill.url, name="ill"), batches(server.url, name="well")],
            quick(breaker_failures=2),
            ThrottledLogger(),
        )
        engine.submit(Batch([event("a").record], USER))
        ill.wait_for(3)
        until(lambda: engine.stats()["well"].delivered == 1, "the other has delivered")

        assert engine.stats()["well"].state == "closed"
        assert engine.stats()["ill"].state in {"open", "half-open"}
        engine.close()


# --- the log --------------------------------------------------------------------------------------


def test_the_same_problem_is_logged_once_a_minute(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = reply(500)
    lane = make(singles(server.url), breaker_failures=1000)

    offer(lane, [goal(str(number)) for number in range(50)])

    assert deliver(lane) == {"captured": 50, "dead": 50}
    assert len(lines(caplog)) == 1


def test_secrets_do_not_appear_in_logs_reprs_or_dead_letters(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sessionsight")
    told: list[DeliveryProblem] = []
    server.will(*map(reply, (500, 401, 400, 429, 413)), reset(), raw(b"garbage\r\n"))
    lane = make(singles(server.url, concurrency=1), on_error=told.append, read_timeout=0.5)

    offer(lane, [goal(str(number)) for number in range(6)])
    deliver(lane)

    assert len(told) >= 6
    for text in (caplog.text, repr(told), repr(lane.dead_letters()), repr(lane.stats())):
        assert "sk_very_secret" not in text


def test_an_internal_error_is_logged_and_does_not_end_the_lane(
    make: MakeLane, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    lane = make(batches(server.url))
    claim = lane.queue.claim

    def fail_once(max_records: int, max_bytes: int) -> list[QueuedRecord]:
        lane.queue.claim = claim  # type: ignore[method-assign]
        raise OSError("the disk is full of secrets")

    lane.queue.claim = fail_once  # type: ignore[method-assign]

    offer(lane, [event("a")])

    assert deliver(lane) == {"captured": 1, "delivered": 1}
    assert "vendor: internal error in delivery, OSError at test_lane.py:" in caplog.text
    assert "secrets" not in caplog.text


# --- closing --------------------------------------------------------------------------------------


def test_records_enqueued_after_closing_are_counted_as_lost_and_start_no_thread(make: MakeLane, server: Server) -> None:
    lane = make(batches(server.url))
    offer(lane, [event("a")])
    deliver(lane)
    assert lane.close() == 0

    offer(lane, [event("b")])

    assert tally(lane.stats()) == {"captured": 2, "delivered": 1, "shutdown": 1}
    assert lane.close() == 0


def test_a_lane_that_is_closed_before_its_first_record_starts_no_thread(make: MakeLane, server: Server) -> None:
    before = lane_threads()
    lane = make(batches(server.url))
    lane.close()

    offer(lane, [event("a")])
    lane.resume()

    assert lane_threads() <= before
    assert tally(lane.stats()) == {"captured": 1, "shutdown": 1}


def test_closing_does_not_wait_for_calls_in_flight_and_counts_their_records(make: MakeLane, server: Server) -> None:
    server.answer = silence()
    lane = make(batches(server.url, max_records=2))
    offer(lane, [event("a"), event("b"), event("c")])
    server.wait_for(1)

    assert lane.close() == 3
    assert tally(lane.stats()) == {"captured": 3, "shutdown": 3}


def test_an_unused_lane_has_no_thread(make: MakeLane, server: Server) -> None:
    before = lane_threads()
    lane = make(batches(server.url))
    assert lane.flush()

    assert lane_threads() <= before
