"""Who is signed in, as far as Django knows it already.

Looking must cost no query, and must not touch the session: a session that was accessed makes Django
send `Vary: Cookie`, and the page is cached no more.
"""

from __future__ import annotations

import asyncio
from typing import Any

from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

__all__ = ["keep_as_is", "load_user", "loaded_user", "user_id"]

_OURS = "_sessionsight_user"


def user_id(user: Any) -> str | None:
    """The primary key of a user who is signed in."""
    if user is None or not getattr(user, "is_authenticated", False) or user.pk is None:
        return None
    return str(user.pk)


def loaded_user(request: HttpRequest) -> Any | None:
    """The request's user, if somebody has loaded or set it.

    A plain object at `request.user` is there after login, after logout, and where an API framework has
    authenticated. A lazy one counts when it has been evaluated; before that, `await request.auser()`
    may have loaded the user.
    """
    own = request.__dict__
    user = own.get("user")
    if user is not None and isinstance(user, LazyObject):
        wrapped = vars(user).get("_wrapped", empty)
        user = None if wrapped is empty else wrapped
    return own.get("_acached_user") if user is None else user


def load_user(request: HttpRequest) -> Any | None:
    """The user of the session, looked up once a request, without a trace in the request or the session.

    Nothing on an event loop, where Django forbids queries: there the middleware looks later on.
    """
    own = vars(request)
    if _OURS not in own and "session" in own and "user" in own:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            own[_OURS] = _of_session(request)
    return own.get(_OURS)


def keep_as_is(request: HttpRequest) -> None:
    """From now on `load_user` looks nothing up."""
    vars(request).setdefault(_OURS, None)


def _of_session(request: HttpRequest) -> Any:
    from django.contrib.auth import get_user

    session = request.session
    accessed, modified = session.accessed, session.modified
    user = get_user(request)
    # A session that had to be changed, because its password has, must be saved as usual.
    if session.modified == modified:
        session.accessed = accessed
    return user
