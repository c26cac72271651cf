"""Huey tasks for an app and its consumer, which report under which context they run."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from huey import CancelExecution, Huey, RetryTask, SqliteHuey, crontab  # type: ignore[import-untyped]

import sessionsight
from sessionsight.propagation.huey import connect
from tests.core.propagation.contexts import report

MEETING = threading.Barrier(2)
"""Where two tasks meet that run at the same time."""


def declare(huey: Huey) -> None:
    """Declare the tasks of an instance, and connect it."""
    connect(huey)
    retried: set[str] = set()

    def see(token: str, *results: Any, **options: Any) -> str:
        report(token, options=options)
        return token

    def collect(results: list[str]) -> None:
        report("collected", results=results)

    def send(token: str, user_id: str | None = None) -> None:
        if user_id is not None:
            sessionsight.current().identify(user_id)
        huey.enqueue(task(huey, "see", token))

    def end(token: str, how: str, task: Any = None) -> None:
        report(token, arguments=[*task.args, *task.kwargs])
        sessionsight.current().identify("another user")
        if how == "overrun":
            time.sleep(60)
        if how == "fail":
            raise ValueError(how)
        if how == "cancel":
            raise CancelExecution(retry=False)
        if task.id not in retried:
            retried.add(task.id)
            raise RetryTask(delay=0.01 if how == "retry later" else None)

    def meet(token: str) -> None:
        MEETING.wait(60)
        report(token)
        MEETING.wait(60)

    def tick() -> None:
        report("tick")

    for function in (see, collect, send, meet):
        huey.task()(function)
    huey.task(retries=1, context=True)(end)
    huey.periodic_task(crontab())(tick)


def task(huey: Huey, name: str, *arguments: Any, **options: Any) -> Any:
    """Return a task that is not enqueued."""
    return huey._registry.string_to_task(f"{__name__}.{name}")(arguments, **options)


if "WORKER" in os.environ:
    file, vendor = os.environ["WORKER"].split()
    sessionsight.configure(
        destinations={"analyse": {"public_key": "pk_live_1", "host": vendor}}, linger=60, shutdown_timeout=60
    )
    huey = SqliteHuey("shop", filename=file)
    declare(huey)
