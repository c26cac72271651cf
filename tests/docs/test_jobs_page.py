"""The code of the page on jobs runs, in workers of this process: a job has the context of its publisher."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from celery.contrib.testing.worker import start_worker  # type: ignore[import-untyped]
from redis import Redis
from rq import Queue, SimpleWorker

import sessionsight
from sessionsight import TrackingContext
from sessionsight.propagation import celery, rq
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
