"""The client of a Django process: one for each value that `settings.SESSIONSIGHT` has had."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from django.conf import settings as django_settings

from sessionsight import Client, ConfigurationError, Settings
from sessionsight.client import adopt

__all__ = ["client", "current_settings"]

_WHERE = "settings.SESSIONSIGHT"

_clients: list[Client] = []
_lock = Lock()


def client() -> Client:
    """The client for the settings as they are now; made when they are new.

    Raises:
        ConfigurationError: A setting that is unknown or wrong.
    """
    settings = current_settings()
    with _lock:
        for known in _clients:
            if known.settings == settings:
                return known
        made = adopt(None, settings, {}, where=_WHERE)
        _clients.append(made)
        return made


def current_settings() -> Settings:
    """The settings as they are now.

    Raises:
        ConfigurationError: A setting that is unknown or wrong.
    """
    options = getattr(django_settings, "SESSIONSIGHT", {})
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{_WHERE} must be a dict of options, not {type(options).__name__}")
    return Settings.from_mapping(options, where=_WHERE, strict=bool(django_settings.DEBUG))
