"""A Starlette app of two pages: `/pid` tells which process answers, `/capture/…` also captures what the path says."""

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sessionsight_asgi import AnalyticsMiddleware
from tests.servers.apps.options import OPTIONS


async def pid(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(os.getpid()))


async def capture(request: Any) -> PlainTextResponse:
    request.analytics.capture("captured", {"token": request.path_params["token"]}, user_id="user_1")
    return await pid(request)


app = Starlette(routes=[Route("/pid", pid), Route("/capture/{token}", capture)])
app.add_middleware(AnalyticsMiddleware, **OPTIONS)
