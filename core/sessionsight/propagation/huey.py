"""Huey: each task runs under the tracking context of the code that enqueued it.

Example:
    >>> from huey import MemoryHuey
    >>> huey = MemoryHuey("shop")
    >>> connect(huey)
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from huey import Huey  # type: ignore[import-untyped]

from sessionsight.propagation._jobs import KEY, check_target, current_carrier, job

__all__ = ["connect", "disconnect"]

# The attribute of a task that holds its carrier. In the queue it is a keyword argument, because Huey's messages have
# no place for other values.
_CARRIER = f"_{KEY}"


def connect(huey: Huey) -> None:
    """Run the tasks of a Huey instance under the context of the code that enqueues them.

    Call it where the instance is created, so that the app and its consumer both do. In a task `sessionsight.current()`
    returns analytics under that context, whose records are submitted when the task ends, also after an exception or a
    timeout. A retry has the context of the first attempt; what a task enqueues, and the next task of a pipeline or a
    chord, have that of the task. Without a context, as in a periodic task, the context is empty.

    A consumer that is not connected passes the context to the task's function as an argument that it does not know, so
    connect consumers before apps, and disconnect them after the queue is empty.

    Args:
        huey: The instance. If it is connected already, nothing changes.

    Raises:
        ConfigurationError: It is not an instance of `Huey`.
    """
    check_target(huey, Huey)
    vars(huey).update({name: MethodType(method, huey) for name, method in _METHODS.items()})


def disconnect(huey: Huey) -> None:
    """Undo `connect`.

    Args:
        huey: The instance. If it is not connected, nothing changes.
    """
    for name in _METHODS:
        vars(huey).pop(name, None)


def _enqueue(huey: Huey, task: Any) -> Any:
    # A task has a carrier if the consumer enqueues it again. A group or a chord enqueues its tasks by this method, too.
    if _CARRIER in vars(task) or (carrier := current_carrier()) is None:
        return type(huey).enqueue(huey, task)
    vars(task)[_CARRIER] = carrier
    try:
        return type(huey).enqueue(huey, task)
    finally:
        del vars(task)[_CARRIER]  # the caller may enqueue the same object in another request


def _execute(huey: Huey, task: Any, *arguments: Any) -> Any:
    # Including Huey's hooks, and what it enqueues afterwards: a retry, the next task of a pipeline.
    with job(vars(task).get(_CARRIER)):
        return type(huey).execute(huey, task, *arguments)


def _serialize_task(huey: Huey, task: Any) -> Any:
    if _CARRIER not in vars(task):
        return type(huey).serialize_task(huey, task)
    task.kwargs[_CARRIER] = vars(task)[_CARRIER]
    try:
        return type(huey).serialize_task(huey, task)
    finally:
        del task.kwargs[_CARRIER]


def _deserialize_task(huey: Huey, data: Any) -> Any:
    task = type(huey).deserialize_task(huey, data)
    if (carrier := task.kwargs.pop(_CARRIER, None)) is not None:
        vars(task)[_CARRIER] = carrier
    return task


_METHODS = {
    "enqueue": _enqueue,
    "execute": _execute,
    "serialize_task": _serialize_task,
    "deserialize_task": _deserialize_task,
}
