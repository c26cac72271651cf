"""Answers to "why does nothing arrive?": checks the configuration, sends a test event, prints the ledger.

The commands of Flask and Django print what these functions return. Nothing here shows a key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.client import Client
from sessionsight.collector import Batch
from sessionsight.context import EMPTY_CONTEXT
from sessionsight.delivery.ledger import LaneStats
from sessionsight.destinations.base import Destination, Secret, is_loopback, reveal
from sessionsight.diversion import VARIABLE, diversion
from sessionsight.entropy import entropy
from sessionsight.errors import ConfigurationError, SessionSightError, one_line
from sessionsight.records import Event, Goal, Record, check_goal, record_id
from sessionsight.settings import Settings, environment_variables

__all__ = ["TEST_EVENT", "Finding", "check", "failed", "report_lines", "send_test_event", "stats_lines"]

TEST_EVENT = "sessionsight_test"
"""The name of the test event, and the user that it is about."""

_PRODUCTION = ("sk_live_", "pk_live_", "sessionsight_sec_")
_NO_DESTINATION = "set the keys of a vendor in the environment, such as SIGNAL_API_KEY, or the `destinations` setting"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what was found.

    Example:
        >>> report_lines([Finding(level="warning", subject="strict", message="is on", hint="turn it off")])
        ['warning  strict  is on', '                 turn it off']
    """

    level: Literal["ok", "warning", "error"]
    """`error`: records do not arrive. `warning`: they may not, or go elsewhere than you think."""
    subject: str
    """A destination's name, or a setting's."""
    message: str
    """What was found; never a key."""
    hint: str = ""
    """What to do about it; empty when nothing needs to be done."""


_HELD = Finding(
    level="warning",
    subject="testing",
    message="nothing is delivered: this process runs under a test",
    hint=f"unset {VARIABLE}, or run this outside of tests",
)


