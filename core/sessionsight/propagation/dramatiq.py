"""Dramatiq: each message is processed under the tracking context of the code that enqueued it.

Example:
    >>> from dramatiq.brokers.stub import StubBroker
    >>> broker = StubBroker()
    >>> connect(broker)
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from dramatiq import Broker, Message, MessageProxy, Middleware, get_broker

from sessionsight.propagation._jobs import KEY, check_target, current_carrier, job

__all__ = ["connect", "disconnect"]


def connect(broker: Broker | None = None) -> None:
    """Process the messages of a broker under the context of the code that enqueues them.

    Call it where the broker is created, after its other middleware is added, in a module that the app and its workers
    import. The current context is added to the options of each message. In an actor, sync or async,
    `sessionsight.current()` returns analytics under it, whose records are submitted when the message has been
    processed, also after an exception or a time limit. A retry has the context of the first attempt; what an actor
    enqueues, and the next message of a pipeline, have that of the actor. Without a context, the context in the actor is
    empty.

    Args:
        broker: By default Dramatiq's global broker. If it is connected already, nothing changes.

    Raises:
        ConfigurationError: It is not a broker.
    """
    broker = broker or get_broker()
    check_target(broker, Broker)
    if not any(isinstance(middleware, _Propagation) for middleware in broker.middleware):
        # First, so that its end comes last: after the time limit, and after retries and pipelines have sent messages.
        broker.middleware.insert(0, _Propagation())


def disconnect(broker: Broker | None = None) -> None:
    """Undo `connect`.

    Args:
        broker: By default Dramatiq's global broker. If it is not connected, nothing changes.
    """
    broker = broker or get_broker()
    broker.middleware[:] = [each for each in broker.middleware if not isinstance(each, _Propagation)]


class _Propagation(Middleware):
    """Adds the context to messages, and makes it current on the thread that processes one.

    The coroutine of an async actor inherits it from that thread.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        # A message has a carrier if it is enqueued again, for a retry or after its delay.
        if KEY not in message.options and (carrier := current_carrier()) is not None:
            message.options[KEY] = carrier

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        message.options.pop(KEY, None)  # the caller may enqueue the same object in another request

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self._thread.running = ExitStack()
        self._thread.running.enter_context(job(message.options.get(KEY)))

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        running: ExitStack = self._thread.running
        running.close()  # once, even if an interrupt in another middleware makes Dramatiq call this again

    after_skip_message = after_process_message
