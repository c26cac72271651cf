"""The analytics of the request that is being served, anywhere below the view, and the client of the process.

A contextvar is set by the adapter and reset in the same frame. Tasks and threads that are started meanwhile inherit
it and may outlive the request; once the request is over, it counts as unset there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

from sessionsight.capture.analytics import Analytics
from sessionsight.capture.scope import RequestScope
from sessionsight.errors import NoClientError
from sessionsight.log import caller_location

__all__ = [
    "DefaultClient",
    "Framework",
    "close_response",
    "current",
    "current_client",
    "current_in",
    "default_client",
    "default_owner",
    "find_current",
    "get_current",
    "is_current",
    "register_framework",
    "reset_current",
    "run_with",
    "scope_of",
    "set_current",
    "set_default_client",
    "set_default_source",
    "suspended",
]

_Result = TypeVar("_Result")

_current: ContextVar[Analytics | None] = ContextVar("sessionsight_current", default=None)


class DefaultClient(Protocol):
    """The client as this module needs it."""

    @property
    def analytics(self) -> Analytics:
        """Analytics that belong to no request."""


class Framework(Protocol):
    """A framework that has a current request and a current app of its own, as Flask does."""

    def analytics(self) -> Analytics | None:
        """Return the analytics of its current request."""

    def client(self) -> DefaultClient | None:
        """Return the client of its current app."""


_frameworks: tuple[Framework, ...] = ()
_default: Callable[[], DefaultClient] | None = None
_owner: str | None = None


def current() -> Analytics:
    """Return the analytics of the current request or `scope`; outside both, those of the client itself.

    Works in threadpools and tasks that copy the context, as `asyncio.to_thread`, Starlette's
    `run_in_threadpool` and asgiref's `sync_to_async` do, for as long as the request lives: until its response
    has ended and its background tasks are done. For work that takes longer, use `carry`, `scope` or `bind`;
    without one of them it gets the same as code outside a request, and a warning is logged.

    Raises:
        NoClientError: Outside a request, when no client has been set up.

    Example:
        >>> def send_receipt(order_id: str) -> None:
        ...     current().capture("receipt_sent", {"order_id": order_id})
    """
    analytics = _current.get()
    if analytics is not None and not analytics._scope._inactive:
        return analytics
    return _outside(analytics)


def find_current() -> Analytics | None:
    """Return the analytics of the current request or `scope`; outside both None, without a warning."""
    analytics = _current.get()
    if analytics is not None and not analytics._scope._inactive:
        return analytics
    return _in_framework()


def current_in(framework: Framework) -> Analytics:
    """As `current`, for a framework whose own current request may be nested in the one that is served."""
    analytics = _current.get()
    # A `scope()` without a request is nested in the framework's request instead.
    if analytics is None or analytics._scope._inactive or analytics._scope._request is not None:
        found = framework.analytics()
        if found is not None and not found._scope._inactive:
            return found
    return current()


def current_client() -> DefaultClient:
    """Return the client of the current request, else of the framework's current app, else the process's own.

    Raises:
        NoClientError: None has been set up.
    """
    analytics = find_current()
    return _outer_client() if analytics is None else cast("DefaultClient", analytics._scope._client)


# The variable's own methods, because each request calls them.

set_current = _current.set
"""Make these analytics the current ones. The returned token must be passed to `reset_current` in the same frame."""

get_current = _current.get
"""Return the analytics that were set last, or None outside a request."""

reset_current = _current.reset
"""Restore what was current before `set_current`."""


def run_with(analytics: Analytics, call: Callable[..., _Result], *args: Any) -> _Result:
    """Call a function with these analytics as the current ones."""
    token = _current.set(analytics)
    try:
        return call(*args)
    finally:
        _current.reset(token)


def suspended(analytics: Analytics) -> Analytics:
    """Return what is current where a generator has made a part of a response: a `scope` that it goes on in, or these.

    The next part is to be made with the result as the current ones.

    Args:
        analytics: Those of the request.
    """
    found = _current.get()
    return analytics if found is None or found._scope._inactive else found


def scope_of(analytics: Analytics) -> RequestScope:
    """Return the scope of a request by its analytics."""
    return analytics._scope


def is_current(scope: RequestScope) -> bool:
    """Return whether the analytics of this scope are the current ones."""
    analytics = _current.get()
    return analytics is not None and analytics._scope is scope


def close_response(analytics: Analytics, close: Callable[[], object]) -> None:
    """Call a response's own `close` with its analytics as the current ones, then close their scope."""
    scope = analytics._scope
    scope._inactive = False
    token = _current.set(analytics)
    try:
        close()
    finally:
        _current.reset(token)
        scope.close()


def default_client() -> DefaultClient:
    """Return the process's own client.

    Raises:
        NoClientError: There is none yet.
    """
    if _default is None:
        raise NoClientError(
            "there is no analytics client in this process: install one of the middlewares, "
            "or call sessionsight.configure(...) when the process starts"
        )
    return _default()


def default_owner() -> str | None:
    """Return the name of the configuration of the process's own client, if `configure()` must not replace it."""
    return _owner


def set_default_client(client: DefaultClient | None, *, replace: bool = True) -> None:
    """Make this the client of code outside requests; with `replace=False` only if there is none."""
    global _default, _owner  # noqa: PLW0603  # one client a process
    if replace or _default is None:
        _default = None if client is None else lambda: client
        _owner = None


def set_default_source(source: Callable[[], DefaultClient], *, owner: str) -> None:
    """Set a function that returns the client of code outside requests, in place of any other.

    Args:
        source: Returns the client, the same as long as its configuration stays the same.
        owner: The name of that configuration, which the error of `configure()` contains.
    """
    global _default, _owner  # one client a process
    _default, _owner = source, owner


def register_framework(framework: Framework) -> None:
    """Add a framework whose current request and current app `current` and `current_client` look up."""
    global _frameworks  # noqa: PLW0603  # the process's own
    if framework not in _frameworks:
        _frameworks += (framework,)


def _outside(closed: Analytics | None) -> Analytics:
    """Return the analytics for code whose contextvar is unset, or holds those of a request that is over."""
    analytics = _in_framework()
    if analytics is not None:
        return analytics
    if closed is not None:
        location = caller_location()
        closed._scope._client.warn(
            f"{location}: the request in which this work was started is over, so current() no longer gives its "
            "analytics: start the work with sessionsight.carry(function) to keep that visitor's ids, or open "
            "sessionsight.scope(context, user_id=...) in it for another's",
            key=f"over:{location}",
        )
    return _outer_client().analytics


def _in_framework() -> Analytics | None:
    for framework in _frameworks:
        if (analytics := framework.analytics()) is not None and not analytics._scope._inactive:
            return analytics
    return None


def _outer_client() -> DefaultClient:
    for framework in _frameworks:
        if (client := framework.client()) is not None:
            return client
    return default_client()
