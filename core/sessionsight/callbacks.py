"""Functions that settings hold: plain ones, whose return values are answers.

Nothing awaits what such a function returns, and every coroutine is true: a refusal would count as a yes.
An async function is therefore refused when it is set, and an awaitable that is returned all the same
counts as a failure, not as an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import Any, TypeVar

from sessionsight.errors import ConfigurationError

__all__ = ["AsyncResult", "check_sync", "decide", "is_async", "run"]

_T = TypeVar("_T")


class AsyncResult(ConfigurationError):
    """A function returned something that would have to be awaited or iterated over first."""


def is_async(function: object) -> bool:
    """Return whether calling this gives a coroutine or an async generator, as far as it can be known beforehand.

    Example:
        >>> async def consent(request): ...
        >>> is_async(consent), is_async(print)
        (True, False)
    """
    while isinstance(function, partial):
        function = function.func
    # Of an object that is called, the method counts; of a class, calling it makes an instance.
    method = None if isinstance(function, type) else getattr(type(function), "__call__", None)  # noqa: B004
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (function, method))


def check_sync(function: object, name: str) -> None:
    """Raise `ConfigurationError` if this is an async function; `name` is the setting."""
    if is_async(function):
        raise ConfigurationError(
            f"{name} must be a plain function (`def`), not an async one, because nothing awaits its result; look up "
            "in async code beforehand what it needs, and let it read that"
        )


def run(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function, and return what it returns.

    Raises:
        AsyncResult: That is an awaitable or an async generator. A coroutine is closed, so that Python
            does not warn that it was never awaited.
    """
    result = function(*args)
    if inspect.isawaitable(result) or isinstance(result, AsyncGeneratorType):
        if isinstance(result, Coroutine):
            with suppress(Exception):  # it may be running elsewhere
                result.close()
        raise AsyncResult(
            f"the function returned a {type(result).__name__}, which nothing awaits; it must return its answer itself"
        )
    return result


def decide(function: Callable[..., object], *args: Any) -> bool:
    """Call a function that answers yes or no.

    Raises:
        AsyncResult: As `run`; and a generator, which is true whatever its function has to say.
    """
    answer = run(function, *args)
    if isinstance(answer, GeneratorType):
        raise AsyncResult("the function returned a generator; it must return True or False")
    return bool(answer)
