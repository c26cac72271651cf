"""Sends one marked record to each destination and reports the results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import EventRecord, Goal, Record, check_goal, random_bytes, record_id
from sessionsight.client import Client
from sessionsight.delivery.stats import LaneStats
from sessionsight.destinations.base import Destination
from sessionsight.diagnosis.configuration import check
from sessionsight.diagnosis.findings import DELIVERY_SUPPRESSED, Finding
from sessionsight.request.context import EMPTY_CONTEXT
from sessionsight.test_mode import test_mode

__all__ = ["TEST_EVENT", "send_test_event"]

TEST_EVENT = "sessionsight_test"
"""The name of the test event and of its user."""


def send_test_event(
    client: Client, timeout: float = 10.0, *, goal: str | None = None, session_id: str | None = None
) -> list[Finding]:
    """Send one marked record to each destination and report the results.

    It is the event `sessionsight_test` of the user `sessionsight_test`, with the property `test: true`.
    A goal is counted only if you name one, because it would remain in your figures. The record bypasses a durable
    spool, so that it does not wait for other records.

    Args:
        client: The client.
        timeout: Seconds to wait for all vendors together.
        goal: The slug of a goal to increment by one, for destinations that accept goals.
        session_id: The session that the goal is counted for, such as the `ss_sid` cookie of your own browser.

    Raises:
        InvalidGoalError: The goal or its session id is invalid.
    """
    if client.settings.disabled or not client.settings.destinations:
        found = check(client)[0]
        return [Finding(level="error", subject=found.subject, message=found.message, hint=found.hint)]
    if test_mode.suppressed:
        return [replace(DELIVERY_SUPPRESSED, level="error")]
    with _without_spool(client) as direct:
        return _send(direct, timeout, goal, session_id)


@contextmanager
def _without_spool(client: Client) -> Iterator[Client]:
    """Yield the client, or a copy that does not use its durable spool."""
    if not client.settings.durable:
        yield client
        return
    settings = replace(client.settings, spool="memory", delivery="background")
    direct = Client(settings, make_transport=client._make_transport)
    try:
        yield direct
    finally:
        direct.shutdown(0)


def _send(client: Client, timeout: float, goal: str | None, session_id: str | None) -> list[Finding]:
    before = client.stats().lanes
    sent: dict[str, Record] = {}
    for destination in client.settings.destinations:
        record = _test_record(destination, goal, session_id)
        if record is not None:
            sent[destination.name] = record
            client.submit(Batch([record], EMPTY_CONTEXT))
    _wait(client, sent, time.monotonic() + timeout)
    after = client.stats().lanes
    dead = {(letter.destination, record_id(letter.entry.record)): letter for letter in client.dead_letters()}
    findings: list[Finding] = []
    for destination in client.settings.destinations:
        name = destination.name
        if name not in sent:
            hint = "name one of your goals, and a session, to count it there"
            message = "not tested: it accepts goals, and none was named"
            findings.append(Finding(level="warning", subject=name, message=message, hint=hint))
        elif (letter := dead.get((name, record_id(sent[name])))) is not None:
            status = f", HTTP {letter.status}" if letter.status is not None else ""
            message = f"not delivered: {letter.reason}{status}, {letter.message}"
            findings.append(Finding(level="error", subject=name, message=message))
        else:
            findings.append(_outcome(name, sent[name], before[name], after[name], timeout))
    return findings


def _test_record(destination: Destination, goal: str | None, session_id: str | None) -> Record | None:
    only = frozenset({destination.name})
    if destination.supports(EventRecord):
        return EventRecord(
            name=TEST_EVENT,
            properties=b'{"test":true}',
            user_id=TEST_EVENT,
            random=random_bytes(),
            time=time.time(),
            destinations=only,
        )
    if goal is None:
        return None
    amount = check_goal(goal, None, session_id)
    return Goal(
        goal_id=goal,
        direction="increment",
        amount=amount,
        session_id=session_id,
        properties=b'{"test":true}',
        user_id=TEST_EVENT,
        random=random_bytes(),
        time=time.time(),
        destinations=only,
    )


def _wait(client: Client, names: Iterable[str], deadline: float) -> None:
    """Wait until all records are resolved, or all remaining lanes are paused, which only an operator can change."""
    while (remaining := deadline - time.monotonic()) > 0 and not client.flush(min(remaining, 0.2)):
        lanes = client.stats().lanes
        if all(lanes[name].state == "paused" for name in names if lanes[name].pending):
            return


def _outcome(name: str, record: Record, before: LaneStats, after: LaneStats, timeout: float) -> Finding:
    label = f"{record.kind} {record.label!r}"
    dropped = [reason for reason, number in after.dropped.items() if number > before.dropped.get(reason, 0)]
    if dropped:
        hint = ""
        if "no_session" in dropped:
            hint = "give a session id: the ss_sid cookie of your own browser"
        return Finding(level="error", subject=name, message=f"not delivered: dropped, {', '.join(dropped)}", hint=hint)
    if after.pending:
        why = after.last_error or "no reply yet"
        message = f"not delivered within {timeout:g} s: {why}"
        hint = "check the key and the URL" if after.state == "paused" else "check the network, or wait longer"
        if after.state == "paused":
            message = f"not delivered, the vendor rejects the key or the URL: {why}"
        return Finding(level="error", subject=name, message=message, hint=hint)
    return Finding(level="ok", subject=name, message=f"delivered: {label}")
