"""`sessionsight dead-letters`: lists, shows, retries and drops records that could not be delivered."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

from sessionsight.capture.records import DropReason, record_id
from sessionsight.cli.report import json_option
from sessionsight.cli.spool_access import SpoolAccess, spool_options
from sessionsight.delivery.queue.encoding import decode_dead_letter
from sessionsight.delivery.stores.base import DeadLetterQuery, StoredDeadLetter
from sessionsight.errors import escape_control_characters

__all__ = ["command"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_encode = msgspec.json.Encoder(decimal_format="number").encode
_NUMBER = click.IntRange(1, 2**63 - 1)  # as SQLite counts
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _parse_age(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Return the time, in Unix seconds, that is `90s`, `15m`, `12h` or `7d` ago."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not a valid duration; write 90s, 15m, 12h or 7d")
    return time.time() - float(found[1]) * _UNITS[found[2]]


def _filters(command: _Command) -> _Command:
    for option in (
        click.option(
            "--newer-than", callback=_parse_age, metavar="AGE", help="Only those from the last 12h, for example."
        ),
        click.option("--older-than", callback=_parse_age, metavar="AGE", help="Only those older than 7d, for example."),
        click.option(
            "--reason", help="Only those with this reason: refused, too_large, unknown, expired, internal_error."
        ),
        click.option("--lane", help="Only those of this destination."),
    ):
        command = option(command)
    return command


def _selection_options(command: _Command) -> _Command:
    """Add the options that select dead letters to a command that changes them, and so has no default."""
    numbers = click.argument("numbers", type=_NUMBER, nargs=-1)
    everything = click.option("--all", "all_", is_flag=True, help="All of them.")
    return numbers(_filters(everything(command)))


@click.group("dead-letters")
def command() -> None:
    """Manage records that could not be delivered."""


@command.command("list")
@_filters
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="Maximum number, beginning with the oldest.",
)
@spool_options
@json_option
def list_(
    spool: str | None, app: str | None, django_settings: str | None, *, limit: int, as_json: bool, **filters: Any
) -> None:
    """List dead letters, oldest first."""
    query = _query(**filters)
    with SpoolAccess(spool, app, django_settings).open() as store:
        found = store.find(query, limit=limit)
    if as_json:
        click.echo(_encode([_details(stored) for stored in found]).decode())
        return
    for stored in found:
        letter = decode_dead_letter(stored)
        what = escape_control_characters("?" if letter is None else letter.entry.record.label)
        click.echo(f"{stored.id:>6}  {_when(stored.died_at)}  {stored.lane}  {stored.failure.reason}  {what}")
    if not found:
        click.echo("there are none", err=True)


@command.command("show")
@click.argument("number", type=_NUMBER)
@spool_options
def show(spool: str | None, app: str | None, django_settings: str | None, *, number: int) -> None:
    """Show a dead letter as JSON, with the vendor's message and the payload."""
    with SpoolAccess(spool, app, django_settings).open() as store:
        found = store.find(DeadLetterQuery(ids=(number,)))
    if not found:
        raise click.ClickException(f"dead letter {number} does not exist")
    click.echo(msgspec.json.format(_encode(_details(found[0])), indent=2).decode())


@command.command("retry")
@_selection_options
@spool_options
def retry(spool: str | None, app: str | None, django_settings: str | None, **selection: Any) -> None:
    """Queue dead letters again; a running process sends them within seconds.

    A goal with the reason `unknown` may have arrived: check the vendor's figures first.
    """
    query = _required_query(**selection)
    with SpoolAccess(spool, app, django_settings).open() as store:
        number = store.requeue(query)
    click.echo(f"{number} queued again")


@command.command("drop")
@_selection_options
@spool_options
def drop(spool: str | None, app: str | None, django_settings: str | None, **selection: Any) -> None:
    """Remove dead letters; the ledger counts them as `dead_letter_dropped`."""
    query = _required_query(**selection)
    with SpoolAccess(spool, app, django_settings).open() as store:
        number = store.delete(query, counter=DropReason.DEAD_LETTER_DROPPED.value)
    click.echo(f"{number} dropped")


def _query(
    numbers: tuple[int, ...] = (),
    *,
    lane: str | None,
    reason: str | None,
    older_than: float | None,
    newer_than: float | None,
) -> DeadLetterQuery:
    return DeadLetterQuery(ids=numbers, lane=lane, reason=reason, died_before=older_than, died_after=newer_than)


def _required_query(*, all_: bool, **selection: Any) -> DeadLetterQuery:
    query = _query(**selection)
    if all_ == (query != DeadLetterQuery()):
        raise click.UsageError("select dead letters by numbers, a filter, or --all")
    return query


def _details(stored: StoredDeadLetter) -> dict[str, Any]:
    """Return the details of a dead letter, for JSON."""
    details: dict[str, Any] = {
        "number": stored.id,
        "lane": stored.lane,
        "reason": stored.failure.reason,
        "message": stored.failure.message,
        "died": _when(stored.died_at),
    }
    if (letter := decode_dead_letter(stored)) is None:
        return {**details, "unreadable": stored.body}
    record = letter.entry.record
    return {
        **details,
        "status": letter.status,
        "attempts": letter.attempts,
        "first_attempt": None if letter.first_attempt is None else _when(letter.first_attempt),
        "last_attempt": None if letter.last_attempt is None else _when(letter.last_attempt),
        "id": record_id(record),
        "kind": record.kind,
        "record": {
            name: value
            for name in record.__struct_fields__
            if name not in {"random", "properties"} and (value := getattr(record, name)) is not None
        },
        "properties": msgspec.Raw(record.properties),
        "context": letter.entry.context.to_carrier(),
    }


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
