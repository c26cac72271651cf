"""Calls the functions of settings, and rejects async ones.

Results are not awaited, and every coroutine is truthy, so that "no" would count as "yes". An async function is
therefore rejected when it is set, and a returned awaitable is an error.
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
    """A function returned an awaitable, or a generator instead of True or False."""


def is_async(function: object) -> bool:
    """Return whether calling this object returns a coroutine or an async generator, if that is known in advance.

    Example:
        >>> async def consent(request): ...
        >>> is_async(consent), is_async(print)
        (True, False)
    """
    while isinstance(function, partial):
        function = function.func
    # An instance is called through its `__call__`; calling a class creates an instance.
    method = None if isinstance(function, type) else getattr(type(function), "__call__", None)  # noqa: B004
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (function, method))


def check_sync(function: object, name: str) -> None:
    """Raise `ConfigurationError` if this is an async function; `name` is the setting."""
    if is_async(function):
        raise ConfigurationError(
            f"{name} must be a plain function (`def`), not an async one, because its result is not awaited; load the "
            "data that it needs in async code beforehand"
        )


def run(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function, and return what it returns.

    Raises:
        UnawaitedResult: The result is an awaitable or an async generator. A coroutine is closed to prevent Python's
            warning that it was never awaited.
    """
    result = function(*args)
    if type(result) in _PLAIN:  # called for each request
        return result
    if inspect.isawaitable(result) or isinstance(result, AsyncGeneratorType):
        if isinstance(result, Coroutine):
            with suppress(Exception):  # it may be running elsewhere
                result.close()
        raise UnawaitedResult(
            f"the function returned a {type(result).__name__}, which is not awaited; it must return its result itself"
        )
    return result


def decide(function: Callable[..., object], *args: Any, allow_text: bool = True) -> bool:
    """Call a function and return the truth value of its result.

    Args:
        function: The function.
        *args: Its arguments.
        allow_text: Accept text, which is true if it is not empty.

    Raises:
        UnawaitedResult: As in `run`, and for a generator, which is truthy before its function has run.
        ConfigurationError: The result is text, which is not allowed.
    """
    result = run(function, *args)
    if isinstance(result, GeneratorType):
        raise UnawaitedResult("the function returned a generator; it must return True or False")
    if not allow_text and result and isinstance(result, str):
        raise ConfigurationError("the function returned text, which may mean no; it must return True or False")
    return bool(result)
