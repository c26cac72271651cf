"""Django system checks of the configuration, for `manage.py check`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's own name for it
from django.utils.module_loading import import_string

from sessionsight import ConfigurationError, Settings
from sessionsight.adapters import VARIABLES, option_of
from sessionsight.destinations import Signal
from sessionsight.diagnosis import Finding
from sessionsight.diagnosis.configuration import missing_destinations, production_keys
from sessionsight_django.clients import current_settings, is_test_environment, set_test_mode
from sessionsight_django.middleware import AnalyticsMiddleware
from sessionsight_django.outbox.checks import database_findings, outbox_findings

__all__ = ["check_configuration", "check_database", "database_findings", "project_findings"]

_MIDDLEWARE = "sessionsight_django.AnalyticsMiddleware"
_PREFIX = "SESSIONSIGHT_"
_OPTIONS = {_PREFIX + name.upper() for name in Settings.__struct_fields__}
_SIGNAL_HEADERS = ("x-signal-session-id", "x-signal-window-id", "x-signal-distinct-id")

_Numbered = Iterator[tuple[str, Finding]]


def check_configuration(
    app_configs: Sequence[Any] | None = None,  # noqa: ARG001  # what Django gives a check
    **options: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """Check `SESSIONSIGHT`, `MIDDLEWARE` and other Django settings that analytics depend on. A Django system check.

    Example:
        >>> SILENCED_SYSTEM_CHECKS = ["sessionsight.W004"]  # the development machine uses real keys
    """
    if is_test_environment():  # Django's runner runs the checks inside its test environment
        set_test_mode()
    try:
        settings = current_settings()
        if settings.database is not None and not settings.disabled:
            from sessionsight_django.outbox.store import check_alias  # imports the whole store

            check_alias(settings.database)
    except ConfigurationError as error:
        hint = "The server does not start until this is right."
        return [Error(str(error), hint=hint, id="sessionsight.E001"), *map(_warning, _check_middleware())]
    found = list(project_findings(settings))
    if not settings.disabled:
        found += [("W001", finding) for finding in missing_destinations(settings)]
        if django_settings.DEBUG:
            # Functions that return a key are not called: they may need services that a check should not.
            found += [("W004", finding) for finding in production_keys(settings, subject="DEBUG", call=False)]
    return list(map(_warning, found))


def check_database(
    app_configs: Sequence[Any] | None = None,  # noqa: ARG001
    databases: Sequence[str] | None = None,
    **options: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """Check the tables of a spool in the app's database, for `manage.py check --database`. A Django system check."""
    if sys.argv[1:2] == ["migrate"]:  # which runs the checks, and then creates the tables
        return []
    try:
        settings = current_settings()
    except ConfigurationError:  # reported by the other check
        return []
    if settings.disabled or settings.database not in (databases or ()):
        return []
    return list(map(_warning, database_findings(settings.database)))


def project_findings(settings: Settings) -> _Numbered:
    """Check the settings of Django that analytics depend on, and yield the number and finding of each warning."""
    yield from _check_middleware()
    yield from _check_top_level(settings)
    if not settings.disabled:
        yield from _check_cors(settings)
        yield from outbox_findings(settings.database)


def _warning(numbered: tuple[str, Finding]) -> CheckMessage:
    number, finding = numbered
    return Warning(f"{finding.subject} {finding.message}.", hint=finding.hint, id=f"sessionsight.{number}")


def _check_middleware() -> _Numbered:
    # Its place in the list does not matter.
    number = sum(map(_is_ours, django_settings.MIDDLEWARE))
    if number == 0:
        message = f"lacks {_MIDDLEWARE}: requests have no analytics"
        hint = f"add {_MIDDLEWARE!r} to MIDDLEWARE"
        yield "W002", Finding(level="warning", subject="MIDDLEWARE", message=message, hint=hint)
    elif number > 1:
        message = f"has the analytics middleware {number} times: only the first has an effect"
        hint = f"keep one {_MIDDLEWARE!r}"
        yield "W003", Finding(level="warning", subject="MIDDLEWARE", message=message, hint=hint)


def _is_ours(path: str) -> bool:
    try:
        middleware = import_string(path)
    except ImportError:  # Django reports it at startup
        return False
    return isinstance(middleware, type) and issubclass(middleware, AnalyticsMiddleware)


def _check_top_level(settings: Settings) -> _Numbered:
    """Warn of options and variables that are separate settings, as in Flask, unless SESSIONSIGHT has them too."""
    given = {str(name).upper() for name in getattr(django_settings, "SESSIONSIGHT", {})}
    configured = {destination.name for destination in settings.destinations}
    stray = [
        name
        for name in sorted(dir(django_settings))
        if (name in _OPTIONS and name.removeprefix(_PREFIX) not in given)
        or (name in VARIABLES and option_of(name)[0] not in configured)
    ]
    if stray:
        message = f"{'has' if len(stray) == 1 else 'have'} no effect: options are read from the dict SESSIONSIGHT alone"
        hint = 'write them there, such as SESSIONSIGHT = {"DESTINATIONS": {...}}'
        yield "W006", Finding(level="warning", subject=", ".join(stray), message=message, hint=hint)


def _check_cors(settings: Settings) -> _Numbered:
    if not apps.is_installed("corsheaders") or not any(isinstance(one, Signal) for one in settings.destinations):
        return
    allowed = getattr(django_settings, "CORS_ALLOW_HEADERS", ())
    names = {str(name).lower() for name in allowed}
    missing = [name for name in _SIGNAL_HEADERS if name not in names]
    if missing and "*" not in names:
        message = f"lacks {', '.join(missing)}: browsers block cross-origin requests to which Signal's script adds them"
        hint = (
            "CORS_ALLOW_HEADERS = (*corsheaders.defaults.default_headers, "
            f"{', '.join(repr(name) for name in _SIGNAL_HEADERS)})"
        )
        yield "W005", Finding(level="warning", subject="CORS_ALLOW_HEADERS", message=message, hint=hint)
