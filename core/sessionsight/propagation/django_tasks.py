"""Django's tasks: each runs under the tracking context of the code that enqueued it.

For `django.tasks` of Django 6.0 and newer, otherwise for its backport, the package `django-tasks`, and for all of their
backends.

Example:
    >>> from django.apps import AppConfig
    >>> class Shop(AppConfig):
    ...     def ready(self) -> None:
    ...         connect()
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

try:
    from django.tasks.base import Task
except ImportError:  # before Django 6.0
    from django_tasks.base import Task  # type: ignore[assignment]

from sessionsight.capture.context_managers import Scope
from sessionsight.propagation._jobs import KEY, current_carrier, job

__all__ = ["connect", "disconnect"]

# The keyword argument between `Task.enqueue` and `Task.call` that holds the carrier, because backends store nothing
# else.
_CARRIER = f"_{KEY}"

_originals: dict[str, Callable[..., Any]] = {}


def connect() -> None:
    """Run Django's tasks under the context of the code that enqueues them.

    Call it in `AppConfig.ready`, so that the site and its workers both do. In a task, sync or async,
    `sessionsight.current()` returns analytics under that context, whose records are submitted when the task ends, also
    after an exception. What a task enqueues has the context of the task. Without a context, the context in the task is
    empty. If tasks are connected already, nothing changes.

    A worker that is not connected passes the context to the task's function as an argument that it does not know, so
    connect workers before sites, and disconnect them after the queue is empty.
    """
    if not _originals:
        for name, wrapper in _WRAPPERS.items():
            _originals[name] = getattr(Task, name)
            setattr(Task, name, wrapper(_originals[name]))


def disconnect() -> None:
    """Undo `connect`. If tasks are not connected, nothing changes."""
    while _originals:
        setattr(Task, *_originals.popitem())


def _enqueue(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def enqueue(*args: Any, **kwargs: Any) -> Any:
        if (carrier := current_carrier()) is not None:
            kwargs[_CARRIER] = carrier
        return method(*args, **kwargs)

    return enqueue


def _call(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _scope(kwargs):
            return method(*args, **kwargs)

    return call


def _acall(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        async with _scope(kwargs):
            return await method(*args, **kwargs)

    return acall


def _scope(kwargs: dict[str, Any]) -> Scope | nullcontext[None]:
    # A task that is called instead of enqueued has the context of its caller.
    return job(kwargs.pop(_CARRIER, None) or current_carrier())


_WRAPPERS = {"enqueue": _enqueue, "aenqueue": _enqueue, "call": _call, "acall": _acall}
