"""Finds the analytics of the request that is being served, anywhere below the view.

The contextvar is set with a token by the adapter and reset in the frame that set it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from sessionsight.analytics import Analytics
from sessionsight.errors import NoClientError

__all__ = ["current", "default", "enter", "entered", "leave", "set_default", "within"]

_Result = TypeVar("_Result")

_current: ContextVar[Analytics | None] = ContextVar("sessionsight_current", default=None)


class ProcessClient(Protocol):
    """A client, as far as this module is concerned."""

    @property
    def analytics(self) -> Analytics:
        """Analytics that belong to no request."""

    def for_request(self, request: object) -> Analytics:
        """Analytics bound to a request of any shape."""


_default: ProcessClient | None = None


def current() -> Analytics:
    """The analytics of the current request; outside one, those of the client itself.

    Works in threadpools and tasks that copy the context, as `asyncio.to_thread`, Starlette's
    `run_in_threadpool` and asgiref's `sync_to_async` do.

    Raises:
        NoClientError: Outside a request, when no client has been set up.
    """
    analytics = _current.get()
    return default().analytics if analytics is None else analytics


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


def default() -> ProcessClient:
    """The process's own client.

    Raises:
        NoClientError: There is none yet.
    """
    if _default is None:
        raise NoClientError(
            "there is no analytics client in this process: install one of the middlewares, "
            "or call sessionsight.configure(...) when the process starts"
        )
    return _default


def set_default(client: ProcessClient | None, *, replace: bool = True) -> None:
    """Make this the client of code outside requests; with `replace=False` only if there is none."""
    global _default  # noqa: PLW0603  # one client a process
    if replace or _default is None:
        _default = client
