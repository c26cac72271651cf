"""The signed-in user, as far as Django has loaded it already.

Reading it must neither cost a query nor access the session: for an accessed session Django sends `Vary: Cookie`, and
the page is no longer cached.
"""

from __future__ import annotations

import asyncio
from typing import Any

from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

__all__ = ["freeze_user", "load_user", "loaded_user", "user_id"]

_ATTRIBUTE = "_sessionsight_user"


def user_id(user: Any) -> str | None:
    """Return the primary key of a signed-in user; None for any other."""
    if user is None or not getattr(user, "is_authenticated", False) or user.pk is None:
        return None
    return str(user.pk)


def loaded_user(request: HttpRequest) -> Any | None:
    """Return the request's user, if it has been loaded or set.

    `request.user` is a plain object after a login, after a logout, and where an API framework has authenticated. A lazy
    object counts when it has been evaluated; before that, `await request.auser()` may have loaded the user.
    """
    own = request.__dict__
    user = own.get("user")
    if user is not None and isinstance(user, LazyObject):
        wrapped = vars(user).get("_wrapped", empty)
        user = None if wrapped is empty else wrapped
    return own.get("_acached_user") if user is None else user


def load_user(request: HttpRequest) -> Any | None:
    """Return the user of the session, looked up once a request, without side effects on the request or the session.

    Returns None on an event loop, where Django forbids queries; the middleware then does it later.
    """
    own = vars(request)
    if _ATTRIBUTE not in own and "session" in own and "user" in own:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            own[_ATTRIBUTE] = _session_user(request)
    return own.get(_ATTRIBUTE)


def freeze_user(request: HttpRequest) -> None:
    """Prevent further queries by `load_user`."""
    vars(request).setdefault(_ATTRIBUTE, None)


def _session_user(request: HttpRequest) -> Any:
    from django.contrib.auth import get_user

    session = request.session
    accessed, modified = session.accessed, session.modified
    user = get_user(request)
    # A session that was changed, because its user's password was, must be saved as usual.
    if session.modified == modified:
        session.accessed = accessed
    return user
