"""The order of jobs, with a simulated clock and without a vendor."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest

from sessionsight.capture.records import Identify, QueuedRecord
from sessionsight.delivery.before_send import BeforeSendFilter
from sessionsight.delivery.queue.memory import MemoryQueue
from sessionsight.delivery.schedule import Job, JobSchedule
from sessionsight.destinations.base import Limits
from sessionsight.log import LaneLogger, ThrottledLogger
from sessionsight.request.context import EMPTY_CONTEXT
from tests.core.delivery.kit import batches, event, labels, make_queue, quick

NEVER = float("inf")


def schedule(queue: MemoryQueue, *, linger: float = 0.0, **options: Any) -> JobSchedule:
    settings = quick(**options)
    vendor = batches("http://127.0.0.1:1")
    before_send = BeforeSendFilter(settings.before_send, vendor, queue, LaneLogger(vendor.name, ThrottledLogger()))
    return JobSchedule(queue, Limits(max_records=2), linger, before_send)


def job(*names: str) -> Job:
    return Job(entries=[event(name) for name in names])


def named(found: tuple[Job | None, float]) -> Sequence[str]:
    return labels(found[0].entries) if found[0] is not None else []


def test_parts_precede_retries_which_precede_new_records() -> None:
    queue = make_queue()
    queue.enqueue([event("new")])
    now = time.monotonic()
    waiting = schedule(queue)
    waiting.schedule_retry(job("again"), now)
    waiting.push_front([job("first"), job("second")])

    assert [named(waiting.next(now, probing=False)) for _ in range(4)] == [["first"], ["second"], ["again"], ["new"]]
    assert waiting.next(now, probing=False) == (None, NEVER)


def test_a_retry_waits_for_its_time_unless_the_vendor_is_probed() -> None:
    now = time.monotonic()
    waiting = schedule(make_queue())
    later = job("later")
    waiting.schedule_retry(later, now + 5)

    assert waiting.next(now, probing=False)[0] is None
    assert waiting.next(now, probing=False)[1] == pytest.approx(5.0)
    assert later in waiting
    assert waiting.next(now, probing=True) == (later, 0.0)
    assert later not in waiting


def test_retry_now_makes_retries_due() -> None:
    now = time.monotonic()
    waiting = schedule(make_queue())
    waiting.schedule_retry(job("later"), now + 5)

    waiting.retry_now(now)

    assert named(waiting.next(now, probing=False)) == ["later"]


def test_every_second_probe_sends_new_records() -> None:
    queue, now = make_queue(), time.monotonic()
    queue.enqueue([event(name) for name in "abcd"])
    waiting = schedule(queue)
    tried = []
    for _ in range(4):
        found, _ = waiting.next(now, probing=True)
        assert found is not None
        tried.append(labels(found.entries))
        waiting.schedule_retry(found, now)

    assert tried == [["a", "b"], ["c", "d"], ["a", "b"], ["c", "d"]]


def test_a_record_lingers_unless_a_flush_is_in_progress() -> None:
    queue = make_queue()
    queue.enqueue([event("a")])
    since = queue.depth()[2]
    assert since is not None
    waiting = schedule(queue, linger=60.0)

    assert waiting.next(since + 50, probing=False)[0] is None
    assert waiting.next(since + 50, probing=False)[1] == pytest.approx(10.0)
    waiting.flushing = True
    assert named(waiting.next(since + 50, probing=False)) == ["a"]


def test_records_dropped_by_before_send_make_no_job() -> None:
    queue = make_queue()
    queue.enqueue([event("a"), event("b"), event("c")])
    waiting = schedule(queue, before_send=lambda record, destination: None if record["name"] in "ab" else record)

    assert waiting.next(time.monotonic(), probing=False) == (None, 0.0)
    assert named(waiting.next(time.monotonic(), probing=False)) == ["c"]


def identified(*users: str) -> list[QueuedRecord]:
    return [QueuedRecord(Identify(random=os.urandom(10), time=0.0, user_id=user), EMPTY_CONTEXT) for user in users]


def test_blocked_records_come_next_once_the_earlier_ones_are_settled() -> None:
    queue = make_queue()
    waiting = schedule(queue)
    queue.enqueue([*identified("u1", "u2", "u1", "u1"), event("a")])
    now = time.monotonic()
    first, second, third = (waiting.next(now, probing=False)[0] for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None

    assert waiting.admit(first)
    assert not waiting.admit(second), "both are about a person of the first job"
    assert waiting.admit(third), "events do not wait"
    assert waiting.next(now, probing=False)[0] is None

    waiting.unblock(first.pop_entries())
    released, _ = waiting.next(now, probing=False)
    assert released is not None
    assert waiting.admit(released)
    assert [entry.user_id for entry in released.entries] == ["u1", "u1"]


def test_the_order_is_given_up_when_too_many_records_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[JobSchedule.__module__], "_MAX_BLOCKED", 3)
    queue = make_queue()
    waiting = schedule(queue)
    queue.enqueue(identified(*["u1"] * 8))
    jobs = [found for _ in range(4) if (found := waiting.next(time.monotonic(), probing=False)[0]) is not None]

    assert [waiting.admit(each) for each in jobs] == [True, False, True, True]
