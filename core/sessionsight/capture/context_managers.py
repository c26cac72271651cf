"""Makes a tracking context current in code that no request contains: jobs, webhooks, threads and tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Token
from functools import partial, wraps
from inspect import iscoroutine, iscoroutinefunction
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from sessionsight.capture.analytics import Analytics
from sessionsight.capture.current import current, get_current, reset_current, set_current
from sessionsight.capture.scope import RequestScope
from sessionsight.errors import InvalidEventError, describe
from sessionsight.event_loop import run_in_worker

__all__ = ["Scope", "carry"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Scope:
    """A block of code with its own analytics, for `with` and `async with`; the result of `scope`.

    It may be nested, entered again, and entered by several threads and tasks at a time.

    Args:
        make: Returns the analytics of one stretch.
        blocking: Whether to submit records writes to a durable store, which must not hold an event loop up.
        flush: Whether the end waits for delivery.
    """

    __slots__ = ("_blocking", "_entered", "_flush", "_make")

    def __init__(self, make: Callable[[], Analytics], *, blocking: bool, flush: bool) -> None:
        self._make = make
        self._blocking = blocking
        self._flush = flush
        self._entered: dict[Analytics, Token[Analytics | None]] = {}

    def __enter__(self) -> Analytics:
        analytics = self._make()
        self._entered[analytics] = set_current(analytics)
        return analytics

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        analytics = self._leave()
        _end(analytics)
        if self._flush:
            try:
                analytics.flush()
            except Exception as failure:
                analytics._scope._client.handle_error(failure)

    async def __aenter__(self) -> Analytics:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        analytics = self._leave()
        if self._blocking and analytics._scope.has_pending:
            from anyio import CancelScope  # takes longer to import than this whole package

            with CancelScope(shield=True):  # the records of a cancelled job are kept
                await run_in_worker(partial(_end, analytics))
        else:
            _end(analytics)
        if self._flush and (error is None or isinstance(error, Exception)):  # a cancellation must not wait
            try:
                await analytics.aflush()
            except Exception as failure:
                analytics._scope._client.handle_error(failure)

    def _leave(self) -> Analytics:
        analytics = get_current()
        if analytics is None or analytics not in self._entered:  # `__exit__` runs in another context than `__enter__`
            analytics = next(reversed(self._entered))
        _reset(self._entered.pop(analytics))
        return analytics


class _Carried:
    """The analytics of one call of a carried function, which end with the call."""

    __slots__ = ("_analytics", "_origin", "_token")

    def __init__(self, origin: Analytics) -> None:
        self._origin = origin

    def __enter__(self) -> Self:
        self._analytics = _detached(self._origin)
        self._token = set_current(self._analytics)
        return self

    def __exit__(self, *_: object) -> None:
        _reset(self._token)
        self._analytics._scope.close()


def carry(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Bind a function to the current tracking context, so that a thread, a task or an executor can call it.

    In the function, and in what it calls, `current()` gives analytics under the ids and the user that are known now,
    also after the request has ended; they submit each record at once. A refusal of consent is taken along as well.

    Args:
        function: A function, sync or async; it is called with the arguments that the result is called with.

    Returns:
        A function that may be called any number of times, on any thread of this process. For another process
        there is `TrackingContext.to_carrier`.

    Raises:
        NoClientError: Outside a request, when no client has been set up.

    Example:
        >>> def send_receipt(order_id: str) -> None:
        ...     current().capture("receipt_sent", {"order_id": order_id})
        >>> def view(pool, order_id: str) -> None:
        ...     pool.submit(carry(send_receipt), order_id)
    """
    analytics = current()
    given: object = function
    if not callable(given):
        what = "the function itself, not what it returns" if iscoroutine(given) else "a function"
        analytics._scope._client.warn_or_raise(InvalidEventError(f"carry() takes {what}, not {describe(given)}"))
        return function
    origin = _detached(analytics)
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004  # of an object

        @wraps(function)
        async def run_async(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Any:
            with _Carried(origin):
                return await cast("Coroutine[Any, Any, Any]", function(*args, **kwargs))

        return cast("Callable[_Parameters, _Result]", run_async)

    @wraps(function)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with _Carried(origin):
            result = function(*args, **kwargs)
        return cast("_Result", _await(origin, result)) if iscoroutine(result) else result

    return run


async def _await(origin: Analytics, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with _Carried(origin):
        return await coroutine


_CONTEXT = (
    "_context_factory",
    "_context",
    "_user_id",
    "_last_user",
    "_route",
    "_distinct_id",
    "_anonymous_id",
    "_tags",
    "_drop",
    "_only",
    "_selected",
    "_flags",
    "_flag_attributes",
)


def _detached(analytics: Analytics) -> Analytics:
    """Return analytics under the same context, as it is known now, that need no request."""
    scope = analytics._scope
    scope._current_user()
    scope._make_batch([])  # reads from the request what its context is resolved from
    copied = RequestScope(scope._client)
    known = vars(scope)
    vars(copied).update({name: known[name] for name in _CONTEXT if name in known})
    copied._ended = True
    return Analytics(copied)


def _end(analytics: Analytics) -> None:
    analytics._scope.end()
    analytics._scope.close()


def _reset(token: Token[Analytics | None]) -> None:
    # Some frameworks run the end of a generator in a context other than its beginning.
    with suppress(ValueError):
        reset_current(token)
