"""What stands between the inspector and other people's pages: it shows what apps send, on a developer's machine.

Only loopback names are answered, so that no foreign name can be pointed at it (DNS rebinding); pages may load
and reach nothing but the inspector; and nobody else's page may change anything. The vendors' endpoints are
open to all pages, as the vendors' own are.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_SECURITY_POLICY", "SecurityMiddleware"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",  # without any, a form's Origin would be `null`, which is foreign
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_INGEST = "/v1/"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityMiddleware:
    """Middleware that looks at each request's host and origin, and adds headers to each reply.

    Args:
        app: What it guards.
        host: Where the server listens; its name is answered beside the loopback ones, and any name
            where it listens on all addresses.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._host = host.lower()
        self._any = _is_unspecified(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        app = self._app if refusal is None else JSONResponse({"error": refusal}, 403)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and not scope["path"].startswith(_INGEST):
                given = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    given.setdefault(name, value)
            await send(message)

        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        host = headers.get("host", "")
        name = _name_of(host)
        if not (self._any or name == self._host or _is_loopback(name)):
            return f"this inspector answers to localhost, not to {name!r}; --host gives it another name"
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign and scope["method"] not in _SAFE and not scope["path"].startswith(_INGEST):
            return "another site's page may change nothing here"
        return None


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
