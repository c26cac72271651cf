"""The end of an ASGI app's lifespan, at which the server tells it to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from sessionsight.log import logger

if TYPE_CHECKING:
    from sessionsight.client import Client

__all__ = ["flush_on_shutdown"]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

_LAST_MESSAGES = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


def flush_on_shutdown(send: Send, client: Callable[[], Client]) -> Send:
    """Wrap the `send` of a lifespan, so that the server's shutdown waits for delivery, up to `shutdown_timeout`.

    Args:
        send: As the server passes it with the lifespan scope.
        client: Returns the client at the shutdown.
    """

    async def flush_and_send(message: Message) -> None:
        if message["type"] in _LAST_MESSAGES:
            try:
                await client().adrain()
            except Exception:
                logger.exception("delivery could not be waited for at shutdown")
        await send(message)

    return flush_and_send
