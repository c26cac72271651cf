"""Dramatiq's workers: in which context an actor runs, and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker

import sessionsight
from sessionsight import TrackingContext
from sessionsight.capture.current import get_current, set_default_client
from sessionsight.propagation.dramatiq import connect, disconnect
from tests.core.box import Recorder
from tests.core.propagation.contexts import carrier_of, context_of, reports
from tests.core.propagation.dramatiq_app import declare, middleware, redis_broker
from tests.support.brokers import need_redis
from tests.support.server import PATIENCE, Server
from tests.support.suites import WITHOUT_TRIO

ROOT = Path(__file__).parents[3]
START = 3 * PATIENCE
"""Seconds that a worker may take to start or to stop on a busy machine."""


class Leftovers(dramatiq.Middleware):
    """Notes, on the thread of each message, which analytics its processing has left current."""

    def __init__(self) -> None:
        self.found: list[object] = []

    def before_ack(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        self.found.append(get_current())

    before_nack = before_ack


class Shop:
    """A broker, its worker in this process, and the client of both."""

    def __init__(self, broker: dramatiq.Broker, worker: dramatiq.Worker, queue: str, leftovers: Leftovers) -> None:
        self.broker = broker
        self.worker = worker
        self.queue = queue
        self.leftovers = leftovers
        self.recorder: Recorder

    def message(self, actor: str, *arguments: Any, **options: Any) -> dramatiq.Message[Any]:
        return self.broker.get_actor(actor).message_with_options(args=arguments, **options)

    def send(self, actor: str, *arguments: Any, **options: Any) -> None:
        self.broker.enqueue(self.message(actor, *arguments), **options)

    def carriers(self, token: str) -> list[dict[str, str]]:
        """Wait until all messages are processed, and return the contexts that the actors have reported."""
        options: dict[str, Any] = {"fail_fast": False} if isinstance(self.broker, StubBroker) else {}
        self.broker.join(self.queue, timeout=int(PATIENCE * 1000), **options)
        self.worker.join()
        assert set(self.leftovers.found) == {None}
        return [event["carrier"] for event in reports(self.recorder, token)]


@pytest.fixture(scope="module", params=["in memory", "Redis"])
def worker(request: pytest.FixtureRequest) -> Iterator[Shop]:
    queue = f"test-{uuid4().hex[:12]}"
    if request.param == "in memory":
        broker: dramatiq.Broker = StubBroker(middleware=middleware())
        declare(broker, queue)
    else:
        broker = redis_broker(need_redis(), queue)
    leftovers = Leftovers()
    broker.add_middleware(leftovers)
    broker.emit_after("process_boot")  # starts the time limit
    worker = dramatiq.Worker(broker, worker_timeout=20, worker_threads=2)
    worker.start()
    try:
        yield Shop(broker, worker, queue, leftovers)
    finally:
        worker.stop(int(PATIENCE * 1000))
        clean_up(broker, queue)


def clean_up(broker: dramatiq.Broker, queue: str) -> None:
    if isinstance(broker, RedisBroker):
        for key in broker.client.scan_iter(f"{queue}*"):
            broker.client.delete(key)
    broker.close()


@pytest.fixture
def shop(worker: Shop, recorder: Recorder) -> Shop:
    set_default_client(recorder.client)
    worker.recorder = recorder
    worker.leftovers.found.clear()
    return worker


def test_an_actor_has_the_context_of_its_sender(shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send("see", "seen")
        shop.send("see_async", "seen")
        shop.send("see", "seen", delay=1)
    assert shop.carriers("seen") == [carrier_of("s-1")] * 3


def test_an_actor_without_a_context_has_an_empty_one(shop: Shop) -> None:
    shop.send("see", "seen")
    assert shop.carriers("seen") == [{}]


def test_a_refusal_of_consent_reaches_the_actor(shop: Shop) -> None:
    with sessionsight.scope(TrackingContext(opted_out=True)):
        shop.send("see", "seen")
    assert shop.carriers("seen") == []
    assert sum(shop.recorder.dropped().values()) == 1


def test_a_message_that_is_sent_again_has_the_context_of_its_sender(shop: Shop) -> None:
    message = shop.message("see", "seen")
    for session in ("s-1", "s-2"):
        with sessionsight.scope(context_of(session)):
            shop.broker.enqueue(message)
    shop.broker.enqueue(message)
    carriers = shop.carriers("seen")
    assert sorted(carrier.get("ss_sid", "") for carrier in carriers) == ["", "s-1", "s-2"]


def test_an_actor_passes_on_its_context_and_the_user_who_has_signed_in(shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send("send", "seen")
        shop.send("send", "signed in", "user-2")
        steps = [shop.message("see", "piped"), shop.message("see", "piped", pipe_ignore=True)]
        dramatiq.pipeline(steps, broker=shop.broker).run()  # type: ignore[no-untyped-call]
    assert shop.carriers("seen") == [carrier_of("s-1")]
    assert shop.carriers("signed in") == [carrier_of("s-1") | {"ss_user_id": "user-2"}]
    assert shop.carriers("piped") == [carrier_of("s-1")] * 2


def test_a_retry_has_the_context_of_the_first_attempt(shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send("fail", "failed")
    assert shop.carriers("failed") == [carrier_of("s-1")] * 3


@pytest.mark.parametrize("actor", ["overrun", "overrun_async"])
def test_what_an_actor_has_captured_before_its_time_limit_is_delivered(actor: str, shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send(actor, "overran")
    assert shop.carriers("overran") == [carrier_of("s-1")]


def test_a_message_that_is_skipped_leaves_no_context_to_the_next(shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.broker.enqueue(shop.message("see", "skipped", skip=True))
        shop.send("see", "seen")
    assert shop.carriers("skipped") == []
    assert shop.carriers("seen") == [carrier_of("s-1")]


def test_threads_do_not_mix_contexts(shop: Shop) -> None:
    for session in ("s-1", "s-2"):
        with sessionsight.scope(context_of(session)):
            shop.send("meet", "met")
    carriers = shop.carriers("met")
    assert sorted(carrier["ss_sid"] for carrier in carriers) == ["s-1", "s-2"]


def test_a_broker_that_is_not_connected_is_left_alone() -> None:
    broker = StubBroker()
    declare(broker, "default")
    dramatiq.set_broker(broker)
    connect()
    sessionsight.configure(destinations={"analyse": {"public_key": "..."}})
    with sessionsight.scope(context_of("s-1")):
        broker.get_actor("see").send("seen")
        disconnect()
        disconnect(broker)
        broker.get_actor("see").send("seen")
    queue = broker.queues["default"]
    options = [dramatiq.Message.decode(queue.get_nowait()).options for _ in range(2)]
    assert options == [{"sessionsight": carrier_of("s-1")}, {}]


@pytest.mark.processes
@pytest.mark.parametrize("program", ["dramatiq", "dramatiq-gevent"])
def test_a_worker_delivers_before_its_processes_exit(program: str) -> None:
    if program == "dramatiq-gevent":
        pytest.importorskip("gevent")
    url, queue = need_redis(), f"test-{uuid4().hex[:12]}"
    broker = redis_broker(url, queue)
    sessionsight.configure(destinations={"analyse": {"public_key": "..."}})
    with Server() as vendor, sessionsight.scope(context_of("s-1")):
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{WITHOUT_TRIO}",
            "WORKER": f"{url} {queue} {vendor.url}",
        }
        variables["dramatiq_worker_timeout"] = "50"  # milliseconds until an idle thread sees that it should end
        command = [str(Path(sys.prefix) / "bin" / program), "tests.core.propagation.dramatiq_app:broker"]
        process = subprocess.Popen(
            [*command, "--processes", "1", "--threads", "2"], cwd=ROOT, env=variables, start_new_session=True
        )
        try:
            for actor in ("see", "see_async"):
                broker.enqueue(broker.get_actor(actor).message("seen"))
            broker.join(queue, timeout=int(START * 1000))
            assert not vendor.requests  # the worker waits for more records
            process.terminate()
            assert process.wait(START) == 0
            events = [event["properties"] for request in vendor.requests for event in request.json["events"]]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(PATIENCE)
            clean_up(broker, queue)
    assert [event["carrier"] for event in events] == [carrier_of("s-1")] * 2
    assert {event["pid"] for event in events}.isdisjoint({os.getpid(), process.pid})
