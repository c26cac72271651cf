"""The client of a Django process: one for each value of `settings.SESSIONSIGHT`, which tests override."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from threading import Lock, Thread
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.utils.timezone import get_default_timezone

from sessionsight import Client, ConfigurationError, Settings
from sessionsight.adapters import JoinTransaction, set_default_source, test_mode
from sessionsight_django.transactions import defer_until_commit

__all__ = ["client", "current_settings", "is_test_environment", "set_test_mode"]

_WHERE = "settings.SESSIONSIGHT"

_clients: list[Client] = []
_present: Client | None = None
"""The client for the current settings, once it has been requested."""
_override_depths: list[int] = []
"""The number of clients before each `override_settings` that is in force."""
_closing_clients: list[Client] = []
_lock = Lock()


def client() -> Client:
    """Return the client for the current settings, and create it if they are new.

    Raises:
        ConfigurationError: A setting is unknown or wrong.
    """
    global _present  # noqa: PLW0603  # the process's own
    settings = current_settings()
    with _lock:
        found = next((known for known in _clients if known.settings == settings), None)
        if found is None:
            found = Client(settings)
            found.defer_record = defer_until_commit
            found.join_transaction = _join_transaction(settings)
            _clients.append(found)
        _present = found
    set_default_source(_present_client, owner=_WHERE)
    return found


def _join_transaction(settings: Settings) -> JoinTransaction | None:
    alias = settings.database
    if alias is None:
        return None
    from sessionsight_django.outbox.join import join_transaction  # not every project has its tables

    return partial(join_transaction, alias)


def _present_client() -> Client:
    """Return the same as `client`, but read the settings only if they have changed."""
    return _present or client()


def current_settings() -> Settings:
    """Return the current settings.

    Raises:
        ConfigurationError: A setting is unknown or wrong.
    """
    options = getattr(django_settings, "SESSIONSIGHT", {})
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{_WHERE} must be a dict of options, not {type(options).__name__}")
    time_zone = None if django_settings.USE_TZ or not django_settings.TIME_ZONE else get_default_timezone()
    return Settings.from_mapping(options, where=_WHERE, strict=bool(django_settings.DEBUG), time_zone=time_zone)


def _setting_changed(setting: str, *, enter: bool, **_: Any) -> None:
    """Retire the clients that were created for the settings of a test.

    They go on delivering, and close when the next test changes the settings: a handler that was created under the
    settings of a test may serve requests afterwards.
    """
    if setting not in {"SESSIONSIGHT", "DEBUG", "USE_TZ", "TIME_ZONE"}:
        return
    global _present  # noqa: PLW0603  # the process's own
    closing: list[Client] = []
    with _lock:
        _present = None
        if enter:
            _override_depths.append(len(_clients))
            closing, _closing_clients[:] = _closing_clients[:], []
        elif _override_depths:
            depth = _override_depths.pop()
            _closing_clients.extend(_clients[depth:])
            del _clients[depth:]
    for client in closing:
        # In the background, because with an unreachable vendor it takes as long as `shutdown_timeout`.
        Thread(target=client.shutdown, name="sessionsight-retired", daemon=True).start()


def is_test_environment() -> bool:
    """Return whether `setup_test_environment()` is in force, which every runner of Django's tests calls.

    Mail backends, `RequestFactory` and `DEBUG` do not count, because sites use them as well.
    """
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(getattr(utils, "_TestState", None), "saved_data")


def set_test_mode() -> None:
    """Suppress delivery in a test environment. Called when a handler is created.

    A handler that is created outside a test environment serves a site: from then on the environment is not checked for
    each batch. A handler that is created inside one, as test clients do, turns the check on again.
    """
    test_mode.suppress_when(is_test_environment if is_test_environment() else None)


setting_changed.connect(_setting_changed, dispatch_uid="sessionsight")
test_mode.suppress_when(is_test_environment)
