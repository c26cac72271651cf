"""Calls of the functions that settings hold.

Nothing awaits what such a function returns, and every coroutine is truthy: a refusal would count as a yes.
An async function is therefore refused when it is set, and an awaitable that is returned all the same
counts as a failure.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import AsyncGeneratorType, GeneratorType, NoneType
from typing import Any, TypeVar

from sessionsight.errors import ConfigurationError

__all__ = ["UnawaitedResult", "check_sync", "decide", "is_async", "run"]

_T = TypeVar("_T")
_PLAIN = frozenset({bool, str, int, NoneType})


class UnawaitedResult(ConfigurationError):
    """A function returned an awaitable, or a generator in place of True or False."""


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
        UnawaitedResult: The result is an awaitable or an async generator. A coroutine is closed, so that Python
            does not warn that it was never awaited.
    """
    result = function(*args)
    if type(result) in _PLAIN:  # asked once a request
        return result
    if inspect.isawaitable(result) or isinstance(result, AsyncGeneratorType):
        if isinstance(result, Coroutine):
            with suppress(Exception):  # it may be running elsewhere
                result.close()
        raise UnawaitedResult(
            f"the function returned a {type(result).__name__}, which nothing awaits; it must return its answer itself"
        )
    return result


def decide(function: Callable[..., object], *args: Any, text_counts: bool = True) -> bool:
    """Call a function that answers yes or no.

    Args:
        function: Its answer counts by its truth value.
        *args: Its arguments.
        text_counts: Whether a text that is not empty is a yes.

    Raises:
        UnawaitedResult: As `run`; and for a generator, which is truthy before its function has run.
        ConfigurationError: A text, where it is no answer.
    """
    answer = run(function, *args)
    if isinstance(answer, GeneratorType):
        raise UnawaitedResult("the function returned a generator; it must return True or False")
    if not text_counts and answer and isinstance(answer, str):
        raise ConfigurationError("the function returned a text, which may say no; it must return True or False")
    return bool(answer)
