"""`flask sessionsight stats` and `manage.py sessionsight stats`: print the ledger of this process."""

from __future__ import annotations

import click

from sessionsight.cli.target import resolve_target
from sessionsight.diagnosis import stats_lines

__all__ = ["command"]


@click.command("stats")
def command() -> None:
    """Print the ledger of this process; a server's own processes have theirs."""
    for line in stats_lines(resolve_target().client):
        click.echo(line)
