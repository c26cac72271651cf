"""A click group that imports a command when it is run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from sessionsight.errors import MissingDependencyError, SessionSightError

__all__ = ["ADAPTER_TARGET", "LazyCommand", "LazyGroup"]

ADAPTER_TARGET = "sessionsight.cli.target"
"""The key under which the context of an adapter's command has a function that returns its `Target`."""


class LazyCommand(NamedTuple):
    """The location of a command, and its line of help."""

    module: str
    """The module whose `command` it is."""
    help: str
    """Its line in the group's help."""
    extra: str | None = None
    """The extra that installs what the module imports."""


class LazyGroup(click.Group):
    """A group of commands in modules of their own.

    A `SessionSightError` ends a command with its message and exit code 1, without a traceback.

    Args:
        lazy: The commands by name, in the order of the help.
        *args: As `click.Group` takes them.
        **options: As `click.Group` takes them.

    Example:
        >>> group = LazyGroup("shop", lazy={"spool": LazyCommand("shop.spool", "Look at the spool.", extra="spool")})
        >>> group.list_commands(click.Context(group))
        ['spool']
    """

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; if it needs a missing module, return one that raises an error about that."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return None
        try:
            command: click.Command = import_module(lazy.module).command
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in sys.stdlib_module_names:  # on Windows, or in a Python that was built without it
                return _unavailable(cmd_name, lazy, f"{package}, which this Python does not have")
            if lazy.extra is None or package == "sessionsight":
                raise
            return _unavailable(cmd_name, lazy, f"the package {package}: pip install 'sessionsight[{lazy.extra}]'")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help's table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except SessionSightError as error:
            raise click.ClickException(str(error)) from error


def _unavailable(name: str, lazy: LazyCommand, missing: str) -> click.Command:
    """Return a command that accepts any arguments and raises an error about a missing module."""

    def fail() -> None:
        raise MissingDependencyError(f"`{name}` needs {missing}")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=fail, help=lazy.help, add_help_option=False, context_settings=anything)
