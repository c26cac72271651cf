"""Which spool a command looks into: the file that is named, or the one of an app, a project or the environment."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sessionsight.cli.target import find, whose_options
from sessionsight.delivery.queue.factory import sqlite_path
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection

__all__ = ["SpoolDesk", "spool_options"]

T = TypeVar("T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

_PATIENCE = 10.0


def spool_options(command: _Command) -> _Command:
    """The options that choose, for a command that hands them on to `SpoolDesk`."""
    spool = click.option("--spool", metavar="FILE", help="The spool's file, or its address as the setting has it.")
    return spool(whose_options(command))


class SpoolDesk:
    """A spool's file, looked into from outside while its processes may be at work.

    Args:
        spool: A path or an address; otherwise the setting of whomever the others name.
        app: As `--app`.
        django_settings: As `--django-settings`.

    Raises:
        click.UsageError: No spool is in a file, or the file does not exist.
    """

    def __init__(self, spool: str | None, app: str | None, django_settings: str | None) -> None:
        if spool is None:
            whose = find(app, django_settings)
            path = sqlite_path(whose.client.settings.spool)
            if path is None:
                raise click.UsageError(f"{whose.place}: the spool is {whose.client.settings.spool!r}, which is no file")
        else:
            path = sqlite_path(spool) or spool
        if not Path(path).is_file():
            raise click.UsageError(f"there is no spool at {path} (it is made when the first record is captured)")
        self.path = path
        self._file = SqliteConnection(path, synchronous="normal")

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Ask something.

        Raises:
            click.ClickException: The file cannot be read.
        """
        return self._use(lambda: self._file.read(work, wait=_PATIENCE))

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Change something, in one transaction.

        Raises:
            click.ClickException: The file cannot be written.
        """
        return self._use(lambda: self._file.write(work, wait=_PATIENCE))

    def _use(self, do: Callable[[], T]) -> T:
        try:
            return do()
        except StoreError as fault:
            raise click.ClickException(f"spool {self.path}: {fault}") from fault
        finally:
            self._file.reopen()
