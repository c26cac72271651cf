"""Celery: each task runs under the tracking context of the code that published it.

Example:
    >>> from celery import Celery
    >>> app = Celery("shop", broker="redis://127.0.0.1:6379/0")
    >>> connect(app)
"""

from __future__ import annotations

from contextlib import ExitStack
from types import MethodType
from typing import Any
from weakref import WeakSet

from celery import Celery, signals  # type: ignore[import-untyped]

from sessionsight.propagation._jobs import KEY, check_target, current_carrier, job

__all__ = ["connect", "disconnect"]

_apps: WeakSet[Celery] = WeakSet()
# The attribute of a task's request that holds what ends the task's analytics.
_RUNNING = "_sessionsight_running"


def connect(app: Celery) -> None:
    """Run the tasks of an app under the context of the code that publishes them.

    Call it where the app is created, in a module that publishers and workers import. The current context is added to
    the headers of the app's messages. In a task `sessionsight.current()` returns analytics under it, whose records are
    submitted when the task ends, however it ends. A retry has the context of the first attempt, and a task that is
    published by a task has that of its publisher. Without a context, as from beat, the context in the task is empty.

    Args:
        app: The app. If it is connected already, nothing changes.

    Raises:
        ConfigurationError: It is not an app.
    """
    check_target(app, Celery)
    _apps.add(app)
    # `before_task_publish` does not tell the app, and the ids must not get to the broker of another one.
    app.send_task = MethodType(_send_task, app)
    signals.task_prerun.connect(_start, weak=False)
    signals.task_postrun.connect(_end, weak=False)


def disconnect(app: Celery) -> None:
    """Undo `connect`.

    Args:
        app: The app. If it is not connected, nothing changes.
    """
    if app in _apps:
        _apps.remove(app)
        del app.send_task


def _send_task(app: Celery, *arguments: Any, **options: Any) -> Any:
    headers = options.get("headers") or {}
    # A retry has the header of the first attempt.
    if KEY not in headers and (carrier := current_carrier()) is not None:
        options["headers"] = {**headers, KEY: carrier}
    return type(app).send_task(app, *arguments, **options)


def _start(task: Any, **_: object) -> None:
    request = task.request
    if task.app not in _apps or request.is_eager:  # an eager task is a call by its publisher, with its analytics
        return
    running = ExitStack()
    running.enter_context(job(request.get(KEY)))
    setattr(request, _RUNNING, running)


def _end(task: Any, **_: object) -> None:
    if (running := task.request.get(_RUNNING)) is not None:
        running.close()
