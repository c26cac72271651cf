"""RQ's workers, by a real Redis: in which context a job runs, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from rq import Queue, Retry, SimpleWorker
from rq.job import Job
from rq.worker import BaseWorker

import sessionsight
from sessionsight import ConfigurationError, TrackingContext
from sessionsight.propagation.rq import TrackedJob, connect, disconnect
from tests.core.propagation import rq_jobs
from tests.core.propagation.reports import Shop, carrier_of, context_of
from tests.support.brokers import need_redis
from tests.support.server import PATIENCE, Server
from tests.support.suites import WITHOUT_TRIO

pytestmark = [pytest.mark.servers, pytest.mark.processes]

ROOT = Path(__file__).parents[3]


class Site(Shop):
    """A publisher and a worker that are connected by a queue; a worker in this process runs when it is told to."""

    def __init__(self, queue: Queue, vendor: Server, worker: BaseWorker | None) -> None:
        super().__init__(vendor)
        self.queue = queue
        self.worker = worker
        self._numbers = count()

    def enqueue(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        self.queue.enqueue(function, *arguments, job_id=self.new_id(), **options)

    def new_id(self) -> str:
        return f"{self.queue.name}-{next(self._numbers)}"

    def work(self) -> None:
        if self.worker is not None:
            self.worker.work(burst=True, with_scheduler=True, logging_level="CRITICAL")


@contextlib.contextmanager
def site(kind: str, **variables: str) -> Iterator[Site]:
    url, name = need_redis(), f"test-{uuid4().hex[:12]}"
    with Server() as vendor, Redis.from_url(url) as redis:
        queue = Queue(name, connection=redis)
        connect(queue)
        worker = None
        try:
            if kind == "SimpleWorker":
                worker = SimpleWorker([queue], name=f"{name}-worker", connection=redis)
                connect(worker)
                yield Site(queue, vendor, worker)
            else:
                with process(kind, url, name, vendor, **variables):
                    yield Site(queue, vendor, None)
        finally:
            for key in redis.scan_iter(f"*{name}*"):
                redis.delete(key)
            redis.srem("rq:queues", f"rq:queue:{name}")


@contextlib.contextmanager
def process(kind: str, url: str, name: str, vendor: Server, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.core.propagation.rq_worker", kind, url, name],
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": WITHOUT_TRIO, "VENDOR": vendor.url, **variables},
        start_new_session=True,
    )
    try:
        yield worker
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(PATIENCE)


@pytest.fixture(scope="module")
def sites() -> Iterator[Callable[[str], Site]]:
    """Returns the site of each kind of worker, which all tests share."""
    with contextlib.ExitStack() as running:
        yield cache(lambda kind: running.enter_context(site(kind)))


@pytest.fixture(params=["Worker", "SimpleWorker"])
def shop(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Iterator[Site]:
    """A site whose client is that of this process."""
    found = sites(request.param)
    found.configure()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield found
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_job_has_the_context_and_the_user_of_its_publisher(shop: Site, token: str) -> None:
    queue = shop.queue
    with sessionsight.scope(context_of(token)):
        shop.enqueue(rq_jobs.see, token, meta={"own": "meta"})
        queue.enqueue_in(timedelta(0), rq_jobs.see, token, job_id=shop.new_id())
        queue.enqueue_many([queue.prepare_data(rq_jobs.see, (token,), job_id=shop.new_id()) for _ in range(2)])
        shop.work()
    assert shop.carriers(4, token) == [carrier_of(token)] * 4


@pytest.mark.parametrize("how", [rq_jobs.fail_once, rq_jobs.return_a_retry])
def test_a_retry_has_the_context_of_the_first_attempt(how: Callable[..., Any], shop: Site, token: str) -> None:
    with sessionsight.scope(context_of(token)):
        shop.enqueue(how, token, retry=Retry(max=1) if how is rq_jobs.fail_once else None)
    shop.work()
    assert shop.carriers(2, token) == [carrier_of(token)] * 2


def test_a_job_that_a_job_enqueues_has_its_context_and_the_user_who_has_signed_in(shop: Site, token: str) -> None:
    with sessionsight.scope(context_of(token)):
        shop.enqueue(rq_jobs.publish, token)
        shop.enqueue(rq_jobs.sign_in, token, "user-2")
    shop.work()
    carriers = shop.carriers(3, token)
    assert carriers.count(carrier_of(token)) == 2
    assert carriers.count(carrier_of(token) | {"ss_user_id": "user-2"}) == 1


def test_a_job_without_a_context_has_an_empty_one_also_after_one_that_has_failed(shop: Site, token: str) -> None:
    with sessionsight.scope(context_of(token)):
        shop.enqueue(rq_jobs.fail, token)
    shop.enqueue(rq_jobs.see, token)
    shop.work()
    assert shop.carriers(2, token) == [carrier_of(token), {}]


def test_a_refusal_of_consent_reaches_the_job(shop: Site, token: str) -> None:
    with sessionsight.scope(TrackingContext(opted_out=True)):
        shop.enqueue(rq_jobs.see, token)
    shop.enqueue(rq_jobs.see, token)
    shop.work()
    assert shop.carriers(1, token) == [{}]


def test_a_spawned_work_horse_sets_up_its_client_before_the_context(sites: Callable[[str], Site], token: str) -> None:
    shop = sites("SpawnWorker")
    shop.configure()
    with sessionsight.scope(context_of(token)):
        shop.enqueue(rq_jobs.see, token)
    assert shop.carriers(1, token) == [carrier_of(token)]


def test_records_in_a_durable_spool_are_delivered_before_the_work_horse_exits(tmp_path: Path, token: str) -> None:
    with site("Worker", SPOOL=f"sqlite:///{tmp_path}/spool.db") as shop:
        shop.enqueue(rq_jobs.see, token)
        assert shop.carriers(1, token) == [{}]


def test_a_job_class_of_the_apps_own_must_derive_from_ours() -> None:
    class OwnJob(Job):
        pass

    class OurJob(TrackedJob):
        pass

    queue = Queue("shop", connection=Redis(), job_class=OwnJob)
    with pytest.raises(ConfigurationError, match=r"the job class OwnJob of .* must derive from .*\.TrackedJob"):
        connect(queue)
    queue.job_class = OurJob
    connect(queue)
    disconnect(queue)
    assert queue.job_class is OurJob


def test_a_class_is_connected_for_all_its_instances_until_it_is_disconnected() -> None:
    class OwnQueue(Queue):
        pass

    queue = OwnQueue("shop", connection=Redis())
    connect(OwnQueue)
    connect(OwnQueue)
    assert queue.job_class is TrackedJob
    disconnect(OwnQueue)
    disconnect(OwnQueue)
    assert queue.job_class is Job
