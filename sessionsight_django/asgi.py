"""Django's ASGI app, for servers that end a process without the interpreter's exit, as uvicorn does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.core.asgi import get_asgi_application as make_application

from sessionsight.log import logger
from sessionsight_django.clients import client

__all__ = ["get_asgi_application"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def get_asgi_application() -> ASGIApp:
    """Django's own `get_asgi_application`, but the server's shutdown waits for delivery, up to `shutdown_timeout`.

    Django answers no lifespan events, the only way in which a server tells an ASGI app about its end; and uvicorn
    then ends by the signal that stopped it, without the interpreter's exit, where delivery is waited for elsewhere.

    Example:
        >>> from sessionsight_django.asgi import get_asgi_application
        >>> application = get_asgi_application()  # doctest: +SKIP
    """
    django: Any = make_application()

    async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await (_live(receive, send) if scope["type"] == "lifespan" else django(scope, receive, send))

    return application


async def _live(receive: Receive, send: Send) -> None:
    """The app's lifespan: https://asgi.readthedocs.io/en/latest/specs/lifespan.html."""
    while True:
        event = (await receive())["type"]
        if event == "lifespan.shutdown":
            await _drain()
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def _drain() -> None:
    try:
        await client().adrain()
    except Exception:
        logger.exception("waiting for delivery at shutdown failed")
