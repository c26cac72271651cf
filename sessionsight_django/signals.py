"""Receivers of Django's signals for logins and logouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out

from sessionsight import Analytics
from sessionsight.adapters import check_sync, logger, run, test_mode
from sessionsight_django.clients import client
from sessionsight_django.user import user_id

__all__ = ["connect_auth_signals", "disconnect_auth_signals"]

_UID = "sessionsight"


def connect_auth_signals(*, traits: Callable[[Any], Mapping[str, Any] | None] | None = None) -> None:
    """Identify the user at each login, and keep the user of records that were captured before a logout.

    Connecting again replaces `traits`. The user is identified at a login only, not with each request of a session.

    Args:
        traits: A plain function that returns a user's traits, such as the plan, from the user object.

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
            analytics.identify(known, None if traits is None else _traits_for(traits, user))

    disconnect_auth_signals()
    user_logged_in.connect(logged_in, weak=False, dispatch_uid=_UID)
    user_logged_out.connect(_logged_out, weak=False, dispatch_uid=_UID)


def disconnect_auth_signals() -> None:
    """Undo `connect_auth_signals`; without it, do nothing."""
    for signal in (user_logged_in, user_logged_out):
        signal.disconnect(dispatch_uid=_UID)


def _analytics(request: Any) -> Analytics | None:
    analytics = getattr(request, "analytics", None)
    return analytics if isinstance(analytics, Analytics) else None


def _logged_out(request: Any = None, **_: Any) -> None:
    analytics = _analytics(request)
    if analytics is not None:
        # Django has loaded the user for this signal and removes it afterwards; resolving the context reads it.
        analytics.context  # noqa: B018


def _traits_for(traits: Callable[[Any], Mapping[str, Any] | None], user: Any) -> Mapping[str, Any] | None:
    try:
        return run(traits, user)
    except Exception:
        if client().settings.strict or test_mode.strict:
            raise
        logger.exception("traits failed; the user is identified without traits")
        return None
