"""Finds the analytics of the request that is being served, anywhere below the view, and the client of the process.

The contextvar is set with a token by the adapter and reset in the frame that set it. Tasks and threads that were
started meanwhile inherit it, and may outlive the request: once the request is over, it counts as unset there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

from sessionsight.capture.analytics import Analytics
from sessionsight.errors import NoClientError
from sessionsight.log import caller_location

__all__ = [
    "DefaultClient",
    "Framework",
    "close_within",
    "current",
    "current_client",
    "current_in",
    "default",
    "default_owner",
    "enter",
    "entered",
    "leave",
    "register_framework",
    "set_default",
    "set_default_source",
    "unbind",
    "within",
]

_Result = TypeVar("_Result")

_current: ContextVar[Analytics | None] = ContextVar("sessionsight_current", default=None)


class DefaultClient(Protocol):
    """A client, as far as this module is concerned."""

    @property
    def analytics(self) -> Analytics:
        """Analytics that belong to no request."""


class Framework(Protocol):
    """A framework that keeps a current request and a current app of its own, as Flask does."""

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
    has ended and its background tasks are done. Work that goes on longer is given its context by `carry`,
    `scope` or `bind`; without that it gets what code outside a request gets, and a warning says so.

    Raises:
        NoClientError: Outside a request, when no client has been set up.

    Example:
        >>> def send_receipt(order_id: str) -> None:
        ...     current().capture("receipt_sent", {"order_id": order_id})
    """
    analytics = _current.get()
    if analytics is not None and not analytics._over:
        return analytics
    return _outside(analytics)


def current_in(framework: Framework) -> Analytics:
    """As `current`, where this framework's own current request may lie inside the one that is served."""
    analytics = _current.get()
    if analytics is None or analytics._over or analytics._source is not None:  # not a scope, which would lie inside
        found = framework.analytics()
        if found is not None and not found._over:
            return found
    return current()


def current_client() -> DefaultClient:
    """Return the client of the current request, else of the framework's current app, else the process's own.

    Raises:
        NoClientError: None has been set up.
    """
    analytics = _current.get()
    if analytics is None or analytics._over:
        analytics = _in_framework()
    return _outer_client() if analytics is None else cast("DefaultClient", analytics._collector)


# The variable's own methods, since each request calls them.

enter = _current.set
"""Make these the current analytics; give the token to `leave` in the same frame."""

entered = _current.get
"""The analytics that were entered last, or None outside a request. For adapters."""

leave = _current.reset
"""Make current again what was current before `enter`."""


def within(analytics: Analytics, call: Callable[..., _Result], *args: Any) -> _Result:
    """Call something, and make these the current analytics meanwhile."""
    token = _current.set(analytics)
    try:
        return call(*args)
    finally:
        _current.reset(token)


def unbind(analytics: Analytics) -> None:
    """Let work that inherited these analytics find them no longer: the response has ended, before `release`."""
    analytics._over = True


def close_within(analytics: Analytics, close: Callable[[], object]) -> None:
    """Call the end of a response while its analytics are current, then release them."""
    analytics._over = False
    try:
        within(analytics, close)
    finally:
        analytics.release()


def default() -> DefaultClient:
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
    """Return the name of what configures the process's own client, if that is not up to `configure()`."""
    return _owner


def set_default(client: DefaultClient | None, *, replace: bool = True) -> None:
    """Make this the client of code outside requests; with `replace=False` only if there is none."""
    global _default, _owner  # noqa: PLW0603  # one client a process
    if replace or _default is None:
        _default = None if client is None else lambda: client
        _owner = None


def set_default_source(source: Callable[[], DefaultClient], *, owner: str) -> None:
    """Let this function give the client of code outside requests, in place of any other.

    Args:
        source: Returns the client, the same as long as its configuration stays the same.
        owner: The name of that configuration, for the error of `configure()`.
    """
    global _default, _owner  # one client a process
    _default, _owner = source, owner


def register_framework(framework: Framework) -> None:
    """Look for the current request and the current app in this framework as well."""
    global _frameworks  # noqa: PLW0603  # the process's own
    if framework not in _frameworks:
        _frameworks += (framework,)


def _outside(over: Analytics | None) -> Analytics:
    """Return what counts where the contextvar holds no analytics, or those of a request that is over."""
    analytics = _in_framework()
    if analytics is not None:
        return analytics
    if over is not None:
        place = caller_location()
        over._collector.warn(
            f"{place}: the request in which this work was started is over, so current() no longer gives its analytics: "
            "start the work with sessionsight.carry(function) to keep that visitor's ids, or open "
            "sessionsight.scope(context, user_id=...) in it for another's",
            key=f"over:{place}",
        )
    return _outer_client().analytics


def _in_framework() -> Analytics | None:
    for framework in _frameworks:
        if (analytics := framework.analytics()) is not None and not analytics._over:
            return analytics
    return None


def _outer_client() -> DefaultClient:
    for framework in _frameworks:
        if (client := framework.client()) is not None:
            return client
    return default()
