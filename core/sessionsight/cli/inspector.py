"""`sessionsight inspector`: runs a local server that accepts the calls of all four vendors and shows the records."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click

from sessionsight.cli.spool_access import SpoolAccess, spool_options
from sessionsight.errors import ConfigurationError
from sessionsight.inspector import console
from sessionsight.inspector.fault_injection import Faults
from sessionsight.inspector.model import Vendor
from sessionsight.inspector.options import DEFAULT_PORT, Options
from sessionsight.inspector.server import serve
from sessionsight.inspector.store import MAX_RECORDS, Store
from sessionsight.inspector.templating import environment

__all__ = ["command"]


@click.command("inspector")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; by default only this machine can connect.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 selects a free one."
)
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="Keep received records in this file.")
@click.option(
    "--max-records",
    type=click.IntRange(min=1),
    default=MAX_RECORDS,
    show_default=True,
    help="Beyond this number the oldest are removed.",
)
@click.option(
    "--key", "keys", multiple=True, metavar="VENDOR=KEY", help="A key to accept; without one, any key of that vendor."
)
@click.option("--fail", metavar="STATUS[:PART]", help="Respond with this status: 500:0.3 for three of ten calls.")
@click.option("--latency", metavar="MS[-MS]", help="Delay responses by this many milliseconds: 200 or 200-800.")
@click.option(
    "--rate-limit", metavar="N/UNIT", help="Respond with 429 beyond N calls per second, minute or hour: 10/s."
)
@spool_options
@click.option("--tail", "follow", is_flag=True, help="Print a line for each record.")
@click.option("--json", "as_json", is_flag=True, help="Print each record as a line of JSON, and nothing else.")
def command(
    *,
    host: str,
    port: int,
    db: Path | None,
    max_records: int,
    keys: tuple[str, ...],
    fail: str | None,
    latency: str | None,
    rate_limit: str | None,
    spool: str | None,
    app: str | None,
    django_settings: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the records that an app sends to the four vendors on a local page.

    The server implements their protocols, validates every record, and responds as they do. The environment variables
    that it prints make an app send its records to it.
    """
    try:
        options = Options(
            host=host,
            port=port,
            db=str(db or ":memory:"),
            spool=_spool(spool, app, django_settings),
            keys=_keys(keys),
            faults=Faults(fail=fail, latency=latency, rate_limit=rate_limit).validated(),
            max_records=max_records,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    @contextlib.contextmanager
    def started(url: str, store: Store) -> Iterator[None]:
        if not as_json:
            _greet(url, follow=follow)
        colour = sys.stdout.isatty() and click.get_current_context().color is not False
        show = console.json_line if as_json else lambda record: console.line(record, colour=colour)
        if not (follow or as_json):
            yield
            return
        with store.listening(console.printer(sys.stdout, show)):
            yield

    try:
        serve(options, started=started)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None


def _spool(spool: str | None, app: str | None, django_settings: str | None) -> str | None:
    """Return the spool to show, if one was selected."""
    if spool is app is django_settings is None:
        return None
    access = SpoolAccess(spool, app, django_settings)
    with contextlib.suppress(click.UsageError), access.open():  # it may be created later
        pass
    return access.spool


def _keys(given: tuple[str, ...]) -> dict[Vendor, frozenset[str]]:
    keys: dict[Vendor, frozenset[str]] = {}
    for item in given:
        vendor, _, key = item.partition("=")
        known = {name: name for name in get_args(Vendor)}.get(vendor)
        if known is None or not key.strip():
            raise ValueError(f"--key: must be VENDOR=KEY, where VENDOR is one of {', '.join(get_args(Vendor))}")
        keys[known] = keys.get(known, frozenset()) | {key}
    return keys


def _greet(url: str, *, follow: bool) -> None:
    click.echo(f"Open {click.style(url, bold=True)} to see what arrives; Ctrl-C ends it. In the app's environment:\n")
    for name, value in environment(url).items():
        click.echo(f"  export {name}={shlex.quote(value)}")
    click.echo(f"\n{console.HEADING}" if follow else "")
