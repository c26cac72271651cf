"""RQ, whose jobs run in processes of their own that end by os._exit."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.server import BIN, END, need
from tests.support.server import Server, free_port, until

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

redis = Redis(port=int(sys.argv[1]))
queue = Queue(connection=redis)
if sys.argv[3] == "early":
    import jobs
for number in range(3):
    queue.enqueue("jobs.charge", number)
queue.enqueue("jobs.charge_many", list(range(3, 6)))
queue.enqueue("jobs.charge_on_a_thread", 6)
kinds = {"Worker": Worker, "SpawnWorker": SpawnWorker, "SimpleWorker": SimpleWorker}
kinds[sys.argv[2]]([queue], connection=redis).work(burst=True)
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    """The port of a Redis server of the test's own."""
    need("rq", importlib.util.find_spec("rq"), "pip install rq")
    program = shutil.which("redis-server")
    need("redis-server", program, "apt-get install redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([str(program), *options], cwd=tmp_path, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, "Redis answers")
        yield port
    finally:
        process.kill()
        process.wait(END)


@pytest.mark.parametrize(
    ("worker", "imported"),
    [("Worker", "early"), ("Worker", "in the job"), ("SpawnWorker", "in the job"), ("SimpleWorker", "early")],
)
def test_what_jobs_capture_arrives(worker: str, imported: str, redis: int, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS, "utf-8")
    (tmp_path / "work.py").write_text(WORK, "utf-8")
    with Server() as vendor:
        subprocess.run(
            [sys.executable, "work.py", str(redis), worker, imported],
            cwd=tmp_path,
            env={
                "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
                "HOME": str(tmp_path),
                "PYTHONPATH": str(tmp_path),
                "VENDOR": vendor.url,
            },
            check=True,
            timeout=END,
        )

        events = [event for request in vendor.requests for event in request.json["events"]]
    assert sorted(event["properties"]["number"] for event in events) == list(range(7))