def check(client: Client, *, environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Look at a client's configuration, without sending anything.

    Tells for each destination where its options come from, whether its keys can be read, and where it
    sends to; and what of the settings, or of half-set environment variables, keeps records from arriving.

    Args:
        client: Whose configuration.
        environ: In place of the process's environment.

    Example:
        >>> [finding.message for finding in check(Client(Settings(disabled=True)), environ={})]
        ['is on: nothing is sent', 'none is configured: analytics are captured and sent nowhere', \
'is off: a wrong call is logged and counted']
    """
    environ = os.environ if environ is None else environ
    settings = client.settings
    findings: list[Finding] = []
    if settings.disabled:
        hint = "set it to False, or unset SESSIONSIGHT_DISABLED, where records should arrive"
        findings.append(Finding(level="warning", subject="disabled", message="is on: nothing is sent", hint=hint))
    if diversion.held:
        findings.append(_HELD)
    if not settings.destinations:
        message = "none is configured: analytics are captured and sent nowhere"
        findings.append(Finding(level="warning", subject="destinations", message=message, hint=_NO_DESTINATION))
    for destination in settings.destinations:
        findings += _check_destination(destination, environ)
    findings += _check_environment(settings, environ)
    message = "is on: a wrong call raises" if settings.strict else "is off: a wrong call is logged and counted"
    findings.append(Finding(level="ok", subject="strict", message=message))
    real = [destination.name for destination in settings.destinations if _is_for_production(destination)]
    if settings.strict and real:
        findings.append(
            Finding(
                level="warning",
                subject="strict",
                message=f"is on, as in debug mode, with what looks like production keys ({', '.join(real)})",
                hint="give development keys of its own, or disable analytics there with SESSIONSIGHT_DISABLED=1",
            )
        )
    return findings


def send_test_event(
    client: Client, timeout: float = 10.0, *, goal: str | None = None, session_id: str | None = None
) -> list[Finding]:
    """Send one marked record to each destination, and tell what became of each.

    It is the event `sessionsight_test` of the user `sessionsight_test`, with the property `test: true`.
    A goal is counted only when you name one, because it would stay in your numbers. Where the spool is a
    file, the record does not pass through it, and so waits for no others.

    Args:
        client: Whose destinations.
        timeout: Seconds to wait for the vendors, over all.
        goal: The slug of a goal to increment by one, where goals are taken.
        session_id: The session that the goal is counted for, such as the `ss_sid` cookie of your own browser.

    Raises:
        InvalidGoalError: The goal, or its session id, is none.
    """
    if client.settings.disabled or not client.settings.destinations:
        found = check(client)[0]
        return [Finding(level="error", subject=found.subject, message=found.message, hint=found.hint)]
    if diversion.held:
        return [replace(_HELD, level="error")]
    with _direct(client) as direct:
        return _send(direct, timeout, goal, session_id)


def stats_lines(client: Client) -> list[str]:
    """The ledger of this process as an aligned table: a line a destination, and the wrong calls if there were any.

    Example:
        >>> stats_lines(Client(Settings()))
        ['no destinations']
    """
    stats = client.stats()
    head = ["destination", "captured", "delivered", "pending", "dead", "dropped", "state", "last error"]
    rows = [head]
    for name, lane in stats.lanes.items():
        dropped = ", ".join(f"{number} {reason}" for reason, number in lane.dropped.items() if number) or "0"
        numbers = map(str, (lane.captured, lane.delivered, lane.pending, lane.dead))
        rows.append([name, *numbers, dropped, lane.state, one_line(lane.last_error or "-")])
    lines = list(_aligned(rows)) if stats.lanes else ["no destinations"]
    if stats.rejected:
        lines.append(f"wrong calls, which captured nothing: {stats.rejected}")
    lines += [f"ids that no vendor would take, in {name}: {number}" for name, number in stats.refused_ids.items()]
    return lines


def report_lines(findings: Iterable[Finding]) -> list[str]:
    """Findings as aligned lines of text, each with its hint in a line below."""
    findings = list(findings)
    width = max((len(finding.subject) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.level:<7}  {finding.subject:<{width}}  {one_line(finding.message)}")
        if finding.hint:
            lines.append(f"{'':<7}  {'':<{width}}  {one_line(finding.hint)}")
    return lines


def failed(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings is an error: a command ends with exit code 1 then."""
    return any(finding.level == "error" for finding in findings)


# --- the configuration ---------------------------------------------------------------------------


def _check_destination(destination: Destination, environ: Mapping[str, str]) -> Iterator[Finding]:
    name = destination.name
    wrong = False
    for option, secret in _secrets(destination).items():
        try:
            key = reveal(secret)
        except ConfigurationError as error:
            wrong = True
            yield Finding(level="error", subject=name, message=f"{option}: {error}")
            continue
        if not key.strip(".") or not (key.isascii() and key.isprintable()):
            wrong = True
            message = f"{option} is no key, but dots or characters that no key has"
            yield Finding(level="error", subject=name, message=message, hint="copy it from the vendor's dashboard")
    if not wrong:
        yield Finding(level="ok", subject=name, message=f"configured by {_origin(destination, environ)}")
    for option, address in _addresses(destination).items():
        if is_loopback(urlsplit(address).hostname or ""):
            message = f"{option}: {address} is this machine, not the vendor"
            yield Finding(level="warning", subject=name, message=message, hint="fine for tests, wrong in production")


def _check_environment(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Vendors of whose variables some are there and a needed one is not."""
    configured = {destination.name for destination in settings.destinations}
    for name, (given, missing) in environment_variables(environ).items():
        if given and missing and name not in configured:
            yield Finding(
                level="warning",
                subject=name,
                message=f"is off: {', '.join(given)} is set in the environment, {', '.join(missing)} is not",
                hint=f"set {', '.join(missing)}",
            )


def _origin(destination: Destination, environ: Mapping[str, str]) -> str:
    try:
        from_environment = Settings.from_env(environ).destinations
    except SessionSightError:
        from_environment = ()
    if destination in from_environment:
        return f"the environment ({', '.join(environment_variables(environ)[destination.name][0])})"
    return "the settings"


def _secrets(destination: Destination) -> dict[str, Secret]:
    names = sorted(getattr(destination, "secrets", ()))
    return {name: getattr(destination, name) for name in names}


def _addresses(destination: Destination) -> dict[str, str]:
    values = {name: getattr(destination, name) for name in getattr(destination, "__struct_fields__", ())}
    secrets = _secrets(destination)
    return {
        name: value
        for name, value in values.items()
        if name not in secrets and isinstance(value, str) and value.startswith(("http://", "https://"))
    }


def _is_for_production(destination: Destination) -> bool:
    for secret in _secrets(destination).values():
        try:
            if reveal(secret).startswith(_PRODUCTION):
                return True
        except ConfigurationError:  # told of elsewhere
            continue
    return False


# --- the test event ------------------------------------------------------------------------------


@contextmanager
def _direct(client: Client) -> Iterator[Client]:
    """The client; in place of one whose spool is a file, one whose records do not queue behind others there."""
    if not client.settings.durable:
        yield client
        return
    direct = Client(replace(client.settings, spool="memory"), make_transport=client._make_transport)
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
    letters = {(letter.destination, record_id(letter.entry.record)): letter for letter in client.dead_letters()}
    findings: list[Finding] = []
    for destination in client.settings.destinations:
        name = destination.name
        if name not in sent:
            hint = "name one of your goals, and a session, to count it there"
            message = "not tested: it takes goals, and none was named"
            findings.append(Finding(level="warning", subject=name, message=message, hint=hint))
        elif (letter := letters.get((name, record_id(sent[name])))) is not None:
            status = f", HTTP {letter.status}" if letter.status is not None else ""
            message = f"not delivered: {letter.reason}{status}, {letter.message}"
            findings.append(Finding(level="error", subject=name, message=message))
        else:
            findings.append(_outcome(name, sent[name], before[name], after[name], timeout))
    return findings


def _test_record(destination: Destination, goal: str | None, session_id: str | None) -> Record | None:
    only = frozenset({destination.name})
    if destination.takes(Event):
        return Event(
            name=TEST_EVENT,
            properties=b'{"test":true}',
            user_id=TEST_EVENT,
            entropy=entropy(),
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
        entropy=entropy(),
        time=time.time(),
        destinations=only,
    )


def _wait(client: Client, names: Iterable[str], deadline: float) -> None:
    """Until all are settled; a paused lane needs a person, and is not waited for."""
    while (remaining := deadline - time.monotonic()) > 0 and not client.flush(min(remaining, 0.2)):
        lanes = client.stats().lanes
        if all(lanes[name].state == "paused" for name in names if lanes[name].pending):
            return


def _outcome(name: str, record: Record, before: LaneStats, after: LaneStats, timeout: float) -> Finding:
    what = f"{record.kind} {record.label!r}"
    dropped = [reason for reason, number in after.dropped.items() if number > before.dropped.get(reason, 0)]
    if dropped:
        hint = ""
        if "no_session" in dropped:
            hint = "give a session id: the ss_sid cookie of your own browser"
        return Finding(level="error", subject=name, message=f"not delivered: dropped, {', '.join(dropped)}", hint=hint)
    if after.pending:
        why = after.last_error or "no reply yet"
        message = f"not delivered within {timeout:g} s: {why}"
        hint = "check the key and the address" if after.state == "paused" else "check the network, or wait longer"
        if after.state == "paused":
            message = f"not delivered, the vendor refuses our calls: {why}"
        return Finding(level="error", subject=name, message=message, hint=hint)
    return Finding(level="ok", subject=name, message=f"delivered: {what}")


# --- text ----------------------------------------------------------------------------------------


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for row in rows:
        cells = chain(
            (f"{cell:<{width}}" for cell, width in zip(row[:1], widths[:1], strict=True)),
            (f"{cell:>{width}}" for cell, width in zip(row[1:5], widths[1:5], strict=True)),
            (f"{cell:<{width}}" for cell, width in zip(row[5:], widths[5:], strict=True)),
        )
        yield "  ".join(cells).rstrip()
