"""The code of the page on jobs runs, in workers of this process: a job has the context of its publisher."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
import django
import dramatiq
import huey.consumer  # type: ignore[import-untyped]
import pytest
from apscheduler.events import EVENT_JOB_EXECUTED  # type: ignore[import-untyped]
from celery.contrib.testing.worker import start_worker  # type: ignore[import-untyped]
from redis import Redis
from rq import Queue, SimpleWorker

import sessionsight
from sessionsight import TrackingContext
from sessionsight.propagation import celery, django_tasks, rq
from sessionsight.testing import record
from tests.support.brokers import need_redis
from tests.support.pages import block, run
from tests.support.server import PATIENCE, until

PAGE = "docs/jobs.md"
CONTEXT = TrackingContext.from_carrier({"ss_sid": "6f1d2c3b", "ss_user_id": "user_1"})


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSIGHT_SECRET_API_KEY", "...")
    monkeypatch.setenv("SESSIONSIGHT_PROPERTY_ID", "...")


def test_the_pages_celery_task_counts_in_the_session_of_its_publisher() -> None:
    example = run(block(PAGE, "celery").replace("redis://127.0.0.1:6379/0", "memory://"))
    app = example["app"]
    try:
        with record() as recorded, start_worker(app, perform_ping_check=False, shutdown_timeout=PATIENCE):
            with sessionsight.scope(CONTEXT):
                example["view"](None)
            until(lambda: recorded.goals, "the task has run")
    finally:
        celery.disconnect(app)
    assert [(goal.context, goal.name) for goal in recorded.goals] == [(CONTEXT, "monthly-revenue")]


def test_the_pages_rq_job_counts_in_the_session_of_its_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs.py").write_text(block(PAGE, "rq-jobs"), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    url, name = need_redis(), f"test-{uuid4().hex[:12]}"

    def local(code: str) -> str:
        code = code.replace("Redis()", f"Redis.from_url({url!r})").replace('"shop"', repr(name))
        code = code.replace("Worker", "SimpleWorker").replace("work()", "work(burst=True, logging_level='CRITICAL')")
        return code.replace('"ord_1"', f'"ord_1", job_id="{name}-1"')

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    sessionsight.configure()
    try:
        with record() as recorded:
            with sessionsight.scope(CONTEXT):
                run(local(block(PAGE, "rq-publisher")))["view"](None)
            run(local(block(PAGE, "rq-worker")))
    finally:
        rq.disconnect(Queue, SimpleWorker)
        sys.modules.pop("jobs", None)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        with Redis.from_url(url) as redis:
            for key in redis.scan_iter(f"*{name}*"):
                redis.delete(key)
            redis.srem("rq:queues", f"rq:queue:{name}")
    assert [(goal.context, goal.name) for goal in recorded.goals] == [(CONTEXT, "monthly-revenue")]


def test_the_pages_dramatiq_actor_counts_in_the_session_of_its_sender() -> None:
    stub = "dramatiq.brokers.stub import StubBroker as RedisBroker"
    example = run(block(PAGE, "dramatiq").replace("dramatiq.brokers.redis import RedisBroker", stub))
    worker = dramatiq.Worker(example["broker"], worker_timeout=20, worker_threads=1)
    worker.start()
    with record() as recorded, sessionsight.scope(CONTEXT):
        example["view"](None)
        example["broker"].join("default", timeout=int(PATIENCE * 1000))
    worker.stop()
    assert [(goal.context, goal.name) for goal in recorded.goals] == [(CONTEXT, "monthly-revenue")]


def test_the_pages_huey_task_counts_in_the_session_of_the_code_that_enqueues_it() -> None:
    example = run(block(PAGE, "huey").replace("RedisHuey", "MemoryHuey"))
    with record() as recorded:
        with sessionsight.scope(CONTEXT):
            example["view"](None)
        huey.consumer.Worker(example["huey"], threading.Event(), 0.1, 0.1, 1).loop()
    assert [(goal.context, goal.name) for goal in recorded.goals] == [(CONTEXT, "monthly-revenue")]


def test_the_pages_django_task_counts_in_the_session_of_the_code_that_enqueues_it() -> None:
    sessionsight.configure()
    package = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
    example = run(block(PAGE, "django-tasks").replace("django.tasks", package))
    run(block(PAGE, "django-app"))["ShopConfig"].ready(None)
    try:
        with record() as recorded, sessionsight.scope(CONTEXT):
            example["view"](None)
    finally:
        django_tasks.disconnect()
    assert [(goal.context, goal.name) for goal in recorded.goals] == [(CONTEXT, "monthly-revenue")]


def test_the_pages_cron_job_names_its_users() -> None:
    with record() as recorded:
        run(block(PAGE, "cron"))
    assert [event.user_id for event in recorded.events] == ["user_1", "user_2"]


def test_the_pages_scheduled_job_has_the_context_of_the_request_that_schedules_it() -> None:
    sessionsight.configure()
    example = run(block(PAGE, "apscheduler"))
    scheduler, done = example["scheduler"], threading.Event()
    scheduler.add_listener(lambda _: done.set(), EVENT_JOB_EXECUTED)
    scheduler.start()
    with record() as recorded:
        with sessionsight.scope(CONTEXT):
            example["view"](None, datetime.now())
        assert done.wait(PATIENCE)
    scheduler.shutdown()
    assert [(event.context, event.name) for event in recorded.events] == [(CONTEXT, "reminded")]
