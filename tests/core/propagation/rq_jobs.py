"""Jobs of RQ, whose client is set up by the module that contains them."""

from __future__ import annotations

import os

from rq import Queue, Retry, get_current_job

import sessionsight
from sessionsight.propagation.rq import connect
from tests.core.propagation.reports import configure, report

if "VENDOR" in os.environ:
    configure(os.environ["VENDOR"], **({"spool": os.environ["SPOOL"]} if "SPOOL" in os.environ else {}))


def see(token: str) -> None:
    report("seen", token)


def publish(token: str) -> None:
    report("seen", token)
    _enqueue(token)


def sign_in(token: str, user_id: str) -> None:
    sessionsight.current().identify(user_id)
    _enqueue(token)


def fail_once(token: str) -> None:
    running = get_current_job()
    assert running is not None
    report("seen", token, left=running.retries_left)
    if running.retries_left:
        raise ValueError("once")


def return_a_retry(token: str) -> Retry | None:
    running = get_current_job()
    assert running is not None
    report("seen", token)
    return None if running.number_of_retries else Retry(max=1)


def _enqueue(token: str) -> None:
    running = get_current_job()
    assert running is not None
    queue = Queue(running.origin, connection=running.connection)
    connect(queue)
    queue.enqueue(see, token, job_id=f"{running.id}-nested")


def fail(token: str) -> None:
    report("seen", token)
    raise ValueError("always")
