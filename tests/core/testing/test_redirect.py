"""While an inspector runs, every client of the process delivers to it, and nothing reaches a configured vendor."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sessionsight import Client, Settings
from sessionsight.destinations import Signal
from sessionsight.test_mode import TESTING_VARIABLE, test_mode
from sessionsight.testing import LocalInspector, allow_delivery, record, run_inspector
from tests.conformance.receiver import Receiver, Reply
from tests.core.box import Box, BoxDestination

ALL = {("signal", "seen"), ("saytics", "seen"), ("analyse", "seen")}


@pytest.fixture
def vendor() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def client_of(vendor: Receiver, *names: str, **options: object) -> Client:
    destinations = vendor.destinations()
    chosen = {name: destinations[name] for name in names or destinations}
    return Client(Settings.from_mapping({"linger": 0, "backoff_base": 0.01, "destinations": chosen, **options}))


def arrived(inspector: LocalInspector) -> set[tuple[str, str]]:
    return {(record.vendor, record.name) for record in inspector.records()}


def names(vendor: Receiver) -> list[str]:
    """Return the events that the configured vendor has received since the last call."""
    return [event["event_name"] for call in vendor.take() for event in call.json()["events"]]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_clients_deliver_to_the_inspector(vendor: Receiver) -> None:
    before = client_of(vendor)
    bound = before.bind(user_id="user_1")
    with run_inspector() as inspector:
        bound.capture("before")
        bound.goals.increment("signups", session_id="s1")
        client_of(vendor, "analyse").bind(user_id="user_1").capture("meanwhile")
        inspector.wait(5)
        assert before.flush(10)
        assert arrived(inspector) == {
            *((name, "before") for name in ("signal", "saytics", "analyse")),
            ("sessionsight", "signups"),
            ("analyse", "meanwhile"),
        }
        assert inspector.records(status="refused") == []
        assert before.stats().lanes["signal"].delivered == 1
    assert vendor.take() == []


@pytest.mark.parametrize(
    "options",
    [{}, {"disabled": True}, {"proxy": "http://127.0.0.1:9"}, {"flush": "inline", "strict": True}],
    ids=["no destination", "disabled", "behind a proxy", "inline"],
)
def test_a_client_without_destinations_delivers_to_all_vendors_of_the_inspector(options: dict[str, object]) -> None:
    client = Client(Settings(**options))  # type: ignore[arg-type]
    with run_inspector() as inspector:
        client.bind(user_id="user_1").capture("seen")
        inspector.wait(3)
        assert arrived(inspector) == ALL


def test_a_lane_keeps_its_name_and_its_options(vendor: Receiver) -> None:
    signal = Signal(
        name="signal_eu", api_key=lambda: "secret", project_id="shop", ingest_path="/other", endpoint=vendor.url
    )
    client = Client(Settings(destinations=(signal,), linger=0))
    with run_inspector() as inspector:
        client.analytics.only("signal_eu").capture("seen", user_id="user_1")
        [found] = inspector.wait(1, vendor="signal")
        assert client.stats().lanes["signal_eu"].captured == 1
        call = inspector._store.request(found.request_id)
        assert call is not None
        assert b"shop" in call.body
        assert "secret" not in repr(call)
    assert vendor.take() == []


def test_custom_transports_and_destinations_receive_nothing() -> None:
    box = Box()
    client = Client(Settings(destinations=(BoxDestination("box"),), linger=0), make_transport=lambda _: box)
    with run_inspector() as inspector:
        client.analytics.capture("seen", user_id="user_1")
        assert client.flush(10)
        inspector.captured.assert_captured("seen")
        assert arrived(inspector) == set()
    assert box.entries == {}


def test_records_queued_before_are_sent_after_the_inspector_has_ended(vendor: Receiver) -> None:
    vendor.script("/v1/batch", [Reply(status=503, headers={"retry-after": "300"})])
    client = client_of(vendor, "analyse")
    client.analytics.capture("queued", user_id="user_1")
    until(lambda: client.stats().lanes["analyse"].last_error is not None)
    assert names(vendor) == ["queued"]
    own = client._engine
    with run_inspector() as inspector:
        own.resume()
        assert not own.flush(time.monotonic() + 0.3)  # its lane must not send
        client.analytics.capture("meanwhile", user_id="user_1")
        assert client.flush(10)
        assert arrived(inspector) == {("analyse", "meanwhile")}
        assert names(vendor) == []
    assert client.flush(10)
    assert names(vendor) == ["queued"]
    assert client.stats().lanes["analyse"].delivered == 1


def test_an_inspector_cannot_be_overridden_and_the_previous_state_is_restored(vendor: Receiver) -> None:
    client = client_of(vendor, "analyse")
    before = (test_mode.active, test_mode.suppressed, test_mode.recording, test_mode.strict)
    with run_inspector() as outer:
        with allow_delivery(), record() as recorder:
            client.analytics.capture("seen", user_id="user_1")
            recorder.assert_captured("seen")
            outer.wait(1)
        with run_inspector() as inner:
            client.analytics.capture("inner", user_id="user_1")
            inner.wait(1)
        client.analytics.capture("outer", user_id="user_1")
        outer.wait(2)
        assert arrived(outer) == {("analyse", "seen"), ("analyse", "outer")}
    assert (test_mode.active, test_mode.suppressed, test_mode.recording, test_mode.strict) == before
    assert vendor.take() == []
    client.analytics.capture("after", user_id="user_1")
    assert client.flush(10)
    assert names(vendor) == ["after"]


def test_a_durable_spool_contains_no_record_of_a_test(vendor: Receiver, tmp_path: object) -> None:
    client = client_of(vendor, "analyse", spool=f"sqlite:///{tmp_path}/spool.db")
    with run_inspector() as inspector:
        client.analytics.capture("seen", user_id="user_1")
        inspector.wait(1)
    assert client.flush(10)
    assert client.stats().lanes["analyse"].captured == 0
    assert vendor.take() == []


def test_engines_are_stopped_with_the_inspector(vendor: Receiver) -> None:
    client, threads = client_of(vendor), set(threading.enumerate())
    with run_inspector() as inspector:
        client.analytics.capture("seen", user_id="user_1")
        inspector.wait(3)
    until(lambda: set(threading.enumerate()) <= threads)


@pytest.mark.processes
def test_a_started_process_delivers_nothing_and_a_forked_one_to_the_inspector(vendor: Receiver) -> None:
    program = (
        "from sessionsight import configure; import sys; c = configure(linger=0, destinations={'analyse': "
        "{'public_key': 'k', 'host': sys.argv[1]}}); c.analytics.capture('started', user_id='1'); c.flush(5)"
    )
    client = client_of(vendor, "analyse")
    with run_inspector() as inspector, allow_delivery():
        subprocess.run([sys.executable, "-c", program, vendor.url], timeout=60, check=True)
        if not (child := os.fork()):
            try:
                client.analytics.capture("forked", user_id="user_1")
                os._exit(not client.flush(20))
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert arrived(inspector) == {("analyse", "forked")}
    assert TESTING_VARIABLE not in os.environ
    assert vendor.take() == []
