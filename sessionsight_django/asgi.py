"""Django's ASGI app with a lifespan, for servers that end without the interpreter's exit, such as uvicorn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.core.asgi import get_asgi_application as make_application

from sessionsight.adapters import flush_on_shutdown
from sessionsight_django.clients import client

__all__ = ["get_asgi_application"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def get_asgi_application() -> ASGIApp:
    """Return Django's ASGI app; the server's shutdown then waits for delivery, up to `shutdown_timeout`.

    Django's own app does not handle lifespan events, the only way in which a server announces its shutdown to an ASGI
    app. uvicorn then ends by the signal that stopped it, without the interpreter's exit, at which other processes wait
    for delivery.

    Example:
        >>> from sessionsight_django.asgi import get_asgi_application
        >>> application = get_asgi_application()  # doctest: +SKIP
    """
    django: Any = make_application()

    async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, flush_on_shutdown(send, client))
        else:
            await django(scope, receive, send)

    return application


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answer the lifespan events: https://asgi.readthedocs.io/en/latest/specs/lifespan.html."""
    event = ""
    while event != "lifespan.shutdown":
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
