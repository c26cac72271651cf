"""Runs a worker of RQ: its class, the URL of Redis, and the name of its queue."""

import sys

from redis import Redis
from rq import Queue, SpawnWorker, Worker

from sessionsight.propagation.rq import connect

if __name__ == "__main__":
    kind, url, name = sys.argv[1:]
    redis = Redis.from_url(url)
    connect(Queue, Worker)
    worker = {"Worker": Worker, "SpawnWorker": SpawnWorker}[kind]([name], name=f"{name}-worker", connection=redis)
    worker.work(with_scheduler=True, logging_level="WARNING")
