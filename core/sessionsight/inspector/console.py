"""Formats records as lines of a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import localtime, strftime
from typing import TextIO

import click
import msgspec

from sessionsight.inspector.model import InspectedRecord

__all__ = ["HEADING", "json_line", "line", "printer"]

_COLOURS = {"sessionsight": "cyan", "signal": "magenta", "saytics": "yellow", "analyse": "blue"}

HEADING = f"{'time':8}  {'vendor':12}  {'record':28}  {'session':8}  {'who':12}  amount"


def line(record: InspectedRecord, *, colour: bool = False) -> str:
    """Return one row under `HEADING`, which ends with the errors of a rejected record.

    Example:
        09:41:00  sessionsight  monthly-revenue decrement     0b54ad6e                49
    """
    name = record.name if record.kind in {"event", "identify"} else f"{record.kind} {record.name}"
    if record.kind == "goal":
        name = f"{record.name} {'decrement' if (record.amount or 0) < 0 else 'increment'}"
    amount = "" if record.amount is None else f"{abs(record.amount):.15g}"
    who = _short(record.user_id or record.visitor_id or "", 12, keep=8)
    vendor = f"{record.vendor:12}"
    if colour:
        vendor = click.style(vendor, fg=_COLOURS[record.vendor])
    time = strftime("%H:%M:%S", localtime(record.received_at))
    text = f"{time}  {vendor}  {_short(name, 28):28}  {(record.session_id or '')[:8]:8}  {who:12}  {amount}".rstrip()
    if not record.accepted:
        refusal = f"refused: {'; '.join(record.errors)}"
        text += f"  {click.style(refusal, fg='red') if colour else refusal}"
    return text


def json_line(record: InspectedRecord) -> str:
    """Return the record as one line of JSON."""
    return msgspec.json.encode(record).decode()


def printer(stream: TextIO, show: Callable[[InspectedRecord], str]) -> Callable[[list[InspectedRecord]], None]:
    """Return a listener of a store that prints each added record immediately.

    Errors of a closed stream, and characters that it cannot encode, are ignored.
    """
    encoding = stream.encoding or "utf-8"

    def print_added(added: list[InspectedRecord]) -> None:
        text = "".join(f"{show(record)}\n" for record in added)
        with suppress(OSError):
            stream.write(text.encode(encoding, "replace").decode(encoding))
            stream.flush()

    return print_added


def _short(text: str, width: int, *, keep: int | None = None) -> str:
    """Truncate a text that is too wide to `keep` characters, and replace control characters."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= width else f"{text[: keep or width - 1]}…"
