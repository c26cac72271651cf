"""The command line: `sessionsight`, or `python -m sessionsight`.

A command is a module here that has its click command as `command`, and a line in `COMMANDS`. It is imported when it
is run, so that none pays for another's imports, or fails because another's extra is not installed.
"""

from __future__ import annotations

import os

import click

from sessionsight.cli.lazy import LazyCommand, LazyGroup

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "check": LazyCommand("sessionsight.cli.check", "Tell what is configured, from where, and whether vendors answer."),
    "test-event": LazyCommand("sessionsight.cli.test_event", "Send one marked event to each vendor."),
    "spool": LazyCommand("sessionsight.cli.spool", "Tell what waits in the spool's file, and what became of the rest."),
    "dead-letters": LazyCommand("sessionsight.cli.dead_letters", "Look after records that could not be delivered."),
    "inspector": LazyCommand(
        "sessionsight.cli.inspector", "Show on a local page what an app sends to the vendors.", extra="inspector"
    ),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Ends with 0, with 1 when something is wrong, or with 2 when it was called the wrong way.",
)
@click.version_option(package_name="sessionsight", prog_name="sessionsight", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Find out why analytics do not arrive, and look after those that wait."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org; click itself looks only for a terminal
        context.color = False
