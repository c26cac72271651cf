"""Huey's consumers: in which context a task runs, and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import huey.consumer  # type: ignore[import-untyped]
import pytest
from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey, chord, group

import sessionsight
from sessionsight import TrackingContext
from sessionsight.capture.current import get_current, set_default_client
from sessionsight.propagation.huey import connect, disconnect
from tests.core.box import Recorder
from tests.core.propagation.contexts import carrier_of, context_of, reports
from tests.core.propagation.huey_app import declare, task
from tests.support.brokers import need_redis
from tests.support.server import PATIENCE, Server, until
from tests.support.suites import WITHOUT_TRIO

ROOT = Path(__file__).parents[3]
START = 3 * PATIENCE
"""Seconds that a consumer may take to start or to stop on a busy machine."""


class Worker(huey.consumer.Worker):  # type: ignore[misc]
    """A worker that notes, after each task, which analytics it has left current."""

    left: ClassVar[set[object]] = set()

    def loop(self, now: Any = None) -> None:
        super().loop(now)
        self.left.add(get_current())


class Consumer(huey.consumer.Consumer):  # type: ignore[misc]
    worker_class = Worker


class Shop:
    """A Huey instance, whose consumer is in this process, and the client of both."""

    def __init__(self, huey: Huey, recorder: Recorder) -> None:
        self.huey = huey
        self.recorder = recorder

    def send(self, name: str, *arguments: Any, **options: Any) -> Any:
        return self.huey.enqueue(task(self.huey, name, *arguments, **options))

    def events(self, token: str, number: int) -> list[Any]:
        """Wait for the events about a token, and return their properties."""
        until(lambda: len(reports(self.recorder, token)) >= number, f"there are {number} events about {token}")
        assert Worker.left <= {None}
        return reports(self.recorder, token)

    def carriers(self, token: str, number: int = 1) -> list[dict[str, str]]:
        return [event["carrier"] for event in self.events(token, number)]


@pytest.fixture(scope="module", params=["Redis", "SQLite"])
def consumed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Huey]:
    if request.param == "Redis":
        made: Huey = RedisHuey(f"test-{uuid4().hex[:12]}", url=need_redis())
    else:
        made = SqliteHuey("shop", filename=str(tmp_path_factory.mktemp("huey") / "huey.db"))
    declare(made)
    consumer = Consumer(made, workers=2, initial_delay=0.01, max_delay=0.02)
    threads = [consumer.scheduler, *(thread for _, thread in consumer.worker_threads)]
    for thread in threads:  # not by `start`, which installs signal handlers
        thread.start()
    yield made
    consumer.stop_flag.set()
    for thread in threads:
        thread.join(PATIENCE)
    made.flush()
    made.storage.close()


@pytest.fixture
def shop(consumed: Huey, recorder: Recorder) -> Shop:
    set_default_client(recorder.client)
    return Shop(consumed, recorder)


@pytest.fixture
def immediate(recorder: Recorder) -> Shop:
    """An app whose tasks run where they are enqueued."""
    set_default_client(recorder.client)
    made = MemoryHuey(immediate=True)
    declare(made)
    return Shop(made, recorder)


def test_a_task_has_the_context_of_the_code_that_enqueues_it(shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send("see", "seen")
        shop.huey.enqueue(group([task(shop.huey, "see", "seen"), task(shop.huey, "see", "seen")]))
    events = shop.events("seen", 3)
    assert [event["carrier"] for event in events] == [carrier_of("s-1")] * 3
    assert [event["options"] for event in events] == [{}] * 3


def test_a_task_that_is_scheduled_or_retried_later_has_the_context_of_the_code_that_enqueues_it(shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send("see", "seen", eta=shop.huey._get_timestamp() + timedelta(milliseconds=50))
        shop.send("end", "retried", "retry later")
    assert shop.carriers("seen") == [carrier_of("s-1")]
    assert shop.carriers("retried", 2) == [carrier_of("s-1")] * 2


def test_a_task_without_a_context_has_an_empty_one(shop: Shop) -> None:
    shop.send("see", "seen")
    assert shop.carriers("seen") == [{}]


def test_a_periodic_task_has_an_empty_context(immediate: Shop) -> None:
    immediate.huey.immediate = False
    for due in immediate.huey.read_periodic(None):
        immediate.huey.enqueue(due)
    Worker(immediate.huey, threading.Event(), 0.1, 0.1, 1).loop()
    assert immediate.carriers("tick") == [{}]


def test_a_refusal_of_consent_reaches_the_task(shop: Shop) -> None:
    with sessionsight.scope(TrackingContext(opted_out=True)):
        result = shop.send("see", "seen")
    assert result.get(blocking=True, timeout=PATIENCE) == "seen"
    until(shop.recorder.dropped, "the record is dropped")
    assert sum(shop.recorder.dropped().values()) == 1


def test_a_task_that_is_enqueued_again_has_the_context_of_who_enqueues_it(shop: Shop) -> None:
    again = task(shop.huey, "see", "seen")
    for number, session in enumerate(("s-1", "s-2"), 1):
        with sessionsight.scope(context_of(session)):
            shop.huey.enqueue(again)
        shop.events("seen", number)
    shop.huey.enqueue(again)
    assert shop.carriers("seen", 3) == [carrier_of("s-1"), carrier_of("s-2"), {}]


def test_each_task_of_a_workflow_has_the_context_of_the_first(shop: Shop) -> None:
    see = [task(shop.huey, "see", "seen") for _ in range(4)]
    with sessionsight.scope(context_of("s-1")):
        shop.huey.enqueue(see[0].then(see[1]))
        shop.huey.enqueue(chord([see[2], see[3]], task(shop.huey, "collect")))
        shop.huey.enqueue(task(shop.huey, "end", "ended", "cancel").error(task(shop.huey, "see", "error")))
    assert shop.carriers("seen", 4) == [carrier_of("s-1")] * 4
    assert shop.carriers("collected") == [carrier_of("s-1")]
    assert [event["results"] for event in shop.events("collected", 1)] == [["seen", "seen"]]


def test_a_task_passes_on_its_context_and_the_user_who_has_signed_in(shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send("send", "seen")
        shop.send("send", "signed in", "user-2")
    assert shop.carriers("seen") == [carrier_of("s-1")]
    assert shop.carriers("signed in") == [carrier_of("s-1") | {"ss_user_id": "user-2"}]


@pytest.mark.parametrize("how", ["fail", "retry"])
def test_a_retry_has_the_context_of_the_first_attempt(how: str, shop: Shop) -> None:
    with sessionsight.scope(context_of("s-1")):
        shop.send("end", "ended", how)
    events = shop.events("ended", 2)
    assert [event["carrier"] for event in events][:2] == [carrier_of("s-1")] * 2
    assert [event["arguments"] for event in events][:2] == [["ended", how]] * 2


def test_a_revoked_task_leaves_no_context_to_the_next(shop: Shop) -> None:
    revoked = task(shop.huey, "see", "revoked")
    shop.huey.revoke(revoked)
    with sessionsight.scope(context_of("s-1")):
        shop.huey.enqueue(revoked)
    shop.send("see", "seen")
    assert shop.carriers("seen") == [{}]
    assert "revoked" not in shop.recorder.events()


def test_threads_do_not_mix_contexts(shop: Shop) -> None:
    for session in ("s-1", "s-2"):
        with sessionsight.scope(context_of(session)):
            shop.send("meet", "met")
    assert sorted(carrier["ss_sid"] for carrier in shop.carriers("met", 2)) == ["s-1", "s-2"]


def test_a_task_in_immediate_mode_has_the_context_and_leaves_it_as_it_was(immediate: Shop) -> None:
    with sessionsight.scope(context_of("s-1")) as analytics:
        immediate.send("send", "seen")
        immediate.send("end", "ended", "fail")
        assert sessionsight.current() is analytics
    immediate.send("see", "alone")
    assert immediate.carriers("seen") == [carrier_of("s-1")]
    assert immediate.carriers("ended", 2) == [carrier_of("s-1")] * 2
    assert immediate.carriers("alone") == [{}]


def test_an_instance_that_is_not_connected_is_left_alone(immediate: Shop) -> None:
    immediate.huey.immediate = False
    connect(immediate.huey)
    with sessionsight.scope(context_of("s-1")):
        immediate.send("see", "seen")
        disconnect(immediate.huey)
        disconnect(immediate.huey)
        immediate.send("see", "seen")
    found = [waiting.kwargs for waiting in immediate.huey.pending()]
    assert found == [{"_sessionsight": carrier_of("s-1")}, {}]


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["process", "greenlet"])
def test_a_consumer_delivers_before_it_exits(kind: str, tmp_path: Path) -> None:
    if kind == "greenlet":
        pytest.importorskip("gevent")
    file = str(tmp_path / "huey.db")
    made = SqliteHuey("shop", filename=file)
    declare(made)
    sessionsight.configure(destinations={"analyse": {"public_key": "..."}})
    with Server() as vendor, sessionsight.scope(context_of("s-1")):
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{WITHOUT_TRIO}",
            "WORKER": f"{file} {vendor.url}",
        }
        patched = ["-m", "gevent.monkey", "--module"] if kind == "greenlet" else ["-m"]
        command = [sys.executable, *patched, "huey.bin.huey_consumer", "tests.core.propagation.huey_app.huey"]
        command += ["--worker-type", kind, "--workers", "2", "--no-periodic", "--delay", "0.02", "--max-delay", "0.02"]
        process = subprocess.Popen(command, cwd=ROOT, env=variables, start_new_session=True)
        try:
            made.enqueue(task(made, "end", "seen", "overrun", timeout=0.1, retries=0))
            assert made.enqueue(task(made, "see", "seen")).get(blocking=True, timeout=START) == "seen"
            until(made.result_count, "the other task has ended")
            assert not vendor.requests  # the worker waits for more records
            process.send_signal(signal.SIGINT)
            assert process.wait(START) == 0
            events = [event for request in vendor.requests for event in request.json["events"]]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(PATIENCE)
            made.storage.close()
    seen = [event["properties"] for event in events if event["event_name"] == "seen"]
    assert [event["carrier"] for event in seen] == [carrier_of("s-1")] * 2
    assert ({event["pid"] for event in seen} == {process.pid}) == (kind == "greenlet")
