"""The client of a Django process: one for each value that `settings.SESSIONSIGHT` has had."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from threading import Lock, Thread
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.utils.timezone import get_default_timezone

from sessionsight import Client, ConfigurationError, Settings
from sessionsight.capture.current import set_default_source
from sessionsight.test_mode import test_mode
from sessionsight_django.transactions import defer_until_commit

__all__ = ["client", "current_settings", "is_test_environment", "set_test_mode"]

_WHERE = "settings.SESSIONSIGHT"

_clients: list[Client] = []
_present: Client | None = None
"""The client for the settings as they are now, once somebody has asked for it."""
_marks: list[int] = []
"""For each `override_settings` that is in force, how many clients there were before it."""
_retired: list[Client] = []
_lock = Lock()


def client() -> Client:
    """The client for the settings as they are now; made when they are new.

    Raises:
        ConfigurationError: A setting that is unknown or wrong.
    """
    global _present  # noqa: PLW0603  # the process's own
    settings = current_settings()
    with _lock:
        found = next((known for known in _clients if known.settings == settings), None)
        if found is None:
            found = Client(settings)
            found.defer_record = defer_until_commit
            _clients.append(found)
        _present = found
    set_default_source(_present_client, owner=_WHERE)
    return found


def _present_client() -> Client:
    """Return the same as `client`, without reading the settings unless they have changed."""
    return _present or client()


def current_settings() -> Settings:
    """The settings as they are now.

    Raises:
        ConfigurationError: A setting that is unknown or wrong.
    """
    options = getattr(django_settings, "SESSIONSIGHT", {})
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{_WHERE} must be a dict of options, not {type(options).__name__}")
    time_zone = None if django_settings.USE_TZ or not django_settings.TIME_ZONE else get_default_timezone()
    return Settings.from_mapping(options, where=_WHERE, strict=bool(django_settings.DEBUG), time_zone=time_zone)


def _setting_changed(setting: str, *, enter: bool, **_: Any) -> None:
    """Give up the clients that were made for the settings of a test.

    They deliver what they have, and close when the next test changes the settings: a handler that was made under the
    settings of a test may serve requests after them.
    """
    if setting not in {"SESSIONSIGHT", "DEBUG", "USE_TZ", "TIME_ZONE"}:
        return
    global _present  # noqa: PLW0603  # the process's own
    closing: list[Client] = []
    with _lock:
        _present = None
        if enter:
            _marks.append(len(_clients))
            closing, _retired[:] = _retired[:], []
        elif _marks:
            mark = _marks.pop()
            _retired.extend(_clients[mark:])
            del _clients[mark:]
    for client in closing:
        # Not waited for: with a vendor that cannot be reached it takes as long as `shutdown_timeout` allows.
        Thread(target=client.shutdown, name="sessionsight-retired", daemon=True).start()


def is_test_environment() -> bool:
    """Return whether `setup_test_environment()` is in force, which every runner of Django's tests calls.

    Mail backends, `RequestFactory` and `DEBUG` do not count: sites use them as well.
    """
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(getattr(utils, "_TestState", None), "saved_data")


def set_test_mode() -> None:
    """Let a handler that is made outside a test environment decide that this process serves a site.

    From then on no submitted batch asks for the environment. A handler made inside one, as test clients make them,
    turns the question on again.
    """
    test_mode.suppress_when(is_test_environment if is_test_environment() else None)


setting_changed.connect(_setting_changed, dispatch_uid="sessionsight")
test_mode.suppress_when(is_test_environment)
