"""Checks of a client's configuration, without sending anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sessionsight.client import Client
from sessionsight.destinations.base import Destination, Secret, is_loopback, resolve_secret
from sessionsight.diagnosis.findings import DELIVERY_SUPPRESSED, Finding
from sessionsight.environment import environment_variables
from sessionsight.errors import ConfigurationError, SessionSightError
from sessionsight.settings import Settings
from sessionsight.spool_url import django_alias, is_redis, spool_name, sqlalchemy_url, sqlite_path
from sessionsight.test_mode import test_mode

__all__ = ["check", "missing_destinations", "production_keys", "urls"]

_PRODUCTION = ("sk_live_", "pk_live_", "sessionsight_sec_")


def check(client: Client, *, environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Check a client's configuration.

    Reports for each destination the source of its options, whether its keys can be read, and where it sends to, and
    which settings or incomplete environment variables keep records from being delivered.

    Args:
        client: The client.
        environ: Used in place of the process's environment.

    Example:
        >>> [finding.message for finding in check(Client(Settings(disabled=True)), environ={})]
        ['is on: nothing is sent', 'none is configured: analytics are captured and sent nowhere', \
'is off: a wrong call is logged and counted']
    """
    environ = os.environ if environ is None else environ
    settings = client.settings
    findings: list[Finding] = []
    if settings.disabled:
        hint = "set it to False, or unset SESSIONSIGHT_DISABLED, where records should be sent"
        findings.append(Finding(level="warning", subject="disabled", message="is on: nothing is sent", hint=hint))
    if test_mode.suppressed:
        findings.append(DELIVERY_SUPPRESSED)
    findings += missing_destinations(settings)
    for destination in settings.destinations:
        findings += _check_destination(destination, environ)
    findings += _check_environment(settings, environ)
    if settings.destinations:
        findings.append(_check_spool(settings.spool))
    if settings.delivery == "relay":
        message = "is relay: nothing is delivered unless `sessionsight relay` runs"
        findings.append(Finding(level="ok", subject="delivery", message=message))
    message = "is on: a wrong call raises" if settings.strict else "is off: a wrong call is logged and counted"
    findings.append(Finding(level="ok", subject="strict", message=message))
    if settings.strict:
        findings += production_keys(settings, subject="strict", call=True)
    return findings


def missing_destinations(settings: Settings) -> Iterator[Finding]:
    """Warn if no destination is configured."""
    if not settings.destinations:
        message = "none is configured: analytics are captured and sent nowhere"
        hint = "set the keys of a vendor in the environment, such as SIGNAL_API_KEY, or the `destinations` setting"
        yield Finding(level="warning", subject="destinations", message=message, hint=hint)


def production_keys(settings: Settings, *, subject: str, call: bool) -> Iterator[Finding]:
    """Warn of keys that look like production keys, for use in development.

    Args:
        settings: The settings.
        subject: The setting that indicates development.
        call: Whether to call functions that return a key.
    """
    live = [
        f"{destination.name} ({option})"
        for destination in settings.destinations
        if not _is_local(destination)
        for option, secret in _secrets(destination).items()
        if _is_for_production(secret, call=call)
    ]
    if live:
        message = f"is on, with keys that look like production keys: {', '.join(live)}"
        hint = "use test keys in development, or disable analytics there with SESSIONSIGHT_DISABLED=1"
        yield Finding(level="warning", subject=subject, message=message, hint=hint)


def urls(destination: Destination) -> dict[str, str]:
    """Return the options of a destination that are URLs, by name."""
    values = {name: getattr(destination, name) for name in getattr(destination, "__struct_fields__", ())}
    secrets = _secrets(destination)
    return {
        name: value
        for name, value in values.items()
        if name not in secrets and isinstance(value, str) and value.startswith(("http://", "https://"))
    }


def _check_destination(destination: Destination, environ: Mapping[str, str]) -> Iterator[Finding]:
    name = destination.name
    wrong = False
    for option, secret in _secrets(destination).items():
        try:
            key = resolve_secret(secret)
        except ConfigurationError as error:
            wrong = True
            yield Finding(level="error", subject=name, message=f"{option}: {error}")
            continue
        if not key.strip(".") or not (key.isascii() and key.isprintable()):
            wrong = True
            message = f"{option} is not a key: it has only dots, or characters that keys do not contain"
            yield Finding(level="error", subject=name, message=message, hint="copy it from the vendor's dashboard")
    if not wrong:
        yield Finding(level="ok", subject=name, message=f"configured by {_origin(destination, environ)}")
    for option, url in urls(destination).items():
        if is_loopback(urlsplit(url).hostname or ""):
            message = f"{option}: {url} is this machine, not the vendor"
            yield Finding(level="warning", subject=name, message=message, hint="fine for tests, wrong in production")


def _check_spool(spool: str) -> Finding:
    """Check the location of the spool's file, without opening it, because other processes may be using it."""
    path = sqlite_path(spool)
    if is_redis(spool) or sqlalchemy_url(spool) is not None:
        return Finding(level="ok", subject="spool", message=f"is {spool_name(spool)}")
    if (alias := django_alias(spool)) is not None:
        return Finding(level="ok", subject="spool", message=f"is the database {alias!r} of the Django project")
    if path is None:
        message = "is memory: a kill loses pending records, and key= deduplicates within one process only"
        return Finding(level="ok", subject="spool", message=message)
    place = Path(path)
    problem, hint = "", "let the app's user own it"
    if not os.access(place.parent, os.W_OK | os.X_OK):
        problem = f"the directory {place.parent} does not exist, or is not writable by this user"
        hint = "create it, owned by the app's user"
    elif place.exists() and not place.is_file():
        problem, hint = f"{place} is not a file", "give the path of a file"
    elif place.exists() and not os.access(place, os.R_OK | os.W_OK):
        problem = f"{place} is not readable and writable by this user"
    if problem:
        message = f"{problem}; records are kept in memory, where a kill loses them"
        return Finding(level="error", subject="spool", message=message, hint=hint)
    return Finding(level="ok", subject="spool", message=f"is the file {place}")


def _check_environment(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Warn of vendors for which only some of the required variables are set."""
    configured = {destination.name for destination in settings.destinations}
    for name, (given, missing) in environment_variables(environ).items():
        if given and missing and name not in configured:
            yield Finding(
                level="warning",
                subject=name,
                message=f"is off: the environment has {', '.join(given)}, but not {', '.join(missing)}",
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


def _is_local(destination: Destination) -> bool:
    """Return whether a destination sends to this machine, as to a local inspector, which accepts any key."""
    return any(is_loopback(urlsplit(url).hostname or "") for url in urls(destination).values())


def _is_for_production(secret: Secret, *, call: bool) -> bool:
    if callable(secret) and not call:
        return False
    try:
        return resolve_secret(secret).startswith(_PRODUCTION)
    except ConfigurationError:  # reported for its destination
        return False
