"""Under a uWSGI that runs no threads, each capture delivers. (tests/servers has a real one.)"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sessionsight import Analytics, Client
from sessionsight.capture.scope import RequestScope
from sessionsight.delivery import threads
from sessionsight.delivery.transport import TimeLimits
from sessionsight.destinations.base import Destination, VendorRequest, VendorResponse
from sessionsight.settings import Settings
from tests.core.box import Visit
from tests.core.delivery.kit import OneLane, batches, event, make_lane, offer, quick, singles, tally
from tests.support.ports import free_port
from tests.support.server import PATIENCE, Server, reply, silence, until

pytestmark = pytest.mark.usefixtures("_no_threads")


@pytest.fixture
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def make_client(*destinations: Destination, **options: Any) -> Client:
    settings = Settings(destinations=destinations, **{"trust_env": False, "backoff_base": 0.0, **options})
    return Client(settings)


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("sessionsight")}


def capture(client: Client, *names: str) -> None:
    """Capture these as a request would."""
    for name in names:
        client.analytics.capture(name, user_id="user_1")


@pytest.mark.parametrize(
    ("module", "expected"),
    [(SimpleNamespace(has_threads=0), False), (SimpleNamespace(has_threads=1), True), (SimpleNamespace(), True)],
)
def test_threads_are_unavailable_only_if_uwsgi_says_so(
    module: object, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", module)

    assert threads.available() is expected


def test_threads_are_available_without_uwsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "uwsgi")

    assert threads.available()


def test_a_record_has_arrived_when_submit_returns(server: Server) -> None:
    before = ours()  # other tests' threads may still be ending
    client = make_client(batches(server.url), singles(server.url), linger=3600.0)

    capture(client, "one")

    assert sorted(request.json for request in server.requests) == [["one"], ["one"]]
    assert [tally(lane) for lane in client.stats().lanes.values()] == [{"captured": 1, "delivered": 1}] * 2
    assert ours() <= before


def test_one_warning_names_the_setting(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sessionsight"):
        client = make_client(batches(server.url))
        capture(client, "one", "two")

    assert len(caplog.messages) == 1
    assert "set enable-threads = true" in caplog.messages[0]


def test_a_request_does_not_wait_for_retries_and_the_next_one_retries(server: Server) -> None:
    client = make_client(batches(server.url), backoff_base=3600.0, backoff_max=3600.0)
    server.will(reply(500))

    capture(client, "one")
    assert tally(client.stats().lanes["vendor"]) == {"captured": 1, "pending": 1}

    client.resume()
    capture(client, "two")
    assert tally(client.stats().lanes["vendor"]) == {"captured": 2, "delivered": 2}


def test_silent_vendors_block_a_request_for_at_most_flush_timeout(server: Server) -> None:
    server.answer = silence()
    long = {"read_timeout": 3600.0, "total_timeout": 3600.0}
    client = make_client(batches(server.url), singles(server.url), flush_timeout=0.2, **long)

    capture(client, "one")  # for an hour, if it waited for them

    server.released.set()


def test_flush_waits_for_retries_and_later_requests_deliver(server: Server) -> None:
    client = make_client(batches(server.url))
    server.will(reply(503, headers={"Retry-After": "1"}))
    capture(client, "one")

    assert client.flush(0.0) is False
    assert client.flush() is True
    capture(client, "two")

    assert tally(client.stats().lanes["vendor"]) == {"captured": 2, "delivered": 2}


def test_shutdown_delivers_queued_records(server: Server) -> None:
    client = make_client(batches(server.url), backoff_base=0.01)
    server.will(reply(500))
    capture(client, "one")

    assert client.shutdown() is True
    assert server.requests[-1].json == ["one"]


def test_records_captured_by_a_callback_are_delivered_too(server: Server) -> None:
    def note(problem: Any) -> None:
        if problem.records == 1 and not noted:
            noted.append(problem.reason)
            capture(client, "note")

    noted: list[str] = []
    client = make_client(batches(server.url), on_error=note)
    server.will(reply(500))

    capture(client, "one")
    capture(client, "two")
    assert client.flush() is True

    assert noted == ["unreachable"]
    assert tally(client.stats().lanes["vendor"]) == {"captured": 3, "delivered": 3}


def test_a_dead_vendor_does_not_affect_another(server: Server) -> None:
    dead = batches(f"http://127.0.0.1:{free_port()}", name="dead")
    client = make_client(dead, batches(server.url), shutdown_timeout=0.0)

    capture(client, "one")

    assert tally(client.stats().lanes["vendor"]) == {"captured": 1, "delivered": 1}
    assert tally(client.stats().lanes["dead"]) == {"captured": 1, "pending": 1}


def test_a_request_with_inline_flush_delivers_by_itself_even_after_a_failure(server: Server) -> None:
    server.will(reply(503), reply(200))
    client = make_client(batches(server.url), flush="inline", flush_timeout=PATIENCE, backoff_base=0.2)
    analytics = Analytics(RequestScope(client, Visit(user="user_1")))
    analytics.capture("a")
    analytics._scope.end_before_last_byte()
    assert tally(client.stats().lanes["vendor"]) == {"captured": 1, "delivered": 1}


def test_a_lane_with_records_that_nobody_can_send_is_not_retired(server: Server) -> None:
    server.answer = reply(503)
    lane = make_lane(batches(server.url))
    offer(lane, [event("a")])
    retired: list[str] = []
    lane.engine._thread.retire(lambda: retired.append("retired"))
    assert retired == []
    assert tally(lane.stats()) == {"captured": 1, "pending": 1}
    lane.close()


def test_an_interrupt_while_a_call_is_sent_on_the_main_thread_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
            raise KeyboardInterrupt

        def close(self) -> None:
            pass

    settings = quick(total_timeout=0.0)
    lane = OneLane(batches("http://127.0.0.1:1"), settings, Interrupted())
    offer(lane, [event("a")])
    deadline = time.monotonic() + PATIENCE
    with pytest.raises(KeyboardInterrupt):
        lane.flush(deadline)

    def has_timed_out() -> bool:
        lane.engine._thread.send_inline(deadline)
        return not lane.lane._sender.in_flight

    until(has_timed_out, "the call has timed out, whose result is nobody's")
    assert tally(lane.stats()) == {"captured": 1, "dead": 1}
    lane.close()


def test_where_eventlet_has_patched_the_sockets_trio_counts_as_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda name: name == "socket")
    )
    monkeypatch.delitem(sys.modules, "trio", raising=False)
    threads.hide_trio()
    hidden = sys.modules.get("trio", "not hidden")
    monkeypatch.undo()
    assert hidden is None
