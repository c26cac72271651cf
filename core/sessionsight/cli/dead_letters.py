"""`sessionsight dead-letters`: what could not be delivered, looked at, tried again, or dropped."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import click
import msgspec

from sessionsight.capture.records import record_id
from sessionsight.cli.report import json_option
from sessionsight.cli.spool_access import SpoolDesk, spool_options
from sessionsight.delivery.stores.sqlite import dead_letters
from sessionsight.delivery.stores.sqlite.dead_letters import DeadLetterQuery, StoredDeadLetter
from sessionsight.errors import escape_control_characters

__all__ = ["command"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_encode = msgspec.json.Encoder(decimal_format="number").encode
_NUMBER = click.IntRange(1, 2**63 - 1)  # as SQLite counts
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _ago(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """The moment, in Unix seconds, that lies as far back as `90s`, `15m`, `12h` or `7d`."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no length of time; write 90s, 15m, 12h or 7d")
    return time.time() - float(found[1]) * _UNITS[found[2]]


def _filters(command: _Command) -> _Command:
    for option in (
        click.option(
            "--newer-than", callback=_ago, metavar="AGE", help="Only those that died since then, such as 12h."
        ),
        click.option("--older-than", callback=_ago, metavar="AGE", help="Only those that died before, such as 7d."),
        click.option("--reason", help="Only those with it: refused, too_large, unknown, expired, internal_error."),
        click.option("--lane", help="Only those of this destination."),
    ):
        command = option(command)
    return command


def _which(command: _Command) -> _Command:
    """What says which are meant, for a command that changes them and so must be told outright."""
    numbers = click.argument("numbers", type=_NUMBER, nargs=-1)
    everything = click.option("--all", "all_", is_flag=True, help="All of them.")
    return numbers(_filters(everything(command)))


@click.group("dead-letters")
def command() -> None:
    """Look after records that could not be delivered."""


@command.command("list")
@_filters
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="No more than so many, the oldest.",
)
@spool_options
@json_option
def list_(
    spool: str | None, app: str | None, django_settings: str | None, *, limit: int, as_json: bool, **filters: Any
) -> None:
    """List them, oldest first."""
    found = SpoolDesk(spool, app, django_settings).read(
        partial(dead_letters.find, chosen=_chosen(**filters), limit=limit)
    )
    if as_json:
        click.echo(_encode([_facts(stored) for stored in found]))
        return
    for stored in found:
        what = "?" if stored.letter is None else stored.letter.entry.record.label
        click.echo(
            f"{stored.id:>6}  {_when(stored.died)}  {stored.lane}  {stored.reason}  {escape_control_characters(what)}"
        )
    if not found:
        click.echo("there are none", err=True)


@command.command("show")
@click.argument("number", type=_NUMBER)
@spool_options
def show(spool: str | None, app: str | None, django_settings: str | None, *, number: int) -> None:
    """Show one whole, with the vendor's message and the payload, as JSON."""
    found = SpoolDesk(spool, app, django_settings).read(
        partial(dead_letters.find, chosen=DeadLetterQuery(ids=(number,)))
    )
    if not found:
        raise click.ClickException(f"there is no dead letter {number}")
    click.echo(msgspec.json.format(_encode(_facts(found[0])), indent=2))


@command.command("retry")
@_which
@spool_options
def retry(spool: str | None, app: str | None, django_settings: str | None, **which: Any) -> None:
    """Queue them again; a process at work sends them within seconds.

    A goal whose reason is `unknown` may have arrived: look at the vendor's figures first.
    """
    chosen = _really_chosen(**which)
    number = SpoolDesk(spool, app, django_settings).write(partial(dead_letters.retry, chosen=chosen))
    click.echo(f"{number} queued again")


@command.command("drop")
@_which
@spool_options
def drop(spool: str | None, app: str | None, django_settings: str | None, **which: Any) -> None:
    """Throw them away; the ledger counts them as `dead_letter_dropped`."""
    chosen = _really_chosen(**which)
    number = SpoolDesk(spool, app, django_settings).write(partial(dead_letters.drop, chosen=chosen))
    click.echo(f"{number} dropped")


def _chosen(
    numbers: tuple[int, ...] = (),
    *,
    lane: str | None,
    reason: str | None,
    older_than: float | None,
    newer_than: float | None,
) -> DeadLetterQuery:
    return DeadLetterQuery(ids=numbers, lane=lane, reason=reason, died_before=older_than, died_after=newer_than)


def _really_chosen(*, all_: bool, **which: Any) -> DeadLetterQuery:
    chosen = _chosen(**which)
    if all_ == (chosen != DeadLetterQuery()):
        raise click.UsageError("say which: numbers, a filter, or --all")
    return chosen


def _facts(stored: StoredDeadLetter) -> dict[str, Any]:
    """All that is known, for programs."""
    facts: dict[str, Any] = {
        "number": stored.id,
        "lane": stored.lane,
        "reason": stored.reason,
        "message": stored.message,
        "died": _when(stored.died),
    }
    if (letter := stored.letter) is None:
        return {**facts, "unreadable": stored.body}
    record = letter.entry.record
    return {
        **facts,
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
