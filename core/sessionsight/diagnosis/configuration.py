"""What is configured, from where, and what of it keeps records from arriving."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sessionsight.client import Client
from sessionsight.delivery.queue.factory import sqlite_path
from sessionsight.destinations.base import Destination, Secret, is_loopback, resolve_secret
from sessionsight.diagnosis.findings import HELD, Finding
from sessionsight.environment import environment_variables
from sessionsight.errors import ConfigurationError, SessionSightError
from sessionsight.settings import Settings
from sessionsight.test_mode import test_mode

__all__ = ["addresses", "check", "is_local"]

_PRODUCTION = ("sk_live_", "pk_live_", "sessionsight_sec_")
_NO_DESTINATION = "set the keys of a vendor in the environment, such as SIGNAL_API_KEY, or the `destinations` setting"


def check(client: Client, *, environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Look at a client's configuration, without sending anything.

    Tells for each destination where its options come from, whether its keys can be read, and where it
    sends to; and what of the settings, or of half-set environment variables, keeps records from arriving.

    Args:
        client: Whose configuration.
        environ: In place of the process's environment.

    Example:
        >>> [finding.message for finding in check(Client(Settings(disabled=True)), environ={})]
        ['is on: nothing is sent', 'none is configured: analytics are captured and sent nowhere', \
'is off: a wrong call is logged and counted']
    """
    environ = os.environ if environ is None else environ
    settings = client.settings
    findings: list[Finding] = []
    if settings.disabled:
        hint = "set it to False, or unset SESSIONSIGHT_DISABLED, where records should arrive"
        findings.append(Finding(level="warning", subject="disabled", message="is on: nothing is sent", hint=hint))
    if test_mode.suppressed:
        findings.append(HELD)
    if not settings.destinations:
        message = "none is configured: analytics are captured and sent nowhere"
        findings.append(Finding(level="warning", subject="destinations", message=message, hint=_NO_DESTINATION))
    for destination in settings.destinations:
        findings += _check_destination(destination, environ)
    findings += _check_environment(settings, environ)
    if settings.destinations:
        findings.append(_check_spool(settings.spool))
    message = "is on: a wrong call raises" if settings.strict else "is off: a wrong call is logged and counted"
    findings.append(Finding(level="ok", subject="strict", message=message))
    real = [destination.name for destination in settings.destinations if _is_for_production(destination)]
    if settings.strict and real:
        findings.append(
            Finding(
                level="warning",
                subject="strict",
                message=f"is on, as in debug mode, with what looks like production keys ({', '.join(real)})",
                hint="give development keys of its own, or disable analytics there with SESSIONSIGHT_DISABLED=1",
            )
        )
    return findings


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
            message = f"{option} is no key, but dots or characters that no key has"
            yield Finding(level="error", subject=name, message=message, hint="copy it from the vendor's dashboard")
    if not wrong:
        yield Finding(level="ok", subject=name, message=f"configured by {_origin(destination, environ)}")
    for option, address in addresses(destination).items():
        if is_loopback(urlsplit(address).hostname or ""):
            message = f"{option}: {address} is this machine, not the vendor"
            yield Finding(level="warning", subject=name, message=message, hint="fine for tests, wrong in production")


def _check_spool(spool: str) -> Finding:
    """Look at the place of the spool's file, which is not opened: processes at work may be using it."""
    path = sqlite_path(spool)
    if path is None:
        message = "is memory: a kill loses what waits, and key= counts within one process only"
        return Finding(level="ok", subject="spool", message=message)
    place = Path(path)
    problem, hint = "", "let the app's user own it"
    if not os.access(place.parent, os.W_OK | os.X_OK):
        problem = f"the directory {place.parent} does not exist, or this user must not write in it"
        hint = "create it, owned by the app's user"
    elif place.exists() and not place.is_file():
        problem, hint = f"{place} is not a file", "give the path of a file"
    elif place.exists() and not os.access(place, os.R_OK | os.W_OK):
        problem = f"this user must not read and write {place}"
    if problem:
        message = f"{problem}; records are kept in memory, where a kill loses them"
        return Finding(level="error", subject="spool", message=message, hint=hint)
    return Finding(level="ok", subject="spool", message=f"is the file {place}")


def _check_environment(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Vendors of whose variables some are there and a needed one is not."""
    configured = {destination.name for destination in settings.destinations}
    for name, (given, missing) in environment_variables(environ).items():
        if given and missing and name not in configured:
            yield Finding(
                level="warning",
                subject=name,
                message=f"is off: {', '.join(given)} is set in the environment, {', '.join(missing)} is not",
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


def addresses(destination: Destination) -> dict[str, str]:
    """The options of a destination that say where it sends to, by name."""
    values = {name: getattr(destination, name) for name in getattr(destination, "__struct_fields__", ())}
    secrets = _secrets(destination)
    return {
        name: value
        for name, value in values.items()
        if name not in secrets and isinstance(value, str) and value.startswith(("http://", "https://"))
    }


def is_local(destination: Destination) -> bool:
    """Return whether a destination sends to this machine, as to a local inspector, which takes any key."""
    return any(is_loopback(urlsplit(address).hostname or "") for address in addresses(destination).values())


def _is_for_production(destination: Destination) -> bool:
    if is_local(destination):
        return False
    for secret in _secrets(destination).values():
        try:
            if resolve_secret(secret).startswith(_PRODUCTION):
                return True
        except ConfigurationError:  # told of elsewhere
            continue
    return False
