"""What `manage.py check` says about the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's own name for it
from django.utils.module_loading import import_string

from sessionsight import ConfigurationError, Settings
from sessionsight.destinations import Signal
from sessionsight.destinations.base import VendorDestination, resolve_secret
from sessionsight.diagnosis.configuration import is_local
from sessionsight.environment import VARIABLES, option_of
from sessionsight_django.clients import current_settings, is_test_environment, set_test_mode
from sessionsight_django.middleware import AnalyticsMiddleware

__all__ = ["check_configuration"]

_MIDDLEWARE = "sessionsight_django.AnalyticsMiddleware"
_PREFIX = "SESSIONSIGHT_"
_OPTIONS = {_PREFIX + name.upper() for name in Settings.__struct_fields__}
_PRODUCTION = ("sk_live_", "pk_live_", "sessionsight_sec_")
_SIGNAL_HEADERS = ("x-signal-session-id", "x-signal-window-id", "x-signal-distinct-id")


def check_configuration(
    app_configs: Sequence[Any] | None = None,  # noqa: ARG001  # what Django gives a check
    **options: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """Look at `SESSIONSIGHT`, `MIDDLEWARE` and what else analytics depend on. A Django system check.

    Example:
        >>> SILENCED_SYSTEM_CHECKS = ["sessionsight.W004"]  # the development machine uses real keys
    """
    if is_test_environment():  # Django's runner runs the checks inside its test environment
        set_test_mode()
    found = list(_middleware())
    try:
        settings = current_settings()
    except ConfigurationError as error:
        return [
            Error(str(error), hint="The server does not start until this is right.", id="sessionsight.E001"),
            *found,
        ]
    found += _at_top_level(settings)
    if not settings.disabled:
        found += [*_destinations(settings), *_cors(settings)]
    return found


def _middleware() -> Iterator[CheckMessage]:
    # Its place in the list is free: no order of middlewares breaks anything, so none is objected to.
    number = sum(map(_is_ours, django_settings.MIDDLEWARE))
    if number == 0:
        yield Warning(
            "The middleware is not in MIDDLEWARE: requests have no analytics.",
            hint=f"Add {_MIDDLEWARE!r} to MIDDLEWARE.",
            id="sessionsight.W002",
        )
    elif number > 1:
        yield Warning(
            f"The middleware is in MIDDLEWARE {number} times; only the first counts.",
            hint=f"Keep one {_MIDDLEWARE!r}.",
            id="sessionsight.W003",
        )


def _is_ours(path: str) -> bool:
    try:
        middleware = import_string(path)
    except ImportError:  # Django says so itself when it starts
        return False
    return isinstance(middleware, type) and issubclass(middleware, AnalyticsMiddleware)


def _at_top_level(settings: Settings) -> Iterator[CheckMessage]:
    """Warn of options and variables that are settings of their own, as in Flask, unless SESSIONSIGHT has them too."""
    given = {str(name).upper() for name in getattr(django_settings, "SESSIONSIGHT", {})}
    configured = {destination.name for destination in settings.destinations}
    stray = [
        name
        for name in sorted(dir(django_settings))
        if (name in _OPTIONS and name.removeprefix(_PREFIX) not in given)
        or (name in VARIABLES and option_of(name)[0] not in configured)
    ]
    if stray:
        be = "has" if len(stray) == 1 else "have"
        yield Warning(
            f"{', '.join(stray)} {be} no effect: options are read from the dict SESSIONSIGHT alone.",
            hint='Write them there, such as SESSIONSIGHT = {"DESTINATIONS": {...}}.',
            id="sessionsight.W006",
        )


def _destinations(settings: Settings) -> Iterator[CheckMessage]:
    if not settings.destinations:
        yield Warning(
            "No destination is configured: analytics are captured and sent nowhere.",
            hint='Set SESSIONSIGHT["DESTINATIONS"] or the environment variables of a vendor; '
            'SESSIONSIGHT = {"DISABLED": True} says that this is meant.',
            id="sessionsight.W001",
        )
    if not django_settings.DEBUG:
        return
    live = [
        f"{destination.name} ({option})"
        for destination in settings.destinations
        if isinstance(destination, VendorDestination) and not is_local(destination)
        for option in sorted(destination.secrets)
        if _key(destination, option).startswith(_PRODUCTION)
    ]
    if live:
        yield Warning(
            f"DEBUG is on, and these keys look like those of production: {', '.join(live)}.",
            hint="What is clicked in development would count there. Use test keys, "
            'or SESSIONSIGHT = {"DISABLED": True}.',
            id="sessionsight.W004",
        )


def _key(destination: VendorDestination, option: str) -> str:
    """A key, if it stands in the settings; a function that gives it is not called for a check."""
    key = getattr(destination, option)
    return resolve_secret(key) if isinstance(key, str) else ""


def _cors(settings: Settings) -> Iterator[CheckMessage]:
    if not apps.is_installed("corsheaders") or not any(isinstance(one, Signal) for one in settings.destinations):
        return
    allowed = getattr(django_settings, "CORS_ALLOW_HEADERS", ())
    names = {str(name).lower() for name in allowed}
    missing = [name for name in _SIGNAL_HEADERS if name not in names]
    if missing and "*" not in names:
        yield Warning(
            f"CORS_ALLOW_HEADERS lacks {', '.join(missing)}: "
            "browsers refuse the requests of other origins to which Signal's script adds them.",
            hint="CORS_ALLOW_HEADERS = (*corsheaders.defaults.default_headers, "
            f"{', '.join(repr(name) for name in _SIGNAL_HEADERS)})",
            id="sessionsight.W005",
        )
