"""A Dramatiq app for senders and workers, whose actors report under which context they run."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, Middleware, Pipelines, Retries, SkipMessage, TimeLimit

import sessionsight
from sessionsight.propagation.dramatiq import connect
from tests.core.propagation.contexts import report

MEETING = threading.Barrier(2)
"""Where two messages meet that are processed at the same time."""


class Skipping(Middleware):
    """Skips messages that ask for it."""

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        if message.options.get("skip"):
            raise SkipMessage


def middleware() -> list[Middleware]:
    retries: Middleware = Retries(min_backoff=1, max_backoff=1)
    return [AsyncIO(), Pipelines(), retries, TimeLimit(interval=20), Skipping()]


def redis_broker(url: str, name: str) -> RedisBroker:
    broker: RedisBroker = RedisBroker(url=url, namespace=name, middleware=middleware())  # type: ignore[no-untyped-call]
    declare(broker, name)
    return broker


def declare(broker: dramatiq.Broker, queue: str) -> None:
    """Declare the actors of a broker, and connect it."""
    connect(broker)

    def see(token: str) -> None:
        report(token)

    async def see_async(token: str) -> None:
        report(token)

    def send(token: str, user_id: str | None = None) -> None:
        if user_id is not None:
            sessionsight.current().identify(user_id)
        broker.get_actor("see_async").send(token)

    def fail(token: str) -> None:
        report(token)
        sessionsight.current().identify("another user")
        raise ValueError(token)

    def overrun(token: str) -> None:
        report(token)
        while True:
            time.sleep(0.001)

    async def overrun_async(token: str) -> None:
        report(token)
        await asyncio.sleep(3600)

    def meet(token: str) -> None:
        MEETING.wait(60)
        report(token)
        MEETING.wait(60)

    # Long enough for an actor to begin on a busy machine; one that is cancelled before that reports nothing.
    limited = {"max_retries": 0, "time_limit": 2000}
    actors: list[tuple[Any, dict[str, Any]]] = [(see, {}), (see_async, {}), (send, {}), (fail, {"max_retries": 2})]
    actors += [(overrun, limited), (overrun_async, limited), (meet, {})]
    for function, options in actors:
        dramatiq.actor(broker=broker, queue_name=queue, **options)(function)


if "WORKER" in os.environ:
    url, queue, vendor = os.environ["WORKER"].split()
    sessionsight.configure(
        destinations={"analyse": {"public_key": "pk_live_1", "host": vendor}}, linger=60, shutdown_timeout=60
    )
    broker = redis_broker(url, queue)
