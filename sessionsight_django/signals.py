"""Django's signals of who logs in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out

from sessionsight import Analytics
from sessionsight.callbacks import check_sync, run
from sessionsight.log import logger
from sessionsight.test_mode import test_mode
from sessionsight_django.clients import client
from sessionsight_django.user import user_id

__all__ = ["connect_auth_signals", "disconnect_auth_signals"]

_UID = "sessionsight"


def connect_auth_signals(*, traits: Callable[[Any], Mapping[str, Any] | None] | None = None) -> None:
    """From now on a login identifies the user, and a logout keeps the user of what came before it.

    Connecting again puts the new `traits` in place of the old ones. The user is sent with a login only, not with each
    request of a session.

    Args:
        traits: A plain function that gives what is told of a user, such as the plan, from the user object.

    Raises:
        ConfigurationError: `traits` is an async function.

    Example:
        >>> from django.apps import AppConfig
        >>> class ShopConfig(AppConfig):
        ...     name = "shop"
        ...
        ...     def ready(self):
        ...         connect_auth_signals(traits=lambda user: {"staff": user.is_staff})
    """
    if traits is not None:
        check_sync(traits, "connect_auth_signals: traits")

    def logged_in(request: Any = None, user: Any = None, **_: Any) -> None:
        analytics, known = _analytics(request), user_id(user)
        if analytics is not None and known is not None:
            analytics.identify(known, None if traits is None else _told(traits, user))

    disconnect_auth_signals()
    user_logged_in.connect(logged_in, weak=False, dispatch_uid=_UID)
    user_logged_out.connect(_logged_out, weak=False, dispatch_uid=_UID)


def disconnect_auth_signals() -> None:
    """Undo `connect_auth_signals`; harmless when there is nothing to undo."""
    for signal in (user_logged_in, user_logged_out):
        signal.disconnect(dispatch_uid=_UID)


def _analytics(request: Any) -> Analytics | None:
    analytics = getattr(request, "analytics", None)
    return analytics if isinstance(analytics, Analytics) else None


def _logged_out(request: Any = None, **_: Any) -> None:
    analytics = _analytics(request)
    if analytics is not None:
        # Django has loaded the user for this signal: one look, and the analytics know who it was.
        analytics.context  # noqa: B018


def _told(traits: Callable[[Any], Mapping[str, Any] | None], user: Any) -> Mapping[str, Any] | None:
    try:
        return run(traits, user)
    except Exception:
        if client().settings.strict or test_mode.strict:
            raise
        logger.exception("the function that gives a user's traits failed; the user is identified without any")
        return None
