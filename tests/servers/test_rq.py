"""RQ, whose jobs run in processes of their own that end by os._exit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from tests.servers.server import BIN, END
from tests.support.brokers import need_redis
from tests.support.server import Server
from tests.support.suites import WITHOUT_TRIO

pytestmark = pytest.mark.servers

JOBS = """
import os
import threading

import sessionsight

client = sessionsight.configure(destinations={"analyse": {"public_key": "pk_live_1", "host": os.environ["VENDOR"]}})


def charge(number):
    client.analytics.capture("charged", {"number": number}, user_id="user_1")


def charge_many(numbers):
    with sessionsight.scope(flush=True) as analytics:
        for number in numbers:
            analytics.capture("charged", {"number": number}, user_id="user_1")


def charge_on_a_thread(number):
    thread = threading.Thread(target=charge, args=(number,))
    thread.start()
    thread.join()
"""
WORK = """
import sys

from redis import Redis
from rq import Queue, SimpleWorker, SpawnWorker, Worker

url, name, kind, imported = sys.argv[1:]
redis = Redis.from_url(url)
queue = Queue(name, connection=redis)
if imported == "early":
    import jobs
for number in range(3):
    queue.enqueue("jobs.charge", number, job_id=f"{name}-{number}")
queue.enqueue("jobs.charge_many", list(range(3, 6)), job_id=f"{name}-3")
queue.enqueue("jobs.charge_on_a_thread", 6, job_id=f"{name}-6")
kinds = {"Worker": Worker, "SpawnWorker": SpawnWorker, "SimpleWorker": SimpleWorker}
kinds[kind]([queue], name=f"{name}-worker", connection=redis).work(burst=True)
"""


@pytest.fixture
def queue() -> Iterator[tuple[str, str]]:
    """The URL of Redis, and the name of a queue of the test's own."""
    url, name = need_redis(), f"test-{uuid4().hex[:12]}"
    yield url, name
    with Redis.from_url(url) as redis:
        for key in redis.scan_iter(f"*{name}*"):
            redis.delete(key)
        redis.srem("rq:queues", f"rq:queue:{name}")


@pytest.mark.parametrize(
    ("worker", "imported"),
    [("Worker", "early"), ("Worker", "in the job"), ("SpawnWorker", "in the job"), ("SimpleWorker", "early")],
)
def test_what_jobs_capture_arrives(worker: str, imported: str, queue: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS, "utf-8")
    (tmp_path / "work.py").write_text(WORK, "utf-8")
    with Server() as vendor:
        subprocess.run(
            [sys.executable, "work.py", *queue, worker, imported],
            cwd=tmp_path,
            env={
                "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
                "HOME": str(tmp_path),
                "PYTHONPATH": f"{tmp_path}:{WITHOUT_TRIO}",
                "VENDOR": vendor.url,
            },
            check=True,
            timeout=END,
        )

        events = [event for request in vendor.requests for event in request.json["events"]]
    assert sorted(event["properties"]["number"] for event in events) == list(range(7))
