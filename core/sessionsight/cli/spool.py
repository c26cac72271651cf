"""`sessionsight spool`: shows the ledger of a durable spool."""

from __future__ import annotations

import time

import click
import msgspec

from sessionsight.cli.report import json_option
from sessionsight.cli.spool_access import SpoolAccess, spool_options
from sessionsight.delivery.stores.base import StoreStats

__all__ = ["command"]


@click.group("spool")
def command() -> None:
    """Show what is in a durable spool."""


@command.command("stats")
@spool_options
@json_option
def stats(spool: str | None, app: str | None, django_settings: str | None, *, as_json: bool) -> None:
    """Show the outcome of every record, by lane, over all processes and restarts.

    Exits with 1 if a ledger does not add up.
    """
    with SpoolAccess(spool, app, django_settings).open() as store:
        found = store.stats()
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        for line in _lines(found):
            click.echo(line)
    if not all(lane.balanced for lane in found.lanes.values()):
        raise click.ClickException("a ledger does not add up; please report this")


def _lines(found: StoreStats) -> list[str]:
    width = max([4, *map(len, found.lanes)])
    lines = [f"{'lane':<{width}}  captured  delivered   pending      dead  dropped"]
    for name, lane in found.lanes.items():
        why = ", ".join(f"{number} {reason}" for reason, number in sorted(lane.dropped.items()))
        lines.append(
            f"{name:<{width}}  {lane.captured:>8}  {lane.delivered:>9}  {lane.pending:>8}  {lane.dead:>8}"
            f"  {sum(lane.dropped.values()):>7}{f'  ({why})' if why else ''}"
        )
    waits = (
        "nothing waits" if found.oldest is None else f"the oldest waits for {max(time.time() - found.oldest, 0):.0f} s"
    )
    processes = "process" if found.owners == 1 else "processes"
    of_all = "" if found.file_bytes is None else f" of {found.file_bytes:,}"
    lines += ["", f"{waits}; {found.used_bytes:,}{of_all} bytes in use; {found.owners} {processes} at work"]
    if found.bypassed:
        lines.append(f"{found.bypassed} records had to wait in memory first, because the spool was busy or unusable")
    return lines
